"""Measures of a saliency map that need no model: localisation, sparseness, and agreement of two maps.

How the model's answers change as salient pixels are removed is in :mod:`smoot.curves`.
"""

import torch
from torch import Tensor

from smoot.checks import at_least_float32, check_saliency


def relevance_mass(saliency: Tensor, region: Tensor) -> Tensor:
    """Share of the saliency that lies inside the region.

    If the region is one tile of a mosaic of images, this is the score of the grid pointing game.

    Formula:
        ``sum of the saliency in the region / sum of the saliency``.
    Range:
        [0, 1]; a random or constant map gives the region's fraction of the pixels.
    Better:
        Higher, if the region is what the class depends on.
    Source:
        Arras, Osman, Samek 2022 (relevance mass accuracy); as the energy-based pointing game: Wang et al. 2020.
    Fails when:
        Evidence for the class lies outside the region (context, background), or the region contains pixels without
        evidence. Any map hits a large region, so compare with a random map. Edges localise well too, and a map
        can show edges whatever the model has learnt: see the sanity check.

    Args:
        saliency: ``(N, *pixels)``, non-negative.
        region: ``(N, *pixels)`` bool, the object's pixels; none of the regions may be empty.

    Returns:
        ``(N,)``; NaN for an image without any saliency.

    Raises:
        ValueError: for negative or NaN saliency, a region of another shape or type, or an empty region.
    """
    saliency, region = _checked_region(saliency, region)
    return (saliency * region).sum(1) / saliency.sum(1)


def relevance_rank(saliency: Tensor, region: Tensor) -> Tensor:
    """Share of the K most salient pixels that lie inside a region of K pixels; ties by lower pixel index.

    Arguments and errors as for :func:`relevance_mass`.

    Formula:
        ``|K most salient pixels and region| / K`` with ``K = |region|``.
    Range:
        [0, 1]; a random map gives the region's fraction of the pixels.
    Better:
        Higher, if the region is what the class depends on.
    Source:
        Arras, Osman, Samek 2022 (relevance rank accuracy).
    Fails when:
        As :func:`relevance_mass`. Only the order counts: a nearly flat map scores as a sharp one, and among equal
        pixels (a map with many zeros) the index decides.

    Returns:
        ``(N,)``.
    """
    saliency, region = _checked_region(saliency, region)
    order = saliency.argsort(dim=1, descending=True, stable=True)
    size = region.sum(1)
    among_first = torch.arange(region.shape[1], device=region.device) < size.unsqueeze(1)
    return (region.gather(1, order) & among_first).sum(1) / size


def pointing_game(saliency: Tensor, region: Tensor, *, tolerance: int = 0) -> Tensor:
    """Whether the most salient pixel lies in the region; ties by lower pixel index.

    Formula:
        1 if a pixel of the region is at most ``tolerance`` pixels away from the most salient pixel along
        every axis (Chebyshev distance: the region dilated by a square), else 0.
    Range:
        0 or 1 per image; the mean over images is the hit rate. A random map hits at a rate equal to the dilated
        region's fraction of the pixels.
    Better:
        Higher, if the region is what the class depends on.
    Source:
        Zhang et al. 2018 (pointing game), who allow 15 pixels in photographs.
    Fails when:
        One pixel represents the whole map: noise can move it, and a map that is otherwise wrong can hit. The
        tolerance enlarges small regions most, so report the rate of a random map as well.

    Args:
        saliency: ``(N, *pixels)``, non-negative.
        region: ``(N, *pixels)`` bool; none of the regions may be empty.
        tolerance: in pixels, 0 or more.

    Returns:
        ``(N,)``: 1.0, 0.0, or NaN for an image without any saliency.

    Raises:
        ValueError: as :func:`relevance_mass`, or for a tolerance that is not a whole number of at least 0.
    """
    if isinstance(tolerance, bool) or not isinstance(tolerance, int) or tolerance < 0:
        raise ValueError(f"tolerance is {tolerance!r}: expected a whole number of pixels, at least 0")
    shape = region.shape
    flat, region = _checked_region(saliency, region)
    most = flat.argmax(1)
    hit = (region & _square(most, shape[1:], tolerance)).any(1)
    return torch.where(flat.gather(1, most.unsqueeze(1)).squeeze(1) > 0, hit.to(flat.dtype), torch.nan)


