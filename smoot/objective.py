"""The saliency-guided loss of one batch: cross-entropy on the images plus consistency on masked copies.

Plain training, SGT and SMOOT all compute this loss; they differ in the plan of each step. What no plan changes, how
saliency is taken, filled in and compared, is in :class:`smoot.guidance.Guidance`. Call ``backward`` on the total of
:func:`guided_loss`, or use :func:`smoot.step.guided_backward`, which computes loss and gradients in fewer passes.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from smoot.feedback import Feedback
from smoot.guidance import (
    Guidance,
    MaskedImages,
    drawn_again,
    forward_masked,
    gradient_before_forward,
    gradient_from_graph,
    mask_images,
    needs_gradient,
    num_masked,
    task_of,
)
from smoot.parallel import unwrapped
from smoot.scheduler import MaskPlan
from smoot.task import Model, Task, answer, check_batch, kl_divergences


@dataclass(frozen=True)
class MaskedAnswers:
    """How a model answered the M images of a batch that were masked.

    Attributes:
        rows: ``(M,)`` int64, their rows in the batch of N.
        clean, masked: ``(M, C, ...)`` logits of the images and of their masked copies, detached.
        targets: ``(M, ...)`` of these images.
        drawn: ``(M,)`` bool, those that the plan asked to mask; None: all.
        batch_size: N.
    """

    rows: Tensor
    clean: Tensor
    masked: Tensor
    targets: Tensor
    drawn: Tensor | None
    batch_size: int


@dataclass(frozen=True)
class GuidedLoss:
    """The loss of one batch and what masking did.

    All but the logits are 0-d tensors on the batch's device; total and classification of a task with reduction
    ``none`` are ``(N,)``.

    Attributes:
        total: classification + kl_weight * consistency; call ``backward`` on it.
        classification: the task's loss, mean cross-entropy in nats by default, detached.
        consistency: the masked images' KL(p(clean) || p(masked)), or their cross-entropy, summed and divided by the
            batch size, in nats, detached.
        logits: ``(N, C, ...)`` of the clean images, with their graph.
        masked_share: share of the batch's images with a masked pixel, in [0, 1].
        masked_pixels: mean fraction of masked pixels in those images; NaN if there are none.
        information_loss: mean KL of those images in nats; NaN if there are none.
        flip_share: share of those images whose predicted class changes; NaN if there are none.
        cross_entropy_rise: mean rise of their cross-entropy in nats; NaN if there are none.
        feedback: accuracy and cross-entropy for the schedule.
        answers: to the masked images one by one, for a schedule that learns from them; None if nothing was masked.
    """

    total: Tensor
    classification: Tensor
    consistency: Tensor
    logits: Tensor
    masked_share: Tensor
    masked_pixels: Tensor
    information_loss: Tensor
    flip_share: Tensor
    cross_entropy_rise: Tensor
    feedback: Feedback
    answers: MaskedAnswers | None = None


def guided_loss(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    plan: MaskPlan,
    guidance: Guidance | None = None,
    *,
    task: Task | None = None,
    generator: torch.Generator | None = None,
) -> GuidedLoss:
    """Loss of one batch under a plan: ``CE + kl_weight / N * sum over masked images of KL``.

    With a plan that masks nothing this is cross-entropy to the last bit, from exactly one forward pass. The
    parameters' ``.grad`` is untouched until the caller calls ``total.backward()``. Inputs that carry a graph keep it.

    Args:
        model: maps inputs to logits ``(N, C)``, or to an output with ``.logits``; used in the mode it is in.
        inputs: ``(N, C, H, W)``, ``(N, C, T)``, ``(N, C, T, H, W)`` or ``(N, F)``, floating point.
        targets: ``(N,)`` int64 labels, or what the task takes.
        plan: what to mask, usually ``schedule.plan``.
        guidance: how to mask and compare; by default ``Guidance()``.
        task: how answers are scored; by default :class:`smoot.task.Classification`.
        generator: source of the random images, pixels and fills, on the inputs' device.

    Returns:
        :class:`GuidedLoss`.

    Raises:
        TypeError: for inputs that are not floating point, targets of another type, or a model that returns no tensor.
        ValueError: for empty or NaN inputs, mismatching shapes, or targets out of range.
    """
    guidance = Guidance() if guidance is None else guidance
    task = task_of(guidance, task)
    check_batch(inputs, targets)
    if num_masked(model, inputs, plan) is None:
        return loss_without_masks(task.check(answer(model, inputs), targets), targets, task)
    inner = unwrapped(model)
    gradient = gradient_before_forward(inner, inputs, targets, plan, guidance, task)
    reuse = needs_gradient(plan) and guidance.saliency_pass == "reuse"
    variable = inputs.detach().requires_grad_() if reuse and not inputs.requires_grad else inputs
    with drawn_again(guidance, inputs.device) as again:
        logits = task.check(answer(model, variable), targets)
    if reuse:
        gradient = gradient_from_graph(logits, variable, targets, guidance, task)
    masked = mask_images(inner, inputs, targets, gradient, plan, guidance, generator, task)
    with again():
        masked_logits = forward_masked(inner, masked, guidance)
    return loss_with_masks(logits, masked_logits, targets, masked, guidance, task)


def consistency(
    model: Model,
    inputs: Tensor,
    logits: Tensor,
    targets: Tensor,
    plan: MaskPlan,
    guidance: Guidance | None = None,
    *,
    task: Task | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The consistency term alone, to be added to any loss: ``1 / N * sum over masked images of KL``.

    Args:
        model: the classifier, as for :func:`guided_loss`, and so are the others but the logits.
        inputs: the images.
        targets: the labels.
        plan: what is masked.
        guidance: how images are masked and compared. The weight ``guidance.kl_weight`` is the caller's to apply.
        task: how answers are scored.
        generator: source of the random draws.
        logits: the model's answers to the inputs. If the inputs required a gradient before that forward pass, it
            gives the saliency; otherwise saliency takes an additional pass in eval mode.

    Returns:
        0-d tensor, differentiable; 0 if the plan masks nothing.

    Raises:
        TypeError, ValueError: as :func:`guided_loss`.
    """
    guidance = Guidance() if guidance is None else guidance
    task = task_of(guidance, task)
    check_batch(inputs, targets)
    logits = task.check(logits, targets)
    if num_masked(model, inputs, plan) is None:
        return logits.new_zeros((), dtype=torch.promote_types(logits.dtype, torch.float32))
    inner, gradient = unwrapped(model), None
    if needs_gradient(plan) and guidance.saliency_pass == "reuse" and inputs.requires_grad and logits.requires_grad:
        gradient = gradient_from_graph(logits, inputs, targets, guidance, task)
    masked = mask_images(inner, inputs, targets, gradient, plan, guidance, generator, task)
    masked_logits = forward_masked(inner, masked, guidance)
    return _compared(logits, masked_logits, targets, masked, guidance, task).sum() / len(inputs)


