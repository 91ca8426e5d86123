"""The tables of studies that vary a mask or compare variants: factorial, effects, comparison.

Frames hold one row per method and seed of one data set and backbone.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from smoot.workbench import captions, costs, effects, oracle, results
from smoot.workbench.measures import Measure, Measures
from smoot.workbench.prices import PRICES, run_prices
from smoot.workbench.results import RunRecord
from smoot.workbench.statistics import compared_frame
from smoot.workbench.study import Study
from smoot.workbench.tabulation import SPREAD, Row, difference_text, head, summarised, table
from smoot.workbench.typesetting import NOTHING, Setting, Table, display_name, fixed, interval

CHANGE: Measures = {effects.CHANGE: Measure("First-order change", "nats", 3, "")}
HEADLINE = ("accuracy", "judge_gap_right_mean", "gap_black", "stability")  # what decides, in this order
COMPARED = ("accuracy", "judge_gap_right_mean", "judge_gap_mean", "gap_black", "stability")
FACTORIAL = (*COMPARED, "gini", "accuracy_pgd")
CORRELATED = {  # with the first-order change, over cells
    "accuracy_pgd": "accuracy under PGD",
    "accuracy": "accuracy",
    "relevance_mass": "relevance mass",
}
LEVEL = 0.05
MARK = " †"  # behind an effect that survives Holm's adjustment
SCALED = ("mean", "sd", "reference_mean", "reference_sd", "difference", "low", "high")
DESIGNS: Mapping[effects.Design, str] = {
    "cross": "Every combination was run: an effect is the mean over the combinations of the other factors",
    "star": "One factor was varied at a time: an effect is the difference from the cell with all baselines",
}


def build(study: Study, records: Sequence[RunRecord], histories: pd.DataFrame, about: Setting) -> Iterator[Table]:
    """The tables that a study asks of this module, for one data set and backbone.

    Args:
        study: which exhibits, and what differences are taken to.
        records: of this data set and backbone.
        histories: one row per epoch; those of other settings are left out.
        about: what the captions say of the runs.

    Raises:
        ValueError: if a record lacks a metric that a table needs, or the methods are not what an exhibit asks for.
    """
    own, frame = captions.of_setting(histories, about), results.metrics_frame(records)
    end = f"{captions.ending(study, records, about, COMPARED)} {about.origin}"
    if "factorial" in study.exhibits:
        levels = effects.factor_levels(records)
        changed = effects.with_change(frame, own, levels)
        columns = {**CHANGE, **oracle.shown(FACTORIAL, records, about)}
        oracle.check_measured(frame, CORRELATED)
        yield factorial_table(changed, levels, study.reference, columns, about, end)
        yield effects_table(changed, levels, columns, about, end)
    if "comparison" in study.exhibits:
        methods, measures = study.shown(list(dict.fromkeys(frame["method"]))), oracle.shown(COMPARED, records, about)
        paid = run_prices(records, own, costs.read_costs(), study.reference, about)
        priced = frame.merge(paid, on=["method", "seed"], how="left")
        yield comparison_table(priced, methods, study, measures, about, end)


def cell_name(levels: Mapping[str, str]) -> str:
    """A cell of the factorial in words: ``signed, uniform, through``."""
    return ", ".join(levels[factor].replace("_", " ") for factor in effects.FACTORS)


def factorial_table(
    frame: pd.DataFrame, levels: pd.DataFrame, reference: str, measures: Measures, about: Setting, end: str
) -> Table:
    """Every cell of the factorial, the reference first.

    Args:
        frame: the metrics of each method and seed, with `effects.CHANGE`.
        levels: as from `effects.factor_levels`.
        reference: the method above the cells.
        measures: columns, in order.
        about: names the data set and backbone.
        end: of the caption.
    """
    cells = [{str(key): str(value) for key, value in cell.items()} for cell in levels.to_dict("records")]
    named = [({"method": reference, **dict.fromkeys(effects.FACTORS, "")}, head({"method": reference}))]
    named += [(cell, {"Method": cell_name(cell)}) for cell in cells]
    accuracy = measures["accuracy"]
    compared = compared_frame(frame, "accuracy", [reference, *levels["method"]], [reference])
    rows: list[Row] = []
    for keys, title in named:
        own = frame[frame["method"] == keys["method"]]
        numbers, texts = summarised(own, measures)
        paired, shown = _against(keys["method"], compared, "accuracy", accuracy)
        beside = {f"{accuracy.label} (minus {display_name(reference)})": shown}
        rows.append((keys | {"n": len(own)} | numbers | paired, title | texts | beside))
    correlations = "; ".join(f"{name} {correlation_text(frame, levels, key)}" for key, name in CORRELATED.items())
    caption = (
        f"Rows below {display_name(reference)}: how pixels are ranked, what masked ones become, and whether the target "
        f"of the consistency term is detached; all else is the same. {SPREAD[0].upper()}{SPREAD[1:]}. First-order "
        "change: the gradient of the label's log-probability times what masking changes in the image, after every "
        "epoch on its last batch, median over epochs; negative where masking works like an attack, and the worst-case "
        f"fill lowers it by construction. Spearman's ρ with it over the {len(levels)} cells' means, in brackets within "
        f"each fill of three or more: {correlations}; without p, since cells share their levels. Minus "
        f"{display_name(reference)}: paired by seed, with 95 % confidence interval; p: paired t-test, Holm-adjusted "
        f"over the {len(levels)} differences. {end}"
    )
    return table(f"factorial_{about.place}", f"Cells of the factorial, {about.name}", caption, rows)


def correlation_text(frame: pd.DataFrame, levels: pd.DataFrame, metric: str) -> str:
    """``−0.62 (uniform −0.50, worst case −0.71)``: over all cells, and within each fill."""
    within = effects.fill_correlations(frame, levels, metric)
    named = ", ".join(f"{fill.replace('_', ' ')} {fixed(rho)}" for fill, rho in within.items())
    return fixed(effects.correlation(frame, levels, metric)) + (f" ({named})" if len(within) > 1 else "")


def effects_table(frame: pd.DataFrame, levels: pd.DataFrame, measures: Measures, about: Setting, end: str) -> Table:
    """Every level of every factor against its baseline; the numbers hold the interactions as well.

    Args:
        frame, levels, measures, about, end: as for `factorial_table`.
    """
    found = effects.main_effects(frame, levels, measures)
    lines = []
    for keys, own in found.groupby(["factor", "level", "baseline"], sort=False):
        texts = {"Factor": effect_name(*map(str, keys))}
        by_metric = {row["metric"]: row for row in own.to_dict("records")}
        for metric, measure in measures.items():
            texts[measure.difference] = effect_text(by_metric[metric], measure)
        lines.append(texts)
    design = effects.design(levels)
    rest = " The CSV file also holds the interactions of ranking and fill, adjusted among themselves."
    rest = rest if design == "cross" else ""
    caption = (
        f"{DESIGNS[design]}, level minus baseline, paired by seed, with 95 % confidence interval. †: p < {LEVEL:g} "
        f"(paired t-test), Holm-adjusted over the effects on the same measure.{rest} {end}"
    )
    data = _numbers(found, effects.interactions(frame, levels, measures), measures)
    name, title = f"effects_{about.place}", f"Effects of ranking, fill and target, {about.name}"
    return Table(name, title, caption, data, pd.DataFrame(lines))


def effect_name(factor: str, level: str, baseline: str) -> str:
    """``Ranking: signed − magnitude``."""
    return f"{factor.capitalize()}: {level} − {baseline}".replace("_", " ")


def effect_text(effect: Mapping[Any, Any], measure: Measure) -> str:
    """``+0.86 [+0.35, +1.37] †`` in the measure's unit, from a row of `effects.main_effects`."""
    difference, low, high = (measure.factor * effect[key] for key in ("difference", "low", "high"))
    return interval(difference, low, high, measure.digits) + (MARK if effect["p_holm"] < LEVEL else "")


