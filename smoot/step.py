"""The backward of a whole guided step for the price of what it cannot do without.

Counted in forwards of the batch, where a backward to the parameters is 2 and one to the inputs alone 1, the step
of :func:`smoot.objective.guided_loss` followed by ``backward`` costs 4 + 3 r for the share r of masked images:
the input gradient takes a backward of its own. But the cross-entropy's backward passes by the inputs anyway.
Where its gradient there ranks the pixels as the score's does, :func:`guided_backward` stops it there: 3 + 3 r.
Everywhere, the clean images' graph is gone before the masked ones need
theirs, so that memory stays that of plain training.

An image's share of the loss's gradient is its own log-odds' times -(1 - p_y) / N, a factor that changes neither
the order of its pixels nor their shares of its saliency, and which :func:`smoot.objective.loss_gradient` keeps
from vanishing. That holds where images do not answer each other. Batch statistics make them: then a certain
image's gradient is mostly the others' effect on it, and the two gradients are different. So ``reuse`` takes this
way only for models without batch statistics, and ``loss`` always.
"""

from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from smoot.checks import check_logits
from smoot.guidance import Guidance
from smoot.objective import (
    GuidedLoss,
    answer_masked,
    checked_count,
    gradient_beforehand,
    guided_loss,
    loss_gradient,
    loss_with_masks,
    loss_without_masks,
    mask_images,
    needs_gradient,
    score_gradient,
    toward_score,
)
from smoot.scheduler import MaskPlan


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

    They are those of ``guided_loss(...).total.backward()`` up to rounding, from fewer passes and less memory.
    Nothing waits for the device. Precision: float32 or bfloat16 (float16 would need the loss scaled).

    Args:
        model, inputs, targets, plan, guidance, generator: as for :func:`smoot.objective.guided_loss`.

    Returns:
        :class:`smoot.objective.GuidedLoss` with every tensor detached.

    Raises:
        TypeError, ValueError: as :func:`smoot.objective.guided_loss`.
    """
    guidance = Guidance() if guidance is None else guidance
    if not guidance.detach_target:  # the clean answer's graph is needed to the end
        loss = guided_loss(model, inputs, targets, plan, guidance, generator=generator)
        _backward(loss.total)
        return _detached(loss)
    count = checked_count(inputs, targets, plan, guidance)
    wanted = count > 0 and needs_gradient(plan, guidance)
    before = gradient_beforehand(model, inputs, targets, plan, guidance) if wanted else None
    from_graph = wanted and guidance.saliency_pass != "eval"
    variable = inputs.detach().requires_grad_() if from_graph else inputs
    logits = check_logits(model(variable), targets)
    if count == 0:
        loss = loss_without_masks(logits, targets, guidance)
        _backward(loss.total)
        return _detached(loss)
    gradient = _clean_backward(model, logits, variable, targets, guidance) if from_graph else before
    if not from_graph:
        _backward(loss_without_masks(logits, targets, guidance).total)
    logits = logits.detach()
    masked = mask_images(model, inputs, targets, logits, gradient, plan, guidance, generator)
    loss = loss_with_masks(logits, answer_masked(model, masked, guidance), targets, masked, plan, guidance)
    _backward(loss.total)
    return _detached(loss)


def shares_batch_statistics(model: nn.Module) -> bool:
    """Whether an image's answer depends on the others in its batch: normalisation by the batch's statistics."""
    return any(
        isinstance(module, _NormBase) and (module.training or module.running_mean is None)
        for module in model.modules()
        if not isinstance(module, nn.modules.instancenorm._InstanceNorm)
    )


def _clean_backward(model: nn.Module, logits: Tensor, variable: Tensor, targets: Tensor, guidance: Guidance) -> Tensor:
    """The cross-entropy's backward, and the input gradient with it or, at a price, before it."""
    same = guidance.saliency_pass == "loss" or (guidance.of != "logit" and not shares_batch_statistics(model))
    if same and not guidance.label_smoothing:
        _backward(logits, loss_gradient(logits, targets))
        assert variable.grad is not None
        return toward_score(variable.grad, guidance.of)
    gradient = score_gradient(logits, variable, targets, guidance)
    _backward(loss_without_masks(logits, targets, guidance).total)
    return gradient


def _backward(tensor: Tensor, upstream: Tensor | None = None) -> None:
    """``tensor.backward(upstream)`` in the precision that the forward chose, not in that of a surrounding autocast."""
    kind = tensor.device.type
    casting = kind != "meta" and torch.is_autocast_enabled(kind)
    with torch.autocast(kind, enabled=False) if casting else nullcontext():
        tensor.backward(upstream)


def _detached(loss: GuidedLoss) -> GuidedLoss:
    return replace(loss, total=loss.total.detach(), logits=loss.logits.detach())
