"""What each metric is called, its unit, its digits and which direction is better.

Metrics are named as in the run records. Fractions are shown in per cent, their differences in points.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Better: TypeAlias = Literal["higher", "lower", "mixed", ""]
ARROWS = {"higher": " ↑", "lower": " ↓", "mixed": " ↑, shortcut ↓", "": ""}
PLACES = {"foreground": "object", "block": "block", "shortcut": "shortcut"}  # region: where it is


@dataclass(frozen=True)
class Metric:
    """How a metric is shown.

    Attributes:
        label: its name, without unit and direction.
        unit: ``%`` for fractions, ``points`` for differences of fractions, ``nats``, or nothing.
        digits: decimals.
        better: the direction that is better: ``mixed`` if lower is only where the region is a shortcut, empty
            for a control or a fact.
    """

    label: str
    unit: Literal["%", "points", "nats", ""] = "%"
    digits: int = 1
    better: Better = "higher"

    @property
    def factor(self) -> float:
        return 100.0 if self.unit in ("%", "points") else 1.0

    @property
    def header(self) -> str:
        """``Accuracy (%) ↑``."""
        return self._with(self.unit)

    @property
    def difference(self) -> str:
        """The same for a difference: ``Accuracy (points) ↑``."""
        return self._with("points" if self.unit == "%" else self.unit)

    def _with(self, unit: str) -> str:
        return f"{self.label}{f' ({unit})' if unit else ''}{ARROWS[self.better]}"


Metrics: TypeAlias = Mapping[str, Metric]

ACCURACY: Metrics = {
    "accuracy": Metric("Accuracy", digits=2),
    "nll": Metric("NLL", "nats", 3, "lower"),
    "ece": Metric("ECE", digits=2, better="lower"),
    "accuracy_noise": Metric("Accuracy under noise", digits=2),
    "accuracy_blur": Metric("Accuracy under blur", digits=2),
    "accuracy_pgd": Metric("Accuracy under PGD", digits=2),
}
MASKING: Metrics = {
    "masked_share": Metric("Images masked", better=""),
    "masked_pixels": Metric("Their pixels masked", better=""),
    "information_loss": Metric("Information lost", "nats", 3, ""),
    "flip_share": Metric("Answers changed", better=""),
    "cross_entropy_rise": Metric("Cross-entropy rise", "nats", 3, ""),
}
SANITY: Metrics = {
    "sanity_spearman": Metric("Spearman", "", 2, "lower"),
    "sanity_ssim": Metric("SSIM", "", 2, "lower"),
}


def faithfulness(fills: Sequence[str]) -> Metrics:
    """For each fill the areas of the network's own curves, then those of the judge."""
    found: dict[str, Metric] = {}
    for fill in fills:
        found[f"gap_{fill}"] = Metric(f"Gap, {fill}", "points")
        found[f"deletion_auc_{fill}"] = Metric(f"Deletion, {fill}", better="lower")
        found[f"insertion_auc_{fill}"] = Metric(f"Insertion, {fill}")
        found[f"random_auc_{fill}"] = Metric(f"Random, {fill}", better="")
    for fill in fills:
        found[f"judge_gap_{fill}"] = Metric(f"Judge's gap, {fill}", "points")
        found[f"judge_gap_right_{fill}"] = Metric(f"Judge's gap, right answers, {fill}", "points")
        found[f"judge_random_auc_{fill}"] = Metric(f"Judge, random, {fill}", better="")
    return found


def localisation(regions: Sequence[str]) -> Metrics:
    """Where the saliency is, how sparse and how stable it is.

    Args:
        regions: of the data sets shown together; on a shortcut lower is better, and headers say so.
    """
    places, better = _regions(regions)
    return {
        "relevance_mass": Metric(f"Relevance mass{places}", better=better),
        "relevance_rank": Metric(f"Relevance rank{places}", better=better),
        "pointing_game": Metric(f"Pointing game{places}", better=better),
        "grid_pointing": Metric("Grid pointing"),
        "gini": Metric("Gini index"),
        "stability": Metric("Stability", "", 2),
    }


def _regions(regions: Sequence[str]) -> tuple[str, Better]:
    """How a header names the regions, and the better direction."""
    kinds = set(regions)
    if len(kinds) == 1:
        (kind,) = kinds
        return f", {PLACES.get(kind, kind)}", "lower" if kind == "shortcut" else "higher"
    return "", "mixed" if "shortcut" in kinds else "higher"


def quality(fills: Sequence[str], regions: Sequence[str]) -> Metrics:
    """Every metric of a run record that tables show, in reading order."""
    return {**ACCURACY, **faithfulness(fills), **localisation(regions)}


def judged_fill(fills: Sequence[str]) -> str:
    """The fill whose judge's gap stands for the judge where there is room for one: the mean if it was used."""
    return "mean" if "mean" in fills else fills[0]
