"""Perturbation curves against torchcam's, where the two mean the same, and what differs where they do not.

Both rank pixels in descending order (ties by index), replace every channel, and integrate the score of one class
by trapezoids. They differ in two ways, which these tests hold:

1. *Steps.* torchcam removes ``ceil(P / steps)`` pixels a step (the last step takes the rest), whatever the
   number of intervals that gives; here the steps are given shares f, of which ``floor(f P + 0.5)`` pixels go.
2. *Abscissa.* torchcam integrates over the share that was really removed, here it is the nominal f. Both are one
   where f P is whole, else the two areas differ by at most half a pixel's share for the same pixels (if the score
   lies in [0, 1] and falls or rises throughout).
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchcam import metrics as torchcam_metrics

from smoot.curves import TENTHS, perturbation_curves

TOLERANCE = 1e-4


class GivenMaps:
    """Stands where torchcam has an extractor of class activation maps; gives the maps it was made with."""

    def __init__(self, model: nn.Module, maps: Tensor) -> None:
        self.model, self.maps = model, maps

    def __call__(self, class_idx: Any = None, scores: Any = None, **settings: Any) -> list[Tensor]:
        return [self.maps]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        return cams[0]

    def _hooks_off(self) -> AbstractContextManager[None]:
        return nullcontext()


def theirs(
    model: nn.Module, images: Tensor, labels: Tensor, maps: Tensor, steps: int, baseline: Tensor | None = None
) -> dict[str, float]:
    metric = torchcam_metrics.DeletionInsertionMetric(
        GivenMaps(model, maps), partial(torch.softmax, dim=-1), steps=steps, baseline=baseline
    )
    metric.update(images, labels.tolist())
    return dict(metric.summary())


def removed(num_pixels: int, steps: int) -> list[float]:
    """The shares at which torchcam evaluates."""
    counts = [*range(0, num_pixels, math.ceil(num_pixels / steps)), num_pixels]
    return [count / num_pixels for count in counts]


@pytest.fixture
def net(small_net: Callable) -> nn.Module:
    """A net whose probabilities move: one step of training away from near-constant answers."""
    model = small_net().eval()
    with torch.no_grad():
        model[-1].weight *= 8
    return model


@pytest.mark.parametrize("steps", [1, 4, 5, 10, 36, 100])
@pytest.mark.parametrize("levels", [3, 10**6])
def test_areas_are_torchcams_at_torchcams_steps(net: nn.Module, batch: Callable, steps: int, levels: int) -> None:
    images, labels = batch(20)
    maps = (levels * torch.rand(20, 6, 6)).floor()
    expected = theirs(net, images, labels, maps, steps)
    curves = perturbation_curves(net, images, labels, maps, fractions=removed(36, steps))
    assert curves.deletion.auc.item() == pytest.approx(expected["deletion_auc"], abs=TOLERANCE)
    assert curves.insertion.auc.item() == pytest.approx(expected["insertion_auc"], abs=TOLERANCE)
    if steps > 1:
        assert abs(expected["deletion_auc"] - expected["insertion_auc"]) > 10 * TOLERANCE


@pytest.mark.parametrize("fill", ["constant", "mean"])
def test_other_fills_are_torchcams_baselines(net: nn.Module, batch: Callable, fill: Any) -> None:
    images, labels = batch(20)
    maps = torch.rand(20, 6, 6)
    baseline = torch.tensor(0.4) if fill == "constant" else images.mean((2, 3), keepdim=True)
    expected = theirs(net, images, labels, maps, 9, baseline)
    curves = perturbation_curves(net, images, labels, maps, fill=fill, value=0.4, fractions=removed(36, 9))
    assert curves.deletion.auc.item() == pytest.approx(expected["deletion_auc"], abs=TOLERANCE)
    assert curves.insertion.auc.item() == pytest.approx(expected["insertion_auc"], abs=TOLERANCE)


class Share(nn.Module):
    """The probability of class 0 is the mean of the pixels, so that a curve is known by hand."""

    def forward(self, inputs: Tensor) -> Tensor:
        share = inputs.flatten(1).mean(1).clamp(1e-6, 1 - 1e-6)
        return torch.stack([share.log(), (1 - share).log()], dim=1)


def test_the_area_over_nominal_shares_by_hand() -> None:
    """Seven equal pixels in tenths: 0, 1, 1, 2, 3, 4, 4, 5, 6, 6, 7 of them are removed."""
    images, maps = torch.ones(1, 1, 1, 7), torch.arange(7.0).view(1, 1, 7)
    labels = torch.zeros(1, dtype=torch.int64)
    expected = theirs(Share(), images, labels, maps, 7)  # one pixel a step: exactly one half
    assert expected["deletion_auc"] == pytest.approx(0.5, abs=1e-5)
    left = perturbation_curves(Share(), images, labels, maps).deletion
    assert (7 * left.score).tolist() == pytest.approx([7, 6, 6, 5, 4, 3, 3, 2, 1, 1, 0], abs=1e-4)
    assert left.auc.item() == pytest.approx(0.1 * 31 / 7 + 0.1 * 1 / 2, abs=1e-5)  # 0.493


@pytest.mark.parametrize("num_pixels", [11, 17, 23])
def test_nominal_shares_move_the_area_by_at_most_half_a_pixels_share(num_pixels: int) -> None:
    images = torch.rand(30, 1, 1, num_pixels)
    labels, maps = torch.zeros(30, dtype=torch.int64), images[:, 0]
    expected = theirs(Share(), images, labels, maps, num_pixels)
    nominal = perturbation_curves(Share(), images, labels, maps)
    really = [math.floor(share * num_pixels + 0.5) / num_pixels for share in TENTHS]
    same_pixels = perturbation_curves(Share(), images, labels, maps, fractions=really)
    for kind in ("deletion", "insertion"):
        curve, exact = getattr(nominal, kind), getattr(same_pixels, kind)
        assert torch.equal(curve.score, exact.score)
        bound = 0.5 / num_pixels * (curve.score[0] - curve.score[-1]).abs()
        assert TOLERANCE < (curve.auc - exact.auc).abs() <= bound, kind
        # What is left is the coarser step: torchcam removes one pixel at a time here.
        assert abs(exact.auc.item() - expected[f"{kind}_auc"]) < 0.01, kind
