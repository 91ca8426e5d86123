"""Figures that set methods side by side: faithfulness against accuracy, paired differences.

Frames hold one row per method and seed; bars are 95 % confidence intervals over seeds. Every function returns a
figure and writes nothing.
"""

from collections.abc import Mapping, Sequence
from itertools import chain

import pandas as pd
from matplotlib.figure import Figure

from workbench.reporting.charts import method_handles
from workbench.reporting.style import INK, colours, finish, legend, markers, panels, styled
from workbench.reporting.words import display_name
from workbench.results.statistics import mean_interval


@styled
def accuracy_faithfulness(frame: pd.DataFrame, methods: Sequence[str], gaps: Mapping[str, str]) -> Figure:
    """Faithfulness (gap) against accuracy, one panel per gap: seeds as dots, means with intervals.

    Args:
        frame: ``accuracy`` and the gaps for each method and seed.
        methods: in order.
        gaps: panels, in order: metric and title.
    """
    colour, marker = colours(methods), markers(methods)
    figure, grid = panels(1, len(gaps), 3.3)
    for axes, (gap, title) in zip(grid[0], gaps.items(), strict=True):
        for method in methods:
            own = 100 * frame.loc[frame["method"] == method, ["accuracy", gap]]
            x, y = own["accuracy"], own[gap]
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
        ylabel = "Insertion − deletion gap (points)" if axes is grid[0][0] else ""
        finish(axes, title, "Accuracy (%)", ylabel)
    legend(figure, method_handles(methods))
    return figure


@styled
def difference_forest(differences: Mapping[str, pd.DataFrame], reference: str, label: str = "Accuracy") -> Figure:
    """Paired differences in one metric to one reference with their intervals, one panel per title.

    Args:
        differences: for each panel's title one row per method with ``method``, ``difference``, ``low``,
            ``high`` as fractions.
        reference: what the methods are compared with.
        label: what the metric is called.
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
        xlabel = f"{label} minus {display_name(reference)} (points)" if lowest else ""
        finish(axes, title, xlabel, "Method" if panel % columns == 0 else "")
        axes.tick_params(labelbottom=lowest)
        axes.set_yticks(range(len(methods)), [display_name(method) for method in methods])
        axes.set_ylim(len(methods) - 0.5, -0.5)
    return figure
