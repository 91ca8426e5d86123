"""Networks for images in [0, 1]: any timm backbone behind the standardisation of its channels, and its device."""

import logging
import re
from collections import OrderedDict
from difflib import get_close_matches
from typing import Any

import timm
import torch
from torch import Tensor, nn

from smoot.cli.weights import Card

DEVICES = ("auto", "cuda", "mps", "cpu")


class Normalize(nn.Module):
    """Standardises ``(N, 3, H, W)`` pixels in [0, 1]; part of the network, so that saliency is per unit of a pixel."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Standardise images ``(N, 3, H, W)``."""
        return (images - self.mean) / self.std


def check_backbone(name: str, *, pretrained: bool = False) -> None:
    """Raises ValueError unless timm has a backbone of this name, with weights if they are asked for."""
    if not (re.fullmatch(r"\w+(\.\w+)?", name) and timm.is_model(name)):
        near = get_close_matches(name.lower(), timm.list_models(), 5) or ["resnet18"]
        raise ValueError(f"unknown backbone {name!r}: expected a model of timm such as {', '.join(near)}")
    if pretrained and not _config(name).has_weights:
        raise ValueError(f"timm has no pretrained weights of {name!r}: train without --pretrained")


def own_statistics(backbone: str) -> tuple[tuple[float, ...], tuple[float, ...], int]:
    """Mean, standard deviation and image size that a backbone was pretrained with."""
    config = _config(backbone)
    return tuple(config.mean), tuple(config.std), int(config.input_size[-1])


def build(card: Card, *, pretrained: bool = False) -> nn.Module:
    """The network that a card describes, initialised from torch's global generator or with pretrained weights.

    Raises:
        ValueError: for an unknown backbone, an image size that it does not take, or weights that cannot be fetched.
    """
    check_backbone(card.backbone, pretrained=pretrained)
    size = card.image_size
    options: dict[str, Any] = {"img_size": (size, size)} if _config(card.backbone).fixed_input_size else {}
    try:
        backbone = timm.create_model(card.backbone, num_classes=len(card.classes), **options)
    except (AssertionError, TypeError, RuntimeError, ValueError) as error:
        raise ValueError(f"{card.backbone} does not take images of {size}x{size} pixels: {_short(error)}") from None
    if pretrained:
        backbone = _pretrained(card, options)
    network = nn.Sequential(OrderedDict(normalize=Normalize(card.mean, card.std), backbone=backbone))
    _try(network, card)
    return network


def pick_device(name: str) -> torch.device:
    """The device of this name; ``auto`` takes the first available of CUDA, MPS and CPU.

    Raises:
        ValueError: if the named device is not available.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    found = [kind for kind, there in available.items() if there]
    if name != "auto" and name not in found:
        raise ValueError(f"device {name!r} is not available: this machine has {', '.join(found)}; or use auto")
    return torch.device(found[0] if name == "auto" else name)


def _config(backbone: str) -> Any:
    """What timm knows of a backbone; what it knows of any where this one has no entry."""
    return timm.get_pretrained_cfg(backbone) or timm.models.PretrainedCfg()


def _pretrained(card: Card, options: dict[str, Any]) -> nn.Module:
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it warns of each try: the error below says it once
    try:
        network = timm.create_model(card.backbone, pretrained=True, num_classes=len(card.classes), **options)
    except Exception as error:  # of whichever library downloads them; what it began with says most
        first: BaseException = error
        while inner := first.__cause__ or first.__context__:
            first = inner
        raise ValueError(
            f"the pretrained weights of {card.backbone} could not be fetched ({_short(first)}): "
            "connect to the internet, or train without --pretrained"
        ) from None
    # Torch's own draw: timm's for a new EfficientNet is so wide that its first gradients spoil the other weights.
    network.reset_classifier(len(card.classes))  # type: ignore[operator]
    return network


def _try(network: nn.Module, card: Card) -> None:
    """Raises ValueError unless the network answers an image of its size with one logit per class."""
    network.eval()
    try:
        with torch.no_grad():
            logits = network(torch.zeros(1, 3, card.image_size, card.image_size))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"{card.backbone} does not take images of {card.image_size}x{card.image_size} pixels: {_short(error)}"
        ) from None
    if not isinstance(logits, Tensor) or logits.shape != (1, len(card.classes)):
        raise ValueError(f"{card.backbone} is no classifier that saliency-guided training can use: choose another")


def _short(error: BaseException) -> str:
    """The first line of an error, at most 200 letters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
