"""Figures of what a method gains over a reference under other conditions, such as less data or noisy labels.

Bands and bars are 95 % confidence intervals of paired differences. Functions return figures and write nothing.
"""

import math
import textwrap
from collections.abc import Sequence
from itertools import product

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from workbench.reporting.charts import method_handles
from workbench.reporting.metrics import Metrics
from workbench.reporting.style import INK, colours, finish, legend, markers, panels, room, styled
from workbench.reporting.words import display_name


@styled
def gains_figure(gains: pd.DataFrame, reference: str, measures: Metrics) -> Figure:
    """One row of panels per condition, one column per measure.

    Levels that are numbers are drawn as a line, on a logarithmic axis if all are above zero; others as a forest.

    Args:
        gains: as from `choice.condition_gains`.
        reference: what gains are taken to.
        measures: columns, in order.
    """
    axis_names, methods = list(dict.fromkeys(gains["axis"])), list(dict.fromkeys(gains["method"]))
    figure, grid = panels(len(axis_names), len(measures), 2.1 * len(axis_names) + 0.4 + legend_height(methods))
    for (row, name), (column, (metric, measure)) in product(enumerate(axis_names), enumerate(measures.items())):
        axes, own = grid[row][column], gains[(gains["axis"] == name) & (gains["metric"] == metric)]
        shown = own.assign(**{part: measure.factor * own[part] for part in ("difference", "low", "high")})
        title = textwrap.fill(measure.difference, 19) if row == 0 else ""
        label = f"Gain over {display_name(reference)}"
        if all(math.isfinite(level_number(level)) for level in own["level"]):
            _lines(axes, shown, methods)
            finish(axes, title, name, label if column == 0 else "")
        else:
            _forest(axes, shown, methods)
            finish(axes, title, label, name if column == 0 else "")
            axes.tick_params(labelleft=column == 0)
    broad_legend(figure, methods)
    return figure


def broad_legend(figure: Figure, methods: Sequence[str]) -> None:
    """One legend for all panels, with as many names beside each other as the figure has room for."""
    legend(figure, method_handles(methods), _columns(methods))


def legend_height(methods: Sequence[str]) -> float:
    """Of `broad_legend`, in inches."""
    return 0.2 * -(-len(methods) // _columns(methods)) if methods else 0.0


def _columns(methods: Sequence[str]) -> int:
    return min(5, len(methods), room(map(display_name, methods)))


def level_number(level: str) -> float:
    """The number that a level says (``500``, ``1,000``, ``20 %``); NaN if it says none."""
    try:
        return float(level.replace(",", "").removesuffix("%"))
    except ValueError:
        return math.nan


def _lines(axes: Axes, gains: pd.DataFrame, methods: Sequence[str]) -> None:
    """Gain against the level, a band around each method's line."""
    ordered = gains.assign(x=gains["level"].map(level_number)).sort_values("x")
    for method in methods:
        own, colour = ordered[ordered["method"] == method], colours(methods)[method]
        axes.plot(own["x"], own["difference"], color=colour, marker=markers(methods)[method], markeredgewidth=0)
        axes.fill_between(own["x"], own["low"], own["high"], color=colour, alpha=0.2, linewidth=0)
    axes.axhline(0, color=INK, linewidth=0.8)
    levels = ordered.drop_duplicates("x")
    if levels["x"].min() > 0:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks(levels["x"].tolist(), levels["level"].tolist(), fontsize=7)


def _forest(axes: Axes, gains: pd.DataFrame, methods: Sequence[str]) -> None:
    """A bar for each level and method, the levels below each other."""
    levels = list(dict.fromkeys(gains["level"]))
    step = 0.7 / len(methods)
    for gain in gains.to_dict("records"):
        method, middle = gain["method"], gain["difference"]
        place = levels.index(gain["level"]) + step * (methods.index(method) - (len(methods) - 1) / 2)
        axes.errorbar(
            middle,
            place,
            xerr=[[middle - gain["low"]], [gain["high"] - middle]],
            color=colours(methods)[method],
            marker=markers(methods)[method],
            markersize=5.5,
            elinewidth=1.4,
            capsize=2,
        )
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(levels)), levels)
    axes.set_ylim(len(levels) - 0.5, -0.5)
