"""Compute all gradients of one guided step in the fewest passes.

Cost is counted in forward passes over the batch, a backward pass to the parameters being 2 and one to the inputs
alone 1. With a share r of masked images, :func:`smoot.objective.guided_loss` and ``total.backward()`` cost 4 + 3 r:
the input gradient takes a backward pass to the inputs of its own. But the backward pass of the cross-entropy reaches
the inputs anyway. Where the gradient found there ranks pixels as the score's does, :func:`guided_backward` uses it,
and the step costs 3 + 3 r. In either case the graph of the clean images is freed before that of the masked images is
built, so the peak of memory is that of plain training.

The two rank alike where images are answered independently: the cross-entropy's gradient with respect to image i is
that of its own log-odds, times -(1 - p_i) / N, a factor which changes only the scale of the map (and which
:func:`cross_entropy_gradient` keeps from rounding to zero). With batch statistics the gradient also holds the
effect on the other images' loss, and that effect dominates once p_i is near 1. Models with batch statistics
therefore pay for the additional backward pass.
"""

from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn

from smoot.checks import at_least_float32, check_inputs, check_logits, check_targets
from smoot.modes import uses_batch_statistics
from smoot.objective import (
    Guidance,
    GuidedLoss,
    forward_masked,
    gradient_before_forward,
    gradient_from_graph,
    guided_loss,
    loss_with_masks,
    loss_without_masks,
    mask_images,
    needs_gradient,
)
from smoot.saliency import target_score
from smoot.scheduler import MaskPlan

MIN_ERROR_PROBABILITY = 1e-30
"""Floor on 1 - p for images answered with p close to 1, so that their input gradient does not become zero."""


def guided_backward(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    plan: MaskPlan,
    guidance: Guidance | None = None,
    *,
    generator: torch.Generator | None = None,
) -> GuidedLoss:
    """Adds the gradients of :func:`smoot.objective.guided_loss` to the parameters' ``.grad``.

    They are those of ``guided_loss(...).total.backward()`` up to rounding, from fewer passes and less memory. The
    host never waits for the device. Precision: float32 or bfloat16; float16 would need loss scaling.

    Args:
        model, inputs, targets, plan, guidance, generator: as for :func:`smoot.objective.guided_loss`.

    Returns:
        :class:`smoot.objective.GuidedLoss`, every tensor detached.

    Raises:
        TypeError, ValueError: as :func:`smoot.objective.guided_loss`.
    """
    guidance = Guidance() if guidance is None else guidance
    if not guidance.detach_target:  # the masked images' gradient flows through the clean graph: nothing can be freed
        loss = guided_loss(model, inputs, targets, plan, guidance, generator=generator)
        _backward(loss.total)
        return _detached(loss)
    check_inputs(inputs)
    check_targets(targets, len(inputs))
    if plan.num_images(len(inputs)) == 0:
        loss = loss_without_masks(check_logits(model(inputs), targets), targets, guidance)
        _backward(loss.total)
        return _detached(loss)
    gradient = gradient_before_forward(model, inputs, targets, plan, guidance)
    reuse = needs_gradient(plan) and guidance.saliency_pass == "reuse"
    variable = inputs.detach().requires_grad_() if reuse else inputs
    logits = check_logits(model(variable), targets)
    if reuse:
        gradient = _backward_with_input_gradient(model, logits, variable, targets, guidance)
    else:
        _backward(loss_without_masks(logits, targets, guidance).total)
    logits = logits.detach()
    masked = mask_images(model, inputs, targets, gradient, plan, guidance, generator)
    loss = loss_with_masks(logits, forward_masked(model, masked, guidance), targets, masked, guidance)
    _backward(loss.total)
    return _detached(loss)


def _backward_with_input_gradient(
    model: nn.Module, logits: Tensor, variable: Tensor, targets: Tensor, guidance: Guidance
) -> Tensor:
    """The cross-entropy's backward pass to the parameters; returns an input gradient that ranks as the score's.

    The gradient comes from the same pass where it can (then every image has its own positive factor), else from an
    additional one before it.
    """
    ranks_alike = guidance.score != "logit" and not uses_batch_statistics(model)
    if ranks_alike and not guidance.label_smoothing:
        _backward(logits, cross_entropy_gradient(logits, targets))
        assert variable.grad is not None
        return -variable.grad
    gradient = gradient_from_graph(logits, variable, targets, guidance)
    _backward(loss_without_masks(logits, targets, guidance).total)
    return gradient


def cross_entropy_gradient(logits: Tensor, targets: Tensor) -> Tensor:
    """Gradient of the mean cross-entropy with respect to the logits, ``(N, C)``, without cancellation.

    ``(1 - p_y) (q - e_y) / N``, where q is the softmax over the classes other than the target y. Automatic
    differentiation computes ``p_y - 1``, which in float32 is exactly 0 once p_y exceeds 1 - 6e-8, and then the input
    gradient is 0 too. Here 1 - p_y is the sigmoid of minus the log-odds, at least ``MIN_ERROR_PROBABILITY``.

    Args:
        logits: ``(N, C)``.
        targets: ``(N,)`` int64.
    """
    raised = at_least_float32(logits.detach())
    index = targets.unsqueeze(1)
    error = torch.sigmoid(-target_score(raised, targets, "log_odds")).clamp(min=MIN_ERROR_PROBABILITY).unsqueeze(1)
    others = raised.scatter(1, index, -torch.inf).softmax(1)
    gradient = error * others.scatter(1, index, -1.0) / len(targets)
    return gradient.to(logits.dtype)


def _backward(tensor: Tensor, upstream: Tensor | None = None) -> None:
    """``tensor.backward(upstream)`` with any surrounding autocast off: the forward pass has chosen the precision."""
    kind = tensor.device.type
    casting = kind != "meta" and torch.is_autocast_enabled(kind)
    with torch.autocast(kind, enabled=False) if casting else nullcontext():
        tensor.backward(upstream)


def _detached(loss: GuidedLoss) -> GuidedLoss:
    return replace(loss, total=loss.total.detach(), logits=loss.logits.detach())
