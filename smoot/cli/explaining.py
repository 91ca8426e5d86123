"""What networks see in single images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import smoot
from smoot.cli.decoding import read_image
from smoot.cli.files import shown
from smoot.cli.loading import transform
from smoot.cli.maps import network_maps
from smoot.cli.trained import Trained


@dataclass(frozen=True)
class Explanation:
    """One network's answer to one image, and its saliency.

    Attributes:
        network: its name.
        label: the class that is explained.
        probability: of that class.
        saliency: ``(H, W)``.
        gini: sparseness of the saliency, in [0, 1].
    """

    network: str
    label: str
    probability: float
    saliency: Tensor
    gini: float


@dataclass(frozen=True)
class Explained:
    """An image ``(3, S, S)`` in [0, 1] as the first network sees it, and what each network says of it."""

    name: str
    image: Tensor
    explanations: Sequence[Explanation]


def explain(
    trained: Sequence[Trained], file: Path, device: torch.device, *, label: str | None = None, smooth: int = 0
) -> Explained:
    """Explain one image by every network: the given class, or each network's own answer.

    Raises:
        ValueError: for an image that cannot be read, or a class that a network does not know.
    """
    pixels = read_image(file)
    first = transform(trained[0].card.image_size)(pixels)
    found = [_explained(one, pixels, device, label, smooth) for one in trained]
    return Explained(shown(file.name), first, found)


def _explained(one: Trained, pixels: Tensor, device: torch.device, label: str | None, smooth: int) -> Explanation:
    classes = one.card.classes
    if label is not None and label not in classes:
        raise ValueError(f"{one.name} knows no class {label!r}: expected one of {', '.join(classes[:20])}")
    image = transform(one.card.image_size)(pixels).unsqueeze(0).to(device)
    with torch.no_grad():
        probabilities = one.network(image).float().softmax(1)[0]
    chosen = int(probabilities.argmax()) if label is None else classes.index(label)
    saliency = network_maps(one.network, image, torch.tensor([chosen], device=device), smooth=smooth)
    gini = float(smoot.gini_sparseness(saliency))
    return Explanation(one.name, classes[chosen], float(probabilities[chosen]), saliency[0].cpu(), gini)
