"""Figures of what training costs: over a run, and against the size of the work.

Every function returns a figure and writes nothing.
"""

from collections.abc import Mapping, Sequence
from itertools import chain

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, NullLocator, StrMethodFormatter

from workbench.reporting.charts import method_handles
from workbench.reporting.style import INK, colours, finish, legend, markers, panels, styled
from workbench.results.statistics import mean_interval

AXES = {  # axis of growth: title, x axis
    "batch_size": ("Batch size", "Images of a batch"),
    "pixels": ("Image size", "Pixels of an image"),
    "num_classes": ("Classes", "Classes"),
    "num_images": ("Training images", "Images of an epoch"),
}
QUANTITIES = {"ms": ("Time (s)", 1e-3), "memory_mb": ("Peak memory (MiB)", 1.0)}


@styled
def run_cost(costs: Mapping[str, pd.DataFrame], methods: Sequence[str]) -> Figure:
    """Cost of each epoch over plain training's, one panel per title; dotted what arithmetic allows.

    Args:
        costs: for each panel's title ``method``, ``seed``, ``epoch``, ``relative``, ``limit``.
        methods: lines, in order; those without rows are left out.
    """
    columns = min(2, len(costs))
    rows = -(-len(costs) // columns)
    figure, grid = panels(rows, columns, 1.9 * rows + 0.6, sharex=True, sharey=True)
    places = list(chain(*grid))
    for unused in places[len(costs) :]:
        unused.remove()
    shown = [method for method in methods if any((frame["method"] == method).any() for frame in costs.values())]
    for panel, (axes, (title, frame)) in enumerate(zip(places, costs.items(), strict=False)):
        for place, method in enumerate(shown):
            own = frame[frame["method"] == method]
            if len(own):
                _run_line(axes, own, method, shown, place)
        lowest = panel + columns >= len(costs)
        finish(axes, title, "Epoch" if lowest else "", "Time over Plain's" if panel % columns == 0 else "")
        axes.tick_params(labelbottom=lowest)
    places[0].set_ylim(bottom=0)
    dotted = Line2D([], [], color=INK, linestyle=":", label="arithmetic limit")
    legend(figure, [*method_handles(shown), dotted])
    return figure


def _run_line(axes: Axes, own: pd.DataFrame, method: str, methods: Sequence[str], place: int) -> None:
    """Mean over seeds with its interval, and the limit; markers of the methods are staggered."""
    colour, marker = colours(methods)[method], markers(methods)[method]
    by_seed = own.pivot(index="seed", columns="epoch", values="relative")
    epochs = by_seed.columns.to_numpy(dtype=float)
    mean, low, high = mean_interval(by_seed.to_numpy(dtype=float))
    (line,) = axes.plot(epochs, mean, color=colour, marker=marker)
    line.set(markevery=(place, len(methods)), markeredgewidth=0)
    axes.fill_between(epochs, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(epochs, own.groupby("epoch")["limit"].mean(), ":", color=colour, linewidth=1.1)


@styled
def growth(frame: pd.DataFrame) -> Figure:
    """Time (top) and peak memory (bottom) against size, one column per axis, all logarithmic.

    The dotted line has slope 1 and ends in the largest size's highest value.

    Args:
        frame: as from `costs.read_growth`, of one device.
    """
    shown = {axis: text for axis, text in AXES.items() if (frame["axis"] == axis).any()}
    methods = list(dict.fromkeys(frame["method"]))
    figure, grid = panels(2, len(shown), 4.6)
    for row, (column, (ylabel, factor)) in zip(grid, QUANTITIES.items(), strict=True):
        values = factor * frame[column]
        for axes, (axis, (title, xlabel)) in zip(row, shown.items(), strict=True):
            wide = factor * frame[frame["axis"] == axis].pivot(index="value", columns="method", values=column)
            _grown(axes, wide[methods])
            top, left = row is grid[0], axes is row[0]
            finish(axes, title if top else "", "" if top else xlabel, ylabel if left else "")
            _logarithmic(axes, wide.index.tolist(), (values.min() / 1.6, values.max() * 1.6))
            axes.tick_params(labelleft=left)
    figure.align_xlabels()
    dotted = Line2D([], [], color=INK, linestyle=":", label="linear growth")
    legend(figure, [*method_handles(methods), dotted])
    return figure


def _grown(axes: Axes, wide: pd.DataFrame) -> None:
    """A line per column, the first one broad so that equal ones both show, and linear growth."""
    methods = [str(method) for method in wide.columns]
    for place, method in enumerate(methods):
        (line,) = axes.plot(wide.index, wide[method], color=colours(methods)[method])
        line.set(marker=markers(methods)[method], markeredgewidth=0, linewidth=1.2 if place else 3.2)
    sizes = wide.index.to_numpy(dtype=float)
    axes.plot(sizes, float(wide.iloc[-1].max()) * sizes / sizes[-1], ":", color=INK, linewidth=1.1)


def _logarithmic(axes: Axes, sizes: Sequence[float], limits: tuple[float, float]) -> None:
    """Logarithmic axes with plain numbers; linear growth may leave them."""
    axes.set(xscale="log", yscale="log", ylim=limits)
    axes.set_xticks(list(sizes), [f"{size:,.0f}" for size in sizes], rotation=60, fontsize=7)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
