"""On a CUDA device: the same gradients, and a step that never waits for it. Needs one; CPU runs have test_step."""

import copy

import pytest
import torch
from torch import nn

from smoot import AdaptiveSchedule, Guidance, MaskPlan, SaliencyGuidedLoss, guided_backward, guided_loss

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 10),
    ).cuda()


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator("cuda").manual_seed(1)
    images = torch.rand(16, 3, 16, 16, generator=draw, device="cuda")
    return images, torch.randint(10, (16,), generator=draw, device="cuda")


@pytest.mark.parametrize("saliency_pass", ["reuse", "eval"])
def test_gradients_are_those_of_the_loss(saliency_pass: str) -> None:
    first, (images, labels) = net(), batch()
    second = copy.deepcopy(first)
    guidance = Guidance(saliency_pass=saliency_pass, fill="mean")  # type: ignore[arg-type]
    guided_loss(first, images, labels, MaskPlan(), guidance).total.backward()
    guided_backward(second, images, labels, MaskPlan(), guidance)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning")
def test_no_step_waits_for_the_device() -> None:
    model, (images, labels) = net(), batch()
    criterion = SaliencyGuidedLoss(AdaptiveSchedule(lag=2))
    optimizer = torch.optim.AdamW(model.parameters())
    for step in range(8):
        torch.cuda.set_sync_debug_mode("error" if step > 2 else "default")
        try:
            optimizer.zero_grad()
            criterion.backward(model, images, labels)
            optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert criterion.schedule.state_dict()["means"].all()
