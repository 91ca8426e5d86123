"""The saliency-guided loss of one batch: cross-entropy on the images plus consistency on masked copies.

Plain training, SGT and SMOOT are this one step with three schedules.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoot.checks import check_between, check_choice, check_inputs, check_logits, check_targets
from smoot.masking import (
    Fill,
    fill_masked,
)
from smoot.modes import statistics_kept
from smoot.saliency import Reduction, Score, at_least_float32, input_gradient, target_score
from smoot.scheduler import Feedback, MaskPlan, MaskSchedule
from smoot.selection import choose_images, choose_pixels, image_weights

SaliencyPass = Literal["reuse", "eval"]
Statistics = Literal["keep", "update"]


@dataclass(frozen=True)
class Guidance:
    """What is not scheduled.

    Attributes:
        of: score whose input gradient ranks the pixels, see :func:`smoot.saliency.target_score`.
        reduction: of the gradient over channels, see :func:`smoot.saliency.saliency_map`.
        saliency_pass: ``reuse`` takes the gradient from the training-mode forward that the loss uses as well;
            ``eval`` from a forward of its own in eval mode. Different methods, not only different costs.
        fill: what replaces masked pixels, see :func:`smoot.masking.fill_masked`.
        fill_value: the constant of fill ``constant``.
        masked_statistics: whether the masked pass moves the running statistics of normalisation layers. ``update``
            is what calling the model twice does, as SGT's published code: the statistics then describe a mixture
            of images and masked images, and clean images are answered worse at test time. ``keep`` leaves them
            to the clean images.
        kl_weight: lambda, the weight of the consistency term, at least 0.
        detach_target: whether p(clean) is a fixed target; SGT as published lets the gradient through.
        label_smoothing: of the cross-entropy term, in [0, 1).
    """

    of: Score = "log_odds"
    reduction: Reduction = "mean_abs"
    saliency_pass: SaliencyPass = "reuse"
    fill: Fill = "uniform"
    fill_value: float = 0.0
    masked_statistics: Statistics = "keep"
    kl_weight: float = 1.0
    detach_target: bool = True
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_choice("of", self.of, get_args(Score))
        check_choice("reduction", self.reduction, get_args(Reduction))
        check_choice("saliency_pass", self.saliency_pass, get_args(SaliencyPass))
        check_choice("fill", self.fill, get_args(Fill))
        check_choice("masked_statistics", self.masked_statistics, get_args(Statistics))
        check_between("kl_weight", self.kl_weight, 0.0, torch.inf)
        check_between("label_smoothing", self.label_smoothing)


@dataclass(frozen=True)
class GuidedLoss:
    """The loss of one batch and what masking did; every number is a 0-d tensor on the batch's device.

    Attributes:
        total: classification + kl_weight * consistency; the one to call ``backward`` on.
        classification: mean cross-entropy in nats.
        consistency: sum over masked images of KL(p(clean) || p(masked)), divided by the batch size, in nats.
        logits: ``(N, C)`` of the clean images, with their graph.
        masked_share: share of the batch's images that were masked and counted, in [0, 1].
        masked_pixels: mean share of pixels masked in those images; NaN if there are none.
        information_loss: mean KL of those images in nats; NaN if there are none.
        flip_share: share of those images whose answer changes; NaN if there are none.
        cross_entropy_rise: mean rise of their cross-entropy in nats; NaN if there are none.
        feedback: accuracy and hard-label cross-entropy for the schedule.
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


