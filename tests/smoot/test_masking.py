"""Masks against counting by hand and brute force; fills against their definitions."""

import math
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from smoot.masking import fill_masked, lowest_saliency_mask, protected_random_mask, random_mask

SHAPES = [(4, 3, 5, 6), (4, 2, 7), (4, 9)]
DTYPES = [torch.float32, torch.bfloat16]
FILLS = ["uniform", "mean", "constant"]


def pixels_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The mask's shape for inputs of ``shape``."""
    return shape if len(shape) == 2 else shape[:1] + shape[2:]


def counts(mask: Tensor) -> list[int]:
    return mask.flatten(1).sum(1).tolist()


def lowest_by_sorting(values: list[float], count: int) -> set[int]:
    """Indices of the ``count`` smallest values, the smaller index first among equal ones."""
    return set(sorted(range(len(values)), key=lambda index: (values[index], index))[:count])


def chosen(mask: Tensor) -> list[set[int]]:
    return [set(row.nonzero().flatten().tolist()) for row in mask.flatten(1)]


# -- lowest_saliency_mask


@pytest.mark.parametrize("num_pixels", [1, 7, 49, 100, 784])
def test_every_fraction_masks_exactly_its_rounded_share(num_pixels: int) -> None:
    saliency = torch.randn(2, num_pixels)
    for step in range(101):
        expected = math.floor(Fraction(step, 100) * num_pixels + Fraction(1, 2))
        assert counts(lowest_saliency_mask(saliency, step / 100)) == [expected] * 2, step
        assert counts(random_mask((2, num_pixels), step / 100)) == [expected] * 2, step


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fractions_per_image(dtype: torch.dtype) -> None:
    saliency = torch.randn(5, 10, 10)
    fractions, expected = torch.tensor([0.0, 0.29, 0.5, 0.57, 1.0], dtype=dtype), [0, 29, 50, 57, 100]
    assert counts(random_mask((5, 10, 10), fractions)) == expected
    mask = chosen(lowest_saliency_mask(saliency, fractions))
    assert mask == [lowest_by_sorting(*row) for row in zip(saliency.flatten(1).tolist(), expected, strict=True)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_lowest_pixels_are_masked_ties_by_index(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    saliency = torch.randint(-2, 3, pixels_of(shape)).to(dtype)  # many ties, and signed
    mask = lowest_saliency_mask(saliency, 0.4)
    assert mask.dtype == torch.bool and mask.shape == saliency.shape
    count = math.floor(0.4 * saliency[0].numel() + 0.5)
    rows = saliency.flatten(1).tolist()
    assert chosen(mask) == [lowest_by_sorting(row, count) for row in rows]


def test_ties_and_memory_layout() -> None:
    assert lowest_saliency_mask(torch.ones(1, 6), 0.5).tolist() == [[True, True, True, False, False, False]]
    saliency = torch.tensor([[3.0, 1.0, 2.0, 1.0, 1.0]])
    assert lowest_saliency_mask(saliency, 0.4).tolist() == [[False, True, False, True, False]]
    across = torch.arange(12.0).view(1, 3, 4).transpose(1, 2)
    assert torch.equal(lowest_saliency_mask(across, 0.5), lowest_saliency_mask(across.contiguous(), 0.5))


# -- random masks


def test_random_masks_differ_between_images_and_follow_the_generator(generator: Callable) -> None:
    state = torch.get_rng_state()
    mask = random_mask((50, 6, 6), 0.5, generator=generator(0))
    assert mask.shape == (50, 6, 6) and mask.dtype == torch.bool
    assert len(mask.unique(dim=0)) == 50
    assert torch.equal(mask, random_mask((50, 6, 6), 0.5, generator=generator(0)))
    assert not torch.equal(mask, random_mask((50, 6, 6), 0.5, generator=generator(1)))
    assert torch.equal(torch.get_rng_state(), state)


def test_every_pixel_is_equally_likely(generator: Callable) -> None:
    frequency = random_mask((4000, 10), 0.3, generator=generator(0)).float().mean(0)
    assert (frequency - 0.3).abs().max() < 0.03  # four standard errors
    free = protected_random_mask(torch.rand(4000, 10), 0.3, 0.0, generator=generator(0)).float().mean(0)
    assert (free - 0.3).abs().max() < 0.03


@pytest.mark.parametrize("shape", SHAPES)
def test_protected_masks_never_touch_the_most_salient_pixels(shape: tuple[int, ...]) -> None:
    saliency = torch.randint(0, 4, pixels_of(shape)).float()
    num_pixels = saliency[0].numel()
    for fraction, protected in [(0.5, 0.2), (0.3, 0.3), (0.1, 0.9), (0.0, 0.5), (1.0, 0.0), (0.5, 0.0)]:
        mask = protected_random_mask(saliency, fraction, protected)
        assert counts(mask) == [math.floor(fraction * num_pixels + 0.5)] * len(saliency)
        kept = min(math.floor(protected * num_pixels + 0.5), num_pixels - counts(mask)[0])
        for row, masked in zip(saliency.flatten(1).tolist(), chosen(mask), strict=True):
            assert masked <= lowest_by_sorting(row, num_pixels - kept)


def test_the_ends_of_protection(generator: Callable) -> None:
    saliency = torch.randn(20, 7, 7)
    for fraction in (0.0, 0.2, 0.29, 0.5, 0.71, 1.0):
        lowest = lowest_saliency_mask(saliency, fraction)
        assert torch.equal(protected_random_mask(saliency, fraction, 1 - fraction), lowest)
        free = protected_random_mask(saliency, fraction, 0.0, generator=generator(3))
        assert torch.equal(free, random_mask((20, 7, 7), fraction, generator=generator(3)))


def test_unprotected_pixels_are_all_within_reach(generator: Callable) -> None:
    saliency = torch.arange(10.0).expand(4000, 10)
    frequency = protected_random_mask(saliency, 0.3, 0.4, generator=generator(0)).float().mean(0)
    assert (frequency[6:] == 0).all()  # the four most salient ones
    assert (frequency[:6] - 0.5).abs().max() < 0.04  # 3 of 6


# -- fills


def filled(inputs: Tensor, mask: Tensor, fill: str, seed: int = 0) -> Tensor:
    return fill_masked(inputs, mask, fill=fill, value=0.75, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_only_masked_pixels_change_and_inputs_stay(shape: tuple[int, ...], dtype: torch.dtype, fill: str) -> None:
    inputs = torch.randn(shape).to(dtype)
    mask = random_mask(pixels_of(shape), 0.5)
    kept, kept_mask = inputs.clone(), mask.clone()
    result = filled(inputs, mask, fill)
    assert result.dtype == dtype and result.shape == shape
    assert torch.equal(inputs, kept) and torch.equal(mask, kept_mask)
    assert result.data_ptr() != inputs.data_ptr()
    wide = (mask if len(shape) == 2 else mask.unsqueeze(1)).expand(shape)
    assert torch.equal(result[~wide], inputs[~wide])
    assert (result[wide] != inputs[wide]).float().mean() > 0.9
    assert torch.equal(filled(inputs, torch.zeros_like(mask), fill), inputs)
    assert torch.equal(filled(inputs, torch.ones_like(mask), fill)[wide], result[wide])
    assert torch.equal(filled(inputs, mask, fill), result)  # same generator, same noise
    if fill == "uniform":
        assert not torch.equal(filled(inputs, mask, fill, seed=1), result)


def test_noise_differs_between_equal_images_channels_and_pixels() -> None:
    inputs = torch.linspace(0, 1, 48).view(1, 3, 4, 4).repeat(2, 1, 1, 1)
    result = fill_masked(inputs, torch.ones(2, 4, 4, dtype=torch.bool), fill="uniform")
    assert result.unique().numel() > 90


@pytest.mark.parametrize("dtype", DTYPES)
def test_uniform_noise_spans_each_images_own_range_over_all_channels(dtype: torch.dtype) -> None:
    inputs = torch.zeros(2, 2, 40, 40)
    inputs[0, 1] = 1.0  # image 0: channels 0 and 1, range [0, 1]
    inputs[1, 0], inputs[1, 1] = 5.0, 7.0
    everything = torch.ones(2, 40, 40, dtype=torch.bool)
    result = fill_masked(inputs.to(dtype), everything, fill="uniform").float()
    for image, (low, high) in enumerate([(0.0, 1.0), (5.0, 7.0)]):
        for channel in range(2):
            noise = (result[image, channel] - low) / (high - low)
            assert 0 <= noise.min() < 0.02 and 0.98 < noise.max() <= 1
            assert abs(noise.mean() - 0.5) < 0.03 and abs(noise.var() - 1 / 12) < 0.01


def test_mean_fill_is_per_image_and_channel_over_all_pixels() -> None:
    inputs = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[0.0, 0.0], [0.0, 8.0]]]])  # means 3 and 2
    inputs = torch.cat([inputs, inputs + 10])
    mask = torch.tensor([[[True, False], [False, True]], [[False, False], [True, False]]])
    first, second = fill_masked(inputs, mask, fill="mean").tolist()
    assert first == [[[3, 2], [3, 3]], [[2, 0], [0, 2]]]
    assert second == [[[11, 12], [13, 16]], [[10, 10], [12, 18]]]
    features = torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]])
    mask = torch.tensor([[True, False, False], [False, False, True]])
    assert fill_masked(features, mask, fill="mean").tolist() == [[3, 2, 6], [0, 0, 1]]


def test_constant_fill_and_the_default_value() -> None:
    inputs, mask = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[True, False, True]])
    assert fill_masked(inputs, mask, fill="constant", value=-4.5).tolist() == [[-4.5, 2.0, -4.5]]
    assert fill_masked(inputs, mask, fill="constant").tolist() == [[0.0, 2.0, 0.0]]


def test_fills_take_any_memory_format() -> None:
    inputs = torch.randn(2, 3, 5, 6).contiguous(memory_format=torch.channels_last)
    mask = random_mask((2, 5, 6), 0.5)
    for fill in FILLS:
        torch.testing.assert_close(filled(inputs, mask, fill), filled(inputs.contiguous(), mask, fill))
