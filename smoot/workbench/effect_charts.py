"""The figures of studies that vary a mask or compare variants: forests of differences, masking as an attack.

Frames hold one row per method and seed of one data set and backbone. Bars are 95 % confidence intervals over seeds.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator, SymmetricalLogLocator

from smoot.workbench import captions, effects, oracle, results
from smoot.workbench.effect_tables import CORRELATED, DESIGNS, HEADLINE, LEVEL, effect_name
from smoot.workbench.measures import ARROWS, Measure, Measures
from smoot.workbench.results import RunRecord
from smoot.workbench.statistics import compared_frame, mean_interval
from smoot.workbench.study import Study
from smoot.workbench.style import INK, finish, legend, panels, styled
from smoot.workbench.typesetting import Setting, display_name, fixed

HOLLOW = f"filled: p < {LEVEL:g} (paired t-test, Holm-adjusted over the rows of a panel)"
BLIND_SAFE = seaborn.color_palette("colorblind").as_hex()
RANKINGS = dict(zip(effects.FACTORS["ranking"], BLIND_SAFE, strict=False))
LINEAR = 0.1  # nats: the first-order change is drawn on a straight scale up to here, beyond on a logarithmic one
BOUND = "\N{NO-BREAK SPACE}"
FILLS = dict(zip(effects.FACTORS["fill"], "osD^", strict=True))


@dataclass(frozen=True)
class Bar:
    """One row of a forest: a difference with its interval, in the panel's unit."""

    place: int
    middle: float
    low: float
    high: float
    colour: str
    certain: bool


def draw(
    study: Study, records: Sequence[RunRecord], histories: pd.DataFrame, about: Setting
) -> Iterator[tuple[str, str, Figure]]:
    """The figures that a study asks of this module, for one data set and backbone: name, caption, figure.

    Args:
        study, records, histories, about: as for `effect_tables.build`.

    Raises:
        ValueError: as `effect_tables.build`.
    """
    frame, end = results.metrics_frame(records), captions.ending(study, records, about, HEADLINE)
    if "factorial" in study.exhibits:
        levels, headline = effects.factor_levels(records), oracle.shown(HEADLINE, records, about)
        found = effects.main_effects(frame, levels, headline)
        yield (
            f"effects_{about.place}",
            f"What each choice of a mask does, {about.name}. {DESIGNS[effects.design(levels)]}, paired by seed, with "
            f"95 % confidence interval; {HOLLOW}. {end}",
            effects_forest(found, headline),
        )
        changed = effects.with_change(frame, captions.of_setting(histories, about), levels)
        yield (
            f"adversarial_{about.place}",
            f"Is masking an attack? {about.name}: what masking changes in the log-probability of the label to first "
            "order (on the last batch of every epoch, median over epochs; negative where it is lowered, which the "
            f"worst-case fill does by construction; logarithmic beyond {LINEAR:g}), and what the networks reach; a "
            "mark is a cell of the factorial, mean with 95 % confidence intervals over seeds; dotted: "
            f"{display_name(study.reference)}. ρ: Spearman's correlation over the cells' means, below it within each "
            "fill of three or more; without p, since cells share their levels. "
            f"{captions.ending(study, records, about, CORRELATED)}",
            adversarial_figure(changed, levels, study.reference, oracle.shown(tuple(CORRELATED), records, about)),
        )
    if "comparison" in study.exhibits:
        methods, headline = study.shown(list(dict.fromkeys(frame["method"]))), oracle.shown(HEADLINE, records, about)
        yield (
            f"comparison_{about.place}",
            f"Differences to {display_name(study.reference)}, {about.name}, paired by seed, with 95 % confidence "
            f"interval; {HOLLOW}. {end}",
            comparison_forest(frame, methods, study.reference, headline),
        )


@styled
def effects_forest(found: pd.DataFrame, measures: Measures) -> Figure:
    """Every level of every factor against its baseline, one panel a metric.

    Args:
        found: as from `effects.main_effects`.
        measures: panels, in order.
    """
    rows = found[["factor", "level", "baseline"]].drop_duplicates().to_dict("records")
    names = [effect_name(row["factor"], row["level"], row["baseline"]) for row in rows]
    palette = dict(zip(effects.FACTORS, BLIND_SAFE, strict=False))
    forest = {metric: list[Bar]() for metric in measures}
    for place, row in enumerate(rows):
        same = found[(found["factor"] == row["factor"]) & (found["level"] == row["level"])]
        for effect in same.to_dict("records"):
            bar = _bar(effect, place, measures[effect["metric"]], palette[row["factor"]])
            forest[effect["metric"]].append(bar)
    return _forest(forest, measures, names, "Effect")


@styled
def comparison_forest(frame: pd.DataFrame, methods: Sequence[str], reference: str, measures: Measures) -> Figure:
    """Every method minus the reference, one panel a metric.

    Args:
        frame: the metrics of each method and seed.
        methods: rows, in order; without the reference.
        reference: what differences are taken to.
        measures: panels, in order.
    """
    rows = [method for method in methods if method != reference]
    forest: dict[str, list[Bar]] = {}
    for metric, measure in measures.items():
        own = frame[frame["method"].isin([reference, *rows])]
        compared = compared_frame(own, metric, [reference, *rows], [reference]).to_dict("records")
        forest[metric] = [_bar(pair, rows.index(pair["method"]), measure, BLIND_SAFE[0]) for pair in compared]
    return _forest(forest, measures, [display_name(method) for method in rows], "Method")