def gini_sparseness(saliency: Tensor) -> Tensor:
    """Gini index of the saliency over the pixels: how concentrated it is on few of them.

    Formula:
        ``sum over i of (2 i - P - 1) s_i / (P sum of s)`` with the pixels s in ascending order, i = 1 ... P.
    Range:
        [0, 1 - 1/P]: 0 if all P pixels are equal, 1 - 1/P if one pixel has all the saliency.
    Better:
        Higher is sparser, which is not better by itself.
    Source:
        Hurley & Rickard 2009; on attributions: Chalasani et al. 2020.
    Fails when:
        It is used alone. A sparse map need not be right: one arbitrary pixel is as sparse as possible, and an
        untrained network can have sparse maps. Maps of different sizes or reductions are not comparable.

    Args:
        saliency: ``(N, *pixels)``, non-negative.

    Returns:
        ``(N,)``; NaN for an image without any saliency.

    Raises:
        ValueError: for negative or NaN saliency.
    """
    check_saliency(saliency, non_negative=True)
    ascending = at_least_float32(saliency).flatten(1).sort(dim=1).values
    num_pixels = ascending.shape[1]
    weight = 2 * torch.arange(1, num_pixels + 1, device=saliency.device, dtype=ascending.dtype) - num_pixels - 1
    return (weight * ascending).sum(1) / (num_pixels * ascending.sum(1))


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's correlation of two maps over their pixels; equal pixels share the mean of their ranks.

    Formula:
        Pearson's correlation of the ranks, per image.
    Range:
        [-1, 1]; 1 for maps in the same order, 0 in expectation for unrelated ones.
    Better:
        Higher for maps of an image and of its noisy copy (stability); near 0 for maps of a trained network and of
        one with randomised weights (sanity check).
    Source:
        Spearman 1904; for maps of randomised networks: Adebayo et al. 2018.
    Fails when:
        Most pixels have next to no saliency: their order is noise, yet counts as much as that of the others. What
        all maps have in common (a bright centre, edges) correlates without any common reason.

    Args:
        first: ``(N, *pixels)``, any sign.
        second: ``(N, *pixels)``, any sign.

    Returns:
        ``(N,)``; NaN where one of the two maps is constant.

    Raises:
        ValueError: for maps of different shapes, or NaN.
    """
    check_saliency(first)
    check_saliency(second)
    if first.shape != second.shape:
        raise ValueError(
            f"second has shape {tuple(second.shape)}: expected {tuple(first.shape)} like first, one map per image"
        )
    a, b = (_centred_ranks(at_least_float32(array).flatten(1)) for array in (first, second))
    correlation = (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()
    return correlation.clamp(-1, 1).to(at_least_float32(first).dtype)


def _centred_ranks(flat: Tensor) -> Tensor:
    """Twice the mean rank of each pixel minus its average, ``(N, P)`` float64: exact, and 0 for a constant map."""
    ascending = flat.sort(dim=1).values
    below = torch.searchsorted(ascending, flat.contiguous())
    up_to = torch.searchsorted(ascending, flat.contiguous(), right=True)
    return (below + up_to - flat.shape[1]).double()


def _square(index: Tensor, shape: torch.Size, tolerance: int) -> Tensor:
    """True within ``tolerance`` pixels of the pixel ``index`` ``(N,)`` along every axis; ``(N, P)``."""
    near = torch.ones(len(index), 1, dtype=torch.bool, device=index.device)
    for size, coordinate in zip(shape, torch.unravel_index(index, shape), strict=True):
        along = (torch.arange(size, device=index.device) - coordinate.unsqueeze(1)).abs() <= tolerance
        near = (near.unsqueeze(2) & along.unsqueeze(1)).flatten(1)
    return near


def _checked_region(saliency: Tensor, region: Tensor) -> tuple[Tensor, Tensor]:
    """Both, checked and flattened to ``(N, P)``."""
    check_saliency(saliency, non_negative=True)
    if region.dtype != torch.bool or region.shape != saliency.shape:
        raise ValueError(
            f"region is {region.dtype} {tuple(region.shape)}: "
            f"expected torch.bool {tuple(saliency.shape)} like the saliency"
        )
    flat = region.flatten(1)
    if flat.device.type == "cpu" and not flat.any(1).all():
        raise ValueError(f"{int((~flat.any(1)).sum())} regions are empty: leave out those images, nothing can be hit")
    return at_least_float32(saliency).flatten(1), flat
