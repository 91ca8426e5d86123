"""Saliency maps of a network, and the two maps to compare them with: a random one, and edges."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import smoot

SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))


def network_maps(
    network: nn.Module, images: Tensor, classes: Tensor, *, smooth: int = 0, batch_size: int = 64
) -> Tensor:
    """Magnitude of the gradient of the classes' log-odds, mean over the channels, ``(N, H, W)``.

    Args:
        network: maps images to logits.
        images: ``(N, 3, H, W)`` in [0, 1].
        classes: ``(N,)`` int64, which class of each image is explained.
        smooth: number of noisy copies over which the gradient is averaged (SmoothGrad); 0: the image itself.
        batch_size: images at a time.
    """
    draws = torch.Generator(images.device).manual_seed(0)
    found = []
    for some, own in zip(images.split(batch_size), classes.split(batch_size), strict=True):
        if smooth:
            gradient = smoot.smooth_gradient(network, some, own, num_samples=smooth, generator=draws)
        else:
            gradient = smoot.input_gradient(network, some, own)
        found.append(smoot.saliency_map(gradient))
    return torch.cat(found)


def random_maps(images: Tensor, seed: int = 0) -> Tensor:
    """Maps of independent pixels, magnitudes of a normal variable as gradients could be; ``(N, H, W)``."""
    draws = torch.Generator(images.device).manual_seed(seed)
    return torch.randn(len(images), *images.shape[2:], generator=draws, device=images.device).abs()


def edge_maps(images: Tensor) -> Tensor:
    """Magnitude of Sobel's filter on the mean over the channels: edges, whatever was learnt; ``(N, H, W)``."""
    kernel = torch.tensor(SOBEL, device=images.device, dtype=images.dtype)
    kernels = torch.stack([kernel, kernel.T]).unsqueeze(1)
    grey = F.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    slopes: Tensor = F.conv2d(grey, kernels).norm(dim=1)
    return slopes
