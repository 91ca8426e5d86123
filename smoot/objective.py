"""The saliency-guided loss of one batch: cross-entropy on the images plus consistency on masked copies.

Plain training, SGT and SMOOT are this one step with three schedules. :func:`guided_loss` gives a loss to call
``backward`` on; :func:`smoot.step.guided_backward` does that too, for less.
"""

from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoot.checks import at_least_float32, check_inputs, check_logits, check_targets
from smoot.guidance import Guidance
from smoot.masking import fill_masked
from smoot.modes import statistics_kept
from smoot.saliency import Score, input_gradient, target_score
from smoot.scheduler import Feedback, MaskPlan
from smoot.selection import choose_images, choose_pixels, image_weights

FAINTEST = 1e-30  # a certain image's share in the loss is floored here, so that its input gradient does not vanish


@dataclass(frozen=True)
class GuidedLoss:
    """The loss of one batch and what masking did; every number is a 0-d tensor on the batch's device.

    Attributes:
        total: classification + kl_weight * consistency; the one to call ``backward`` on.
        classification: mean cross-entropy in nats.
        consistency: sum over masked images of KL(p(clean) || p(masked)), or of the masked images' cross-entropy,
            divided by the batch size, in nats.
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


@dataclass(frozen=True)
class Masked:
    """The masked images of a batch.

    Attributes:
        chosen: ``(M,)`` their rows in the batch.
        mask: ``(M, *pixels)`` bool, True = masked.
        images: ``(M, C, *pixels)`` or ``(M, F)``, filled.
    """

    chosen: Tensor
    mask: Tensor
    images: Tensor


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
    count = checked_count(inputs, targets, plan, guidance)
    if count == 0:
        return loss_without_masks(check_logits(model(inputs), targets), targets, guidance)
    wanted = needs_gradient(plan, guidance)
    before = gradient_beforehand(model, inputs, targets, plan, guidance) if wanted else None
    variable = inputs.detach().requires_grad_() if wanted and guidance.saliency_pass != "eval" else inputs
    logits = check_logits(model(variable), targets)
    gradient = score_gradient(logits, variable, targets, guidance) if variable is not inputs else before
    masked = mask_images(model, inputs, targets, logits.detach(), gradient, plan, guidance, generator)
    masked_logits = answer_masked(model, masked, guidance)
    return loss_with_masks(logits, masked_logits, targets, masked, plan, guidance)


def checked_count(inputs: Tensor, targets: Tensor, plan: MaskPlan, guidance: Guidance) -> int:
    """The number of masked images, known before the step, after all checks of :func:`guided_loss`."""
    check_inputs(inputs)
    check_targets(targets, len(inputs))
    if plan.pixels == "mass" and guidance.reduction == "signed_mean":
        raise ValueError("pixels 'mass' needs a non-negative saliency, got reduction 'signed_mean': use 'mean_abs'")
    return plan.num_images(len(inputs))


def needs_gradient(plan: MaskPlan, guidance: Guidance) -> bool:
    """Whether the masks or their fill depend on the input gradient."""
    return plan.ranking != "random" or guidance.fill == "worst_case"


def gradient_beforehand(
    model: nn.Module, inputs: Tensor, targets: Tensor, plan: MaskPlan, guidance: Guidance
) -> Tensor | None:
    """The gradient of pass ``eval`` if all images are masked: SGT takes it before the clean forward moves statistics.

    Of a part of the images it is taken once that part is known, by :func:`mask_images`.
    """
    if guidance.saliency_pass != "eval" or plan.num_images(len(inputs)) < len(inputs):
        return None
    return input_gradient(model, inputs, targets, of=guidance.of)


def score_gradient(logits: Tensor, variable: Tensor, targets: Tensor, guidance: Guidance) -> Tensor:
    """The input gradient of passes ``reuse`` and ``loss`` from the graph of the clean forward, which is kept."""
    if guidance.saliency_pass == "loss":
        upstream = loss_gradient(logits, targets)
        (gradient,) = torch.autograd.grad(logits, variable, upstream, retain_graph=True)
        return toward_score(gradient, guidance.of)
    (gradient,) = torch.autograd.grad(target_score(logits, targets, guidance.of).sum(), variable, retain_graph=True)
    return gradient


def loss_gradient(logits: Tensor, targets: Tensor) -> Tensor:
    """Gradient of the mean cross-entropy with respect to the logits, ``(N, C)``, without cancellation.

    ``(1 - p_y) (q - e_y) / N`` with q the softmax over the other classes. Automatic differentiation computes
    ``p_y - 1``, which is exactly 0 in float32 once an image is answered with a probability above 1 - 6e-8; its
    input gradient would be 0 as well. Here 1 - p_y is the sigmoid of minus the log-odds, floored at 1e-30.
    """
    raised = at_least_float32(logits.detach())
    index = targets.unsqueeze(1)
    missing = torch.sigmoid(-target_score(raised, targets, "log_odds")).clamp(min=FAINTEST).unsqueeze(1)
    others = raised.scatter(1, index, -torch.inf).softmax(1)
    upstream = missing * others.scatter(1, index, -1.0) / len(targets)
    return upstream.to(logits.dtype)


def toward_score(gradient: Tensor, of: Score) -> Tensor:
    """The loss's input gradient with the sign of the score's: an image's own positive factor does not matter."""
    return gradient if of == "loss" else -gradient


