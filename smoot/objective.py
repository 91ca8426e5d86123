"""The saliency-guided loss of one batch: cross-entropy on the images plus consistency on masked copies.

Plain training, SGT and SMOOT all compute this loss; they differ in the plan of each step. What no plan changes, how
saliency is taken, filled in and compared, is in :class:`Guidance`. Call ``backward`` on the total of
:func:`guided_loss`, or use :func:`smoot.step.guided_backward`, which computes loss and gradients in fewer passes.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoot.checks import at_least_float32, check_between, check_choice, check_inputs, check_logits, check_targets
from smoot.masking import Fill, fill_masked, lowest_saliency_mask, protected_random_mask, random_mask
from smoot.modes import statistics_kept
from smoot.saliency import Reduction, Score, input_gradient, saliency_map, target_score
from smoot.scheduler import Feedback, MaskPlan

SaliencyPass = Literal["reuse", "eval"]
Statistics = Literal["keep", "update"]
Consistency = Literal["kl", "cross_entropy"]


@dataclass(frozen=True)
class Guidance:
    """How images are masked and compared: the settings that stay the same during training.

    The defaults are SMOOT's; docs/method.md lists those of SGT as published.

    Attributes:
        score: whose input gradient ranks the pixels, see :func:`smoot.saliency.target_score`.
        reduction: of the gradient over the channels, see :func:`smoot.saliency.saliency_map`.
        saliency_pass: the forward pass that is differentiated: ``reuse`` takes the training-mode pass of the loss,
            ``eval`` an additional one in eval mode. With BatchNorm or dropout the two give different masks.
        fill: what replaces masked pixels, see :func:`smoot.masking.fill_masked`.
        fill_value: the constant of fill ``constant``.
        masked_statistics: whether the masked forward pass updates the running statistics of normalisation layers.
            ``update`` is the behaviour of SGT's published code: the statistics describe a mixture of clean and
            masked images, which costs accuracy on clean test images. With ``keep`` they describe clean images.
        consistency: what masked images should be answered with: the clean image's probabilities (``kl``, SGT), or
            the label (``cross_entropy``, which makes masking an augmentation).
        kl_weight: lambda, the weight of the consistency term, at least 0.
        detach_target: whether p(clean) is a constant in the KL term. SGT as published differentiates both sides.
        label_smoothing: of the cross-entropy term, in [0, 1].

    Raises:
        ValueError: for a value that is not among these.
    """

    score: Score = "log_odds"
    reduction: Reduction = "mean_abs"
    saliency_pass: SaliencyPass = "reuse"
    fill: Fill = "uniform"
    fill_value: float = 0.0
    masked_statistics: Statistics = "keep"
    consistency: Consistency = "kl"
    kl_weight: float = 1.0
    detach_target: bool = True
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_choice("score", self.score, get_args(Score))
        check_choice("reduction", self.reduction, get_args(Reduction))
        check_choice("saliency_pass", self.saliency_pass, get_args(SaliencyPass))
        check_choice("fill", self.fill, get_args(Fill))
        check_choice("masked_statistics", self.masked_statistics, get_args(Statistics))
        check_choice("consistency", self.consistency, get_args(Consistency))
        check_between("kl_weight", self.kl_weight, 0.0, torch.inf)
        check_between("label_smoothing", self.label_smoothing)


@dataclass(frozen=True)
class GuidedLoss:
    """The loss of one batch and what masking did. All but the logits are 0-d tensors on the batch's device.

    Attributes:
        total: classification + kl_weight * consistency; call ``backward`` on it.
        classification: mean cross-entropy in nats, detached.
        consistency: the masked images' KL(p(clean) || p(masked)), or their cross-entropy, summed and divided by the
            batch size, in nats, detached.
        logits: ``(N, C)`` of the clean images, with their graph.
        masked_share: share of the batch's images with a masked pixel, in [0, 1].
        masked_pixels: mean fraction of masked pixels in those images; NaN if there are none.
        information_loss: mean KL of those images in nats; NaN if there are none.
        flip_share: share of those images whose predicted class changes; NaN if there are none.
        cross_entropy_rise: mean rise of their cross-entropy in nats; NaN if there are none.
        feedback: accuracy and cross-entropy for the schedule.
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


@dataclass(frozen=True)
class MaskedImages:
    """The masked copies of some images of a batch.

    Attributes:
        index: ``(M,)`` int64, their rows in the batch.
        mask: ``(M, *pixels)`` bool, True = masked.
        images: ``(M, C, *pixels)`` or ``(M, F)``, with masked pixels filled.
    """

    index: Tensor
    mask: Tensor
    images: Tensor


