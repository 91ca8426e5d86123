"""What decides the result of a training, beside the images."""

from dataclasses import dataclass
from enum import StrEnum


class Method(StrEnum):
    """How a network is trained."""

    PLAIN = "plain"
    SGT = "sgt"
    SMOOT = "smoot"
    RANDOM_MASK = "random_mask"


@dataclass(frozen=True)
class Recipe:
    """What decides the result of a training, beside the images."""

    backbone: str
    method: Method
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    seed: int
    pretrained: bool
    flip: bool
    image_size: int | None
