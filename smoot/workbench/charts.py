"""Figures drawn from frames: curves, training, faithfulness against accuracy, paired differences.

Frames hold one row per method and seed (and epoch, or point of a curve) of one data set and backbone; bands
and bars are 95 % confidence intervals over seeds. Every function returns a figure and writes nothing.
"""

from collections.abc import Mapping, Sequence
from itertools import chain

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from smoot.workbench.statistics import mean_interval
from smoot.workbench.style import INK, colours, finish, legend, markers, panels, styled
from smoot.workbench.typesetting import display_name

CURVES = {  # curve: title, x axis, direction that is better
    "deletion": ("Deletion", "Most salient pixels removed (%)", "lower is better"),
    "insertion": ("Insertion", "Most salient pixels shown (%)", "higher is better"),
}
TRAINING = {  # history column: title, y axis, factor
    "masked_share": ("Masked images", "Images of a batch (%)", 100),
    "masked_pixels": ("Masked pixels", "Pixels of an image (%)", 100),
    "competence": ("Competence", "Competence (0 to 1)", 1),
    "accuracy": ("Accuracy", "Accuracy (%)", 100),
    "classification": ("Loss", "Cross-entropy (nats)", 1),
    "information_loss": ("Information lost by masking", "KL divergence (nats)", 1),
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
def perturbation_curves(curves: pd.DataFrame, methods: Sequence[str], fills: Sequence[str]) -> Figure:
    """Deletion (top) and insertion (bottom), one column per fill, with the random-ranking control.

    Args:
        curves: long form as from `results.curves_frame`.
        methods: lines, in order.
        fills: columns, in order.
    """
    colour = colours(methods)
    figure, grid = panels(2, len(fills), 5.6, sharey=True)
    for row, (curve, (title, xlabel, better)) in enumerate(CURVES.items()):
        for column, fill in enumerate(fills):
            axes = grid[row][column]
            for method in methods:
                own = curves[(curves["method"] == method) & (curves["fill"] == fill)]
                control = _by_seed(own[own["curve"] == "random"])
                if curve == "insertion":  # inserting along a random ranking is deleting along its reverse
                    control.columns = 100 - control.columns
                axes.plot(control.columns, control.mean(), ":", color=colour[method], linewidth=1.1)
                found = _by_seed(own[own["curve"] == curve])
                _band(axes, found, method, methods)
            ylabel = "Accuracy (%)" if column == 0 else ""
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
        histories: one row per epoch and seed; NaN where nothing was masked.
        methods: lines, in order.
    """
    figure, grid = panels(2, 3, 4.8, sharex=True)
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
def accuracy_faithfulness(frame: pd.DataFrame, methods: Sequence[str], fills: Sequence[str]) -> Figure:
    """Faithfulness (gap) against accuracy, one panel per fill: seeds as dots, means with intervals.

    Args:
        frame: ``accuracy`` and the gap of each fill for each method and seed.
        methods: in order.
        fills: panels, in order.
    """
    colour, marker = colours(methods), markers(methods)
    figure, grid = panels(1, len(fills), 3.7)
    for axes, fill in zip(grid[0], fills, strict=True):
        for method in methods:
            own = 100 * frame.loc[frame["method"] == method, ["accuracy", f"gap_{fill}"]]
            x, y = own["accuracy"], own[f"gap_{fill}"]
            axes.scatter(x, y, s=16, alpha=0.4, linewidth=0, color=colour[method], marker=marker[method])
            mean, low, high = mean_interval(own.to_numpy())
            axes.errorbar(
                mean[0],
                mean[1],
                xerr=[[mean[0] - low[0]], [high[0] - mean[0]]],
                yerr=[[mean[1] - low[1]], [high[1] - mean[1]]],
                color=colour[method],
                marker=marker[method],
                markersize=7.5,
                markeredgecolor="white",
                markeredgewidth=0.6,
                elinewidth=1.2,
                linestyle="",
            )
        finish(axes, f"{fill.capitalize()} fill", "Accuracy (%)", "Insertion − deletion gap (points)")
    legend(figure, method_handles(methods))
    return figure


@styled
def difference_forest(differences: Mapping[str, pd.DataFrame], reference: str) -> Figure:
    """Paired differences in accuracy to one reference with their intervals, one panel per title.

    Args:
        differences: for each panel's title one row per method with ``method``, ``difference``, ``low``,
            ``high`` as fractions.
        reference: what the methods are compared with.
    """
    columns = min(2, len(differences))
    rows = -(-len(differences) // columns)
    tallest = max(len(frame) for frame in differences.values())
    figure, grid = panels(rows, columns, rows * (0.32 * tallest + 0.75) + 0.1, sharex=True)
    places = list(chain(*grid))
    for unused in places[len(differences) :]:
        unused.remove()
    for panel, (axes, (title, frame)) in enumerate(zip(places, differences.items(), strict=False)):
        methods = frame["method"].tolist()
        colour, marker = colours(methods), markers(methods)
        axes.axvline(0, color=INK, linewidth=0.8)
        for place, (_, row) in enumerate(frame.iterrows()):
            method, (middle, low, high) = row["method"], 100 * row[["difference", "low", "high"]]
            axes.errorbar(
                middle,
                place,
                xerr=[[middle - low], [high - middle]],
                color=colour[method],
                marker=marker[method],
                markersize=6,
                elinewidth=1.6,
                capsize=3,
            )
        lowest = panel + columns >= len(differences)
        xlabel = f"Accuracy minus {display_name(reference)} (points)" if lowest else ""
        finish(axes, title, xlabel, "Method" if panel % columns == 0 else "")
        axes.tick_params(labelbottom=lowest)
        axes.set_yticks(range(len(methods)), [display_name(method) for method in methods])
        axes.set_ylim(len(methods) - 0.5, -0.5)
    return figure
