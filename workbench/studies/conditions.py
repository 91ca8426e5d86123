"""Where does a method help? Its gain over a reference with fewer or more data, or with wrong labels.

Bands are 95 % confidence intervals of differences paired by seed.
"""

import textwrap
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from workbench.reporting.charts import Chart
from workbench.reporting.metrics import ARROWS, Metrics
from workbench.reporting.questions import Condition
from workbench.reporting.style import INK, Looks, finish, legend, panels, styled
from workbench.reporting.table import SPREAD, Row, Table, blank_repeats, difference_text, scaled
from workbench.reporting.words import Titles, plus_minus
from workbench.results.statistics import compare, holm
from workbench.studies.runs import StudyRuns

UNCLEAR, WORSE = " ○", " ✗"  # suffix of a gain whose interval includes zero, or lies below it


def gains(frame: pd.DataFrame, conditions: Sequence[Condition], reference: str, metrics: Sequence[str]) -> pd.DataFrame:
    """What each method gains over the reference at each level of each condition, paired by seed.

    Args:
        frame: the metrics for each method and seed.
        conditions: level by level.
        reference: the base method of each condition that gains are taken to.
        metrics: what is compared.

    Returns:
        One row per condition, base method and metric: ``axis``, ``level``, ``method``, ``metric``, the fields of
        `statistics.PairedComparison`; ``p_holm`` is over the rows of an axis and metric.
    """
    rows = []
    for condition in conditions:
        for base, metric in product([base for base in condition.methods if base != reference], metrics):
            wide = frame.pivot(index="seed", columns="method", values=metric)
            gain = compare(wide[condition.methods[base]].tolist(), wide[condition.methods[reference]].tolist())
            keys = {"axis": condition.axis, "level": condition.level, "method": base, "metric": metric}
            rows.append(keys | asdict(gain))
    found = pd.DataFrame(rows)
    found["p_holm"] = found.groupby(["axis", "metric"])["p_value"].transform(lambda p: np.array(holm(p.tolist())))
    return found


def table(runs: StudyRuns, titles: Titles) -> Table:
    """What methods gain over the reference at each level of each condition, gains that are none included.

    Raises:
        ValueError: if a run lacks a metric of the headline.
    """
    metrics, setting, reference = runs.headline(), runs.setting, titles[runs.study.reference]
    found = gains(runs.frame, runs.study.conditions, runs.study.reference, list(metrics))
    rows: list[Row] = []
    for (axis, level, method), own in found.groupby(["axis", "level", "method"], sort=False):
        texts = {"Condition": str(axis), "Level": str(level), "Method": titles[str(method)]}
        for row in own.to_dict("records"):
            metric = metrics[row["metric"]]
            texts[f"{reference}: {metric.header}"] = plus_minus(
                metric.factor * row["reference_mean"], metric.factor * row["reference_sd"], metric.digits
            )
            texts[f"{metric.label}: gain"] = difference_text(row, metric) + gain_mark(row)
        rows.append(({}, texts))
    caption = (
        f"Gain: minus {reference} under the same condition, paired by seed, with 95 % confidence "
        "interval (not adjusted); p: paired t-test, Holm-adjusted over the lines of a condition in the same metric."
        f"{UNCLEAR}: the interval is not above zero;{WORSE}: it lies below zero. {SPREAD}. "
        f"{runs.ending(metrics)} {setting.origin}"
    )
    display = pd.DataFrame([texts for _, texts in blank_repeats(rows, ("Condition", "Level"))])
    name, title = f"conditions_{setting.place}", f"Gains under other conditions, {setting.name}"
    return Table(name, title, caption, scaled(found, metrics), display)


def gain_mark(gain: Mapping[Hashable, Any]) -> str:
    """The suffix of a gain whose interval is not above zero, or lies below it."""
    if gain["low"] > 0:
        return ""
    return WORSE if gain["high"] < 0 else UNCLEAR


def chart(runs: StudyRuns, looks: Looks) -> Chart:
    """The gains of :func:`table` against the levels.

    Raises:
        ValueError: if a run lacks a metric of the headline, or a level is no number.
    """
    metrics, setting, reference = runs.headline(), runs.setting, runs.study.reference
    found = gains(runs.frame, runs.study.conditions, reference, list(metrics))
    caption = (
        f"Gain over {looks[reference].title} under the same condition, {setting.name}, paired by seed, "
        f"with 95 % confidence intervals (not adjusted). {runs.ending(metrics)}"
    )
    return Chart(f"conditions_{setting.place}", caption, gain_lines(found, reference, metrics, looks))


def level_number(level: str) -> float:
    """The number that a level says: ``500``, ``1,000``, ``20 %``.

    Raises:
        ValueError: if it says none.
    """
    try:
        return float(level.replace(",", "").removesuffix("%"))
    except ValueError:
        raise ValueError(f"level is {level!r}: expected a number, such as '2,000' or '20 %'") from None


@styled
def gain_lines(found: pd.DataFrame, reference: str, metrics: Metrics, looks: Looks) -> Figure:
    """Gain (rows of :func:`gains`) against the level, one row of panels per condition and one column per metric.

    The axis of levels is logarithmic if all of them are above zero.

    Raises:
        ValueError: if a level is no number.
    """
    conditions = list(dict.fromkeys(found["axis"]))
    drawn = {method: looks[method] for method in dict.fromkeys(found["method"])}
    figure, grid = panels(len(conditions), len(metrics), 2.1 * len(conditions) + 0.6)
    for (row, condition), (column, (name, metric)) in product(enumerate(conditions), enumerate(metrics.items())):
        axes, own = grid[row][column], found[(found["axis"] == condition) & (found["metric"] == name)]
        _lines(axes, own, metric.factor, drawn)
        title = textwrap.fill(f"{metric.label}{ARROWS[metric.better]}", 84 // len(metrics)) if row == 0 else ""
        unit = metric.difference_unit
        finish(axes, title, condition, f"Gain over {looks[reference].title}{f' ({unit})' if unit else ''}")
    legend(figure, [look.handle() for look in drawn.values()])
    return figure


def _lines(axes: Axes, found: pd.DataFrame, factor: float, looks: Looks) -> None:
    """Gain against the level, a band around each method's line."""
    ordered = found.assign(x=found["level"].map(level_number)).sort_values("x")
    for method, look in looks.items():
        own = ordered[ordered["method"] == method]
        axes.plot(own["x"], factor * own["difference"], color=look.colour, marker=look.marker, markeredgewidth=0)
        axes.fill_between(
            own["x"], factor * own["low"], factor * own["high"], color=look.colour, alpha=0.2, linewidth=0
        )
    axes.axhline(0, color=INK, linewidth=0.8)
    levels = ordered.drop_duplicates("x")
    if levels["x"].min() > 0:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks(levels["x"].tolist(), levels["level"].tolist(), fontsize=7)
