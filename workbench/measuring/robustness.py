"""Disturbed images on which accuracy is measured again: noise, blur, and an attack that follows the gradient."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.v2.functional import gaussian_blur

from smoot.checks import check_between, check_count
from smoot.modes import evaluation_mode

PGD_TRAVEL = 2.5  # length of all PGD steps together, in radii of the ball: enough to cross it (Madry et al. 2018)


def noisy(images: Tensor, noise_std: float, generator: torch.Generator) -> Tensor:
    """Images under additive Gaussian noise, for the metric ``accuracy_noise``.

    Formula:
        ``mean over images of [argmax f(x + s e) = y]``, e standard normal in every pixel and channel, one draw per
        image; the sum is not clipped to [0, 1].

    Range:
        [0, 1].

    Better:
        higher.

    Source:
        Hendrycks & Dietterich, ICLR 2019 (Gaussian noise), here at a single strength.

    Fails when:
        the noise is so strong that every network guesses, or so weak that none does. A network that was trained
        with noisy or randomly filled pixels is better at it without having better saliency.

    Args:
        images: ``(N, C, H, W)`` in [0, 1].
        noise_std: s, in units of a pixel's range [0, 1].
        generator: source of the noise, on the images' device.

    Returns:
        ``(N, C, H, W)``.

    Raises:
        ValueError: for a negative ``noise_std``.
    """
    check_between("noise_std", noise_std, 0.0, math.inf)
    return images + noise_std * torch.randn(images.shape, generator=generator, device=images.device)


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Images under a Gaussian blur, for the metric ``accuracy_blur``.

    Formula:
        ``mean over images of [argmax f(g * x) = y]``, the star a convolution with a Gaussian g of standard deviation
        sigma, cut at ``ceil(3 sigma)`` pixels (or the image's side), the image mirrored at its border.

    Range:
        [0, 1].

    Better:
        higher.

    Source:
        Hendrycks & Dietterich, ICLR 2019 (blur), here Gaussian and at a single strength.

    Fails when:
        the object is no wider than the blur: then nothing is left to recognise. It favours networks that use
        coarse shape.

    Args:
        images: ``(N, C, H, W)``.
        sigma: in pixels; 0 leaves the images as they are.

    Returns:
        ``(N, C, H, W)``.

    Raises:
        ValueError: for a negative ``sigma``.
    """
    check_between("sigma", sigma, 0.0, math.inf)
    if sigma == 0:
        return images
    height, width = images.shape[2:]
    sizes = [2 * min(math.ceil(3 * sigma), side - 1) + 1 for side in (width, height)]
    smooth: Tensor = gaussian_blur(images, sizes, [sigma, sigma])
    return smooth


def attacked(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    steps: int,
    batch_size: int,
    generator: torch.Generator,
) -> Tensor:
    """Images under projected gradient descent in the largest-change norm, for the metric ``accuracy_pgd``.

    Formula:
        ``mean over images of [argmax f(x + d) = y]``, d found by ``steps`` steps of size 2.5 epsilon / steps along
        the sign of the cross-entropy's gradient, from a uniform start in the ball, each step projected to
        ``|d| <= epsilon`` and ``x + d`` to [0, 1].

    Range:
        [0, 1].

    Better:
        higher.

    Source:
        Madry et al., ICLR 2018.

    Fails when:
        the gradient does not show the way: a network so certain that its cross-entropy is flat in float32, or one
        whose gradient is masked, looks robust and is not. Few steps and one start give an upper bound of the
        accuracy under the best attack.

    Args:
        network: maps pixels to logits; attacked in eval mode; its parameters' ``.grad`` is untouched.
        images: ``(N, C, H, W)`` in [0, 1].
        labels: ``(N,)`` int64, the true classes.
        epsilon: radius of the ball, in units of a pixel's range [0, 1].
        steps: gradient steps.
        batch_size: images at a time; the start is drawn batch by batch.
        generator: source of the start, on the images' device.

    Returns:
        ``(N, C, H, W)`` in [0, 1], each pixel within ``epsilon`` of its own.

    Raises:
        ValueError: for an ``epsilon`` outside [0, 1] or fewer than one step.
    """
    check_between("epsilon", epsilon)
    check_count("steps", steps)
    step = PGD_TRAVEL * epsilon / steps
    found = []
    for pixels, targets in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        low, high = (pixels - epsilon).clamp(min=0), (pixels + epsilon).clamp(max=1)
        start = torch.rand(pixels.shape, generator=generator, device=pixels.device)
        moved = low + start * (high - low)
        for _ in range(steps):
            moved = (moved + step * _slope(network, moved, targets).sign()).clamp(low, high)
        found.append(moved)
    return torch.cat(found)


def _slope(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Gradient of the cross-entropy with respect to the images, in eval mode."""
    with evaluation_mode(network), torch.enable_grad():
        variable = images.detach().requires_grad_()
        loss = F.cross_entropy(network(variable).float(), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, variable)
    return gradient
