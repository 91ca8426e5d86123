"""A trained network from its file."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from smoot.cli import networks, weights


@dataclass(frozen=True)
class Trained:
    """A network in eval mode, its card, and a name to show."""

    network: nn.Module
    card: weights.Card
    name: str


def load_trained(source: Path, device: torch.device) -> Trained:
    """The network of a file that ``smoot train`` wrote, on a device.

    Raises:
        ValueError: if the file is missing, damaged or another one, or does not fit its own card.
    """
    card, state = weights.read(source)
    try:
        network = networks.build(card)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    weights.load(network, state, source)
    return Trained(network.to(device).eval(), card, source.stem)
