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

from workbench.reporting.style import INK, Look, Looks, attribution_looks, finish, legend, panels, styled, tiles
from workbench.reporting.words import in_order
from workbench.results.records import Sanity
from workbench.results.statistics import mean_interval

LEVEL = 0.05
LETTERS = 92  # of titles, side by side across a figure
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
    widest = max((len(looks[method].title) for method in methods), default=0)
    room = max(8, (LETTERS - round(0.85 * widest)) // columns)  # letters of a title: names stand left of the panels
    height = 0.28 * len(methods) + (0.75 if shared else 1.1)
    figure, placed = tiles(len(differences), columns, height, 0.1, sharex=shared, sharey=True)
    for (axes, left, lowest), panel in zip(placed, differences, strict=True):
        axes.axvline(0, color=INK, linewidth=0.8)
        for row in panel.rows.to_dict("records"):
            middle, low, high = (panel.factor * row[name] for name in ("difference", "low", "high"))
            look = looks[row["method"]]
            axes.errorbar(
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
        labelled = lowest or not shared
        finish(axes, textwrap.fill(panel.title, room), panel.axis if labelled else "", "Method" if left else "")
        axes.tick_params(labelbottom=labelled)
        axes.xaxis.set_major_locator(MaxNLocator(max(1, min(6, room // 6))))
    first, _, _ = placed[0]
    first.set_yticks(range(len(methods)), [looks[method].title for method in methods])
    first.set_ylim(len(methods) - 0.5, -0.5)
    return figure


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
    """Scores, one row per seed, one column per fraction of pixels; both in %."""
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
        low, high = axes.get_ylim()  # with few seeds an interval can reach beyond what is possible
        high = min(high, 104 if factor == 100 else math.inf)
        axes.set_ylim(max(low, -0.04 * high), high)
        finish(axes, title, "Epoch" if axes in grid[-1] else "", ylabel)
    solid = Line2D([], [], color=INK, linestyle="-", label="validation")
    dotted = Line2D([], [], color=INK, linestyle=":", label="training")
    legend(figure, [*(look.handle() for look in looks.values()), solid, dotted])
    return figure


@styled
def accuracy_faithfulness(frame: pd.DataFrame, looks: Looks, gaps: Mapping[str, str]) -> Figure:
    """Faithfulness (gap) against accuracy: seeds as small marks, means with intervals.

    Args:
        frame: ``accuracy``, the gaps and ``random_GAP``, those of random maps, for each method and seed.
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
def sanity_cascades(cascades: Mapping[str, Sanity]) -> Figure:
    """Spearman correlation with the trained network's maps while layers are randomised from the output on.

    Args:
        cascades: for each panel's title the part ``sanity`` of a run record: ``layers`` (L,), the output's first,
            and for each attribution ``spearman`` (L,).
    """
    names = in_order({name for sanity in cascades.values() for name in sanity if name != "layers"})
    looks = attribution_looks(names)
    figure, placed = tiles(len(cascades), 2, 2.6, 0.5, sharey=True)
    for (axes, left, lowest), (title, sanity) in zip(placed, cascades.items(), strict=True):
        shown = pd.DataFrame({name: [1.0, *sanity[name]["spearman"]] for name in names if name in sanity})
        for place, name in enumerate(shown):
            look = looks[str(name)]
            (line,) = axes.plot(shown.index, shown[name], color=look.colour, marker=look.marker)
            line.set(markevery=(place % 2, 2), markeredgewidth=0)
        axes.axhline(0, color=INK, linewidth=0.8)
        xlabel = "Layers randomised, from the output on" if lowest else ""
        finish(axes, title, xlabel, "Spearman correlation" if left else "")
        axes.set_ylim(-1.05 if shown.lt(-0.25).any(axis=None) else -0.3, 1.05)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(figure, [looks[name].handle() for name in names], 6)
    return figure
