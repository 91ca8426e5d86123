"""What the benchmarks of a training step measure on: networks, batches, devices, precisions."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from workbench.config.profile import load_backbone
from workbench.config.run import DatasetConfig, ModelConfig
from workbench.training.networks import create_backbone

Shape = tuple[int, int, int]
LEARNING_RATE = 1e-6  # so small that the network stays as it is and every step is the same work


@dataclass(frozen=True)
class Subject:
    """A network, the images it is given and the batch sizes it is measured with on each kind of device.

    Attributes:
        backbone: as in a profile's parameters.
        image_shape: ``(C, H, W)``.
        num_classes: number of logits.
        batches: device to the usual batch size; no device, no measurement there.
        large: device to a further size that is measured on request.
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
    """All of them by name: those of the laptop profile, then larger ones in order of cost."""
    small = ModelConfig("resnet18", "resnet18", stem="small")
    vit = ModelConfig("vit", "vit_tiny_patch16_224", options={"patch_size": 4, "depth": 6})
    found = {
        name: Subject(load_backbone(name, "laptop"), GREY, 10, {"cpu": 64, "cuda": 64}, {"cuda": 4096})
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
    """The untrained network, the same weights each time, in training mode."""
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
