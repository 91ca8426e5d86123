"""Random erasing of training images: rectangles or single pixels, filled as in deletion and insertion curves."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from smoot.checks import check_between
from smoot.masking import Fill, fill_masked

AREA = (0.02, 0.6)  # fraction of the pixels that a rectangle covers
ASPECT = (0.3, 3.3)  # height over width of a rectangle
PIXELS = (0.0, 0.95)  # fraction of single pixels


def erase(
    images: Tensor, *, probability: float, fills: Sequence[tuple[Fill, float]], generator: torch.Generator
) -> Tensor:
    """Erase part of some images (Zhong et al. 2020, extended by single pixels).

    A network that is to classify images with removed pixels should have seen such images; otherwise it responds to
    the fill, not to what is left.

    Args:
        images: ``(N, C, H, W)`` in [0, 1].
        probability: that something of an image is erased, in [0, 1].
        fills: what replaces erased pixels, as (fill, constant) of :func:`smoot.masking.fill_masked`; one of them is
            drawn per image.
        generator: source of all draws, on the images' device.

    Returns:
        ``(N, C, H, W)``; the images given stay as they are.

    Raises:
        ValueError: for a probability outside [0, 1] or no fill.
    """
    check_between("probability", probability)
    if not fills:
        raise ValueError("fills is empty: name at least one fill for the erased pixels")
    count, device = len(images), images.device
    mask = erasing_mask((count, *images.shape[2:]), generator=generator)
    erased = torch.rand(count, generator=generator, device=device) < probability
    choice = torch.randint(len(fills), (count,), generator=generator, device=device)
    for index, (fill, value) in enumerate(fills):
        chosen = mask & (erased & (choice == index)).view(-1, 1, 1)
        images = fill_masked(images, chosen, fill=fill, value=value, generator=generator)
    return images


def erasing_mask(shape: tuple[int, ...], *, generator: torch.Generator) -> Tensor:
    """What is erased of each image if anything is: a rectangle or single pixels, each with probability 0.5.

    A rectangle's area is uniform in `AREA`, its aspect log-uniform in `ASPECT`, its position uniform; sides longer
    than the image are cut to it. The fraction of single pixels is uniform in `PIXELS`.

    Args:
        shape: ``(N, H, W)``.
        generator: source of the draws, on the device where the mask is made.

    Returns:
        ``(N, H, W)`` bool, True = erased.
    """
    count, height, width = shape
    single = _uniform(count, PIXELS, generator).view(-1, 1, 1)
    pixels = torch.rand(shape, generator=generator, device=generator.device) < single
    takes_pixels = (_uniform(count, (0.0, 1.0), generator) < 0.5).view(-1, 1, 1)
    return torch.where(takes_pixels, pixels, _rectangles(count, height, width, generator))


def _rectangles(count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """One rectangle per image, ``(N, H, W)`` bool."""
    area = _uniform(count, AREA, generator) * height * width
    aspect = _uniform(count, (math.log(ASPECT[0]), math.log(ASPECT[1])), generator).exp()
    rows = _interval((area * aspect).sqrt(), height, generator)
    columns = _interval((area / aspect).sqrt(), width, generator)
    return rows.unsqueeze(2) & columns.unsqueeze(1)


def _interval(length: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """An interval of ``length`` ``(N,)`` positions, rounded, at random among ``side``: ``(N, side)`` bool."""
    length = length.round().clamp(1, side).long()
    start = (_uniform(len(length), (0.0, 1.0), generator) * (side - length + 1)).floor().long()
    place = torch.arange(side, device=length.device)
    return (place >= start.unsqueeze(1)) & (place < (start + length).unsqueeze(1))


def _uniform(count: int, bounds: tuple[float, float], generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, device=generator.device) * (bounds[1] - bounds[0]) + bounds[0]
