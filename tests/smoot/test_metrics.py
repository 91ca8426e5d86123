"""Closed forms of localisation, sparseness and agreement of maps; Spearman against scipy."""

import math
from collections.abc import Callable

import pytest
import torch
from scipy.stats import spearmanr

from smoot.masking import random_mask
from smoot.metrics import gini_sparseness, pointing_game, rank_correlation, relevance_mass, relevance_rank

DTYPES = [torch.float32, torch.bfloat16]

# -- localisation

HALF = torch.tensor([[True, True, False, False]])


@pytest.mark.parametrize(
    ("saliency", "mass", "rank"),
    [
        ([4.0, 3.0, 2.0, 1.0], 0.7, 1.0),
        ([1.0, 2.0, 3.0, 4.0], 0.3, 0.0),
        ([4.0, 0.0, 3.0, 1.0], 0.5, 0.5),
        ([0.0, 5.0, 0.0, 0.0], 1.0, 1.0),  # the tie among zeros goes to the first pixel
        ([0.0, 0.0, 5.0, 0.0], 0.0, 0.5),
        ([1.0, 1.0, 1.0, 1.0], 0.5, 1.0),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_relevance_by_hand(saliency: list[float], mass: float, rank: float, dtype: torch.dtype) -> None:
    maps = torch.tensor([saliency], dtype=dtype)
    assert relevance_mass(maps, HALF).tolist() == pytest.approx([mass])
    assert relevance_rank(maps, HALF).tolist() == pytest.approx([rank])


def test_relevance_of_images_with_regions_of_their_own() -> None:
    saliency = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 8.0]]])
    region = torch.tensor([[[False, False], [False, True]], [[True, True], [True, False]]])
    assert relevance_mass(saliency, region).tolist() == pytest.approx([0.4, 0.0])
    assert relevance_rank(saliency, region).tolist() == pytest.approx([1.0, 2 / 3])
    everything = torch.ones_like(region)
    assert relevance_mass(saliency, everything).tolist() == [1, 1]
    assert relevance_rank(saliency, everything).tolist() == [1, 1]


def test_relevance_of_random_maps_is_the_regions_share(generator: Callable) -> None:
    saliency = torch.rand(2000, 8, 8, generator=generator(0))
    region = random_mask((2000, 8, 8), 0.25, generator=generator(1))
    assert relevance_mass(saliency, region).mean().item() == pytest.approx(0.25, abs=0.01)
    assert relevance_rank(saliency, region).mean().item() == pytest.approx(0.25, abs=0.01)


def test_no_saliency_has_no_relevance_mass() -> None:
    mass = relevance_mass(torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 3.0]]), HALF.repeat(2, 1))
    assert mass[0].isnan() and mass[1] == 0.25


# -- pointing game


@pytest.mark.parametrize(
    ("shape", "peak", "region", "distance"),
    [
        ((5, 5), 12, [12], 0),
        ((5, 5), 12, [0], 2),  # (2, 2) and (0, 0): two steps along a diagonal
        ((5, 5), 12, [11], 1),
        ((5, 7), 3, [31], 4),  # (0, 3) and (4, 3)
        ((5, 7), 6, [7], 6),  # (0, 6) and (1, 0): neighbours in memory, not in the image
        ((5, 7), 34, [0, 32], 2),  # the nearer of two
        ((9,), 1, [8], 7),
        ((3, 4, 5), 0, [59], 4),
    ],
)
def test_the_tolerance_is_a_chebyshev_distance(
    shape: tuple[int, ...], peak: int, region: list[int], distance: int
) -> None:
    saliency, inside = torch.linspace(0, 1, math.prod(shape)), torch.zeros(math.prod(shape), dtype=torch.bool)
    saliency[peak], inside[region] = 2.0, True
    for tolerance in range(10):
        hit = pointing_game(saliency.view(1, *shape), inside.view(1, *shape), tolerance=tolerance)
        assert hit == float(tolerance >= distance), tolerance


def test_pointing_is_inside_the_region_dilated_by_a_square(generator: Callable) -> None:
    saliency = torch.rand(200, 6, 9, generator=generator(0))
    region = random_mask((200, 6, 9), 0.05, generator=generator(1))
    for tolerance in (0, 1, 2):
        size = 2 * tolerance + 1
        dilated = torch.nn.functional.max_pool2d(region.float(), size, stride=1, padding=tolerance)
        expected = dilated.flatten(1).gather(1, saliency.flatten(1).argmax(1, keepdim=True)).squeeze(1)
        assert torch.equal(pointing_game(saliency, region, tolerance=tolerance), expected)
        assert 0 < expected.mean() < 1