def _numbers(found: pd.DataFrame, crossed: pd.DataFrame, measures: Measures) -> pd.DataFrame:
    """Effects and interactions below each other, in the measures' units."""
    level, baseline = crossed["ranking"] + ", " + crossed["fill"], ", ".join(effects.BASELINE[:2])
    rows = crossed.assign(factor="ranking × fill", level=level, baseline=baseline)[found.columns]
    return scaled(pd.concat([found, rows], ignore_index=True) if len(rows) else found, measures)


def scaled(rows: pd.DataFrame, measures: Measures) -> pd.DataFrame:
    """The same comparisons, each of the ``metric`` in its row, in the units that tables show."""
    factor = rows["metric"].map({metric: measure.factor for metric, measure in measures.items()})
    return rows.assign(**{name: factor * rows[name] for name in SCALED})


def comparison_table(
    frame: pd.DataFrame, methods: Sequence[str], study: Study, measures: Measures, about: Setting, end: str
) -> Table:
    """Methods against one reference: what they reach, what they gain, how much they mask, what they cost.

    Args:
        frame: the metrics of each method and seed, with the columns of `prices.run_prices`.
        methods: rows, in order.
        study: its title, and the method that differences are taken to; it need not be a row.
        measures: what is compared, in order.
        about: names the data set and backbone.
        end: of the caption.
    """
    reference = study.reference
    family = list(dict.fromkeys([*methods, reference]))
    compared = {metric: compared_frame(frame, metric, family, [reference]) for metric in measures}
    prices = {name: measure for name, measure in PRICES.items() if frame[name].notna().any()}
    rows = []
    for method in methods:
        own = frame[frame["method"] == method]
        numbers: dict[str, object] = {"method": method, "n": len(own)}
        texts = head({"method": method}) | {"n": str(len(own))}
        for metric, measure in measures.items():
            values, words = summarised(own, {metric: measure})
            paired, shown_pair = _against(method, compared[metric], metric, measure)
            numbers |= values | paired
            texts |= words | {f"{measure.label} (minus {display_name(reference)})": shown_pair}
        values, words = summarised(own, prices)
        rows.append((numbers | values, texts | words))
    timed = " A step, measured: at the recorded share of images masked, over Plain's."
    caption = (
        f"{SPREAD[0].upper()}{SPREAD[1:]}. Minus {display_name(reference)}: paired by seed, with 95 % confidence "
        f"interval; p: paired t-test, Holm-adjusted over the {len(family) - 1} differences in the same measure. Images "
        "masked: mean over training. Cost of the run: its passes, counted image by image (forward 1, backward 2, to "
        "the inputs alone 1, to the inputs as part of the loss's own backward 0), over those of "
        f"{display_name(reference)}'s epochs without masks.{timed if 'relative' in prices else ''} {end}"
    )
    return table(f"comparison_{about.place}", f"{study.title}, {about.name}", caption, rows)


def _against(method: str, compared: pd.DataFrame, metric: str, measure: Measure) -> tuple[dict[str, object], str]:
    """A method's paired difference to the reference in one metric; a dash for the reference and where undefined."""
    names = ("difference", "low", "high", "effect_size", "p_value", "p_holm")
    scale = {name: measure.factor if name in SCALED else 1.0 for name in names}
    for pair in compared[compared["method"] == method].to_dict("records"):
        return {f"{metric}_{name}": scale[name] * pair[name] for name in names}, difference_text(pair, measure)
    return {f"{metric}_{name}": float("nan") for name in names}, NOTHING
