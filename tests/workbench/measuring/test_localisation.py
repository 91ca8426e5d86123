"""Localisation against known regions and the grid pointing game, by hand."""

import math

import pytest
import torch
from tiny_runs import draws, fresh, run, same, weights
from torch import Tensor, nn

from workbench.data.composites import mosaics
from workbench.measuring.localisation import accepts_other_sizes, grid_pointing, region_scores

SALIENCY = torch.tensor([[4.0, 3.0, 2.0, 1.0]] * 4).view(4, 2, 2)
REGION = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0], [1, 0, 0, 1]]).bool().view(4, 2, 2)


@pytest.mark.parametrize(("tolerance", "pointing"), [(0, 2 / 3), (1, 1.0)])
def test_three_measures_by_hand_without_images_that_have_no_region(tolerance: int, pointing: float) -> None:
    means = {"relevance_mass": (0.7 + 0.3 + 0.5) / 3, "relevance_rank": (1.0 + 0.0 + 0.5) / 3}
    assert region_scores(SALIENCY, REGION, tolerance) == pytest.approx({**means, "pointing_game": pointing})


def test_an_image_without_saliency_counts_for_the_rank_only() -> None:
    saliency = SALIENCY.clone()
    saliency[1] = 0  # of equal pixels the first ones rank highest
    means = {"relevance_mass": (0.7 + 0.5) / 2, "relevance_rank": (1.0 + 0.0 + 0.5) / 3, "pointing_game": 1.0}
    assert region_scores(saliency, REGION, 0) == pytest.approx(means)
    nothing = region_scores(SALIENCY, torch.zeros_like(REGION), 0)
    assert set(nothing) == set(means) and all(math.isnan(value) for value in nothing.values())


class Places(nn.Module):
    """Class k's logit is ``sum of weight[k] * x`` for images of one size and for grids of two by two of them."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        weight = self.weight[:, :height, :width]
        return torch.einsum("nchw,khw->nk", images, weight)


def images_of(classes: int, count: int = 12) -> tuple[Tensor, Tensor]:
    labels = torch.arange(count) % classes
    return (labels + 1).view(-1, 1, 1, 1) / 10 + 0.01 * torch.rand(count, 1, 3, 3, generator=draws(5)), labels


def play(network: nn.Module, classes: int = 4, *, count: int = 50, size: int = 250, seed: int = 0) -> float:
    images, labels = images_of(classes)
    return grid_pointing(network, images, labels, count=count, batch_size=size, generator=draws(seed))


def test_the_same_saliency_everywhere_is_chance() -> None:
    weight = torch.arange(4.0).view(4, 1, 1).expand(4, 6, 6).clone()
    assert play(Places(weight)) == pytest.approx(0.25)


def test_evidence_against_a_class_counts_as_outside() -> None:
    """Each image moves its own class's logit alone: half of the log-odds' slope is the three other classes'."""

    class Levels(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            levels = torch.arange(1, 5).view(1, 4, 1, 1) / 10
            near = (1 - ((images - levels).abs() / 0.03)).clamp(min=0)
            return 1e-3 * near.sum((2, 3))  # so small that the other three share their weight equally

    assert play(Levels()) == pytest.approx(0.5, abs=1e-3)


def test_against_a_loop_over_grids_and_tiles() -> None:
    torch.manual_seed(3)
    network = nn.Sequential(
        nn.Conv2d(1, 5, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4)
    )
    images, labels = images_of(4)
    grids, classes = mosaics(images, labels, count=7, generator=draws(2))
    shares = []
    for grid, of_tiles in zip(grids, classes, strict=True):
        for tile, label in enumerate(of_tiles.tolist()):
            pixels = grid[None].clone().requires_grad_()
            logits = network(pixels)[0]
            others = torch.stack([logit for k, logit in enumerate(logits) if k != label])
            (slope,) = torch.autograd.grad(logits[label] - others.logsumexp(0), pixels)
            down, across = 3 * (tile // 2), 3 * (tile % 2)
            inside = slope[0, 0, down : down + 3, across : across + 3].abs().sum()
            shares.append(float(inside / slope.abs().sum()))
    for size in (250, 8):
        found = grid_pointing(network, images, labels, count=7, batch_size=size, generator=draws(2))
        assert found == pytest.approx(sum(shares) / 28, rel=1e-4)
    assert found != pytest.approx(0.25, abs=1e-4)


def test_grids_without_saliency_are_left_out() -> None:
    weight = torch.zeros(4, 6, 6)
    weight[0, :3, :3] = 1.0
    assert play(Places(weight)) == pytest.approx(0.25)  # of the first tile all, of the others nothing
    assert math.isnan(play(Places(torch.zeros(4, 6, 6))))


def test_too_few_classes_or_one_image_size_only_is_undefined() -> None:
    assert math.isnan(play(nn.Sequential(nn.Flatten(), nn.Linear(9, 4))))
    assert math.isnan(play(Places(torch.rand(4, 6, 6)), classes=3))


def test_which_backbones_take_other_sizes() -> None:
    images = torch.rand(3, 1, 8, 8)
    for name, expected in {"resnet10_narrow": True, "two_conv_small": False}.items():
        network = fresh(run("plain", name)).network.train()
        before = weights(network)
        assert accepts_other_sizes(network, images) == expected
        assert same(weights(network), before) and all(module.training for module in network.modules())


def test_grids_follow_the_generator() -> None:
    network = Places(torch.rand(4, 6, 6, generator=draws(8)))
    assert play(network, count=3) == play(network, count=3) != play(network, count=3, seed=1)
    with pytest.raises(ValueError, match="count is 0"):
        play(network, count=0)
