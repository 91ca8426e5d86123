"""Attribution methods by name: the input gradient, three others to compare it with, and two controls.

Every method attributes the log-odds of the target class (see :func:`smoot.saliency.target_score`) to the pixels of
each channel, ``(N, C, H, W)``, or of one. A map is the mean over channels of the attribution's magnitude.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoot.checks import check_choice, check_logits
from smoot.modes import evaluation_mode
from smoot.saliency import input_gradient, saliency_map
from smoot.task import target_score
from workbench.training.randomness import drawn_seed, seeded

Attribution = Callable[[nn.Module, Tensor, Tensor, torch.Generator], Tensor]
SMOOTH_STD = 0.15  # standard deviation of SmoothGrad's noise; pixels are in [0, 1]
SMOOTH_SAMPLES = 25
INTEGRATION_STEPS = 32


def attribution_map(
    name: str,
    network: nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    batch_size: int,
    generator: torch.Generator,
) -> Tensor:
    """Compute the maps of one attribution method.

    Args:
        name: a key of `ATTRIBUTIONS`.
        network: maps pixels to logits; explained in eval mode; its own modes are restored.
        images: ``(N, C, H, W)`` in [0, 1].
        targets: ``(N,)`` int64, the class to explain.
        batch_size: images at a time.
        generator: source of all draws, on the images' device.

    Returns:
        ``(N, H, W)``, non-negative, detached.

    Raises:
        ValueError: for an unknown name; else as :func:`smoot.saliency.input_gradient`.
    """
    check_choice("name", name, ATTRIBUTIONS)
    parts = zip(images.split(batch_size), targets.split(batch_size), strict=True)
    return torch.cat([saliency_map(ATTRIBUTIONS[name](network, *part, generator)) for part in parts])


def gradient(network: nn.Module, images: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
    """The input gradient (Simonyan et al. 2014)."""
    return input_gradient(network, images, targets)


def input_x_gradient(network: nn.Module, images: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
    """Input times gradient (Shrikumar et al. 2017); zero wherever the image is black, whatever the network."""
    return images * input_gradient(network, images, targets)


def smooth_gradient(network: nn.Module, images: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
    """SmoothGrad (Smilkov et al. 2017): mean gradient over `SMOOTH_SAMPLES` copies under noise of `SMOOTH_STD`."""
    from captum.attr import NoiseTunnel, Saliency

    with evaluation_mode(network), seeded(drawn_seed(generator), images.device):
        mean: Tensor = NoiseTunnel(Saliency(_scored(network))).attribute(
            images.detach().clone().requires_grad_(),
            nt_type="smoothgrad",
            nt_samples=SMOOTH_SAMPLES,
            nt_samples_batch_size=1,
            stdevs=SMOOTH_STD,
            additional_forward_args=(targets,),
            abs=False,
        )
    return mean.detach()


def integrated_gradients(network: nn.Module, images: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
    """Integrated gradients (Sundararajan et al. 2017) from a black image; they sum to the change of the log-odds."""
    from captum.attr import IntegratedGradients

    with evaluation_mode(network):
        integral: Tensor = IntegratedGradients(_scored(network)).attribute(
            images.detach().clone().requires_grad_(),
            baselines=0.0,
            n_steps=INTEGRATION_STEPS,
            internal_batch_size=len(images),
            additional_forward_args=(targets,),
        )
    return integral.detach().to(images.dtype)


def random(network: nn.Module, images: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
    """Control: uniform noise, which depends on neither the network nor the image."""
    return torch.rand(images[:, :1].shape, generator=generator, device=images.device)


def edges(network: nn.Module, images: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
    """Control: Sobel edges, which depend on the image but not on the network (Adebayo et al. 2018)."""
    slope, smooth = images.new_tensor([-1.0, 0.0, 1.0]), images.new_tensor([1.0, 2.0, 1.0])
    down, across = torch.outer(slope, smooth), torch.outer(smooth, slope)
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate").flatten(0, 1).unsqueeze(1)
    slopes = F.conv2d(padded, torch.stack([down, across]).unsqueeze(1))
    return slopes.square().sum(1).sqrt().view_as(images)


ATTRIBUTIONS: dict[str, Attribution] = {
    "gradient": gradient,
    "input_x_gradient": input_x_gradient,
    "smooth_gradient": smooth_gradient,
    "integrated_gradients": integrated_gradients,
    "random": random,
    "edges": edges,
}


def _scored(network: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """The log-odds ``(N,)`` of the targets as a function of images and targets, in captum's form."""

    def score(images: Tensor, targets: Tensor) -> Tensor:
        return target_score(check_logits(network(images), targets), targets)

    return score