def test_among_equals_the_first_pixel_is_pointed_at() -> None:
    maps = torch.tensor([[0.0, 3.0, 3.0, 1.0]])
    at = torch.eye(4, dtype=torch.bool)[:, None]
    assert [pointing_game(maps, region).item() for region in at] == [0, 1, 0, 0]
    assert [pointing_game(torch.ones(1, 4), region).item() for region in at] == [1, 0, 0, 0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_saliency_points_nowhere(dtype: torch.dtype) -> None:
    maps = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 3.0], [4.0, 0.0, 0.0, 3.0]], dtype=dtype)
    result = pointing_game(maps, HALF.repeat(3, 1), tolerance=1)
    assert result.dtype == torch.float32 and result[0].isnan() and result[1:].tolist() == [0, 1]


# -- agreement of two maps


@pytest.mark.parametrize("shape", [(6, 40), (6, 5, 8), (6, 2, 4, 5)])
@pytest.mark.parametrize("levels", [2, 4, 1000])
def test_rank_correlation_is_scipys_with_and_without_ties(
    shape: tuple[int, ...], levels: int, generator: Callable
) -> None:
    first, second = ((levels * torch.rand(shape, generator=generator(seed))).floor() - 1 for seed in (0, 1))
    second += 0.5 * first  # so that it is not near 0 throughout
    pairs = zip(first.flatten(1), second.flatten(1), strict=True)
    expected = [spearmanr(one.numpy(), other.numpy()).statistic for one, other in pairs]
    assert rank_correlation(first, second).tolist() == pytest.approx(expected, abs=1e-6)
    assert max(expected) > 0.2


@pytest.mark.parametrize("dtype", DTYPES)
def test_only_the_order_counts(dtype: torch.dtype) -> None:
    first = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]], dtype=dtype)
    assert rank_correlation(first, first.exp()).tolist() == [1]
    assert rank_correlation(first, -first.exp()).tolist() == [-1]
    swapped = torch.tensor([[2.0, 1.0, 3.0, 4.0, 5.0]], dtype=dtype)
    assert rank_correlation(first, swapped).item() == pytest.approx(1 - 6 * 2 / (5 * 24))
    assert rank_correlation(first, swapped).dtype == torch.float32


@pytest.mark.parametrize("num_pixels", [1, 2, 3, 7, 784])
@pytest.mark.parametrize("value", [0.0, 0.1, -3.0])
def test_a_constant_map_agrees_with_nothing(num_pixels: int, value: float) -> None:
    constant, other = torch.full((2, num_pixels), value), torch.rand(2, num_pixels)
    assert rank_correlation(constant, other).isnan().all()
    assert rank_correlation(other, constant).isnan().all()
    mixed = torch.stack([constant[0], other[0]])
    if num_pixels > 1:
        assert rank_correlation(mixed, mixed).isnan().tolist() == [True, False]


def test_the_signs_of_zero_are_one_rank() -> None:
    signed = torch.tensor([[0.0, -0.0, 1.0, 2.0]])
    assert rank_correlation(signed, signed.abs()).tolist() == pytest.approx([1])


# -- sparseness


@pytest.mark.parametrize("dtype", DTYPES)
def test_gini_closed_forms(dtype: torch.dtype) -> None:
    def gini(values: list[float]) -> float:
        return gini_sparseness(torch.tensor([values], dtype=dtype)).item()

    assert gini([3.0, 3.0, 3.0, 3.0, 3.0]) == pytest.approx(0.0, abs=1e-6)
    assert gini([0.0, 0.0, 7.0, 0.0]) == pytest.approx(1 - 1 / 4)
    assert gini([4.0, 1.0, 3.0, 2.0]) == pytest.approx(0.25)  # (-3 * 1 - 2 + 3 + 3 * 4) / (4 * 10)
    assert gini([0.0, 1.0]) == pytest.approx(0.5)
    assert math.isnan(gini([0.0, 0.0, 0.0]))


@pytest.mark.parametrize("shape", [(3, 12), (3, 4, 5)])
def test_gini_is_half_the_relative_mean_difference(shape: tuple[int, ...]) -> None:
    saliency = torch.rand(shape).square()
    rows = saliency.flatten(1).double()
    expected = (rows[:, :, None] - rows[:, None, :]).abs().mean((1, 2)) / (2 * rows.mean(1))
    assert gini_sparseness(saliency).tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    torch.testing.assert_close(gini_sparseness(1000 * saliency), gini_sparseness(saliency))


def test_half_precision_maps_are_measured_in_float32() -> None:
    saliency = torch.rand(2, 1000).to(torch.bfloat16)  # bfloat16 cannot count to 1000
    region = torch.rand(2, 1000) < 0.4
    for half, full in (
        (gini_sparseness(saliency), gini_sparseness(saliency.double())),
        (relevance_mass(saliency, region), relevance_mass(saliency.double(), region)),
    ):
        assert half.dtype == torch.float32
        torch.testing.assert_close(half.double(), full, rtol=1e-5, atol=0)
