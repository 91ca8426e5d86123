"""Networks: timm backbones for small images, the SGT paper's two-convolution net, their devices and stored weights."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from workbench.config.files import replacing
from workbench.config.run import DatasetConfig, ModelConfig
from workbench.data.sets import ImageData
from workbench.training import pretrained
from workbench.training.randomness import seeded

SMALL_IMAGE = 40  # pixels; on larger images a 3x3 stem of stride 1 is refused as too expensive

# Widths of the two convolutions and of the hidden layer, stride of the convolutions, window of the max-pooling.
# `two_conv` is the network of the SGT paper's MNIST experiments; `two_conv_small` is ours: strided and narrower,
# for a CPU.
TWO_CONV: dict[str, dict[str, Any]] = {
    "two_conv": {"widths": (32, 64), "hidden": 128, "stride": 1, "pool": 2},
    "two_conv_small": {"widths": (16, 32), "hidden": 64, "stride": 2, "pool": 1},
}


class Normalize(nn.Module):
    """Standardises ``(N, C, H, W)`` pixels in [0, 1] by per-channel mean and standard deviation.

    It is part of the network, so that saliency, masks and fills are all in pixel units.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Standardise images ``(N, C, H, W)``."""
        return (images - self.mean) / self.std


def create_backbone(
    config: ModelConfig, dataset: DatasetConfig, *, image_shape: Sequence[int], num_classes: int
) -> nn.Module:
    """Build a network that maps pixels in [0, 1] to logits.

    Args:
        config: architecture (``two_conv``, ``two_conv_small`` or a timm name), stem and options.
        dataset: mean and standard deviation for the first layer.
        image_shape: ``(C, H, W)``.
        num_classes: number of logits, at least 2.

    Returns:
        Module mapping ``(N, C, H, W)`` to ``(N, num_classes)``, initialised from torch's global generator.

    Raises:
        ValueError: for an unknown architecture, options it does not take, or a stem that cannot be replaced.
    """
    channels = image_shape[0]
    if len(dataset.mean) != channels or len(dataset.std) != channels:
        raise ValueError(
            f"datasets.{dataset.name}: mean and std have {len(dataset.mean)} and {len(dataset.std)} numbers: "
            f"expected {channels}, one per channel"
        )
    if config.architecture in TWO_CONV:
        if config.options or config.pretrained or config.stem != "original":
            raise ValueError(f"backbones.{config.name}: {config.architecture} takes no options, stem or weights")
        network = _two_conv(image_shape, num_classes, **TWO_CONV[config.architecture])
    else:
        network = _timm_network(config, image_shape, num_classes)
    return nn.Sequential(OrderedDict(normalize=Normalize(dataset.mean, dataset.std), backbone=network))


def _two_conv(
    image_shape: Sequence[int], num_classes: int, *, widths: tuple[int, int], hidden: int, stride: int, pool: int
) -> nn.Module:
    """Two 3x3 convolutions, two linear layers, dropout 0.25 and 0.5 (Ismail et al. 2021, section 4.1)."""
    channels, *size = image_shape
    for _ in widths:
        size = [(length - 3) // stride + 1 for length in size]
    features = widths[1] * math.prod(length // pool for length in size)
    if min(size) < pool:
        raise ValueError(f"images of {image_shape[1]}x{image_shape[2]} pixels are too small for two 3x3 convolutions")
    return nn.Sequential(
        nn.Conv2d(channels, widths[0], 3, stride),
        nn.ReLU(),
        nn.Conv2d(widths[0], widths[1], 3, stride),
        nn.ReLU(),
        nn.MaxPool2d(pool),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(features, hidden),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(hidden, num_classes),
    )


def _timm_network(config: ModelConfig, image_shape: Sequence[int], num_classes: int) -> nn.Module:
    import timm  # takes seconds, and not every backbone needs it

    if not timm.is_model(config.architecture):
        near = timm.list_models(f"*{config.architecture.split('_')[0]}*")[:5]
        raise ValueError(
            f"unknown architecture {config.architecture!r}: expected {', '.join(TWO_CONV)} or a timm model"
            + (f" such as {', '.join(near)}" if near else "")
        )
    options = dict(config.options)
    known = timm.get_pretrained_cfg(config.architecture)
    if known is not None and known.fixed_input_size:  # ViTs, Swin, MLP-Mixer and the like
        options.setdefault("img_size", tuple(image_shape[1:]))
    create = pretrained.create if config.pretrained else timm.create_model
    try:
        network = create(
            config.architecture,
            in_chans=image_shape[0],
            num_classes=num_classes,
            **options,
        )
    except (TypeError, AttributeError, AssertionError, LookupError) as error:
        raise ValueError(f"backbones.{config.name}: options {options} do not fit: {error}") from None
    return _small_stem(network, config, image_shape) if config.stem == "small" else network


def _small_stem(network: nn.Module, config: ModelConfig, image_shape: Sequence[int]) -> nn.Module:
    """Replaces a ResNet's stem by one 3x3 convolution of stride 1 without max-pooling (He et al. 2016, CIFAR)."""
    if max(image_shape[1:]) > SMALL_IMAGE:
        raise ValueError(
            f"stem 'small' is for images up to {SMALL_IMAGE} pixels, got {tuple(image_shape[1:])}: use 'original'"
        )
    if not (hasattr(network, "conv1") and hasattr(network, "maxpool")):
        raise ValueError(
            f"backbones.{config.name}: stem 'small' is known for timm's ResNets only, not {config.architecture}: "
            "use 'original' (a ViT takes its patch_size in options)"
        )
    width = network.get_parameter("bn1.weight").numel()
    conv = nn.Conv2d(image_shape[0], width, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    network.conv1 = conv
    network.maxpool = nn.Identity()
    return network


def fresh_network(
    config: ModelConfig, dataset: DatasetConfig, images: ImageData, *, seed: int, device: torch.device
) -> nn.Module:
    """An untrained network for the images and classes of a data set, always the same for one seed."""
    shape = images.test_images.shape[1:]
    with seeded(seed, torch.device("cpu")):
        network = create_backbone(config, dataset, image_shape=shape, num_classes=images.num_classes)
    return network.to(device)


def load_network(
    config: ModelConfig, dataset: DatasetConfig, images: ImageData, source: Path, device: torch.device
) -> nn.Module:
    """A trained network from its weights, for the images and classes of a data set, on a device.

    Raises:
        FileNotFoundError, RuntimeError: as :func:`load_weights`.
    """
    untrained = replace(config, pretrained=False)  # no weight of which stays
    network = fresh_network(untrained, dataset, images, seed=0, device=device)
    load_weights(network, source)
    return network


def save_weights(state: dict[str, Tensor], target: Path) -> None:
    """Write a state dict as safetensors, whole or not at all."""
    with replacing(target) as temporary:
        save_file({name: tensor.cpu().contiguous() for name, tensor in state.items()}, temporary)


def load_weights(network: nn.Module, source: Path) -> None:
    """Load weights that :func:`save_weights` wrote; every name and shape must fit.

    Raises:
        FileNotFoundError: if the file is missing.
        RuntimeError: if a name or shape does not fit the network.
    """
    if not source.exists():
        raise FileNotFoundError(f"{source} is missing: train this run first (notebook 01_train)")
    network.load_state_dict(load_file(source))


def pick_device(name: str) -> torch.device:
    """The device of a configuration; ``auto`` takes the first available of CUDA, MPS and CPU.

    Raises:
        ValueError: if the named device is not available.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    found = [kind for kind, there in available.items() if there]
    if name == "auto":
        return torch.device(found[0])
    if name not in found:
        raise ValueError(f"device {name!r} is not available: this machine has {', '.join(found)}; or use 'auto'")
    return torch.device(name)
