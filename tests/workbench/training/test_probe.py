"""The first-order change of log p that masks make."""

import math

import pytest
import torch
from torch import Tensor, nn

from smoot.objective import Guidance
from smoot.scheduler import MaskPlan
from workbench.training.probe import first_order_change

LABELS = torch.tensor([0, 1, 2, 1])


def linear(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3))


def images() -> Tensor:
    return torch.rand(4, 3, 2, 2, generator=torch.Generator().manual_seed(1))


def test_a_filled_linear_model_by_hand() -> None:
    model, inputs = linear(), images()
    weight = model[1].weight
    answered = model(inputs).softmax(1)
    tangent = weight[LABELS] - answered @ weight  # of log p_y for logits W x
    expected = (tangent * (0.25 - inputs.flatten(1))).sum(1).mean()
    # Every pixel of every image becomes 0.25, whatever ranks them.
    plan, guidance = MaskPlan(mask_fraction=1.0), Guidance(fill="constant", fill_value=0.25)
    for ranking in ("saliency", "random", "highest"):
        changed = first_order_change(model, inputs, LABELS, MaskPlan(mask_fraction=1.0, ranking=ranking), guidance)
        assert changed.item() == pytest.approx(expected.item(), rel=1e-5)
    assert first_order_change(model, inputs, LABELS, plan, guidance).ndim == 0


def test_a_signed_ranking_with_a_bright_fill_lowers_log_p() -> None:
    model, inputs, plan = linear(), images(), MaskPlan(mask_fraction=0.5)
    bright = Guidance(reduction="signed_mean", fill="constant", fill_value=1.0)
    assert first_order_change(model, inputs, LABELS, plan, bright).item() < 0


def test_it_leaves_modes_buffers_and_gradients_alone_and_needs_no_mask() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(16, 3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first_order_change(model, images(), LABELS, MaskPlan())
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert math.isnan(first_order_change(model, images(), LABELS, MaskPlan(image_fraction=0.0)))


def test_only_the_chosen_images_count() -> None:
    model, inputs = linear(), images()
    plan = MaskPlan(image_fraction=0.5, mask_fraction=1.0)
    guidance = Guidance(fill="constant", fill_value=0.25)
    each = [
        first_order_change(
            model, inputs[[i]].repeat(2, 1, 1, 1), LABELS[[i]].repeat(2), MaskPlan(mask_fraction=1.0), guidance
        )
        for i in range(4)
    ]
    drawn = torch.randperm(4, generator=torch.Generator().manual_seed(3))[:2].tolist()
    expected = sum(each[i].item() for i in drawn) / 2
    changed = first_order_change(model, inputs, LABELS, plan, guidance, generator=torch.Generator().manual_seed(3))
    assert changed.item() == pytest.approx(expected, rel=1e-5)
