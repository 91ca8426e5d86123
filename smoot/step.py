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
effect on the other images' loss, and that effect dominates once p_i is near 1. Models that couple images, which
:func:`smoot.coupling.images_are_coupled` finds out, therefore pay for the additional backward pass.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from smoot.checks import at_least_float32
from smoot.coupling import images_are_coupled
from smoot.guidance import (
    Guidance,
    drawn_again,
    forward_masked,
    gradient_before_forward,
    gradient_from_graph,
    mask_images,
    needs_gradient,
    num_masked,
    task_of,
)
from smoot.objective import GuidedLoss, guided_loss, loss_with_masks
from smoot.parallel import unsynchronised, unwrapped
from smoot.scheduler import MaskPlan
from smoot.task import Model, Task, answer, check_batch, target_score

Backward = Callable[[Tensor], Any]
MIN_ERROR_PROBABILITY = 1e-30
"""Floor on 1 - p for images answered with p close to 1, so that their input gradient does not become zero."""


def guided_backward(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    plan: MaskPlan,
    guidance: Guidance | None = None,
    *,
    task: Task | None = None,
    generator: torch.Generator | None = None,
    backward: Backward | None = None,
) -> GuidedLoss:
    """Adds the gradients of :func:`smoot.objective.guided_loss` to the parameters' ``.grad``.

    They are those of ``guided_loss(...).total.backward()`` up to rounding, from fewer passes and less memory. The
    host never waits for the device. A DistributedDataParallel synchronises once.

    Args:
        model: the classifier, as for :func:`smoot.objective.guided_loss`, and so are the next six.
        inputs: the images.
        targets: the labels.
        plan: what is masked.
        guidance: how images are masked and compared.
        task: how answers are scored.
        generator: source of the random draws.
        backward: called once or twice, with losses whose gradients add up to the total's, in place of
            ``loss.backward()``: a framework's own, such as ``accelerator.backward``, or
            ``lambda loss: scaler.scale(loss).backward()`` for float16. It must only compute gradients (DeepSpeed's
            also steps the optimiser: use ``guided_loss`` there). What it does to the loss is not known here, so the
            input gradient always takes a backward pass of its own.

    Returns:
        :class:`smoot.objective.GuidedLoss`, every tensor detached.

    Raises:
        TypeError, ValueError: as :func:`smoot.objective.guided_loss`; for a task with reduction ``none``.
    """
    settings = Guidance() if guidance is None else guidance
    run = backward if isinstance(backward, Pass) else Pass(backward)
    asked = task_of(settings, task)
    if asked.reduction == "none":
        raise ValueError("the task's reduction is 'none': a backward pass needs one number, 'mean' or 'sum'")
    check_batch(inputs, targets)
    # Where the masked images' gradient flows through the graph of the clean ones, nothing of it can be freed.
    whole = not settings.detach_target or inputs.requires_grad
    if whole or num_masked(model, inputs, plan) is None:
        loss = guided_loss(model, inputs, targets, plan, guidance, task=task, generator=generator)
        run(loss.total)
        return _detached(loss)
    inner = unwrapped(model)
    gradient = gradient_before_forward(inner, inputs, targets, plan, settings, asked)
    reuse = needs_gradient(plan) and settings.saliency_pass == "reuse"
    variable = inputs.detach().requires_grad_() if reuse else inputs
    with unsynchronised(model):
        with drawn_again(settings, inputs.device) as again:
            logits = asked.check(answer(model, variable), targets)
        if reuse:
            exact = plan.max_effect is not None
            gradient = _backward_with_input_gradient(inner, logits, variable, targets, settings, asked, run, exact)
        else:
            run(asked.loss(logits, targets))
    logits = logits.detach()
    masked = mask_images(inner, inputs, targets, gradient, plan, settings, generator, asked)
    with again():
        loss = loss_with_masks(logits, forward_masked(model, masked, settings), targets, masked, settings, asked)
    run(loss.total)
    return _detached(loss)


