"""Which pixels are masked, and what replaces them.

Masks are ``(N, *pixels)`` bool without a channel axis; **True = masked**. All functions work on the whole batch, on
the device of their inputs. Of equally salient pixels the one with the lower index counts as less salient.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from smoot.checks import at_least_float32, check_between, check_choice, check_inputs, check_map_shape, check_saliency

Fill = Literal["uniform", "mean", "feature_mean", "constant"]


def pixel_count(fraction: float, num_pixels: int) -> int:
    """A fraction of the pixels as a whole number: ``floor(fraction * num_pixels + 0.5)`` in float64."""
    return math.floor(fraction * num_pixels + 0.5)


def lowest_saliency_mask(saliency: Tensor, fraction: float | Tensor) -> Tensor:
    """Masks a fraction of the pixels of each image, the least salient ones (SGT, Ismail et al. 2021, Algorithm 1).

    Args:
        saliency: ``(N, *pixels)``, any sign.
        fraction: of the P pixels, in [0, 1], a number or ``(N,)``; exactly ``floor(fraction * P + 0.5)`` are masked.

    Returns:
        ``(N, *pixels)`` bool, True = masked.

    Raises:
        ValueError: for a fraction outside [0, 1], a wrong shape, or NaN saliency.
    """
    check_saliency(saliency)
    flat = at_least_float32(saliency).flatten(1)
    counts = _counts(fraction, len(flat), flat.shape[1], flat.device)
    return _lowest(flat, _ascending(flat), counts).view_as(saliency)


def limited_mask(saliency: Tensor, effects: Tensor, limit: float, fraction: float | Tensor = 1.0) -> Tensor:
    """Masks the least salient pixels of each image, as many as have a small effect together.

    Args:
        saliency: ``(N, *pixels)``, any sign: the order in which pixels are masked.
        effects: ``(N, *pixels)``: what masking each pixel changes, of which magnitudes are added up.
        limit: of their sum in each image, at least 0, in the unit of ``effects``.
        fraction: of the P pixels that are masked at most, in [0, 1], a number or ``(N,)``.

    Returns:
        ``(N, *pixels)`` bool, True = masked.

    Raises:
        ValueError: for a negative limit, a fraction outside [0, 1], shapes that differ, or NaN saliency.
    """
    check_saliency(saliency)
    check_between("limit", limit, 0.0, math.inf)
    if effects.shape != saliency.shape:
        raise ValueError(
            f"effects have shape {tuple(effects.shape)}: expected that of saliency, {tuple(saliency.shape)}"
        )
    flat = at_least_float32(saliency).flatten(1)
    order = flat.sort(dim=1, stable=True).indices
    within = at_least_float32(effects).flatten(1).abs().gather(1, order).cumsum(1) <= limit
    most = _counts(fraction, len(flat), flat.shape[1], flat.device)
    return _lowest(flat, _ascending(flat), torch.minimum(within.sum(1), most)).view_as(saliency)


def random_mask(
    shape: tuple[int, ...],
    fraction: float | Tensor,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Masks a fraction of the pixels of each image at random: the control that ignores saliency.

    Args:
        shape: ``(N, *pixels)``.
        fraction: of the P pixels, in [0, 1], a number or ``(N,)``; exactly ``floor(fraction * P + 0.5)`` are masked.
        generator: source of the draw, on ``device``.
        device: where the mask is made; without one, the generator's device.

    Returns:
        ``(N, *pixels)`` bool, True = masked.

    Raises:
        ValueError: for a fraction outside [0, 1].
    """
    device = generator.device if device is None and generator is not None else device
    return lowest_saliency_mask(torch.rand(shape, generator=generator, device=device), fraction)


def protected_random_mask(
    saliency: Tensor, fraction: float, protected: float, *, generator: torch.Generator | None = None
) -> Tensor:
    """Masks pixels at random, but never the most salient ones.

    With ``protected = 0`` any pixel can be masked, as by :func:`random_mask`; with ``protected = 1 - fraction`` the
    mask is that of :func:`lowest_saliency_mask`.

    Args:
        saliency: ``(N, *pixels)``.
        fraction: fraction of all pixels that is masked, in [0, 1].
        protected: fraction of all pixels that is never masked, the most salient ones, in [0, 1 - fraction].
        generator: source of the draw, on the saliency's device.

    Returns:
        ``(N, *pixels)`` bool, True = masked; exactly ``floor(fraction * P + 0.5)`` pixels of each image.

    Raises:
        ValueError: for fractions outside [0, 1] or that add up to more than 1, a wrong shape, or NaN saliency.
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
    channel_axis: int = 1,
    num_channels: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Copies the inputs and replaces masked pixels in every channel.

    Args:
        inputs: ``(N, C, *pixels)`` or ``(N, F)``.
        mask: ``(N, *pixels)`` bool, True = masked.
        fill: ``uniform`` noise between each image's minimum and maximum over all channels (as SGT), the ``mean`` of
            each image and channel, the ``feature_mean`` of each channel and pixel over the batch (for tables, whose
            features have units of their own), or a ``constant``.
        value: the constant of fill ``constant``.
        channel_axis: where the channels are, such as -1 for ``(N, *pixels, C)``; not used for ``(N, F)``.
        num_channels: how many channels are replaced, the first ones; by default all.
        generator: source of the noise, on the inputs' device.

    Returns:
        Tensor like ``inputs``, channels last if they are; pixels that are not masked are equal to the bit. They keep
        a graph of the inputs; the fill is a constant.

    Raises:
        TypeError: for inputs that are not floating point.
        ValueError: for an unknown fill, or a mask of the wrong shape or type.
    """
    values = fill_values(inputs, fill=fill, value=value, channel_axis=channel_axis, generator=generator)
    return replace_masked(inputs, mask, values, channel_axis=channel_axis, num_channels=num_channels)


