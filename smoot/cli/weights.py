"""Weights as safetensors with a card, which says all that ``explain`` and ``evaluate`` need to know."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised
from torch import Tensor, nn

from smoot.cli.files import replacing, shown

KEY = "smoot"  # of the card in the file's metadata
LARGEST = 4096  # image size, in pixels
STRANGE = "expected weights written by `smoot train`"


@dataclass(frozen=True)
class Card:
    """What a network is, and how it was trained.

    Attributes:
        backbone: a name of timm.
        classes: in the order of the logits.
        image_size: side of the square that images are cropped to, in pixels.
        mean, std: per channel, of pixels in [0, 1].
        method: ``plain``, ``sgt``, ``smoot`` or ``random_mask``.
        seed: of split, order and initialisation.
        epoch: whose weights these are, from 1; 0: not trained yet.
        schedule: share of masked images in each epoch up to that one.
        digest: of the folder trained on, see :class:`smoot.cli.folders.Split`.
        version: of ``smoot``.

    Raises:
        ValueError: for a value that no training gives.
    """

    backbone: str
    classes: tuple[str, ...]
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    method: str
    seed: int
    epoch: int = 0
    schedule: tuple[float, ...] = ()
    digest: str = ""
    version: str = ""

    def __post_init__(self) -> None:
        for name in ("classes", "mean", "std", "schedule"):
            kind = str if name == "classes" else float
            _check(name, isinstance(getattr(self, name), list | tuple))
            object.__setattr__(self, name, tuple(getattr(self, name)))
            _check(name, all(isinstance(item, kind) for item in getattr(self, name)))
        for name in ("backbone", "method", "digest", "version"):
            _check(name, isinstance(getattr(self, name), str))
        for name in ("image_size", "seed", "epoch"):
            _check(name, type(getattr(self, name)) is int)
        _check("classes", len(self.classes) >= 2)
        _check("image_size", 1 <= self.image_size <= LARGEST)
        _check("mean", len(self.mean) == 3 and all(map(math.isfinite, self.mean)))
        _check("std", len(self.std) == 3 and all(0 < value < math.inf for value in self.std))


def save(network: nn.Module, card: Card, target: Path) -> None:
    """Write a network's weights with its card, whole or not at all.

    The metadata has one entry: safetensors writes several in no fixed order.
    """
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
    with replacing(target) as temporary:
        temporary.write_bytes(serialised(state, {KEY: json.dumps(asdict(card))}))


def read(source: Path) -> tuple[Card, dict[str, Tensor]]:
    """Card and tensors of a file that :func:`save` wrote.

    Raises:
        ValueError: if the file is missing or another one; names it.
    """
    try:
        with safe_open(source, framework="pt") as file:
            card = _card(file.metadata() or {})
            return card, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except FileNotFoundError:
        raise ValueError(f"{shown(source)} is missing: {STRANGE}") from None
    except OSError as error:
        raise ValueError(f"{shown(source)} cannot be read ({error.strerror or error}): {STRANGE}") from None
    except (SafetensorError, ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{shown(source)} holds no such weights ({reason}): {STRANGE}") from None


def load(network: nn.Module, state: Mapping[str, Tensor], source: Path) -> None:
    """Load tensors into a network whose names and shapes must be theirs.

    Raises:
        ValueError: if one of them does not fit; names the file.
    """
    own = network.state_dict()
    odd = set(own) ^ set(state) or {name for name in own if own[name].shape != state[name].shape}
    if odd:
        raise ValueError(
            f"{shown(source)}: {len(odd)} tensors do not fit the network that its card describes, "
            f"among them {min(odd)}: {STRANGE}"
        )
    network.load_state_dict(dict(state))


def _card(metadata: Mapping[str, str]) -> Card:
    if KEY not in metadata:
        raise ValueError("no card in its metadata")
    values: Any = json.loads(metadata[KEY])
    if not isinstance(values, dict):
        raise ValueError("its card is no mapping")
    return Card(**values)


def _check(name: str, holds: bool) -> None:
    if not holds:
        raise ValueError(f"its card has an impossible {name}")
