"""Input gradients and the saliency maps made from them.

Inputs are ``(N, C, H, W)``, ``(N, C, T)`` or ``(N, F)``. A saliency map is ``(N, *pixels)``, without the channel
axis; ``(N, F)`` counts as one channel of F pixels.
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from smoot.checks import at_least_float32, check_between, check_choice, check_count, check_inputs
from smoot.modes import buffers_kept, evaluation_mode
from smoot.task import Classification, Model, Score, Task, answer, check_batch

Reduction = Literal["signed_mean", "mean_abs", "max_abs", "l2"]


def input_gradient(
    model: Model, inputs: Tensor, targets: Tensor, *, score: Score = "log_odds", task: Task | None = None
) -> Tensor:
    """Gradient of each image's score with respect to the image, in eval mode (Simonyan et al. 2014).

    The model stays as it was: every submodule's mode, the buffers, and the parameters' ``.grad``.

    Args:
        model: maps inputs to logits ``(N, C)``, or to an output with ``.logits``.
        inputs: ``(N, C, *pixels)`` or ``(N, F)``, floating point.
        targets: ``(N,)`` int64, the classes whose score is differentiated, or what the task takes.
        score: see :func:`smoot.task.target_score`.
        task: how answers are scored; by default :class:`smoot.task.Classification`.

    Returns:
        Gradient shaped like ``inputs``, detached.

    Raises:
        TypeError: for inputs that are not floating point, targets not int64, or a model that returns no tensor.
        ValueError: for an unknown score, empty or NaN inputs, mismatching shapes, or targets out of range.
    """
    task = Classification() if task is None else task
    check_batch(inputs, targets)
    with torch.inference_mode(False), torch.enable_grad(), evaluation_mode(model), buffers_kept(model):
        if inputs.is_inference():
            inputs, targets = inputs.clone(), targets.clone()
        variable = inputs.detach().requires_grad_()
        logits = task.check(answer(model, variable), targets)
        (gradient,) = torch.autograd.grad(task.scores(logits, targets, score).sum(), variable)
    return gradient


def smooth_gradient(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    noise_std: float = 0.15,
    num_samples: int = 25,
    score: Score = "log_odds",
    generator: torch.Generator | None = None,
) -> Tensor:
    """SmoothGrad: the mean input gradient over noisy copies of each image (Smilkov et al. 2017, eq. 1).

    Args:
        model: the classifier, as in :func:`input_gradient`, and so are the next three.
        inputs: the images.
        targets: the classes.
        score: whose gradient is taken.
        noise_std: standard deviation of the noise as a fraction of each image's own range (max - min), at least 0.
        num_samples: number of noisy copies, at least 1.
        generator: source of the noise, on the inputs' device.

    Returns:
        Mean gradient shaped like ``inputs``, detached.

    Raises:
        ValueError: for a negative ``noise_std`` or ``num_samples`` below 1; else as :func:`input_gradient`.
    """
    check_inputs(inputs)
    check_between("noise_std", noise_std, 0.0, torch.inf)
    check_count("num_samples", num_samples)
    flat = inputs.detach().flatten(1)
    spread = noise_std * (flat.amax(1) - flat.amin(1)).view(-1, *[1] * (inputs.ndim - 1))
    total = torch.zeros_like(at_least_float32(inputs))
    for _ in range(num_samples):
        noise = torch.randn(inputs.shape, dtype=inputs.dtype, device=inputs.device, generator=generator)
        total += input_gradient(model, inputs + spread * noise, targets, score=score)
    return (total / num_samples).to(inputs.dtype)


def saliency_map(gradient: Tensor, *, reduction: Reduction = "mean_abs", channel_axis: int = 1) -> Tensor:
    """Reduces a gradient over its channels to one number per pixel.

    The reduction decides the method: masks of the 50 % least salient pixels by ``signed_mean`` (what SGT's published
    code ranks by) and by ``mean_abs`` overlap no better than chance.

    Args:
        gradient: ``(N, C, *pixels)`` or ``(N, F)``.
        reduction: ``signed_mean`` | ``mean_abs`` | ``max_abs`` | ``l2`` over the channels.
        channel_axis: where the channels are, such as -1 for ``(N, *pixels, C)``; not used for ``(N, F)``.

    Returns:
        ``(N, *pixels)``; non-negative except for ``signed_mean``.

    Raises:
        ValueError: for an unknown reduction or a gradient of another shape.
    """
    check_choice("reduction", reduction, get_args(Reduction))
    if gradient.ndim < 2:
        raise ValueError(f"gradient has shape {tuple(gradient.shape)}: expected (N, C, *pixels) or (N, F)")
    channels = gradient.unsqueeze(1) if gradient.ndim == 2 else gradient.movedim(channel_axis, 1)
    if reduction == "signed_mean":
        return channels.mean(1)
    if reduction == "mean_abs":
        return channels.abs().mean(1)
    return channels.abs().amax(1) if reduction == "max_abs" else channels.norm(dim=1)
