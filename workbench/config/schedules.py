"""The schedules of methods: frozen dataclasses of their constants, which refuse values out of range."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from smoot.checks import check_between
from smoot.per_image import HeldOut, InformationLoss, NumberRule, PerImageSchedule, PublicCode, Staircase
from smoot.scheduler import AdaptiveSchedule, ConstantSchedule, MaskPlan, Ranking

RULES = {
    "information_loss": InformationLoss,
    "staircase": Staircase,
    "held_out": HeldOut,
    "public_code": PublicCode,
}


@dataclass(frozen=True)
class AdaptiveConfig:
    """The adaptive schedule's own constants; see :class:`smoot.scheduler.AdaptiveSchedule`.

    Attributes:
        decay: of the running means, in [0, 1).
        feedback: what the schedule learns from: every training batch, or the validation images after every epoch.
    """

    decay: float = 0.95
    feedback: Literal["training", "validation"] = "training"

    def __post_init__(self) -> None:
        AdaptiveSchedule(decay=self.decay)  # raises for what is not allowed


@dataclass(frozen=True)
class SequenceConfig:
    """A schedule that is fixed beforehand; see :class:`smoot.scheduler.SequenceSchedule`.

    Attributes:
        image_fractions: shares of images, stretched evenly over the steps of the whole training.
        shuffled: whether the steps are put into a random order, by seed.
        rankings: used one after the other, step by step; the plan's own if empty.
    """

    image_fractions: tuple[float, ...]
    shuffled: bool = False
    rankings: tuple[Ranking, ...] = ()

    def __post_init__(self) -> None:
        if not self.image_fractions:
            raise ValueError("image_fractions is empty: expected at least one share")
        for fraction in self.image_fractions:
            check_between("image_fractions", fraction)


@dataclass(frozen=True)
class GapConfig:
    """On which images the generalisation gap is measured; see :class:`smoot.scheduler.GapSchedule`.

    Attributes:
        held_out: ``steering``, the data set's steering images; or ``turns``, a tenth of the training images, another
            one in every epoch, which the epoch leaves out: they need no split, but were trained on before.
    """

    held_out: Literal["steering", "turns"] = "steering"


@dataclass(frozen=True)
class PerImageConfig:
    """A number of masked pixels for each training image; see :class:`smoot.per_image.PerImageSchedule`.

    Attributes:
        rule: that moves the numbers.
        settings: of the rule, by their names in :mod:`smoot.per_image`.
        start: fraction of the pixels masked at first, in [0, 1].
        bounds: lowest and highest fraction at an image's first, second, ... visit.
        shuffled: whether the numbers are shuffled over the images of each batch, so that none belongs to an image:
            the control for a number per image.
    """

    rule: Literal["information_loss", "staircase", "held_out", "public_code"]
    settings: Mapping[str, Any] = field(default_factory=dict)
    start: float = 0.2
    bounds: tuple[tuple[float, ...], ...] = ((0.0, 0.9),)
    shuffled: bool = False

    def __post_init__(self) -> None:
        if any(len(pair) != 2 for pair in self.bounds):
            raise ValueError(f"bounds is {[list(pair) for pair in self.bounds]}: expected pairs [lowest, highest]")
        self.schedule(1, MaskPlan())  # raises for what is not allowed

    def schedule(self, num_images: int, plan: MaskPlan) -> PerImageSchedule:
        """The schedule for a training set."""
        known = [part.name for part in fields(RULES[self.rule])]
        for name in self.settings:
            if name not in known:
                raise ValueError(f"settings: unknown key {name!r} of rule {self.rule}: expected {', '.join(known)}")
        rule: NumberRule = RULES[self.rule](**self.settings)
        bounds = [(low, high) for low, high in self.bounds]
        return PerImageSchedule(rule, num_images, start=self.start, bounds=bounds, images=ConstantSchedule(plan))
