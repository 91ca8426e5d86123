"""Figures of studies that look for a schedule: the oracle's grid, sweeps over one constant, the choice.

Frames hold one row per method and seed of one data set and backbone; bands and bars are 95 % confidence intervals
over seeds. Functions return figures and write nothing.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullLocator

from workbench.reporting import captions
from workbench.reporting.captions import Setting
from workbench.reporting.metrics import Metric, Metrics
from workbench.reporting.questions import Choice, Study
from workbench.reporting.style import INK, colours, finish, markers, panels, styled
from workbench.reporting.words import display_name, fixed
from workbench.results.records import RunRecord, metrics_frame
from workbench.results.statistics import mean_interval
from workbench.studies import choice, oracle
from workbench.studies.conditions import broad_legend, gains_figure, legend_height

BANDS = "bands: 95 % confidence interval over seeds"
BLUE, FAINT = colours(["smoot"])["smoot"], "#999999"
HALO = patheffects.withStroke(linewidth=2.5, foreground="white")
SWEPT = {"SGT as published": "sgt", "SGT improved": "sgt_improved", choice.ADAPTIVE: "smoot"}  # looks like
WORDS = {
    "k": "Masked pixels (share)",
    "τ": "τ: masked share of the saliency",
    "kmax": "kmax: largest share of pixels",
    "κ": "κ: budget of lost information",
    "β": "β: memory of the running means",
    "λ": "λ: weight of the consistency",
}


def draw(
    study: Study, records: Sequence[RunRecord], histories: pd.DataFrame, setting: Setting
) -> Iterator[tuple[str, str, Figure]]:
    """The figures that a study asks of this module, for one data set and backbone: name, caption, figure.

    Args:
        study, records, histories, setting: as for `schedule_tables.build`.

    Raises:
        ValueError: as `schedule_tables.build`.
    """
    frame, measures, configs = metrics_frame(records), oracle.headline(records, setting), oracle.method_configs(records)
    end = captions.ending(study, records, setting, measures)
    own, shown = captions.of_setting(histories, setting), study.shown(list(configs))
    paths = oracle.trajectories(own, [method for method in oracle.scheduled_methods(configs) if method in shown])
    if "oracle" in study.exhibits:
        yield (
            f"oracle_{setting.place}",
            f"Constant plans, {setting.name}: means over seeds where this share of the images and of their pixels is "
            "masked, the best one framed. Lines: what the methods whose masking changes masked, epoch by epoch "
            f"from the small dot to the large mark, mean over seeds. {end}",
            oracle_map(oracle.read_grid(configs), frame, paths, measures, study.reference),
        )
    if "sweep" in study.exhibits:
        yield (
            f"sweep_{setting.place}",
            f"One constant swept while all else stays, {setting.name}; {BANDS}; all panels of a column have the same "
            "height axis. SGT masks the share on the axis of every image; methods whose masking changes stand beside "
            f"it at the mean share of pixels of each masked image, with 95 % confidence intervals. {end}",
            sweep_lines(choice.sweeps(configs), frame, paths, measures),
        )
    if study.choice is not None:
        known, rule = oracle.known_measures(records, setting), study.choice
        named = "; ".join(known[metric].label if metric in known else metric for metric in rule.faithfulness)
        yield (
            f"choice_{setting.place}",
            f"The choice, {setting.name}: accuracy and faithfulness score (mean z-score; {named}) of each candidate; "
            "dots are seeds, rings means with 95 % confidence intervals. Grey, left of the dashed line: not accurate "
            f"enough to be chosen. Filled: the choice. {end}",
            choice_ranking(frame, rule, known.get(rule.accuracy, Metric(rule.accuracy, "", 3))),
        )
    if study.conditions:
        gains = choice.condition_gains(frame, study.conditions, study.reference, list(measures))
        yield (
            f"conditions_{setting.place}",
            f"Gain over {display_name(study.reference)} under the same condition, {setting.name}, paired by seed, with "
            f"95 % confidence intervals (not adjusted). {end}",
            gains_figure(gains, study.reference, measures),
        )


@styled
def oracle_map(
    cells: pd.DataFrame, frame: pd.DataFrame, paths: pd.DataFrame, measures: Metrics, reference: str
) -> Figure:
    """A heat map of the grid for each measure, with what the scheduled methods masked drawn on it.

    Args:
        cells: as from `oracle.read_grid`.
        frame: the metrics for each method and seed.
        paths: as from `oracle.trajectories`.
        measures: panels, in order.
        reference: whose mean stands in the titles.
    """
    methods = list(dict.fromkeys(paths["method"]))
    figure, grid = panels(1, len(measures), 3.2 + legend_height(methods), sharey=True)
    for axes, (metric, measure) in zip(grid[0], measures.items(), strict=True):
        _heat(axes, measure.factor * oracle.cell_means(cells, frame, metric), measure.digits)
        for method in methods:
            _path(axes, paths[paths["method"] == method], method, methods)
        plain = measure.factor * oracle.by_seed(frame, metric)[reference].mean()
        title = f"{measure.header}\n{display_name(reference)}: {fixed(plain, measure.digits)}"
        finish(axes, title, "Masked pixels (%)", "Masked images (%)" if axes is grid[0][0] else "")
        axes.grid(visible=False)
    if methods:
        broad_legend(figure, methods)
    return figure


def _heat(axes: Axes, means: pd.DataFrame, digits: int) -> None:
    """Cells at their shares, each with its number; the best one framed. Light, so that lines on it show."""
    images, pixels = (list(map(float, axis)) for axis in (means.index, means.columns))
    values = means.to_numpy()
    x, y, best = _edges(pixels), _edges(images), values.max()
    spread = max(best - values.min(), 1e-9)
    axes.pcolormesh(x, y, values, cmap="Blues", vmin=values.min(), vmax=values.min() + 1.8 * spread)
    for (row, column), value in np.ndenumerate(values):
        said = axes.text(100 * pixels[column], 100 * images[row], fixed(value, digits), ha="center", va="center")
        said.set(fontsize=7, zorder=5, path_effects=[HALO])  # above the lines
        if value == best:
            corner, size = (x[column], y[row]), (x[column + 1] - x[column], y[row + 1] - y[row])
            axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=INK, linewidth=1.6))
    axes.set(xlim=(0, max(100, x[-1])), ylim=(0, y[-1]))
    axes.set_xticks([100 * share for share in pixels])
    axes.set_yticks([100 * share for share in images])


def _edges(levels: Sequence[float]) -> list[float]:
    """Edges of cells around rising shares, in %: half-way between them, the outer ones as far beyond, not below 0."""
    middles = [(low + high) / 2 for low, high in pairwise(levels)]
    first = 2 * levels[0] - middles[0] if middles else levels[0] - 0.1
    last = 2 * levels[-1] - middles[-1] if middles else levels[-1] + 0.1
    return [100 * max(edge, 0.0) for edge in (first, *middles, last)]


def _path(axes: Axes, path: pd.DataFrame, method: str, methods: Sequence[str]) -> None:
    """What one method masked, epoch by epoch; a large mark at the end."""
    colour, marker = colours(methods)[method], markers(methods)[method]
    x, y = (100 * path.sort_values("epoch")[["masked_pixels", "masked_share"]].to_numpy()).T
    axes.plot(x, y, color=colour, linewidth=1.3, path_effects=[HALO])
    axes.plot(x[:1], y[:1], color=colour, marker="o", markersize=3.5, markeredgewidth=0, linestyle="")
    axes.plot(
        x[-1:], y[-1:], color=colour, marker=marker, markersize=7, markeredgecolor="white", linestyle="", clip_on=False
    )


@styled
def sweep_lines(members: pd.DataFrame, frame: pd.DataFrame, paths: pd.DataFrame, measures: Metrics) -> Figure:
    """Each measure (columns) against each constant (rows), all on the same scale.

    Args:
        members: as from `choice.sweeps`.
        frame: the metrics for each method and seed.
        paths: as from `oracle.trajectories`: methods that are drawn beside the share of pixels k.
        measures: columns, in order.
    """
    own = members["family"] == choice.ADAPTIVE
    rows = [members[~own]] if (~own).any() else []
    rows += [swept for _, swept in members[own].groupby("constant", sort=False)]
    shown = [SWEPT[family] for family in SWEPT if family in set(members["family"])]
    shown = list(dict.fromkeys([*shown, *paths["method"]] if (~own).any() else shown))
    figure, grid = panels(len(rows), len(measures), 1.75 * len(rows) + 0.5 + legend_height(shown))
    for column, (metric, measure) in enumerate(measures.items()):
        values = measure.factor * oracle.by_seed(frame, metric)
        for place, swept in enumerate(rows):
            axes = grid[place][column]
            axes.sharey(grid[0][column])
            for family, line in swept.groupby("family", sort=False):
                _swept(axes, line, values, SWEPT[str(family)])
            if swept is rows[0] and not own.all():
                _beside(axes, paths, values, shown)
            constant = swept["constant"].iloc[0]
            ylabel = "Mean over seeds" if column == 0 else ""
            finish(axes, measure.header if place == 0 else "", WORDS.get(constant, constant), ylabel)
    broad_legend(figure, shown)
    return figure


def _swept(axes: Axes, line: pd.DataFrame, values: pd.DataFrame, like: str) -> None:
    """Mean and interval of each value of a constant; each marked."""
    colour, marker = colours([like])[like], markers([like])[like]
    x = line["value"].to_numpy(dtype=float)
    mean, low, high = mean_interval(values[line["method"].tolist()].to_numpy())
    axes.plot(x, mean, color=colour, marker=marker, markeredgewidth=0)
    axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    if x.min() > 0 and x.max() >= 10 * x.min():
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(x, [f"{value:g}" for value in x])


def _beside(axes: Axes, paths: pd.DataFrame, values: pd.DataFrame, methods: Sequence[str]) -> None:
    """Methods whose masking changes, with their intervals, at the mean share of pixels of each masked image."""
    for method, pixels in paths.groupby("method")["masked_pixels"].mean().items():
        colour, marker = colours(methods)[str(method)], markers(methods)[str(method)]
        mean, low, high = map(float, mean_interval(values[str(method)].to_numpy()))
        axes.plot([pixels, pixels], [low, high], color=colour, linewidth=1)
        axes.plot(pixels, mean, color=colour, marker=marker, markersize=6, markeredgewidth=0)


@styled
def choice_ranking(frame: pd.DataFrame, rule: Choice, accuracy: Metric) -> Figure:
    """Accuracy and faithfulness score of every candidate, the highest score on top, and what the rule chooses.

    Args:
        frame: the metrics for each method and seed.
        rule: candidates, metrics and margin.
        accuracy: how the accuracy is shown.
    """
    chosen, scores = choice.choose(frame, rule), choice.seed_scores(frame, rule)
    order = chosen.table.sort_values("score", ascending=False, kind="stable")
    figure, (grid,) = panels(1, 2, 0.24 * len(order) + 0.8, sharey=True)
    for axes, column, factor in zip(grid, ("accuracy", "score"), (accuracy.factor, 1.0), strict=True):
        for place, (method, eligible) in enumerate(zip(order["method"], order["eligible"], strict=True)):
            own = factor * scores.loc[scores["method"] == method, column].to_numpy()
            _ranked(axes, own, place, BLUE if eligible else FAINT, filled=method == chosen.name)
    grid[0].axvline(accuracy.factor * chosen.least, color=INK, linestyle="--", linewidth=1)
    finish(grid[0], "", accuracy.header, "Candidate")
    finish(grid[1], "", "Faithfulness score ↑", "")
    grid[0].set_yticks(range(len(order)), [display_name(method) for method in order["method"]])
    grid[0].set_ylim(len(order) - 0.5, -0.5)
    return figure


def _ranked(axes: Axes, values: npt.NDArray[np.float64], place: int, colour: str, *, filled: bool) -> None:
    """Seeds as dots, their mean with its interval."""
    axes.plot(values, [place] * len(values), "o", color=colour, markersize=2.6, alpha=0.5, markeredgewidth=0)
    mean, low, high = map(float, mean_interval(values))
    axes.errorbar(
        mean,
        place,
        xerr=[[mean - low], [high - mean]],
        color=colour,
        marker="o",
        markersize=6,
        markerfacecolor=colour if filled else "white",
        elinewidth=1.4,
        capsize=2,
    )