def kl_consistency(logits: Tensor, masked_logits: Tensor, *, detach_target: bool = True) -> Tensor:
    """Mean over the batch of KL(p(.|x) || p(.|masked x)) in nats (SGT, Ismail et al. 2021, eq. 2).

    Args:
        logits: ``(N, C)`` of the clean images.
        masked_logits: ``(N, C)`` of the masked ones.
        detach_target: whether no gradient reaches ``logits``.

    Returns:
        0-d tensor, at least 0.

    Raises:
        ValueError: if the shapes differ.
    """
    if logits.ndim != 2 or logits.shape != masked_logits.shape:
        raise ValueError(
            f"logits are {tuple(logits.shape)} and masked_logits {tuple(masked_logits.shape)}: "
            "expected (N, C), both of the same shape"
        )
    return kl_divergences(logits.detach() if detach_target else logits, masked_logits).mean()


def loss_with_masks(
    logits: Tensor,
    masked_logits: Tensor,
    targets: Tensor,
    masked: MaskedImages,
    guidance: Guidance,
    task: Task | None = None,
) -> GuidedLoss:
    """The loss from the logits of clean and masked images, differentiable as far as they are.

    Images without a single masked pixel (of few pixels, or of a small fraction) do not count.
    """
    size, task = len(targets), task or task_of(guidance)
    compared = _compared(logits, masked_logits, targets, masked, guidance, task)
    term = compared.sum() / size
    plain = loss_without_masks(logits, targets, task)
    added = term if task.reduction == "mean" else compared.sum()
    if task.reduction == "none":
        added = compared.new_zeros(size).index_add(0, masked.index, compared)
    clean, labels = (logits, targets) if len(masked.index) == size else (logits[masked.index], targets[masked.index])
    clean, after = clean.detach(), masked_logits.detach()
    weights = _counted(masked, compared)
    effects = torch.stack(
        [
            masked.mask.flatten(1).to(weights.dtype).mean(1),
            task.divergences(clean, after),
            task.changed(clean, after),
            task.losses(after, labels) - task.losses(clean, labels),
        ]
    )
    means = (effects * weights).sum(1) / weights.sum()
    return replace(
        plain,
        total=plain.total + guidance.kl_weight * added,
        consistency=term.detach(),
        masked_share=weights.sum() / size,
        masked_pixels=means[0],
        information_loss=means[1],
        flip_share=means[2],
        cross_entropy_rise=means[3],
        answers=MaskedAnswers(masked.index, clean, after, labels, masked.drawn, size),
    )


def loss_without_masks(logits: Tensor, targets: Tensor, task: Task) -> GuidedLoss:
    """The loss of a plan that masks nothing: the task's own."""
    loss = task.loss(logits, targets)
    zero, unknown = loss.new_zeros(()), loss.new_full((), torch.nan)
    plain = task.plain_loss(logits.detach(), targets, loss.detach())
    return GuidedLoss(
        total=loss,
        classification=loss.detach(),
        consistency=zero,
        logits=logits,
        masked_share=zero,
        masked_pixels=unknown,
        information_loss=unknown,
        flip_share=unknown,
        cross_entropy_rise=unknown,
        feedback=Feedback(
            task.accuracy(logits.detach(), targets), plain, task.num_classes(logits), task.num_images(targets)
        ),
    )


def _compared(
    logits: Tensor, masked_logits: Tensor, targets: Tensor, masked: MaskedImages, guidance: Guidance, task: Task
) -> Tensor:
    """What the consistency term adds up, ``(M,)``: each masked image's divergence, or its loss; 0 without a mask."""
    whole = len(masked.index) == len(targets)
    if guidance.consistency == "cross_entropy":
        compared = task.losses(masked_logits, targets if whole else targets[masked.index])
    else:
        clean = logits if whole else logits[masked.index]
        compared = task.divergences(clean.detach() if guidance.detach_target else clean, masked_logits)
    return _counted(masked, compared) * compared


def _counted(masked: MaskedImages, like: Tensor) -> Tensor:
    """1 for each of the M images with a masked pixel, else 0."""
    return masked.mask.flatten(1).any(1).to(like.dtype)
