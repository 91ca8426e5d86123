"""The registry of metrics: what each is called, its unit, its digits and which direction is better.

Names are those of the columns of ``runs.csv`` and its sister tables; ``{fill}`` stands for the fill of removed
pixels, ``{level}`` for the share of pixels that is kept. A metric is added here, and explained under a heading with
its name in ``docs/metrics.md``. Fractions are shown in per cent, their differences in percentage points.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

Better: TypeAlias = Literal["higher", "lower", "region", ""]
ARROWS = {"higher": " ↑", "lower": " ↓", "region": " ↑, shortcut ↓", "": ""}
PLACES = {"foreground": "object", "block": "block", "shortcut": "shortcut"}  # what readers call a region


@dataclass(frozen=True)
class Metric:
    """How a metric is shown.

    Attributes:
        label: its name, without unit and direction.
        unit: ``%`` for fractions, ``points`` for differences of fractions, ``nats``, or nothing.
        digits: decimals.
        better: the direction that is better: ``region`` if lower where the region is a shortcut, else higher; empty
            for a control or a fact.
    """

    label: str
    unit: Literal["%", "points", "nats", ""] = "%"
    digits: int = 1
    better: Better = "higher"

    @property
    def factor(self) -> float:
        """From the unit of the records to the one that is shown."""
        return 100.0 if self.unit in ("%", "points") else 1.0

    @property
    def header(self) -> str:
        """``Accuracy (%) ↑``."""
        return self._with(self.unit)

    @property
    def difference_unit(self) -> str:
        """Of a difference: points for fractions."""
        return "points" if self.unit == "%" else self.unit

    @property
    def difference(self) -> str:
        """The header of a difference: ``Accuracy (points) ↑``."""
        return self._with(self.difference_unit)

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
CURVES: Metrics = {
    "gap_{fill}": Metric("Gap, {fill}", "points"),
    "deletion_auc_{fill}": Metric("Deletion, {fill}", better="lower"),
    "insertion_auc_{fill}": Metric("Insertion, {fill}"),
    "random_deletion_auc_{fill}": Metric("Deletion, random map, {fill}", better=""),
}
JUDGE: Metrics = {
    "judge_gap_right_{fill}": Metric("Judge's gap, right answers, {fill}", "points"),
    "second_judge_gap_right_{fill}": Metric("Second judge's gap, right answers, {fill}", "points"),
}
MAPS: Metrics = {
    "relevance_mass": Metric("Relevance mass", better="region"),
    "relevance_rank": Metric("Relevance rank", better="region"),
    "pointing_game": Metric("Pointing game", better="region"),
    "grid_pointing": Metric("Grid pointing"),
    "gini": Metric("Gini index"),
    "stability": Metric("Stability", "", 2),
}
SANITY: Metrics = {
    "sanity_spearman": Metric("Spearman", "", 2, "lower"),
    "sanity_ssim": Metric("SSIM", "", 2, "lower"),
}
RETRAINING: Metrics = {
    "top": Metric("Top {level} of pixels"),
    "bottom": Metric("Bottom {level} of pixels", better="lower"),
    "diffroar": Metric("DiffROAR at {level}", "points"),
}
SHORTCUT: Metrics = {
    "validation_accuracy": Metric("Validation accuracy with the shortcut", digits=2, better=""),
    "accuracy": Metric("Test accuracy without", digits=2),
    "drop": Metric("Drop", "points", 2, better="lower"),
    "relevance_mass": Metric("Saliency on the patch", better="lower"),
    "random_relevance_mass": Metric("Of a random map (control)", better=""),
}
MASKING: Metrics = {
    "masked_share": Metric("Images masked", better=""),
    "masked_pixels": Metric("Their pixels masked", better=""),
    "information_loss": Metric("Information lost per masked image", "nats", 3, ""),
    "information_loss_per_training_image": Metric("Information lost per training image", "nats", 3, ""),
    "flip_share": Metric("Answers changed", better=""),
    "cross_entropy_rise": Metric("Cross-entropy rise", "nats", 3, ""),
}
REGISTRY: Metrics = {**SHORTCUT, **ACCURACY, **CURVES, **JUDGE, **MAPS, **SANITY, **RETRAINING, **MASKING}


def faithfulness(fills: Sequence[str]) -> Metrics:
    """For each fill the areas of the network's own curves and the gaps of the judges."""
    return {
        name.format(fill=fill): replace(metric, label=metric.label.format(fill=fill))
        for fill in fills
        for name, metric in {**CURVES, **JUDGE}.items()
    }


def localisation(regions: Iterable[str]) -> Metrics:
    """Where the saliency is, how sparse and how stable it is.

    Args:
        regions: of the data sets shown together; if there is one kind, headers name it and its better direction.
    """
    kinds = set(regions)
    if len(kinds) > 1 and "shortcut" in kinds:
        return MAPS
    better: Better = "lower" if kinds == {"shortcut"} else "higher"
    place = f", {PLACES[next(iter(kinds))]}" if len(kinds) == 1 else ""
    return {
        name: replace(metric, label=metric.label + place, better=better) if metric.better == "region" else metric
        for name, metric in MAPS.items()
    }


def quality(fills: Sequence[str], regions: Iterable[str]) -> Metrics:
    """Every metric of a trained network that tables show, in reading order."""
    return {**ACCURACY, **faithfulness(fills), **localisation(regions)}


def retraining(level: float) -> Metrics:
    """The accuracies of networks that were trained on this share of the pixels."""
    share = f"{100 * level:g} %"
    return {name: replace(metric, label=metric.label.format(level=share)) for name, metric in RETRAINING.items()}


def judged_fill(fills: Sequence[str]) -> str:
    """The fill of the judge's gap that is shown where there is room for one: the mean if it was used."""
    return "mean" if "mean" in fills else fills[0]


def gaps(fills: Sequence[str]) -> list[str]:
    """The network's own gap with each fill, and the judge's with one."""
    return [*(f"gap_{fill}" for fill in fills), f"judge_gap_right_{judged_fill(fills)}"]
