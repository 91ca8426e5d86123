"""Localisation: does the saliency lie where the evidence is known to be?"""

import math

import torch
from torch import Tensor, nn

from smoot.metrics import pointing_game, relevance_mass, relevance_rank
from smoot.modes import evaluation_mode
from smoot.saliency import input_gradient, saliency_map
from workbench.data.composites import TILES, mosaics, tile_regions


def region_scores(saliency: Tensor, region: Tensor, tolerance: int) -> dict[str, float]:
    """Relevance mass, relevance rank and pointing game against known regions.

    Args:
        saliency: ``(N, H, W)``, non-negative.
        region: ``(N, H, W)`` bool; images whose region is empty are left out.
        tolerance: of the pointing game, in pixels.

    Returns:
        ``relevance_mass``, ``relevance_rank`` and ``pointing_game``, means in [0, 1]; an image without any saliency
        counts for the rank only. NaN if all regions are empty.

    Raises:
        ValueError: as the three metrics, see :mod:`smoot.metrics`.
    """
    usable = region.flatten(1).any(1)
    if not usable.any():
        return dict.fromkeys(("relevance_mass", "relevance_rank", "pointing_game"), math.nan)
    saliency, region = saliency[usable], region[usable]
    return {
        "relevance_mass": float(relevance_mass(saliency, region).nanmean()),
        "relevance_rank": float(relevance_rank(saliency, region).mean()),
        "pointing_game": float(pointing_game(saliency, region, tolerance=tolerance).nanmean()),
    }


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
    """Whether a network accepts images of twice the height and width of ``images`` ``(N, C, H, W)``."""
    twice = images[:1].repeat(1, 1, 2, 2)
    try:
        with evaluation_mode(network), torch.no_grad():
            network(twice)
    except (RuntimeError, AssertionError, ValueError):
        return False
    return True
