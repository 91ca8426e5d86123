"""Which images of a batch a plan masks, which of their pixels, and which images count."""

import torch
from torch import Tensor

from smoot.masking import lowest_mass_mask, lowest_saliency_mask, protected_random_mask, random_mask
from smoot.saliency import Reduction, saliency_map, target_score
from smoot.scheduler import MaskPlan


def choose_images(
    plan: MaskPlan, logits: Tensor, targets: Tensor, count: int, generator: torch.Generator | None
) -> Tensor:
    """Indices of the images that get a masked pass.

    Args:
        plan: its ``order`` decides; all images need no order and no draw.
        logits: ``(N, C)`` of the clean images, detached.
        targets: ``(N,)`` int64.
        count: how many, from ``plan.num_images(N)``.
        generator: source of the draw for order ``random``, on the targets' device.

    Returns:
        ``(count,)`` int64; ties by index.
    """
    size = len(targets)
    if count == size:
        return torch.arange(size, device=targets.device)
    if plan.order == "random":
        return torch.randperm(size, generator=generator, device=targets.device)[:count]
    log_odds = target_score(logits, targets, "log_odds")
    return log_odds.argsort(descending=plan.order == "easiest", stable=True)[:count]


def choose_pixels(
    plan: MaskPlan, images: Tensor, gradient: Tensor | None, reduction: Reduction, generator: torch.Generator | None
) -> Tensor:
    """The mask of the chosen images.

    Args:
        plan: its ``ranking`` and ``pixels`` decide.
        images: ``(M, C, *pixels)`` or ``(M, F)``; only their shape and device count.
        gradient: input gradient like ``images``; not needed, and None allowed, with ranking ``random``.
        reduction: of the gradient over channels.
        generator: source of a random ranking, on the images' device.

    Returns:
        ``(M, *pixels)`` bool, True = masked.
    """
    if gradient is None or plan.ranking == "random":
        shape = images.shape if images.ndim == 2 else images.shape[:1] + images.shape[2:]
        return random_mask(shape, plan.mask_fraction, generator=generator, device=images.device)
    saliency = saliency_map(gradient, reduction=reduction)
    if plan.ranking == "protected":
        return protected_random_mask(saliency, plan.mask_fraction, plan.protected, generator=generator)
    if plan.ranking == "highest":
        return lowest_saliency_mask(-saliency, plan.mask_fraction)
    if plan.pixels == "mass":
        return lowest_mass_mask(saliency, plan.mass, max_fraction=plan.max_fraction)
    return lowest_saliency_mask(saliency, plan.mask_fraction)


def image_weights(
    plan: MaskPlan, mask: Tensor, right: Tensor, divergence: Tensor, log_odds: Tensor, batch_size: int
) -> Tensor:
    """Which masked images count in the consistency term.

    An image without a single masked pixel does not; with order ``easiest`` neither does one that is answered
    wrongly; with a budget only the longest run, in the plan's order ``spend``, whose divergences add up to at most
    ``budget * batch_size``. Smallest first, that is the largest number of images that the budget allows.

    Args:
        plan: its ``order``, ``budget`` and ``spend`` decide.
        mask: ``(M, *pixels)`` bool.
        right: ``(M,)`` bool, clean image answered rightly.
        divergence: ``(M,)`` KL of clean and masked answer in nats, detached.
        log_odds: ``(M,)`` of the clean images' labels, detached.
        batch_size: N, the number of images of the whole batch.

    Returns:
        ``(M,)``, 1 or 0.
    """
    counts = mask.flatten(1).any(1)
    if plan.order == "easiest":
        counts = counts & right
    if plan.budget is not None:
        order = _spending_order(plan, divergence.masked_fill(~counts, torch.inf), log_odds)
        within = divergence.masked_fill(~counts, 0.0)[order].cumsum(0) / batch_size <= plan.budget
        counts = counts & torch.zeros_like(counts).scatter_(0, order, within)
    return counts.to(divergence.dtype)


def _spending_order(plan: MaskPlan, cost: Tensor, log_odds: Tensor) -> Tensor:
    """The masked images' places in the order in which a budget is spent on them, ``(M,)``; ties by index."""
    if plan.spend == "random":
        return torch.arange(len(cost), device=cost.device)  # a shuffled batch comes in a random order
    key = {"smallest": cost, "hardest": log_odds, "easiest": -log_odds}[plan.spend]
    return key.argsort(stable=True)
