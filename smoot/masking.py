"""Which pixels are masked, and what replaces them.

Masks are ``(N, *pixels)`` booleans without a channel axis; **True = masked**. All functions work on the
whole batch, on the device of their inputs, and break ties by pixel index.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from smoot.checks import (
    at_least_float32,
    check_between,
    check_choice,
    check_inputs,
    check_map_shape,
    check_saliency,
)

Fill = Literal["uniform", "mean", "constant", "worst_case"]


def pixel_count(fraction: float, num_pixels: int) -> int:
    """``floor(fraction * num_pixels + 0.5)`` in float64: 0.29 of 100 pixels are 29."""
    return math.floor(fraction * num_pixels + 0.5)


def lowest_saliency_mask(saliency: Tensor, fraction: float | Tensor) -> Tensor:
    """Masks the given share of least salient pixels of each image (SGT, Ismail et al. 2021, Algorithm 1).

    Args:
        saliency: ``(N, *pixels)``, any sign.
        fraction: share of pixels in [0, 1], a number or ``(N,)``; exactly ``floor(f * P + 0.5)`` are masked.

    Returns:
        ``(N, *pixels)`` bool, True = masked.

    Raises:
        ValueError: for a fraction outside [0, 1], a wrong shape, or NaN saliency.
    """
    check_saliency(saliency)
    flat = at_least_float32(saliency).flatten(1)
    counts = _counts(fraction, len(flat), flat.shape[1], flat.device)
    return _lowest(flat, _ascending(flat), counts).view_as(saliency)


def lowest_mass_mask(saliency: Tensor, mass: float, *, max_fraction: float = 1.0) -> Tensor:
    """Masks each image's largest set of least salient pixels that holds at most ``mass`` of its saliency.

    So the input decides how many pixels go: many where saliency is concentrated, few where it is spread.

    Args:
        saliency: ``(N, *pixels)``, non-negative; summed in float32 at least.
        mass: share of the image's total saliency that may be masked, in [0, 1].
        max_fraction: at most ``floor(max_fraction * P)`` pixels are masked, in [0, 1].

    Returns:
        ``(N, *pixels)`` bool, True = masked. An image without any saliency keeps all its pixels.

    Raises:
        ValueError: for shares outside [0, 1], a wrong shape, negative or NaN saliency.
    """
    check_saliency(saliency, non_negative=True)
    check_between("mass", mass)
    check_between("max_fraction", max_fraction)
    flat = at_least_float32(saliency).flatten(1)
    ascending = _ascending(flat)
    cumulated = ascending.cumsum(1)
    total = cumulated[:, -1:]
    # The small term undoes binary rounding: 0.29 * 100 is 28.999999999999996 in float64.
    most = math.floor(max_fraction * flat.shape[1] + 1e-9)
    counts = (cumulated <= mass * total).sum(1).clamp(max=most) * (total.squeeze(1) > 0)
    return _lowest(flat, ascending, counts).view_as(saliency)


def random_mask(
    shape: tuple[int, ...],
    fraction: float | Tensor,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Masks a random share of each image's pixels: the control that ignores saliency.

    Args:
        shape: ``(N, *pixels)``.
        fraction: share of pixels in [0, 1], a number or ``(N,)``; exactly ``floor(f * P + 0.5)`` are masked.
        generator: source of the draw, on ``device``.
        device: where the mask is made; the generator's device by default.

    Returns:
        ``shape`` bool, True = masked.
    """
    device = generator.device if device is None and generator is not None else device
    return lowest_saliency_mask(torch.rand(shape, generator=generator, device=device), fraction)


def protected_random_mask(
    saliency: Tensor, fraction: float, protected: float, *, generator: torch.Generator | None = None
) -> Tensor:
    """Masks random pixels, never one of the ``protected`` share of most salient ones.

    ``protected = 0`` is :func:`random_mask`; ``protected = 1 - fraction`` is :func:`lowest_saliency_mask`.

    Args:
        saliency: ``(N, *pixels)``.
        fraction: share of all pixels that is masked, in [0, 1].
        protected: share of most salient pixels that is kept, in [0, 1 - fraction].
        generator: source of the draw, on the saliency's device.

    Returns:
        ``(N, *pixels)`` bool, True = masked; exactly ``floor(fraction * P + 0.5)`` pixels of each image.

    Raises:
        ValueError: if the two shares are outside [0, 1] or add up to more than 1.
    """
    check_saliency(saliency)
    check_between("fraction", fraction)
    check_between("protected", protected)
    if fraction + protected > 1 + 1e-9:
        raise ValueError(f"fraction {fraction:g} and protected {protected:g} add up to more than 1: lower one of them")
    flat = at_least_float32(saliency).flatten(1)
    num_pixels = flat.shape[1]
    count = pixel_count(fraction, num_pixels)
    kept = min(pixel_count(protected, num_pixels), num_pixels - count)
    candidates = _lowest(flat, _ascending(flat), torch.full((len(flat),), num_pixels - kept, device=flat.device))
    draw = torch.rand(flat.shape, generator=generator, device=flat.device)
    return lowest_saliency_mask(draw.masked_fill(~candidates, torch.inf), fraction).view_as(saliency)