def guided_loss(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    plan: MaskPlan,
    guidance: Guidance | None = None,
    *,
    generator: torch.Generator | None = None,
) -> GuidedLoss:
    """Loss of one batch under a plan: ``CE + kl_weight / N * sum over masked images of KL``.

    With a plan that masks nothing this is cross-entropy to the last bit, from exactly one forward pass. The
    parameters' ``.grad`` is untouched until the caller calls ``total.backward()``.

    Args:
        model: maps inputs to logits ``(N, C)``; used in the mode it is in.
        inputs: ``(N, C, H, W)``, ``(N, C, T)`` or ``(N, F)``, floating point.
        targets: ``(N,)`` int64 labels.
        plan: what to mask, usually ``schedule.plan``.
        guidance: how to mask and compare; by default ``Guidance()``.
        generator: source of the random images, pixels and fills, on the inputs' device.

    Returns:
        :class:`GuidedLoss`.

    Raises:
        TypeError: for inputs that are not floating point, targets not int64, or a model that returns no tensor.
        ValueError: for empty or NaN inputs, mismatching shapes, or targets out of range.
    """
    guidance = Guidance() if guidance is None else guidance
    check_inputs(inputs)
    check_targets(targets, len(inputs))
    if plan.num_images(len(inputs)) == 0:
        return loss_without_masks(check_logits(model(inputs), targets), targets, guidance)
    gradient = gradient_before_forward(model, inputs, targets, plan, guidance)
    reuse = needs_gradient(plan) and guidance.saliency_pass == "reuse"
    variable = inputs.detach().requires_grad_() if reuse else inputs
    logits = check_logits(model(variable), targets)
    if reuse:
        gradient = gradient_from_graph(logits, variable, targets, guidance)
    masked = mask_images(model, inputs, targets, gradient, plan, guidance, generator)
    return loss_with_masks(logits, forward_masked(model, masked, guidance), targets, masked, guidance)


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
    return _kl_per_image(logits, masked_logits, detach_target).mean()


def needs_gradient(plan: MaskPlan) -> bool:
    """Whether the plan ranks pixels by the input gradient."""
    return plan.ranking != "random"


def gradient_before_forward(
    model: nn.Module, inputs: Tensor, targets: Tensor, plan: MaskPlan, guidance: Guidance
) -> Tensor | None:
    """The input gradient of pass ``eval`` where all images are masked, else None.

    SGT takes it before the clean forward pass updates the running statistics. Where part of the images is masked,
    :func:`mask_images` takes it of those alone.
    """
    before = guidance.saliency_pass == "eval" and plan.num_images(len(inputs)) == len(inputs)
    return input_gradient(model, inputs, targets, score=guidance.score) if before and needs_gradient(plan) else None


def gradient_from_graph(logits: Tensor, variable: Tensor, targets: Tensor, guidance: Guidance) -> Tensor:
    """The input gradient of pass ``reuse``, from the graph between ``variable`` and ``logits``, which is kept."""
    score = target_score(logits, targets, guidance.score).sum()
    (gradient,) = torch.autograd.grad(score, variable, retain_graph=True)
    return gradient


def mask_images(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    gradient: Tensor | None,
    plan: MaskPlan,
    guidance: Guidance,
    generator: torch.Generator | None,
) -> MaskedImages:
    """Draws the images of a plan that masks at least one, and masks and fills their pixels.

    Args:
        model, inputs, targets, plan, guidance, generator: as for :func:`guided_loss`.
        gradient: input gradient of the whole batch; without one it is taken of the drawn images, in eval mode, if
            the plan needs it.
    """
    size, count = len(inputs), plan.num_images(len(inputs))
    images = inputs.detach()
    if count == size:
        index = torch.arange(size, device=targets.device)
    else:
        index = torch.randperm(size, generator=generator, device=targets.device)[:count]
        images = images[index]
        gradient = None if gradient is None else gradient[index]
    if gradient is None and needs_gradient(plan):
        gradient = input_gradient(model, images, targets[index], score=guidance.score)
    mask = _mask(images, gradient, plan, guidance, generator)
    filled = fill_masked(images, mask, fill=guidance.fill, value=guidance.fill_value, generator=generator)
    return MaskedImages(index, mask, filled)


