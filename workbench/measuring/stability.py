"""Stability: does a map stay when the image changes a little?"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from smoot.checks import check_between
from smoot.metrics import rank_correlation

MapFunction = Callable[[nn.Module, Tensor, Tensor], Tensor]


def map_stability(
    network: nn.Module,
    images: Tensor,
    targets: Tensor,
    saliency: Tensor,
    *,
    map_function: MapFunction,
    noise_std: float,
    generator: torch.Generator,
) -> float:
    """How alike a map and the map of the same image under small noise are.

    Formula:
        ``mean over images of rho(m(x, y), m(x + s e, y))``, e one standard normal draw an image, rho Spearman's
        rank correlation over pixels, y the same class in both.

    Range:
        [-1, 1]; 1: the ranking of the pixels did not change. NaN if every map is constant.

    Better:
        higher.

    Source:
        Alvarez-Melis & Jaakkola 2018 (robustness of explanations), here as an average over random noise.

    Fails when:
        the map does not depend on the network: edges of the image are very stable, and a random map that is drawn
        from the same seed is perfectly so. Ranks among pixels that matter nothing count as much as the others.

    Args:
        network: explained; what it is left like is the map function's matter.
        images: ``(N, C, H, W)`` in [0, 1].
        targets: ``(N,)`` int64, the class that is explained, with and without noise.
        saliency: ``(N, H, W)``, the maps of ``images`` themselves.
        map_function: called as ``map_function(network, images, targets)`` with all images at once, gives
            ``(N, H, W)``; it has its own batches.
        noise_std: s, in units of a pixel's range [0, 1].
        generator: source of the noise, on the images' device.

    Returns:
        The mean rank correlation; images whose map is constant are left out.

    Raises:
        ValueError: for a negative ``noise_std``.
    """
    check_between("noise_std", noise_std, 0.0, math.inf)
    noisy = images + noise_std * torch.randn(images.shape, generator=generator, device=images.device)
    return float(rank_correlation(saliency, map_function(network, noisy, targets)).nanmean())