def fill_masked(
    inputs: Tensor,
    mask: Tensor,
    *,
    fill: Fill = "uniform",
    value: float = 0.0,
    gradient: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """A copy of the inputs in which masked pixels are replaced in every channel.

    Fills: ``uniform`` noise between the image's minimum and maximum over all channels (what SGT does);
    ``mean`` of each image and channel; ``constant``; ``worst_case``: a random way towards the end of the
    image's range that lowers the true class, ``x + u (e - x)`` with u uniform in [0, 1] and e the maximum
    where the gradient is negative, else the minimum.

    Args:
        inputs: ``(N, C, *pixels)`` or ``(N, F)``.
        mask: ``(N, *pixels)`` bool, True = masked.
        fill: one of the four.
        value: the constant of ``constant``.
        gradient: of the true class's score, like ``inputs``; needed by ``worst_case`` only.
        generator: source of the noise, on the inputs' device.

    Returns:
        Tensor like ``inputs``; pixels that are not masked are equal to the bit.

    Raises:
        ValueError: for an unknown fill, a mask of the wrong shape or type, or a missing gradient.
    """
    check_inputs(inputs)
    check_choice("fill", fill, get_args(Fill))
    if mask.dtype != torch.bool:
        raise ValueError(f"mask is {mask.dtype}: expected a bool tensor, True = masked")
    check_map_shape("mask", mask, inputs)
    if fill == "worst_case" and (gradient is None or gradient.shape != inputs.shape):
        got = None if gradient is None else tuple(gradient.shape)
        raise ValueError(f"gradient is {got}: fill 'worst_case' needs one of shape {tuple(inputs.shape)}")
    channels = inputs.unsqueeze(1) if inputs.ndim == 2 else inputs
    replacement = _replacement(channels, fill, value, gradient, generator)
    return torch.where(mask.unsqueeze(1), replacement, channels).view_as(inputs)


def _replacement(
    channels: Tensor, fill: Fill, value: float, gradient: Tensor | None, generator: torch.Generator | None
) -> Tensor:
    """What would stand in every pixel of ``(N, C, *pixels)`` if all were masked."""
    if fill == "constant":
        return torch.full_like(channels, value)
    if fill == "mean":
        return channels.flatten(2).mean(2).view(*channels.shape[:2], *[1] * (channels.ndim - 2))
    flat = channels.flatten(1)
    per_image = (-1, *[1] * (channels.ndim - 1))
    low, high = flat.amin(1).view(per_image), flat.amax(1).view(per_image)
    share = torch.rand(channels.shape, dtype=channels.dtype, device=channels.device, generator=generator)
    if fill == "uniform":
        return torch.lerp(low.expand_as(share), high.expand_as(share), share)
    assert gradient is not None  # fill_masked has checked it
    end = torch.where(gradient.view_as(channels) < 0, high, low)
    return torch.lerp(channels, end, share)


def _counts(fraction: float | Tensor, num_images: int, num_pixels: int, device: torch.device) -> Tensor:
    """Number of masked pixels per image, ``(N,)`` int64."""
    if not isinstance(fraction, Tensor):
        check_between("fraction", fraction)
        return torch.full((num_images,), pixel_count(fraction, num_pixels), device=device)
    if fraction.shape != (num_images,):
        raise ValueError(f"fraction has shape {tuple(fraction.shape)}: expected a number or ({num_images},)")
    if fraction.device.type == "cpu" and not ((fraction >= 0) & (fraction <= 1)).all():
        raise ValueError(f"fraction lies in [{fraction.min():g}, {fraction.max():g}]: expected numbers in [0, 1]")
    return (fraction.to(device, torch.float64) * num_pixels + 0.5).floor().long()


def _ascending(flat: Tensor) -> Tensor:
    """The values of each row of ``(N, P)`` in ascending order.

    All rows are sorted as one vector of integers, the row above the order of the float's bits: torch has a radix
    sort for that, several times as fast as sorting the rows of a matrix.
    """
    if flat.dtype != torch.float32:
        return flat.sort(dim=1).values
    bits = (flat + 0.0).view(torch.int32)  # no negative zero
    ordered = _reflected(bits).long() + 2**31
    rows = torch.arange(len(flat), device=flat.device).unsqueeze(1) << 32
    keys = (ordered | rows).flatten().sort().values.view_as(ordered)
    return _reflected(((keys & (2**32 - 1)) - 2**31).int()).view(torch.float32)


def _reflected(bits: Tensor) -> Tensor:
    """Floats' bits as integers in the floats' order, and back: negative ones are stored the other way round."""
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


def _lowest(flat: Tensor, ascending: Tensor, counts: Tensor) -> Tensor:
    """True at the ``counts[i]`` smallest values of each row of ``(N, P)``, the first ones among equals."""
    last = ascending.gather(1, (counts - 1).clamp(min=0).unsqueeze(1))
    below, equal = flat < last, flat == last
    left = counts.unsqueeze(1) - below.sum(1, keepdim=True)
    return below | (equal & (equal.cumsum(1) <= left))