def _mask(
    images: Tensor, gradient: Tensor | None, plan: MaskPlan, guidance: Guidance, generator: torch.Generator | None
) -> Tensor:
    """The mask ``(M, *pixels)`` of ``(M, C, *pixels)`` or ``(M, F)``; the gradient is None for ranking ``random``."""
    if gradient is None or plan.ranking == "random":
        shape = images.shape if images.ndim == 2 else images.shape[:1] + images.shape[2:]
        return random_mask(shape, plan.mask_fraction, generator=generator, device=images.device)
    saliency = saliency_map(gradient, reduction=guidance.reduction)
    if plan.ranking == "protected":
        return protected_random_mask(saliency, plan.mask_fraction, plan.protected, generator=generator)
    return lowest_saliency_mask(-saliency if plan.ranking == "highest" else saliency, plan.mask_fraction)


def forward_masked(model: nn.Module, masked: MaskedImages, guidance: Guidance) -> Tensor:
    """Logits ``(M, C)`` of the masked images, from the model in the mode it is in."""
    with statistics_kept(model) if guidance.masked_statistics == "keep" else nullcontext():
        logits: Tensor = model(masked.images)
    return logits


def loss_with_masks(
    logits: Tensor, masked_logits: Tensor, targets: Tensor, masked: MaskedImages, guidance: Guidance
) -> GuidedLoss:
    """The loss from the logits of clean and masked images, differentiable as far as they are.

    Images without a single masked pixel (of few pixels, or of a small fraction) do not count.
    """
    whole_batch, size = len(masked.index) == len(targets), len(targets)
    clean, labels = (logits, targets) if whole_batch else (logits[masked.index], targets[masked.index])
    divergence = _kl_per_image(clean, masked_logits, guidance.detach_target)
    clean, after = at_least_float32(clean.detach()), at_least_float32(masked_logits)
    weights = masked.mask.flatten(1).any(1).to(divergence.dtype)
    masked_loss = F.cross_entropy(after, labels, reduction="none")
    compared = masked_loss if guidance.consistency == "cross_entropy" else divergence
    consistency = (weights * compared).sum() / size
    classification = F.cross_entropy(at_least_float32(logits), targets, label_smoothing=guidance.label_smoothing)
    rise = masked_loss.detach() - F.cross_entropy(clean, labels, reduction="none")
    effects = torch.stack(
        [
            masked.mask.flatten(1).to(rise.dtype).mean(1),
            divergence.detach(),
            (after.argmax(1) != clean.argmax(1)).to(rise.dtype),
            rise,
        ]
    )
    means = (effects * weights).sum(1) / weights.sum()
    return GuidedLoss(
        total=classification + guidance.kl_weight * consistency,
        classification=classification.detach(),
        consistency=consistency.detach(),
        logits=logits,
        masked_share=weights.sum() / size,
        masked_pixels=means[0],
        information_loss=means[1],
        flip_share=means[2],
        cross_entropy_rise=means[3],
        feedback=_feedback(logits, targets, classification, guidance),
    )


def loss_without_masks(logits: Tensor, targets: Tensor, guidance: Guidance) -> GuidedLoss:
    """The loss of a plan that masks nothing: cross-entropy."""
    classification = F.cross_entropy(at_least_float32(logits), targets, label_smoothing=guidance.label_smoothing)
    zero, unknown = classification.new_zeros(()), classification.new_full((), torch.nan)
    return GuidedLoss(
        total=classification,
        classification=classification.detach(),
        consistency=zero,
        logits=logits,
        masked_share=zero,
        masked_pixels=unknown,
        information_loss=unknown,
        flip_share=unknown,
        cross_entropy_rise=unknown,
        feedback=_feedback(logits, targets, classification, guidance),
    )


def _kl_per_image(logits: Tensor, masked_logits: Tensor, detach_target: bool) -> Tensor:
    """KL(p(clean) || p(masked)) of each image, ``(N,)``, at least in float32."""
    if logits.ndim != 2 or logits.shape != masked_logits.shape:
        raise ValueError(
            f"logits are {tuple(logits.shape)} and masked_logits {tuple(masked_logits.shape)}: "
            "expected (N, C), both of the same shape"
        )
    target = at_least_float32(logits.detach() if detach_target else logits).log_softmax(1)
    return F.kl_div(at_least_float32(masked_logits).log_softmax(1), target, reduction="none", log_target=True).sum(1)


def _feedback(logits: Tensor, targets: Tensor, classification: Tensor, guidance: Guidance) -> Feedback:
    """Accuracy and cross-entropy, the latter without label smoothing."""
    logits = at_least_float32(logits.detach())
    hard = F.cross_entropy(logits, targets) if guidance.label_smoothing else classification.detach()
    accuracy = (logits.argmax(1) == targets).to(hard.dtype).mean()
    return Feedback(accuracy=accuracy, loss=hard, num_classes=logits.shape[1], num_images=len(targets))
