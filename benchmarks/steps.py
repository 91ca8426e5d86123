"""The training steps that the benchmarks measure: networks, batches, devices, methods, and the passes each needs."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoot.coupling import has_batch_statistics
from smoot.guidance import Guidance
from smoot.scheduler import MaskPlan
from smoot.step import guided_backward
from workbench.config.profile import load_backbone, load_method
from workbench.config.run import DatasetConfig, ModelConfig
from workbench.training.networks import create_backbone

Shape = tuple[int, int, int]
Step = Callable[[], None]
Passes = Sequence[tuple[str, float]]  # piece of work, see `measures.piece_flops`, and share of the batch

LEARNING_RATE = 1e-6  # so small that the network hardly changes and every step is the same work
SMOOT_SHARES = (0.5, 1.0)  # of masked images
FRACTION = 0.5  # of the pixels, in SGT


@dataclass(frozen=True)
class Subject:
    """A network, the images it is given and the batch sizes it is measured with on each kind of device.

    Attributes:
        backbone: as in a profile's parameters.
        image_shape: ``(C, H, W)``.
        num_classes: number of logits.
        batches: usual batch size by device; devices that are not named are left out.
        large: a further batch size by device, measured on request.
    """

    backbone: ModelConfig
    image_shape: Shape
    num_classes: int
    batches: Mapping[str, int]
    large: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Mode:
    """How a network is run."""

    device: str
    precision: str = "fp32"
    compiled: bool = False

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16")

    def synchronize(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


MODES = {"cpu": (Mode("cpu"),), "cuda": (Mode("cuda"), Mode("cuda", "bf16", compiled=True))}
GREY, COLOUR = (1, 28, 28), (3, 32, 32)


def subjects() -> dict[str, Subject]:
    """All networks by name: small ones of the smoke profile, then larger ones in order of cost."""
    small = ModelConfig("resnet18", "resnet18", stem="small")
    vit = ModelConfig("vit", "vit_tiny_patch16_224", options={"patch_size": 4, "depth": 6})
    found = {
        name: Subject(load_backbone(name, "smoke"), GREY, 10, {"cpu": 64, "cuda": 64}, {"cuda": 4096})
        for name in ("resnet10_narrow", "two_conv_small")
    }
    return found | {
        "two_conv": Subject(
            ModelConfig("two_conv", "two_conv"), GREY, 10, {"cpu": 64, "cuda": 64}, {"cpu": 512, "cuda": 512}
        ),
        "vit": Subject(vit, COLOUR, 10, {"cpu": 16, "cuda": 512}, {"cpu": 64}),
        "resnet18": Subject(small, COLOUR, 10, {"cpu": 16, "cuda": 512}, {"cpu": 64}),
        "resnet50": Subject(ModelConfig("resnet50", "resnet50"), (3, 224, 224), 1000, {"cuda": 64}),
    }


@dataclass
class Setup:
    """A network in training on one fixed batch of noise."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    images: Tensor
    labels: Tensor
    draws: torch.Generator
    mode: Mode


def make_network(subject: Subject) -> nn.Module:
    """The untrained network in training mode, with the same weights each time."""
    channels = subject.image_shape[0]
    pixels = DatasetConfig("noise", validation_images=1, mean=(0.5,) * channels, std=(0.25,) * channels)
    torch.manual_seed(0)
    return create_backbone(
        subject.backbone, pixels, image_shape=subject.image_shape, num_classes=subject.num_classes
    ).train()


def set_up(subject: Subject, batch_size: int, mode: Mode, image_shape: Shape | None = None) -> Setup:
    """Network, optimiser and batch on the mode's device, channels last.

    Args:
        subject: what is measured.
        batch_size: number of images.
        mode: device and precision.
        image_shape: of the batch, if other than the network was made for (a ResNet takes any size).
    """
    network = make_network(subject).to(mode.device, memory_format=torch.channels_last)
    if mode.compiled:
        network.compile()
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    draws = torch.Generator().manual_seed(0)
    images = torch.rand(batch_size, *(image_shape or subject.image_shape), generator=draws).to(mode.device)
    labels = torch.randint(subject.num_classes, (batch_size,), generator=draws).to(mode.device)
    return Setup(network, optimizer, images, labels, torch.Generator(mode.device).manual_seed(0), mode)


