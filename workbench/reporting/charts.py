"""Figures drawn from frames over a line: perturbation curves, training, maps of randomised networks.

Frames hold one row per method and seed (and epoch, or point of a curve) of one data set and backbone; bands
and bars are 95 % confidence intervals over seeds. Every function returns a figure and writes nothing.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import chain

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from workbench.reporting.style import INK, colours, finish, legend, markers, panels, styled
from workbench.reporting.words import ATTRIBUTIONS, display_name, in_order
from workbench.results.records import Sanity
from workbench.results.statistics import mean_interval

CURVES = {  # curve: title, x axis, direction that is better
    "deletion": ("Deletion", "Most salient pixels removed (%)", "lower is better"),
    "insertion": ("Insertion", "Most salient pixels shown (%)", "higher is better"),
}
TRAINING = {  # history column: title, y axis, factor
    "masked_share": ("Masked images", "Images of a batch (%)", 100),
    "masked_pixels": ("Masked pixels", "Pixels of an image (%)", 100),
    "information_loss": ("Information lost", "Mean KL D (nats)", 1),
    "flip_share": ("Answers changed", "Masked images (%)", 100),
    "cross_entropy_rise": ("Cross-entropy rise", "By masking (nats)", 1),
    "competence": ("Competence", "Competence (0 to 1)", 1),
    "accuracy": ("Accuracy", "Accuracy (%)", 100),
    "classification": ("Loss", "Cross-entropy (nats)", 1),
}
VALIDATION = {"accuracy": "validation_accuracy", "classification": "validation_loss"}


def method_handles(methods: Sequence[str]) -> list[Line2D]:
    """Legend entries: each method's colour and marker."""
    colour, marker = colours(methods), markers(methods)
    return [
        Line2D([], [], color=colour[method], marker=marker[method], label=display_name(method)) for method in methods
    ]


def _band(
    axes: Axes,
    by_seed: pd.DataFrame,
    method: str,
    methods: Sequence[str],
    *,
    style: str = "-",
    marked: tuple[int, int] = (0, 1),
) -> None:
    """Mean and (solid lines) interval over the rows, seeds; columns are x values. Nothing if undefined.

    ``marked``: the first point with a marker and the step to the next; staggered, equal lines all show.
    """
    defined = by_seed.dropna(axis="columns")
    if defined.empty:
        return
    colour, marker = colours(methods)[method], markers(methods)[method] if style == "-" else ""
    x = defined.columns.to_numpy(dtype=float)
    mean, low, high = mean_interval(defined.to_numpy(dtype=float))
    (line,) = axes.plot(x, mean, style, color=colour, marker=marker, label=display_name(method))
    line.set(markevery=marked, markeredgewidth=0)
    if style == "-":
        axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)


def _keep_possible(axes: Axes, largest: float | None) -> None:
    """Cut the y axis where values end: with few seeds an interval can reach beyond what is possible."""
    low, high = axes.get_ylim()
    if largest is not None:
        high = min(high, 1.04 * largest)
    axes.set_ylim(max(low, -0.04 * high), high)


@styled
def perturbation_curves(
    curves: pd.DataFrame, methods: Sequence[str], fills: Sequence[str], *, judge: bool = False
) -> Figure:
    """Deletion (top) and insertion (bottom), one column per fill, with the random-ranking control.

    Args:
        curves: long form as from `results.curves_frame`.
        methods: lines, in order.
        fills: columns, in order.
        judge: whether the accuracy is that of the judge on each method's maps.
    """
    prefix, whose = ("judge_", "Judge's accuracy (%)") if judge else ("", "Accuracy (%)")
    colour = colours(methods)
    figure, grid = panels(2, len(fills), 5.6, sharey=True)
    for row, (curve, (title, xlabel, better)) in enumerate(CURVES.items()):
        for column, fill in enumerate(fills):
            axes = grid[row][column]
            for method in methods:
                own = curves[(curves["method"] == method) & (curves["fill"] == fill)]
                control = _by_seed(own[own["curve"] == f"{prefix}random"])
                if curve == "insertion":  # inserting along a random ranking is deleting along its reverse
                    control.columns = 100 - control.columns
                axes.plot(control.columns, control.mean(), ":", color=colour[method], linewidth=1.1)
                found = _by_seed(own[own["curve"] == prefix + curve])
                _band(axes, found, method, methods)
            ylabel = whose if column == 0 else ""
            finish(axes, f"{title}, {fill} fill ({better})", xlabel, ylabel)
            axes.set(xlim=(0, 100), ylim=(0, 100))
    dotted = Line2D([], [], color=INK, linestyle=":", linewidth=1.1, label="random ranking")
    legend(figure, [*method_handles(methods), dotted])
    return figure