def _bar(found: Mapping[Any, Any], place: int, measure: Measure, colour: str) -> Bar:
    """A row of a forest from one of `effects.main_effects` or `statistics.compared_frame`."""
    middle, low, high = (measure.factor * found[name] for name in ("difference", "low", "high"))
    return Bar(place, middle, low, high, colour, bool(found["p_holm"] < LEVEL))


def _forest(forest: Mapping[str, Sequence[Bar]], measures: Measures, names: Sequence[str], ylabel: str) -> Figure:
    """The panels beside each other, their rows on one height."""
    figure, (places,) = panels(1, len(forest), 0.24 * len(names) + 1.1, sharey=True)
    for axes, (metric, bars) in zip(places, forest.items(), strict=True):
        axes.axvline(0, color=INK, linewidth=0.8)
        for bar in bars:
            _draw(axes, bar)
        measure = measures[metric]
        unit = "points" if measure.factor == 100 else measure.unit
        xlabel = f"{unit.capitalize() or 'Difference'}{ARROWS[measure.better]}"
        finish(axes, textwrap.fill(measure.label, 20), xlabel, "")
        axes.xaxis.set_major_locator(MaxNLocator(3))
    places[0].set(ylabel=ylabel, ylim=(len(names) - 0.5, -0.5))
    places[0].set_yticks(range(len(names)), list(names))
    return figure


def _draw(axes: Axes, bar: Bar) -> None:
    axes.errorbar(
        bar.middle,
        bar.place,
        xerr=[[bar.middle - bar.low], [bar.high - bar.middle]],
        color=bar.colour,
        marker="o",
        markerfacecolor=bar.colour if bar.certain else "white",
        markersize=5,
        elinewidth=1.4,
        capsize=2,
    )


@styled
def adversarial_figure(frame: pd.DataFrame, levels: pd.DataFrame, reference: str, measures: Measures) -> Figure:
    """What networks reach against what masking did to the log-probability of the label, cell by cell.

    Args:
        frame: the metrics of each method and seed, with `effects.CHANGE`.
        levels: as from `effects.factor_levels`.
        reference: the method whose means are lines.
        measures: panels, in order.
    """
    figure, (places,) = panels(1, len(measures), 3.9)
    for axes, (metric, measure) in zip(places, measures.items(), strict=True):
        axes.axvline(0, color=INK, linewidth=0.8)
        level = measure.factor * frame.loc[frame["method"] == reference, metric].mean()
        axes.axhline(level, color=INK, linestyle=":", linewidth=1.1)
        for cell in levels.to_dict("records"):
            own = frame.loc[frame["method"] == cell["method"], [effects.CHANGE, metric]]
            _cross(axes, own * [1.0, measure.factor], *(str(cell[factor]) for factor in effects.FACTORS))
        finish(axes, _rho(frame, levels, metric), "First-order change (nats)", measure.header)
        axes.set_xscale("symlog", linthresh=LINEAR, linscale=0.6)
        axes.xaxis.set_major_locator(SymmetricalLogLocator(linthresh=LINEAR, base=10))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
    legend(figure, _keys(levels, reference), 3)
    return figure


def _rho(frame: pd.DataFrame, levels: pd.DataFrame, metric: str) -> str:
    """The title of a panel: over all cells, below it within each fill."""
    within = effects.fill_correlations(frame, levels, metric)
    named = [f"{fill.replace('_', ' ')} {fixed(rho)}".replace(" ", BOUND) for fill, rho in within.items()]
    below = textwrap.fill(", ".join(named), 28) if len(named) > 1 else ""
    return f"ρ = {fixed(effects.correlation(frame, levels, metric))}\n{below}".rstrip()


def _cross(axes: Axes, values: pd.DataFrame, ranking: str, fill: str, target: str) -> None:
    """A cell's mean with its intervals in both directions; colour, shape and filling say which cell it is."""
    mean, low, high = mean_interval(values.to_numpy())
    colour = RANKINGS[ranking]
    axes.errorbar(
        mean[0],
        mean[1],
        xerr=[[mean[0] - low[0]], [high[0] - mean[0]]],
        yerr=[[mean[1] - low[1]], [high[1] - mean[1]]],
        color=colour,
        ecolor=(colour, 0.45),
        marker=FILLS[fill],
        markerfacecolor=colour if target == "detached" else "white",
        markersize=5.5,
        elinewidth=0.8,
    )


def _keys(levels: pd.DataFrame, reference: str) -> list[Line2D]:
    """Legend entries, one column a factor: the levels that occur, and the reference below the last."""
    found = {
        factor: [level for level in known if level in set(levels[factor])] for factor, known in effects.FACTORS.items()
    }
    columns = [
        [_key(f"{name} ranking", RANKINGS[name], "o") for name in found["ranking"]],
        [_key(f"{name} fill", INK, FILLS[name]) for name in found["fill"]],
        [_key(f"{name} target", INK, "o", hollow=name == "through") for name in found["target"]],
    ]
    columns[-1].append(Line2D([], [], color=INK, linestyle=":", label=display_name(reference)))
    height = max(map(len, columns))
    return [key for column in columns for key in [*column, *[_key(" ", "none", "")] * (height - len(column))]]


def _key(label: str, colour: str, marker: str, *, hollow: bool = False) -> Line2D:
    face = "white" if hollow else colour
    return Line2D(
        [], [], linestyle="", color=colour, marker=marker, markerfacecolor=face, label=label.replace("_", " ")
    )
