"""The first-order change of log p that masks make."""

import math

import pytest
import torch
from tiny_runs import draws, same, weights
from torch import Tensor, nn

from smoot.guidance import Guidance
from smoot.scheduler import MaskPlan
from workbench.training.probe import first_order_change

IMAGES = torch.rand(4, 3, 2, 2, generator=draws(1))
LABELS = torch.tensor([0, 1, 2, 1])
FILLED = Guidance(fill="constant", fill_value=0.25)


def linear() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3))


def by_hand(model: nn.Sequential) -> Tensor:
    """The change ``(N,)`` when every pixel becomes 0.25: the tangent of log p_y for logits W x, times the step."""
    weight = model[1].weight
    tangent = weight[LABELS] - model(IMAGES).softmax(1) @ weight
    return (tangent * (0.25 - IMAGES.flatten(1))).sum(1)


@pytest.mark.parametrize("ranking", ["saliency", "random", "highest"])
def test_a_filled_linear_model_by_hand(ranking: str) -> None:
    plan = MaskPlan(mask_fraction=1.0, ranking=ranking)
    found = first_order_change(linear(), IMAGES, LABELS, plan, FILLED, draws())
    assert found.ndim == 0
    assert found.item() == pytest.approx(by_hand(linear()).mean().item(), rel=1e-5)


def test_only_the_chosen_images_count() -> None:
    plan = MaskPlan(image_fraction=0.5, mask_fraction=1.0)
    chosen = torch.randperm(4, generator=draws(3))[:2]
    found = first_order_change(linear(), IMAGES, LABELS, plan, FILLED, draws(3))
    assert found.item() == pytest.approx(by_hand(linear())[chosen].mean().item(), rel=1e-5)


def test_a_signed_ranking_with_a_bright_fill_lowers_log_p() -> None:
    bright = Guidance(reduction="signed_mean", fill="constant", fill_value=1.0)
    assert first_order_change(linear(), IMAGES, LABELS, MaskPlan(mask_fraction=0.5), bright, draws()).item() < 0


def test_it_leaves_modes_buffers_and_gradients_alone_and_needs_no_mask() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(16, 3))
    before = weights(model)
    first_order_change(model, IMAGES, LABELS, MaskPlan(), Guidance(), draws())
    assert same(weights(model), before) and all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert math.isnan(first_order_change(model, IMAGES, LABELS, MaskPlan(image_fraction=0.0), Guidance(), draws()))
