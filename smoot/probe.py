"""What masks do to an answer to first order: whether masking is an attack."""

import torch
from torch import Tensor, nn

from smoot.guidance import Guidance
from smoot.modes import evaluation_mode
from smoot.objective import mask_images, needs_gradient
from smoot.saliency import input_gradient
from smoot.scheduler import MaskPlan


def first_order_change(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    plan: MaskPlan,
    guidance: Guidance | None = None,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Change of the label's log-probability that masking makes, by the tangent at the clean images.

    ``mean over masked images of sum_j (d log p_y / d x_j) (masked x_j - x_j)``. Well below zero, masking moves the
    images the way a gradient attack does, whatever it was meant for: with signed ranking the least pixels are those
    whose brightening lowers log p, and a fill above a black background brightens them (Goodfellow et al. 2015).

    Args:
        model: maps inputs to logits ``(N, C)``; run in eval mode, its modes and gradients are left as they were.
        inputs: ``(N, C, H, W)``, ``(N, C, T)`` or ``(N, F)``.
        targets: ``(N,)`` int64 labels.
        plan: what to mask.
        guidance: how to rank and fill; its gradient is taken in eval mode here, whatever its saliency pass.
        generator: source of the random images, masks and fills, on the inputs' device.

    Returns:
        0-d tensor in nats; NaN for a plan that masks nothing.

    Raises:
        TypeError, ValueError: as :func:`smoot.saliency.input_gradient`.
    """
    guidance = Guidance() if guidance is None else guidance
    if plan.num_images(len(inputs)) == 0:
        return inputs.new_full((), torch.nan)
    gradient = input_gradient(model, inputs, targets, of=guidance.of) if needs_gradient(plan, guidance) else None
    with evaluation_mode(model), torch.no_grad():
        logits = model(inputs)
    masked = mask_images(model, inputs, targets, logits, gradient, plan, guidance, generator)
    images, labels = inputs[masked.chosen], targets[masked.chosen]
    tangent = input_gradient(model, images, labels, of="log_prob")
    return (tangent * (masked.images - images)).flatten(1).sum(1).mean()