@dataclass(frozen=True)
class Variant:
    """A training step: one line of the table of costs.

    Attributes:
        method: its name.
        image_fraction: share of masked images.
        prepare: makes the call that adds the gradients of one step to the parameters.
        passes: those of the ideal step on a network.
    """

    method: str
    image_fraction: float
    prepare: Callable[[Setup], Step]
    passes: Callable[[nn.Module], Passes]


def variants() -> list[Variant]:
    """The methods of the registry, SGT written out, and SMOOT with half and all of the images masked."""
    plain, random_mask, sgt, improved, smoot = (
        load_method(name, "laptop") for name in ("plain", "random_mask", "sgt", "sgt_improved", "smoot")
    )
    return [
        guided("plain", plain.plan, plain.guidance),
        Variant("sgt_reference", 1.0, published_sgt, lambda network: SGT_PASSES),
        *(guided(method.name, method.plan, method.guidance) for method in (sgt, random_mask, improved)),
        *(guided("smoot", replace(smoot.plan, image_fraction=share), smoot.guidance) for share in SMOOT_SHARES),
    ]


def guided(method: str, plan: MaskPlan, guidance: Guidance) -> Variant:
    """A step of this package under a constant plan."""

    def prepare(setup: Setup) -> Step:
        def gradients() -> None:
            with setup.mode.autocast():
                guided_backward(setup.network, setup.images, setup.labels, plan, guidance, generator=setup.draws)

        return gradients

    return Variant(method, plan.image_fraction, prepare, lambda network: guided_passes(network, plan, guidance))


def published_sgt(setup: Setup) -> Step:
    """SGT as published (Ismail et al. 2021, Algorithm 1), step by step and without any of this package's code.

    Pixels are ranked by the signed input gradient of the true class's log-probability, averaged over channels, in
    eval mode; the lowest half is replaced by uniform noise of the image's range; the divergence's gradient flows
    through both answers.
    """
    network, images, labels, draws = setup.network, setup.images, setup.labels, setup.draws

    def gradients() -> None:
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

    return gradients


SGT_PASSES: Passes = (
    ("forward", 1.0),
    ("input", 1.0),
    ("forward", 1.0),
    ("forward", 1.0),
    ("parameters", 1.0),
    ("parameters", 1.0),
)


def guided_passes(network: nn.Module, plan: MaskPlan, guidance: Guidance) -> Passes:
    """What a guided step needs: a pass of the clean images, one of the masked images, and the input gradient.

    The input gradient comes with the cross-entropy's backward pass, unless it is that of eval mode, or the network
    has batch statistics (see :mod:`smoot.step`).
    """
    share = plan.image_fraction
    plain = (("forward", 1.0), ("parameters", 1.0))
    masked = (("forward", share), ("parameters", share))
    if share == 0.0:
        return plain
    if plan.ranking == "random":
        return (*plain, *masked)
    if guidance.saliency_pass == "eval":
        return (("forward", share), ("input", share), *plain, *masked)
    if any(map(has_batch_statistics, network.modules())):
        return (("input", 1.0), *plain, *masked)
    return (("forward", 1.0), ("both", 1.0), *masked)


def stepper(variant: Variant, setup: Setup) -> Step:
    """A call that does one whole training step: drop the old gradients, compute new ones, step the optimiser."""
    gradients = variant.prepare(setup)

    def step() -> None:
        setup.optimizer.zero_grad(set_to_none=True)
        gradients()
        setup.optimizer.step()

    return step
