"""Accuracy on disturbed images: noise, blur, and an attack that follows the gradient."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.v2.functional import gaussian_blur

from smoot.checks import check_between, check_count
from smoot.modes import evaluation_mode
from workbench.training.inference import accuracy

PGD_TRAVEL = 2.5  # length of all PGD steps together, in radii of the ball: enough to cross it (Madry et al. 2018)


def noise_accuracy(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    noise_std: float,
    batch_size: int,
    generator: torch.Generator,
) -> float:
    """Accuracy under additive Gaussian noise.

    Formula:
        ``mean over images of [argmax f(x + s e) = y]``, e standard normal in every pixel and channel, one draw an
        image; the sum is not cut off to [0, 1].

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
        network: maps pixels to logits; run in eval mode.
        images: ``(N, C, H, W)`` in [0, 1].
        labels: ``(N,)`` int64.
        noise_std: s, in units of a pixel's range [0, 1].
        batch_size: images per forward; the draw does not depend on it.
        generator: source of the noise, on the images' device.

    Returns:
        Accuracy, in [0, 1].

    Raises:
        ValueError: for a negative ``noise_std``.
    """
    check_between("noise_std", noise_std, 0.0, math.inf)
    noise = torch.randn(images.shape, generator=generator, device=images.device)
    return accuracy(network, images + noise_std * noise, labels, batch_size=batch_size)


def blur_accuracy(network: nn.Module, images: Tensor, labels: Tensor, *, sigma: float, batch_size: int) -> float:
    """Accuracy on blurred images.

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
        network: maps pixels to logits; run in eval mode.
        images: ``(N, C, H, W)`` in [0, 1].
        labels: ``(N,)`` int64.
        sigma: in pixels; 0 leaves the images as they are.
        batch_size: images per forward.

    Returns:
        Accuracy, in [0, 1].

    Raises:
        ValueError: for a negative ``sigma``.
    """
    check_between("sigma", sigma, 0.0, math.inf)
    return accuracy(network, blurred(images, sigma), labels, batch_size=batch_size)


def pgd_accuracy(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    steps: int,
    batch_size: int,
    generator: torch.Generator,
) -> float:
    """Accuracy under projected gradient descent in the largest-change norm.

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
        the gradient hides the way: an answer so certain that its cross-entropy is flat in float32, or a network
        whose gradient is masked, looks robust and is not. Few steps and one start give an upper bound of the
        accuracy under the best attack.

    Args:
        network: maps pixels to logits; attacked and run in eval mode.
        images: ``(N, C, H, W)`` in [0, 1].
        labels: ``(N,)`` int64, the true classes.
        epsilon: radius of the ball, in units of a pixel's range [0, 1].
        steps: gradient steps.
        batch_size: images per forward.
        generator: source of the start, on the images' device.

    Returns:
        Accuracy, in [0, 1].

    Raises:
        ValueError: for an ``epsilon`` outside [0, 1] or fewer than one step.
    """
    parts = zip(images.split(batch_size), labels.split(batch_size), strict=True)
    attacked = [pgd_attack(network, *part, epsilon=epsilon, steps=steps, generator=generator) for part in parts]
    return accuracy(network, torch.cat(attacked), labels, batch_size=batch_size)


def pgd_attack(
    network: nn.Module, images: Tensor, labels: Tensor, *, epsilon: float, steps: int, generator: torch.Generator
) -> Tensor:
    """Attack one batch of images; arguments and errors as :func:`pgd_accuracy`.

    Returns:
        ``(N, C, H, W)`` in [0, 1], each pixel within ``epsilon`` of its own; the parameters' ``.grad`` is untouched.
    """
    check_between("epsilon", epsilon)
    check_count("steps", steps)
    low, high = (images - epsilon).clamp(min=0), (images + epsilon).clamp(max=1)
    start = torch.rand(images.shape, generator=generator, device=images.device)
    moved = low + start * (high - low)
    step = PGD_TRAVEL * epsilon / steps
    with evaluation_mode(network), torch.enable_grad():
        for _ in range(steps):
            variable = moved.detach().requires_grad_()
            loss = F.cross_entropy(network(variable).float(), labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, variable)
            moved = (variable.detach() + step * gradient.sign()).clamp(low, high)
    return moved


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Images ``(N, C, H, W)`` under a Gaussian of ``sigma`` pixels, mirrored at the border."""
    if sigma == 0:
        return images
    height, width = images.shape[2:]
    sizes = [2 * min(math.ceil(3 * sigma), side - 1) + 1 for side in (width, height)]
    smooth: Tensor = gaussian_blur(images, sizes, [sigma, sigma])
    return smooth
