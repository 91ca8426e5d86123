"""The training steps that the benchmarks compare, and the passes that each of them cannot do without."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from step_subjects import Setup
from torch import Tensor, nn

from smoot.objective import Guidance
from smoot.objective import GuidedLoss, guided_loss
from smoot.scheduler import MaskPlan
from smoot.step import guided_backward, shares_batch_statistics
from workbench.config.profile import load_run
from workbench.config.run import MethodConfig

SMOOT_SHARES = (0.5, 1.0)
FRACTION = 0.5  # of the pixels, in SGT
Gradients = Callable[[], Tensor]  # accumulates into .grad and returns the share of images that counted as masked
Passes = Sequence[tuple[str, float]]  # piece of work, see `step_measures.piece_flops`, and share of the batch


@dataclass(frozen=True)
class Variant:
    """One line of the table.

    Attributes:
        method: its name.
        image_fraction: planned share of masked images; NaN where the step itself decides how many count.
        prepare: makes the step's gradient computation for a setup.
        passes: those of the ideal step, for a network and the share of images that counted.
    """

    method: str
    image_fraction: float
    prepare: Callable[[Setup], Gradients]
    passes: Callable[[nn.Module, float], Passes]


def variants() -> list[Variant]:
    """The methods of the laptop profile, SGT written out, and SMOOT in all its costs."""
    plain, random_mask, sgt, improved, smoot = map(configured, ("plain", "random_mask", "sgt", "sgt_improved", "smoot"))
    other = replace(smoot.guidance, saliency_pass="loss" if smoot.guidance.saliency_pass == "reuse" else "reuse")
    full = replace(smoot.plan, image_fraction=1.0)
    return [
        guided("plain", plain.plan, plain.guidance),
        Variant("sgt_reference", 1.0, published, lambda network, share: SGT_PASSES),
        *(guided(method.name, method.plan, method.guidance) for method in (sgt, random_mask, improved)),
        *(guided("smoot", replace(full, image_fraction=share), smoot.guidance) for share in SMOOT_SHARES),
        guided(f"smoot_{other.saliency_pass}", full, other),
        Variant("smoot_budget", math.nan, lambda setup: budgeted(setup, full, smoot.guidance), budget_passes),
    ]


def configured(method: str) -> MethodConfig:
    return load_run("fashion_mnist", "two_conv_small", method, 0, "laptop").method


def guided(method: str, plan: MaskPlan, guidance: Guidance) -> Variant:
    """A step of this package; the one named after the reused forward takes it as a loss with its own backward."""
    loss_only = method == "smoot_reuse"
    return Variant(
        method,
        plan.image_fraction,
        lambda setup: accumulate(setup, plan, guidance, via_loss if loss_only else guided_backward),
        lambda network, share: guided_passes(network, plan, guidance, always_own=loss_only),
    )


def via_loss(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    plan: MaskPlan,
    guidance: Guidance,
    *,
    generator: torch.Generator,
) -> GuidedLoss:
    loss = guided_loss(model, inputs, targets, plan, guidance, generator=generator)
    with torch.autocast(inputs.device.type, enabled=False):
        loss.total.backward()
    return loss


def accumulate(setup: Setup, plan: MaskPlan, guidance: Guidance, way: Callable[..., GuidedLoss]) -> Gradients:
    def gradients() -> Tensor:
        with setup.mode.autocast():
            loss = way(setup.network, setup.images, setup.labels, plan, guidance, generator=setup.draws)
        return loss.masked_share

    return gradients


def budgeted(setup: Setup, plan: MaskPlan, guidance: Guidance) -> Gradients:
    """A step whose budget is a quarter of what masking all images would cost, so that part of them counts."""
    running = {name: buffer.clone() for name, buffer in setup.network.named_buffers()}
    with setup.mode.autocast():
        loss = guided_loss(setup.network, setup.images, setup.labels, plan, guidance, generator=setup.draws)
    for name, buffer in setup.network.named_buffers():
        buffer.copy_(running[name])
    return accumulate(setup, replace(plan, budget=float(loss.information_loss) / 4), guidance, guided_backward)


def published(setup: Setup) -> Gradients:
    """SGT as published (Ismail et al. 2021, Algorithm 1), step by step and without any of this package's code.

    Pixels are ranked by the signed input gradient of the true class's log-probability, averaged over channels, in
    eval mode; the lowest half is replaced by uniform noise of the image's range; the divergence's gradient flows
    through both answers.
    """
    network, images, labels, draws = setup.network, setup.images, setup.labels, setup.draws

    def gradients() -> Tensor:
        network.eval()
        variable = images.clone().requires_grad_()
        with setup.mode.autocast():
            score = network(variable).float().log_softmax(1).gather(1, labels.unsqueeze(1)).sum()
        (gradient,) = torch.autograd.grad(score, variable)
        network.train()
        ranked = gradient.mean(1).flatten(1).sort(dim=1, stable=True).indices
        lowest = ranked[:, : round(FRACTION * ranked.shape[1])]
        mask = torch.zeros(ranked.shape, dtype=torch.bool, device=images.device).scatter(1, lowest, True)
        low = images.amin((1, 2, 3), keepdim=True)
        high = images.amax((1, 2, 3), keepdim=True)
        noise = low + torch.rand(images.shape, device=images.device, generator=draws) * (high - low)
        masked = torch.where(mask.view(len(images), 1, *images.shape[2:]), noise, images)
        with setup.mode.autocast():
            clean, after = network(images).float(), network(masked).float()
        divergence = F.kl_div(after.log_softmax(1), clean.log_softmax(1), reduction="batchmean", log_target=True)
        (F.cross_entropy(clean, labels) + divergence).backward()
        return torch.ones((), device=images.device)

    return gradients


SGT_PASSES: Passes = (
    ("forward", 1.0),
    ("input", 1.0),
    ("forward", 1.0),
    ("forward", 1.0),
    ("parameters", 1.0),
    ("parameters", 1.0),
)


def guided_passes(network: nn.Module, plan: MaskPlan, guidance: Guidance, *, always_own: bool = False) -> Passes:
    """What a guided step needs: the images' own pass, a saliency pass if it is one of its own, the masked images'.

    The cross-entropy's backward gives the input gradient unless the method asks for another one: that of the
    score where images answer each other through batch statistics, or that of eval mode.
    """
    share = plan.image_fraction
    if share == 0.0:
        return (("forward", 1.0), ("parameters", 1.0))
    masked = (("forward", share), ("parameters", share))
    if plan.ranking == "random":
        return (("forward", 1.0), ("parameters", 1.0), *masked)
    if guidance.saliency_pass == "eval":
        return (("forward", share), ("input", share), ("forward", 1.0), ("parameters", 1.0), *masked)
    if always_own or (guidance.saliency_pass == "reuse" and shares_batch_statistics(network)):
        return (("forward", 1.0), ("input", 1.0), ("parameters", 1.0), *masked)
    return (("forward", 1.0), ("both", 1.0), *masked)


def budget_passes(network: nn.Module, share: float) -> Passes:
    """All images are candidates and answered with their mask; only those that count need a backward."""
    smoot = configured("smoot")
    passes = guided_passes(network, replace(smoot.plan, image_fraction=1.0), smoot.guidance)
    return (*passes[:-1], ("parameters", share))


def stepper(variant: Variant, setup: Setup) -> Gradients:
    """A call that makes one whole training step: old gradients dropped, new ones computed, the optimiser's step."""
    gradients = variant.prepare(setup)

    def step() -> Tensor:
        setup.optimizer.zero_grad(set_to_none=True)
        share = gradients()
        setup.optimizer.step()
        return share

    return step
