"""Without an accelerator: tensors that have a device and no values, among which a mix-up of devices is an error.

Backward passes need a device that torch can open, so whole steps run on ``meta``; what only goes forward, as measuring
does, runs on ``cuda``. Whatever asks for a value, and so would wait for the device, is an error as well.
"""

from collections.abc import Callable, Iterator

import pytest
import torch
from states import gradients
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from smoot import Guidance, MaskPlan, guided_backward, guided_loss, perturbation_curves
from smoot.masking import fill_masked, lowest_saliency_mask, random_mask
from smoot.metrics import gini_sparseness, pointing_game, rank_correlation, relevance_mass

SIDE, IMAGES = 8, 6


@pytest.fixture(autouse=True)
def fake() -> Iterator[None]:
    with FakeTensorMode():
        yield


def net(device: str) -> nn.Module:
    """With batch statistics: without them a step first tries, by values, whether images change each other's answers."""
    with torch.device(device):
        norm, head = nn.BatchNorm2d(8), nn.Linear(8 * SIDE**2, 10)
        return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), norm, nn.ReLU(), nn.Flatten(), head)


def batch(device: str) -> tuple[Tensor, Tensor]:
    images = torch.rand(IMAGES, 3, SIDE, SIDE, device=device)
    return images, torch.zeros(IMAGES, dtype=torch.int64, device=device)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("guidance", [Guidance(), Guidance(fill="mean"), Guidance(saliency_pass="eval")])
def test_a_step_of_the_optimiser_stays_on_its_device(guidance: Guidance, share: float) -> None:
    network, (images, labels) = net("meta"), batch("meta")
    optimizer = torch.optim.AdamW(network.parameters())
    for step in (guided_backward, guided_loss):
        optimizer.zero_grad()
        found = step(network, images, labels, MaskPlan(image_fraction=share), guidance)
        if step is guided_loss:
            found.total.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        returned = [value for value in vars(found).values() if isinstance(value, Tensor)]
        assert {value.device.type for value in returned + gradients(network)} == {"meta"}


@pytest.mark.parametrize(
    "measure",
    [
        lambda images, saliency: lowest_saliency_mask(saliency, 0.5),
        lambda images, saliency: lowest_saliency_mask(saliency, torch.full((IMAGES,), 0.5, device="cuda")),
        lambda images, saliency: random_mask(saliency.shape, 0.5, device=saliency.device),
        lambda images, saliency: fill_masked(images, saliency < 0.5, fill="uniform"),
        lambda images, saliency: fill_masked(images, saliency < 0.5, fill="mean"),
        lambda images, saliency: gini_sparseness(saliency),
        lambda images, saliency: relevance_mass(saliency, saliency < 0.5),
        lambda images, saliency: pointing_game(saliency, saliency < 0.5, tolerance=1),
        lambda images, saliency: rank_correlation(saliency, -saliency),
    ],
    ids=["lowest", "per image", "random", "uniform", "mean", "gini", "mass", "pointing", "ranks"],
)
def test_masks_fills_and_metrics_stay_on_the_accelerator(measure: Callable[[Tensor, Tensor], Tensor]) -> None:
    images, _ = batch("cuda")
    saliency = torch.rand(IMAGES, SIDE, SIDE, device="cuda")
    assert measure(images, saliency).device.type == "cuda"


@torch.no_grad()
def test_curves_stay_on_the_accelerator() -> None:
    images, labels = batch("cuda")
    saliency = torch.rand(IMAGES, SIDE, SIDE, device="cuda")
    found = perturbation_curves(net("cuda"), images, labels, saliency, fill="mean")
    assert {curve.score.device.type for curve in (found.deletion, found.insertion)} == {"cuda"}


def test_a_mix_up_is_an_error_and_so_is_asking_for_a_value() -> None:
    images, labels = batch("meta")
    with pytest.raises(RuntimeError, match="two devices"):
        fill_masked(images, torch.zeros(IMAGES, SIDE, SIDE, dtype=torch.bool))
    with pytest.raises(DataDependentOutputException):
        float(guided_backward(net("meta"), images, labels, MaskPlan()).total)