def _backward_with_input_gradient(
    model: Model,
    logits: Tensor,
    variable: Tensor,
    targets: Tensor,
    guidance: Guidance,
    task: Task,
    run: "Pass",
    exact: bool,
) -> Tensor:
    """The loss's backward pass to the parameters; returns an input gradient that ranks as the score's.

    With ``exact`` it is the score's, and not only up to a factor.
    The gradient comes from the same pass where it can (then every image has its own positive factor), else from an
    additional one before it.
    """
    alike = task.loss_ranks_as(guidance.score, targets) and not images_are_coupled(model, variable)
    # In float16, which the caller's own pass may use too, the factor of a certain image rounds to 0.
    if alike and not exact and run.backward is None and logits.dtype != torch.float16:
        run(_CrossEntropy.apply(logits, targets))
        assert variable.grad is not None
        return -variable.grad
    gradient = gradient_from_graph(logits, variable, targets, guidance, task)
    run(task.loss(logits, targets), beside=variable)
    return gradient


def leaves(loss: Tensor) -> list[Tensor]:
    """The tensors to whose ``.grad`` ``loss.backward()`` adds, whatever module or function they come from."""
    seen, found, waiting = set(), [], [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)
        waiting.extend(following for following, _ in node.next_functions)
    return found


class _CrossEntropy(torch.autograd.Function):
    """The mean cross-entropy with the gradient of :func:`cross_entropy_gradient`."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        ctx.save_for_backward(logits, targets)
        return F.cross_entropy(at_least_float32(logits), targets)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        logits, targets = ctx.saved_tensors
        return (cross_entropy_gradient(logits, targets) * upstream[0]).to(logits.dtype), None


def cross_entropy_gradient(logits: Tensor, targets: Tensor) -> Tensor:
    """Gradient of the mean cross-entropy with respect to the logits, ``(N, C)``, without cancellation.

    ``(1 - p_y) (q - e_y) / N``, where q is the softmax over the classes other than the target y. Automatic
    differentiation computes ``p_y - 1``, which in float32 is exactly 0 once p_y exceeds 1 - 6e-8, and then the input
    gradient is 0 too. Here 1 - p_y is the sigmoid of minus the log-odds, at least ``MIN_ERROR_PROBABILITY``.

    Args:
        logits: ``(N, C)``.
        targets: ``(N,)`` int64.

    Returns:
        ``(N, C)``, at least float32.
    """
    raised = at_least_float32(logits.detach())
    index = targets.unsqueeze(1)
    error = torch.sigmoid(-target_score(raised, targets, "log_odds")).clamp(min=MIN_ERROR_PROBABILITY).unsqueeze(1)
    others = raised.scatter(1, index, -torch.inf).softmax(1)
    return error * others.scatter(1, index, -1.0) / len(targets)


@dataclass(frozen=True)
class Pass:
    """A backward pass: the caller's, or ``loss.backward()`` with any surrounding autocast off.

    Attributes:
        backward: the caller's, if it has one.
        scale: factor on the loss.
    """

    backward: Backward | None = None
    scale: float = 1.0

    def __call__(self, loss: Tensor, beside: Tensor | None = None) -> None:
        """Runs it; where it is not the caller's, the leaf ``beside`` gets no gradient, nor what only leads to it."""
        loss = loss if self.scale == 1.0 else loss * self.scale
        if self.backward is not None:
            self.backward(loss)
            return
        inputs = None if beside is None else [leaf for leaf in leaves(loss) if leaf is not beside]
        kind = loss.device.type
        casting = kind != "meta" and torch.is_autocast_enabled(kind)
        with torch.autocast(kind, enabled=False) if casting else nullcontext():
            loss.backward(inputs=inputs)


def _detached(loss: GuidedLoss) -> GuidedLoss:
    return replace(loss, total=loss.total.detach(), logits=loss.logits.detach())