def kl_consistency(logits: Tensor, masked_logits: Tensor, *, detach_target: bool = True) -> Tensor:
    """Mean over the batch of KL(p(.|x) || p(.|masked x)) in nats (SGT, Ismail et al. 2021, eq. 2).

    Args:
        logits: ``(N, C)`` of the clean images.
        masked_logits: ``(N, C)`` of the masked ones.
        detach_target: no gradient reaches ``logits``.

    Returns:
        0-d tensor, at least 0.

    Raises:
        ValueError: if the shapes differ.
    """
    return _kl_per_image(logits, masked_logits, detach_target).mean()


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

    With a plan that masks nothing this is cross-entropy to the last bit, from exactly one forward. The
    parameters' ``.grad`` is untouched until the caller calls ``total.backward()``.

    Args:
        model: maps inputs to logits ``(N, C)``; used in the mode it is in.
        inputs: ``(N, C, H, W)``, ``(N, C, T)`` or ``(N, F)``, floating point.
        targets: ``(N,)`` int64 labels.
        plan: what to mask, usually ``schedule.plan``.
        guidance: how to mask and compare; the default is ``Guidance()``.
        generator: source of the random images and fills, on the inputs' device.

    Returns:
        :class:`GuidedLoss`.

    Raises:
        TypeError: for integer inputs, labels that are not int64, or a model that returns no tensor.
        ValueError: for empty or NaN inputs, mismatching shapes, labels out of range, or a plan by saliency
            mass together with the signed reduction.
    """
    guidance = Guidance() if guidance is None else guidance
    check_inputs(inputs)
    check_targets(targets, len(inputs))
    if plan.pixels == "mass" and guidance.reduction == "signed_mean":
        raise ValueError("pixels 'mass' needs a non-negative saliency, got reduction 'signed_mean': use 'mean_abs'")
    count = plan.num_images(len(inputs))
    if count == 0:
        return _without_masks(check_logits(model(inputs), targets), targets, guidance)
    needs_gradient = plan.ranking != "random" or guidance.fill == "worst_case"
    take = guidance.saliency_pass if needs_gradient else None
    logits, gradient = _clean_pass(model, inputs, targets, guidance.of, take, everything=count == len(inputs))
    chosen = choose_images(plan, logits.detach(), targets, count, generator)
    if needs_gradient:
        if gradient is None:
            gradient = input_gradient(model, inputs[chosen], targets[chosen], of=guidance.of)
        else:
            gradient = gradient[chosen]
    mask = choose_pixels(plan, inputs[chosen], gradient, guidance.reduction, generator)
    filled = fill_masked(
        inputs[chosen],
        mask,
        fill=guidance.fill,
        value=guidance.fill_value,
        gradient=gradient,
        generator=generator,
    )
    with statistics_kept(model) if guidance.masked_statistics == "keep" else nullcontext():
        masked_logits = model(filled)
    return _with_masks(logits, masked_logits, targets, chosen, mask, plan, guidance)


class SaliencyGuidedLoss(nn.Module):
    """The drop-in: a criterion that owns its schedule and feeds it back.

    ``criterion = SaliencyGuidedLoss(AdaptiveSchedule())``, then in the loop
    ``loss = criterion(model, images, labels).total`` and ``loss.backward()``. In ``eval()`` or under
    ``torch.no_grad()`` it is plain cross-entropy and the schedule learns nothing. Its ``state_dict`` holds
    the schedule's state.

    Args:
        schedule: hands out the plans.
        guidance: what is not scheduled; the default is ``Guidance()``.
        generator: source of the random images and fills, on the inputs' device.
    """

    def __init__(
        self,
        schedule: MaskSchedule,
        guidance: Guidance | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.schedule = schedule
        self.guidance = Guidance() if guidance is None else guidance
        self.generator = generator

    def forward(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> GuidedLoss:
        """The guided loss of one batch; see :func:`guided_loss` for shapes and errors."""
        learning = self.training and torch.is_grad_enabled()
        plan = self.schedule.plan if learning else MaskPlan(image_fraction=0.0)
        loss = guided_loss(model, inputs, targets, plan, self.guidance, generator=self.generator)
        if learning:
            self.schedule.step(loss.feedback)
        return loss

    def get_extra_state(self) -> dict[str, Any]:
        """The schedule's state, as part of ``state_dict()``."""
        return self.schedule.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Hands a loaded state to the schedule."""
        self.schedule.load_state_dict(state)


def _kl_per_image(logits: Tensor, masked_logits: Tensor, detach_target: bool) -> Tensor:
    """KL(p(clean) || p(masked)) of each image, ``(N,)``, in float32 at least."""
    if logits.ndim != 2 or logits.shape != masked_logits.shape:
        raise ValueError(
            f"logits are {tuple(logits.shape)} and masked_logits {tuple(masked_logits.shape)}: "
            "expected (N, C), the same twice"
        )
    target = at_least_float32(logits.detach() if detach_target else logits).log_softmax(1)
    return F.kl_div(at_least_float32(masked_logits).log_softmax(1), target, reduction="none", log_target=True).sum(1)


def _clean_pass(
    model: nn.Module, inputs: Tensor, targets: Tensor, of: Score, take: SaliencyPass | None, *, everything: bool
) -> tuple[Tensor, Tensor | None]:
    """Logits of the clean images, and their input gradient if it is to be had before the masked ones are chosen.

    ``reuse`` takes it from the same forward; ``eval`` from one of its own, before the clean forward moves any
    running statistics, as SGT does; of a part of the images only once that part is known, which is left to the caller.
    """
    if take != "reuse":
        gradient = input_gradient(model, inputs, targets, of=of) if take == "eval" and everything else None
        return check_logits(model(inputs), targets), gradient
    variable = inputs.detach().requires_grad_()
    logits = check_logits(model(variable), targets)
    (gradient,) = torch.autograd.grad(target_score(logits, targets, of).sum(), variable, retain_graph=True)
    return logits, gradient


def _with_masks(
    logits: Tensor,
    masked_logits: Tensor,
    targets: Tensor,
    chosen: Tensor,
    mask: Tensor,
    plan: MaskPlan,
    guidance: Guidance,
) -> GuidedLoss:
    clean, labels, size = logits[chosen], targets[chosen], len(targets)
    divergence = _kl_per_image(clean, masked_logits, guidance.detach_target)
    clean, after = at_least_float32(clean.detach()), at_least_float32(masked_logits.detach())
    right = clean.argmax(1) == labels
    weights = image_weights(plan, mask, right, divergence.detach(), size)
    consistency = (weights * divergence).sum() / size
    classification = F.cross_entropy(at_least_float32(logits), targets, label_smoothing=guidance.label_smoothing)
    rise = F.cross_entropy(after, labels, reduction="none") - F.cross_entropy(clean, labels, reduction="none")
    effects = torch.stack(
        [
            mask.flatten(1).to(rise.dtype).mean(1),
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


def _without_masks(logits: Tensor, targets: Tensor, guidance: Guidance) -> GuidedLoss:
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


def _feedback(logits: Tensor, targets: Tensor, classification: Tensor, guidance: Guidance) -> Feedback:
    """Accuracy and cross-entropy against the hard labels."""
    logits = at_least_float32(logits.detach())
    hard = F.cross_entropy(logits, targets) if guidance.label_smoothing else classification.detach()
    accuracy = (logits.argmax(1) == targets).to(hard.dtype).mean()
    return Feedback(accuracy=accuracy, loss=hard, num_classes=logits.shape[1], num_images=len(targets))