def mask_images(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    logits: Tensor,
    gradient: Tensor | None,
    plan: MaskPlan,
    guidance: Guidance,
    generator: torch.Generator | None,
) -> Masked:
    """Chooses images and pixels and fills them; without a gradient of the whole batch takes it of the chosen ones."""
    chosen = choose_images(plan, logits, targets, plan.num_images(len(inputs)), generator)
    everything = len(chosen) == len(inputs)
    images = inputs.detach() if everything else inputs.detach()[chosen]
    if gradient is not None:
        gradient = gradient if everything else gradient[chosen]
    elif needs_gradient(plan, guidance):
        gradient = input_gradient(model, images, targets[chosen], of=guidance.of)
    mask = choose_pixels(plan, images, gradient, guidance.reduction, generator)
    uphill = -gradient if gradient is not None and guidance.of == "loss" else gradient  # of the true class's score
    filled = fill_masked(
        images, mask, fill=guidance.fill, value=guidance.fill_value, gradient=uphill, generator=generator
    )
    return Masked(chosen, mask, filled)


def answer_masked(model: nn.Module, masked: Masked, guidance: Guidance) -> Tensor:
    """Logits ``(M, C)`` of the masked images, in the mode that the model is in."""
    with statistics_kept(model) if guidance.masked_statistics == "keep" else nullcontext():
        logits: Tensor = model(masked.images)
    return logits


def loss_with_masks(
    logits: Tensor, masked_logits: Tensor, targets: Tensor, masked: Masked, plan: MaskPlan, guidance: Guidance
) -> GuidedLoss:
    """The loss from both answers, with the graphs that they have."""
    everything, size = len(masked.chosen) == len(targets), len(targets)
    clean, labels = (logits, targets) if everything else (logits[masked.chosen], targets[masked.chosen])
    divergence = _kl_per_image(clean, masked_logits, guidance.detach_target)
    clean, after = at_least_float32(clean.detach()), at_least_float32(masked_logits)
    answer = clean.argmax(1)
    log_odds = target_score(clean, labels, "log_odds")
    weights = image_weights(plan, masked.mask, answer == labels, divergence.detach(), log_odds, size)
    masked_loss = F.cross_entropy(after, labels, reduction="none")
    asked = masked_loss if guidance.consistency == "cross_entropy" else divergence
    consistency = (weights * asked).sum() / size
    classification = F.cross_entropy(at_least_float32(logits), targets, label_smoothing=guidance.label_smoothing)
    rise = masked_loss.detach() - F.cross_entropy(clean, labels, reduction="none")
    effects = torch.stack(
        [
            masked.mask.flatten(1).to(rise.dtype).mean(1),
            divergence.detach(),
            (after.argmax(1) != answer).to(rise.dtype),
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
    """Plain cross-entropy."""
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
    """KL(p(clean) || p(masked)) of each image, ``(N,)``, in float32 at least."""
    if logits.ndim != 2 or logits.shape != masked_logits.shape:
        raise ValueError(
            f"logits are {tuple(logits.shape)} and masked_logits {tuple(masked_logits.shape)}: "
            "expected (N, C), the same twice"
        )
    target = at_least_float32(logits.detach() if detach_target else logits).log_softmax(1)
    return F.kl_div(at_least_float32(masked_logits).log_softmax(1), target, reduction="none", log_target=True).sum(1)


def _feedback(logits: Tensor, targets: Tensor, classification: Tensor, guidance: Guidance) -> Feedback:
    """Accuracy and cross-entropy against the hard labels."""
    logits = at_least_float32(logits.detach())
    hard = F.cross_entropy(logits, targets) if guidance.label_smoothing else classification.detach()
    accuracy = (logits.argmax(1) == targets).to(hard.dtype).mean()
    return Feedback(accuracy=accuracy, loss=hard, num_classes=logits.shape[1], num_images=len(targets))
