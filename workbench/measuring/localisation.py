"""Localisation: is the saliency where the evidence is known to be?"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from smoot.metrics import pointing_game, relevance_mass, relevance_rank
from smoot.modes import evaluation_mode
from smoot.saliency import input_gradient, saliency_map
from workbench.data.composites import TILES, mosaics, tile_regions


@dataclass(frozen=True)
class Localisation:
    """Means over the images that have a region; NaN where there is none.

    Attributes:
        relevance_mass, relevance_rank, pointing_game: see :mod:`smoot.metrics`, in [0, 1].
        images: how many were measured.
        left_out: how many were not, because their region is empty.
    """

    relevance_mass: float
    relevance_rank: float
    pointing_game: float
    images: int
    left_out: int

    def numbers(self) -> dict[str, float]:
        """The three measures by their names in a run record."""
        return {name: getattr(self, name) for name in ("relevance_mass", "relevance_rank", "pointing_game")}


def localisation(saliency: Tensor, region: Tensor, tolerance: int) -> Localisation:
    """Relevance mass, relevance rank and pointing game against known regions.

    Args:
        saliency: ``(N, H, W)``, non-negative.
        region: ``(N, H, W)`` bool; images without any pixel in it are left out and counted.
        tolerance: of the pointing game, in pixels.

    Returns:
        :class:`Localisation`; an image without any saliency counts for the relevance rank only.

    Raises:
        ValueError: as the three measures.
    """
    usable = region.flatten(1).any(1)
    used, left_out = int(usable.sum()), int((~usable).sum())
    if used == 0:
        return Localisation(math.nan, math.nan, math.nan, 0, left_out)
    saliency, region = saliency[usable], region[usable]
    return Localisation(
        float(relevance_mass(saliency, region).nanmean()),
        float(relevance_rank(saliency, region).mean()),
        float(pointing_game(saliency, region, tolerance=tolerance).nanmean()),
        used,
        left_out,
    )


def grid_pointing(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    count: int,
    batch_size: int,
    generator: torch.Generator,
) -> float:
    """Grid pointing game: in a grid of four classes, how much of a class's saliency lies on its own image?

    Formula:
        ``mean over grids g and tiles t of (sum of m inside t) / (sum of m over g)``, m the magnitude of the input
        gradient of the log-odds of tile t's class on the grid of 2 x 2 images.

    Range:
        [0, 1]; chance is 0.25.

    Better:
        higher.

    Source:
        Boehle, Fritz, Schiele, CVPR 2021; after the pointing game of Zhang et al., IJCV 2018.

    Fails when:
        grids are far from the training images: a network that never saw several objects may answer to the seams
        between them. Evidence against a class, which the other images hold, counts as outside: even a network that
        reads each class on its own image alone need not come near 1. It needs a network for any image size, and is
        NaN for others; it is also NaN when the images show fewer than four classes.

    Args:
        network: maps pixels to logits; explained in eval mode.
        images: ``(N, C, H, W)`` in [0, 1].
        labels: ``(N,)`` int64.
        count: number of grids.
        batch_size: images at a time; a grid counts as four.
        generator: draws the grids.

    Returns:
        The mean share; grids without any saliency for a class are left out for it.

    Raises:
        ValueError: for a count below 1.
    """
    if len(labels.unique()) < TILES or not accepts_other_sizes(network, images):
        return math.nan
    grids, classes = mosaics(images, labels, count=count, generator=generator)
    tiles = tile_regions(*images.shape[2:]).to(images.device)
    size = max(1, batch_size // TILES)
    shares = []
    for part, wanted in zip(grids.split(size), classes.split(size), strict=True):
        for tile, region in enumerate(tiles):
            saliency = saliency_map(input_gradient(network, part, wanted[:, tile]))
            shares.append(relevance_mass(saliency, region.expand_as(saliency)))
    return float(torch.cat(shares).nanmean())


def accepts_other_sizes(network: nn.Module, images: Tensor) -> bool:
    """Whether a network answers images of twice the height and width of ``images`` ``(N, C, H, W)``."""
    twice = images[:1].repeat(1, 1, 2, 2)
    try:
        with evaluation_mode(network), torch.no_grad():
            network(twice)
    except (RuntimeError, AssertionError, ValueError):
        return False
    return True
