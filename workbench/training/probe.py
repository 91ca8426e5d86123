"""First-order effect of masks: whether masking an image acts like a gradient attack."""

import torch
from torch import Tensor, nn

from smoot.guidance import Guidance, mask_images, needs_gradient, num_masked
from smoot.saliency import input_gradient
from smoot.scheduler import MaskPlan


def first_order_change(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    plan: MaskPlan,
    guidance: Guidance,
    generator: torch.Generator,
) -> Tensor:
    """Change of log p of the label under masking, to first order around the clean images.

    ``mean over masked images of sum_j (d log p_y / d x_j) (masked x_j - x_j)``. Well below zero, masking moves images
    as a gradient attack does (Goodfellow et al. 2015), whether or not it was meant to. For example with signed
    ranking: the pixels masked first are those whose brightening lowers log p, and a fill above a black background
    brightens them.

    Args:
        model: maps inputs to logits ``(N, C)``; run in eval mode, its modes and gradients stay as they were.
        inputs: ``(N, C, H, W)``, ``(N, C, T)`` or ``(N, F)``.
        targets: ``(N,)`` int64 labels.
        plan: what to mask.
        guidance: how to rank and fill; the gradient is taken in eval mode here, whatever its saliency pass.
        generator: source of the random images, pixels and fills, on the inputs' device.

    Returns:
        0-d tensor in nats; NaN for a plan that masks nothing.

    Raises:
        TypeError, ValueError: as :func:`smoot.saliency.input_gradient`.
    """
    if not num_masked(model, inputs, plan):
        return inputs.new_full((), torch.nan)
    gradient = input_gradient(model, inputs, targets, score=guidance.score) if needs_gradient(plan) else None
    masked = mask_images(model, inputs, targets, gradient, plan, guidance, generator)
    images, labels = inputs[masked.index], targets[masked.index]
    tangent = input_gradient(model, images, labels, score="log_prob")
    return (tangent * (masked.images - images)).flatten(1).sum(1).mean()