def fill_values(
    inputs: Tensor,
    *,
    fill: Fill = "uniform",
    value: float = 0.0,
    channel_axis: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """What :func:`fill_masked` would put in place of each pixel, masked or not.

    Args:
        inputs, fill, value, channel_axis, generator: as for :func:`fill_masked`.

    Returns:
        ``(N, C, *pixels)``, the channels moved to axis 1, or a shape that can be broadcast to it. ``(N, 1, F)`` for
        ``(N, F)``.
    """
    check_inputs(inputs)
    check_choice("fill", fill, get_args(Fill))
    return _replacement(channels_first(inputs, channel_axis).detach(), fill, value, generator)


def replace_masked(
    inputs: Tensor, mask: Tensor, values: Tensor, *, channel_axis: int = 1, num_channels: int | None = None
) -> Tensor:
    """Copies the inputs with ``values``, as of :func:`fill_values`, at their masked pixels; see :func:`fill_masked`."""
    if mask.dtype != torch.bool:
        raise ValueError(f"mask is {mask.dtype}: expected a bool tensor, True = masked")
    channels = channels_first(inputs, channel_axis)
    check_map_shape("mask", mask, inputs if inputs.ndim == 2 else channels)
    replaced = mask.unsqueeze(1)
    if num_channels is not None:
        first = torch.arange(channels.shape[1], device=mask.device) < num_channels
        replaced = replaced & first.view(-1, *[1] * (mask.ndim - 1))
    filled = torch.where(replaced, values, channels)
    if inputs.ndim == 2:
        return filled.squeeze(1)
    last = inputs.ndim == 4 and inputs.is_contiguous(memory_format=torch.channels_last)
    kept = torch.channels_last if last and not inputs.is_contiguous() else torch.contiguous_format
    return filled.movedim(1, channel_axis).contiguous(memory_format=kept)


def channels_first(inputs: Tensor, channel_axis: int) -> Tensor:
    """A view ``(N, C, *pixels)`` of the inputs; ``(N, 1, F)`` of ``(N, F)``."""
    return inputs.unsqueeze(1) if inputs.ndim == 2 else inputs.movedim(channel_axis, 1)


def _replacement(channels: Tensor, fill: Fill, value: float, generator: torch.Generator | None) -> Tensor:
    """The fill of every pixel of ``(N, C, *pixels)``, masked or not."""
    if fill == "constant":
        return torch.full_like(channels, value)
    if fill == "feature_mean":
        return channels.mean(0, keepdim=True)
    if fill == "mean":
        return channels.flatten(2).mean(2).view(*channels.shape[:2], *[1] * (channels.ndim - 2))
    flat = channels.flatten(1)
    per_image = (-1, *[1] * (channels.ndim - 1))
    low, high = flat.amin(1).view(per_image), flat.amax(1).view(per_image)
    noise = torch.rand(channels.shape, dtype=channels.dtype, device=channels.device, generator=generator)
    return torch.lerp(low.expand_as(noise), high.expand_as(noise), noise)


def _counts(fraction: float | Tensor, num_images: int, num_pixels: int, device: torch.device) -> Tensor:
    """Number of masked pixels of each image, ``(N,)`` int64."""
    if not isinstance(fraction, Tensor):
        check_between("fraction", fraction)
        return torch.full((num_images,), pixel_count(fraction, num_pixels), device=device)
    if fraction.shape != (num_images,):
        raise ValueError(f"fraction has shape {tuple(fraction.shape)}: expected a number or ({num_images},)")
    if fraction.device.type == "cpu" and not ((fraction >= 0) & (fraction <= 1)).all():
        raise ValueError(f"fraction lies in [{fraction.min():g}, {fraction.max():g}]: expected numbers in [0, 1]")
    return (fraction.to(device, torch.float64) * num_pixels + 0.5).floor().long()


def _ascending(flat: Tensor) -> Tensor:
    """Sorts each row of ``(N, P)`` in ascending order.

    torch sorts a vector of integers by radix, several times as fast as the rows of a float matrix. So each float32
    becomes a 64-bit integer key, the row number in the upper half and the float in the lower, and all keys are
    sorted at once.
    """
    if flat.dtype != torch.float32:
        return flat.sort(dim=1).values
    bits = (flat + 0.0).view(torch.int32)  # -0.0 + 0.0 is 0.0: one zero, not two
    unsigned = _order_preserving(bits).long() + 2**31
    rows = torch.arange(len(flat), device=flat.device).unsqueeze(1) << 32
    keys = (unsigned | rows).flatten().sort().values.view_as(unsigned)
    return _order_preserving(((keys & (2**32 - 1)) - 2**31).int()).view(torch.float32)


def _order_preserving(bits: Tensor) -> Tensor:
    """Maps the int32 bits of floats to integers of the same order, and back.

    The bits of negative floats increase as the float decreases; flipping all but the sign bit reverses that.
    """
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


def _lowest(flat: Tensor, ascending: Tensor, counts: Tensor) -> Tensor:
    """True at the ``counts[i]`` smallest values of row i of ``(N, P)``, the first ones among equals.

    Args:
        flat: ``(N, P)``.
        ascending: its rows sorted.
        counts: ``(N,)`` int64, in [0, P].
    """
    last = ascending.gather(1, (counts - 1).clamp(min=0).unsqueeze(1))
    below, equal = flat < last, flat == last
    left = counts.unsqueeze(1) - below.sum(1, keepdim=True)
    return below | (equal & (equal.cumsum(1) <= left))
