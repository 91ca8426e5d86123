"""Figures that several profiles share: forests of differences, curves, training, maps of randomised networks.

Frames hold one row per method and seed (and epoch, or point of a curve) of one data set and backbone; looks are
those of the methods, in order; bands and bars are 95 % confidence intervals over seeds.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from workbench.reporting.metrics import ARROWS, Metrics
from workbench.reporting.style import INK, Look, Looks, attribution_looks, finish, legend, panels, styled, tiles
from workbench.reporting.words import in_order
from workbench.results.records import Sanity
from workbench.results.statistics import mean_interval

LEVEL = 0.05
LETTERS = 92  # of titles, side by side across a figure
MANY = 12  # from so many methods on, rows with intervals take the place of lines and points
FILLED = f"filled mark: p < {LEVEL:g} (paired t-test, Holm-adjusted over the methods of a panel)"
BANDS = "bands: 95 % confidence interval over seeds"
CURVES = {  # curve: title, x axis, direction that is better
    "deletion": ("Deletion", "Most salient pixels removed (%)", "lower is better"),
    "insertion": ("Insertion", "Most salient pixels shown (%)", "higher is better"),
}
TRAINING = {  # history column, or the gap: title, y axis, factor
    "masked_share": ("Masked images", "Images (%)", 100),
    "masked_pixels": ("Their masked pixels", "Pixels (%)", 100),
    "information_loss": ("Information lost", "KL (nats)", 1),
    "flip_share": ("Answers changed", "Masked images (%)", 100),
    "cross_entropy_rise": ("Cross-entropy rise", "Rise (nats)", 1),
    "gap": ("Generalisation gap", "Gap (%)", 100),
    "accuracy": ("Accuracy", "Images (%)", 100),
    "classification": ("Cross-entropy", "Loss (nats)", 1),
}
CHANCE: dict[str, Any] = {"color": INK, "linestyle": (0, (6, 2, 1, 2)), "linewidth": 0.9}  # the line of chance
VALIDATION = {"accuracy": "validation_accuracy", "classification": "validation_loss"}


@dataclass(frozen=True)
class Chart:
    """A figure with the stem of its file and its caption, one paragraph of Markdown."""

    name: str
    caption: str
    figure: Figure


@dataclass(frozen=True)
class Differences:
    """One panel of a forest plot: methods minus one reference in one metric.

    Attributes:
        title: of the panel.
        axis: label of the x axis; panels with the same label share their limits.
        rows: as from `statistics.compared_frame` with one reference.
        factor: from the rows' unit to that of the axis.
    """

    title: str
    axis: str
    rows: pd.DataFrame
    factor: float


@styled
def forest(differences: Sequence[Differences], looks: Looks, columns: int) -> Figure:
    """Paired differences with their intervals, one line per method; filled where Holm's p is below 5 %.

    Methods stand from top to bottom as in the looks; those without any difference are left out.
    """
    compared = {method for panel in differences for method in panel.rows["method"]}
    methods = [method for method in looks if method in compared]
    shared = len({panel.axis for panel in differences}) == 1
    columns = min(columns, len(differences))
    room = _room([looks[method].title for method in methods], columns)
    height = 0.28 * len(methods) + (0.75 if shared else 1.1)
    figure, placed = tiles(len(differences), columns, height, 0.1, sharex=shared, sharey=True)
    for tile, panel in zip(placed, differences, strict=True):
        tile.axes.axvline(0, color=INK, linewidth=0.8)
        for row in panel.rows.to_dict("records"):
            middle, low, high = (panel.factor * row[name] for name in ("difference", "low", "high"))
            look = looks[row["method"]]
            tile.axes.errorbar(
                middle,
                methods.index(row["method"]),
                xerr=[[middle - low], [high - middle]],
                color=look.colour,
                marker=look.marker,
                markerfacecolor=look.colour if row["p_holm"] < LEVEL else "white",
                markersize=5.5,
                elinewidth=1.5,
                capsize=2.5,
            )
        labelled = tile.lowest or not shared
        title, axis = textwrap.fill(panel.title, room), panel.axis if labelled else ""
        finish(tile.axes, title, axis, "Method" if tile.left else "")
        tile.axes.tick_params(labelbottom=labelled)
        tile.axes.xaxis.set_major_locator(MaxNLocator(max(1, min(6, room // 6))))
    placed[0].axes.set_yticks(range(len(methods)), [looks[method].title for method in methods])
    placed[0].axes.set_ylim(len(methods) - 0.5, -0.5)
    return figure


def _room(names: Sequence[str], columns: int) -> int:
    """How many letters a line of a panel's title has where the rows' names stand to the left of the panels."""
    return max(8, (LETTERS - round(0.85 * max(map(len, names), default=0))) // columns)


def band(axes: Axes, by_seed: pd.DataFrame, look: Look, *, style: str = "-", marked: tuple[int, int] = (0, 1)) -> None:
    """Mean over the rows, seeds, and for solid lines its interval; columns are x values, undefined ones are left out.

    ``marked``: the first point with a marker and the step to the next; staggered, so that equal lines all show.
    """
    defined = by_seed.dropna(axis="columns")
    if defined.empty:
        return
    x = defined.columns.to_numpy(dtype=float)
    mean, low, high = mean_interval(defined.to_numpy(dtype=float))
    (line,) = axes.plot(x, mean, style, color=look.colour, marker=look.marker if style == "-" else "")
    line.set(markevery=marked, markeredgewidth=0)
    if style == "-":
        axes.fill_between(x, low, high, color=look.colour, alpha=0.2, linewidth=0)


@styled
def perturbation_curves(
    curves: pd.DataFrame, looks: Looks, fills: Sequence[str], *, judge: bool = False, classes: int | None = None
) -> Figure:
    """Deletion (top) and insertion (bottom), one column per fill, with the random-ranking control and chance.

    Args:
        curves: long form as from `records.curves_frame`.
        looks: of the methods.
        fills: columns.
        judge: whether the accuracy is that of the judge on each method's maps.
        classes: their number; a line shows what guessing reaches.
    """
    prefix, ylabel = ("judge_", "Judge's accuracy (%)") if judge else ("", "Accuracy (%)")
    figure, grid = panels(2, len(fills), 5.6, sharey=True)
    for row, (curve, (title, xlabel, better)) in enumerate(CURVES.items()):
        for column, fill in enumerate(fills):
            axes = grid[row][column]
            for method, look in looks.items():
                own = curves[(curves["method"] == method) & (curves["fill"] == fill)]
                control = _by_seed(own[own["curve"] == f"{prefix}random"])
                if curve == "insertion":  # inserting along a random ranking is deleting along its reverse
                    control.columns = 100 - control.columns
                axes.plot(control.columns, control.mean(), ":", color=look.colour, linewidth=1.1)
                band(axes, _by_seed(own[own["curve"] == prefix + curve]), look)
            finish(axes, f"{title}, {fill} fill ({better})", xlabel, ylabel if column == 0 else "")
            axes.set(xlim=(0, 100), ylim=(0, 100))
            if classes:
                axes.axhline(100 / classes, **CHANCE)
    dotted = Line2D([], [], color=INK, linestyle=":", linewidth=1.1, label="random ranking")
    guess = [Line2D([], [], **CHANCE, label=f"chance (1 in {classes})")] if classes else []
    legend(figure, [*(look.handle() for look in looks.values()), dotted, *guess])
    return figure


def _by_seed(curve: pd.DataFrame) -> pd.DataFrame:
    """Scores in %, one row per seed, one column per fraction of pixels in %."""
    wide = 100 * curve.pivot(index="seed", columns="fraction", values="score")
    return wide.set_axis(100 * wide.columns, axis="columns")


@styled
def training_schedule(histories: pd.DataFrame, looks: Looks) -> Figure:
    """What was masked, and how training went, epoch by epoch; undefined values have no line."""
    gap = (1 - histories["trained_loss"] / histories["validation_loss"]).clip(lower=0)
    histories = histories.assign(gap=gap)
    figure, grid = panels(2, 4, 4.6, sharex=True)
    for axes, (column, (title, ylabel, factor)) in zip(chain(*grid), TRAINING.items(), strict=True):
        lines = {VALIDATION[column]: "-", column: ":"} if column in VALIDATION else {column: "-"}
        for place, (method, look) in enumerate(looks.items()):
            own = histories[histories["method"] == method]
            for name, style in lines.items():
                by_seed = factor * own.pivot(index="seed", columns="epoch", values=name)
                band(axes, by_seed, look, style=style, marked=(place, len(looks)))
        _keep_possible(axes, 100 if factor == 100 else math.inf)
        finish(axes, title, "Epoch" if axes in grid[-1] else "", ylabel)
    solid = Line2D([], [], color=INK, linestyle="-", label="validation")
    dotted = Line2D([], [], color=INK, linestyle=":", label="training")
    legend(figure, [*(look.handle() for look in looks.values()), solid, dotted])
    return figure


def _keep_possible(axes: Axes, largest: float) -> None:
    """Cut the y axis where values end: with few seeds an interval can reach beyond what is possible."""
    low, high = axes.get_ylim()
    high = min(high, 1.04 * largest)
    axes.set_ylim(max(low, -0.04 * high), high)


@styled
def accuracy_faithfulness(frame: pd.DataFrame, looks: Looks, gaps: Mapping[str, str]) -> Figure:
    """Faithfulness (gap) against accuracy: seeds as small marks, means with intervals.

    Args:
        frame: ``accuracy``, the gaps and ``random_GAP``, those of random maps, for each method and seed.
        looks: of the methods.
        gaps: the title of each gap's panel.
    """
    figure, grid = panels(1, len(gaps), 3.3)
    for axes, (gap, title) in zip(grid[0], gaps.items(), strict=True):
        for method, look in looks.items():
            own = 100 * frame.loc[frame["method"] == method, ["accuracy", gap]]
            axes.scatter(own["accuracy"], own[gap], s=16, alpha=0.4, linewidth=0, color=look.colour, marker=look.marker)
            mean, low, high = mean_interval(own.to_numpy())
            axes.errorbar(
                mean[0],
                mean[1],
                xerr=[[mean[0] - low[0]], [high[0] - mean[0]]],
                yerr=[[mean[1] - low[1]], [high[1] - mean[1]]],
                color=look.colour,
                marker=look.marker,
                markersize=7.5,
                markeredgecolor="white",
                markeredgewidth=0.6,
                elinewidth=1.2,
                linestyle="",
            )
        if f"random_{gap}" in frame:
            axes.axhline(100 * frame[f"random_{gap}"].mean(), **CHANCE)
        finish(axes, title, "Accuracy (%)", "Insertion − deletion gap (points)" if axes is grid[0][0] else "")
    legend(figure, [*(look.handle() for look in looks.values()), Line2D([], [], **CHANCE, label="random map")])
    return figure


@styled
def means(frame: pd.DataFrame, looks: Looks, measures: Metrics) -> Figure:
    """One row per method, one panel per measure: means with their intervals; a line shows what a random map reaches.

    Args:
        frame: the measures, and ``random_MEASURE`` of random maps where there are any, for each method and seed.
        looks: of the methods, from top to bottom.
        measures: the panels.
    """
    room = _room([look.title for look in looks.values()], len(measures))
    figure, (panel,) = panels(1, len(measures), 0.28 * len(looks) + 0.9, sharey=True)
    for axes, (name, metric) in zip(panel, measures.items(), strict=True):
        if f"random_{name}" in frame:
            axes.axvline(metric.factor * frame[f"random_{name}"].mean(), **CHANCE)
        for row, (method, look) in enumerate(looks.items()):
            own = metric.factor * frame.loc[frame["method"] == method, [name]].to_numpy(dtype=float)
            (mean,), (low,), (high,) = mean_interval(own)
            bars = [[mean - low], [high - mean]]
            axes.errorbar(mean, row, xerr=bars, color=look.colour, marker=look.marker, elinewidth=1.5, capsize=2.5)
        label = f"{metric.unit or 'correlation'}{ARROWS[metric.better]}"
        finish(axes, textwrap.fill(metric.label, room), label, "Method" if axes is panel[0] else "")
    panel[0].set_yticks(range(len(looks)), [look.title for look in looks.values()])
    panel[0].set_ylim(len(looks) - 0.5, -0.5)
    legend(figure, [Line2D([], [], **CHANCE, label="random map")])
    return figure


@styled
def sanity_cascades(cascades: Mapping[str, Sanity]) -> Figure:
    """Spearman correlation with the trained network's maps while layers are randomised from the output on.

    Args:
        cascades: for each panel's title the part ``sanity`` of a run record: ``layers`` (L,), the output's first,
            and for each attribution ``spearman`` (L,).
    """
    names = in_order({name for sanity in cascades.values() for name in sanity if name != "layers"})
    looks = attribution_looks(names)
    figure, placed = tiles(len(cascades), 2, 2.6, 0.5, sharey=True)
    for tile, (title, sanity) in zip(placed, cascades.items(), strict=True):
        axes, steps = tile.axes, range(len(sanity["layers"]) + 1)
        for place, name in enumerate(name for name in names if name in sanity):
            look = looks[name]
            (line,) = axes.plot(steps, [1.0, *sanity[name]["spearman"]], color=look.colour, marker=look.marker)
            line.set(markevery=(place % 2, 2), markeredgewidth=0)
        axes.axhline(0, color=INK, linewidth=0.8)
        xlabel = "Layers randomised, from the output on" if tile.lowest else ""
        finish(axes, title, xlabel, "Spearman correlation" if tile.left else "")
        axes.set_ylim(-1.05 if _lowest(sanity) < -0.25 else -0.3, 1.05)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(figure, [looks[name].handle() for name in names], 6)
    return figure


def _lowest(sanity: Sanity) -> float:
    """The smallest correlation of a cascade; 1 if none is defined."""
    values = (value for name in sanity if name != "layers" for value in sanity[name]["spearman"])
    return min((value for value in values if not math.isnan(value)), default=1.0)