def _by_seed(curve: pd.DataFrame) -> pd.DataFrame:
    """Scores in %, one row per seed, one column per share of pixels in %."""
    wide = 100 * curve.pivot(index="seed", columns="fraction", values="score")
    return wide.set_axis(100 * wide.columns, axis="columns")


@styled
def training_schedule(histories: pd.DataFrame, methods: Sequence[str]) -> Figure:
    """What was masked, and how training went, epoch by epoch.

    Args:
        histories: one row per epoch and seed; NaN where nothing was masked, and in columns a method has not.
        methods: lines, in order.
    """
    figure, grid = panels(2, 4, 4.6, sharex=True)
    for axes, (column, (title, ylabel, factor)) in zip(chain(*grid), TRAINING.items(), strict=True):
        lines = {VALIDATION[column]: "-", column: ":"} if column in VALIDATION else {column: "-"}
        for place, method in enumerate(methods):
            own = histories[histories["method"] == method]
            for name, style in lines.items():
                by_seed = factor * own.pivot(index="seed", columns="epoch", values=name)
                _band(axes, by_seed, method, methods, style=style, marked=(place, len(methods)))
        _keep_possible(axes, 100 if factor == 100 else None)
        finish(axes, title, "Epoch" if axes in grid[-1] else "", ylabel)
    solid = Line2D([], [], color=INK, linestyle="-", label="validation")
    dotted = Line2D([], [], color=INK, linestyle=":", label="training")
    legend(figure, [*method_handles(methods), solid, dotted])
    return figure


@styled
def sanity_cascades(cascades: Mapping[str, Sanity]) -> Figure:
    """Spearman correlation with the trained network's maps while layers are randomised from the output on.

    Args:
        cascades: for each panel's title the part ``sanity`` of a run record: ``layers`` (L,), the output's first,
            and for each attribution ``spearman`` (L,).
    """
    names = in_order({name for sanity in cascades.values() for name in sanity if name != "layers"})
    known = [*ATTRIBUTIONS, *(name for name in names if name not in ATTRIBUTIONS)]
    colour, marker = colours(known), markers(known)
    columns = min(2, len(cascades))
    rows = -(-len(cascades) // columns)
    figure, grid = panels(rows, columns, 2.6 * rows + 0.5, sharey=True)
    places = list(chain(*grid))
    for unused in places[len(cascades) :]:
        unused.remove()
    for panel, (axes, (title, sanity)) in enumerate(zip(places, cascades.items(), strict=False)):
        steps = range(len(sanity["layers"]) + 1)
        for place, name in enumerate(name for name in names if name in sanity):
            (line,) = axes.plot(steps, [1.0, *sanity[name]["spearman"]], color=colour[name], marker=marker[name])
            line.set(markevery=(place % 2, 2), markeredgewidth=0)
        axes.axhline(0, color=INK, linewidth=0.8)
        lowest = panel + columns >= len(cascades)
        xlabel = "Randomised from the output up to" if lowest else ""
        finish(axes, title, xlabel, "Spearman correlation" if panel % columns == 0 else "")
        axes.set_ylim(-1.05 if _lowest(sanity) < -0.25 else -0.3, 1.05)
        labels = ["trained", *map(_short, sanity["layers"])]
        axes.set_xticks(list(steps), labels, rotation=60, ha="right", rotation_mode="anchor", fontsize=6.5)
    legend(figure, [Line2D([], [], color=colour[n], marker=marker[n], label=display_name(n)) for n in names], 6)
    return figure


def _lowest(sanity: Sanity) -> float:
    """The smallest correlation of a cascade; 1 if none is defined."""
    values = (value for name in sanity if name != "layers" for value in sanity[name]["spearman"])
    return min((value for value in values if not math.isnan(value)), default=1.0)


def _short(layer: str) -> str:
    """A layer's name with no more letters than a tick label has room for."""
    return layer if len(layer) <= 14 else f"…{layer[-13:]}"
