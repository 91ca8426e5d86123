"""The tables of studies that look for a schedule: the oracle's grid, sweeps, gains under conditions.

Frames hold one row per method and seed of one data set and backbone; shares become per cent and points.
"""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from workbench.reporting import captions
from workbench.reporting.captions import Setting
from workbench.reporting.metrics import Metric, Metrics
from workbench.reporting.questions import Study
from workbench.reporting.table import SPREAD, Row, Table, blank_repeats, difference_text, summarised
from workbench.reporting.words import NOTHING, display_name, fixed, interval, plus_minus
from workbench.results.costs import read_costs
from workbench.results.records import RunRecord, metrics_frame
from workbench.studies import choice, oracle
from workbench.studies.choice_tables import choice_table
from workbench.studies.effect_tables import SCALED, scaled
from workbench.studies.prices import Prices, read_prices

TIMED = (
    "measured steps (CPU, float32, `results/benchmarks/step_cost.csv`, straight lines between no, half and all images "
    "masked)"
)
COUNTED = (
    "passes counted in forwards: a plain step 3; one that masks the share r of its images 3 + 3r, plus 1 for saliency "
    "from the same forward, 2 from a forward of its own, 0 from the loss's own backward; backward passes count 2, "
    "to the inputs only 1"
)
UNCLEAR, WORSE = " ○", " ✗"  # behind a gain that is not one


def build(study: Study, records: Sequence[RunRecord], histories: pd.DataFrame, setting: Setting) -> Iterator[Table]:
    """The tables that a study asks of this module, for one data set and backbone.

    Args:
        study: which exhibits, and what gains are taken to.
        records: of this data set and backbone.
        histories: one row per epoch; those of other settings are left out.
        setting: what the captions say of the runs.

    Raises:
        ValueError: if a record lacks a metric that a table needs, or the methods are not what an exhibit asks for.
    """
    frame, measures, configs = metrics_frame(records), oracle.headline(records, setting), oracle.method_configs(records)
    end = f"{captions.ending(study, records, setting, measures)} {setting.origin}"
    if "oracle" in study.exhibits:
        cells = oracle.read_grid(configs)
        scheduled = oracle.scheduled_methods(configs)
        (judged,) = (metric.replace("_right", "") for metric in measures if metric.startswith("judge_gap_right"))
        beside = oracle.shown((judged,), records, setting)
        lines = oracle.standings(cells, scheduled, frame, list(measures), study.reference, (judged,))
        prices = read_prices(records, captions.of_setting(histories, setting), read_costs(), cells)
        yield oracle_table(lines, cells, prices, {**measures, **beside}, setting, end)
    if "sweep" in study.exhibits:
        yield sweep_table(choice.sweeps(configs), frame, measures, setting, end)
    if study.choice is not None:
        known = oracle.known_measures(records, setting)
        yield choice_table(frame, study.choice, study.reference, known, setting, end)
    if study.conditions:
        gains = choice.condition_gains(frame, study.conditions, study.reference, list(measures))
        yield conditions_table(gains, study.reference, measures, setting, end)


def oracle_table(
    lines: pd.DataFrame, cells: pd.DataFrame, prices: Prices, measures: Metrics, setting: Setting, end: str
) -> Table:
    """The reference, the best constant plans in hindsight, and what schedules reach of them.

    Args:
        lines: as from `oracle.standings`; the numbers hold the grid's cells too.
        cells: as from `oracle.read_grid`.
        prices: what training them costs.
        measures: what is shown, in order, also of those that no oracle is sought for.
        setting: names the data set and backbone.
        end: of the caption.
    """
    shares, seeds = cells.set_index("method"), int(lines["n"].iloc[0])
    shown = []
    for (kind, of, method), own in lines[lines["kind"] != "cell"].groupby(["kind", "of", "method"], sort=False):
        name = display_name(str(method))
        if of:
            cell = "held out" if kind == "held_out" else _plan(shares, str(method))
            name = f"Best plan for {_small(measures[str(of)])} ({cell})"
        texts = {"Method": name}
        for row in own.to_dict("records"):
            texts |= _standing(row, measures[row["metric"]], sought=row["metric"] in set(lines["of"]))
        price = _price(str(kind), str(method), seeds, prices)
        shown.append(texts | {"Cost (plain trainings) ↓": fixed(price, 1)})
    reference = display_name(str(lines["method"].iloc[0]))
    images, pixels = (_percents(sorted(set(cells[axis]))) for axis in oracle.AXES)
    caption = (
        f"The grid: {len(cells)} constant plans that mask {images} of the images and {pixels} of their pixels. Best: "
        "the plan with the best mean over seeds, chosen in hindsight; held out: chosen on all seeds but one and scored "
        f"on that one, which is what a search finds. {SPREAD[0].upper()}{SPREAD[1:]}; gain: minus {reference}, paired "
        "by seed, with 95 % confidence interval, not adjusted: those of best plans ignore that they were chosen, and "
        "held-out scores of several seeds are not independent. Of the held-out gain: as a share of what the best plan "
        f"for this measure gains held out, {NOTHING} where the interval of that gain is not above zero. Cost: of one "
        f"training; of a best plan one training of each of the {len(cells)} plans with every seed that chose it (all "
        f"{seeds}, held out {seeds - 1}); in {TIMED if prices.measured else COUNTED}. {end}"
    )
    data = scaled(lines, measures).merge(cells, on="method", how="left")
    cost = [_price(row["kind"], row["method"], seeds, prices) for row in lines.to_dict("records")]
    name, title = f"oracle_{setting.place}", f"The best constant plan and the schedules, {setting.name}"
    return Table(name, title, caption, data.assign(cost=cost), pd.DataFrame(shown))


def _small(measure: Metric) -> str:
    return measure.label[0].lower() + measure.label[1:]


def _percents(levels: Sequence[float]) -> str:
    """``20, 50 or 100 %``."""
    words = [f"{100 * level:g}" for level in levels]
    return f"{' or '.join([', '.join(words[:-1]), words[-1]] if len(words) > 1 else words)} %"


def _plan(shares: pd.DataFrame, method: str) -> str:
    """``80 % of images, 30 % of pixels``."""
    images, pixels = (100 * float(shares[axis][method]) for axis in oracle.AXES)
    return f"{images:g} % of images, {pixels:g} % of pixels"


def _standing(row: Mapping[Hashable, Any], measure: Metric, *, sought: bool) -> dict[str, str]:
    """Value, gain and, if an oracle was sought for it, share of the held-out gain in one measure."""
    values = {name: measure.factor * row[name] for name in SCALED}
    gain = interval(values["difference"], values["low"], values["high"], measure.digits)
    reference = row["kind"] == "reference"
    share = {f"{measure.label}: of the held-out gain (%)": NOTHING if reference else fixed(100 * row["share"], 0)}
    return {
        measure.header: plus_minus(values["mean"], values["sd"], measure.digits),
        f"{measure.label}: gain": NOTHING if reference else gain,
    } | (share if sought else {})


def _price(kind: str, method: str, seeds: int, prices: Prices) -> float:
    """Of one line: plain, a search over the seeds that choose, or its own; undefined for a single cell."""
    fixed_prices = {"reference": 1.0, "oracle": seeds * prices.search, "held_out": (seeds - 1) * prices.search}
    return fixed_prices.get(kind, prices.methods.get(method, math.nan))


def sweep_table(members: pd.DataFrame, frame: pd.DataFrame, measures: Metrics, setting: Setting, end: str) -> Table:
    """How much each constant matters; the numbers hold every method of the sweeps.

    Args:
        members: as from `choice.sweeps`.
        frame: the metrics for each method and seed.
        measures, setting, end: as for `oracle_table`.
    """
    found = choice.sensitivity(members, frame, list(measures))
    lines = []
    for row in found.to_dict("records"):
        texts = {"Method": f"{row['family']}: {row['constant']}", "Values": _values(row)}
        for metric, measure in measures.items():
            low, high, width = (measure.factor * row[f"{part}_{metric}"] for part in ("low", "high", "range"))
            texts[measure.header] = f"{fixed(low, measure.digits)} to {fixed(high, measure.digits)}"
            texts[f"{measure.label}: range (points) ↓"] = fixed(width, measure.digits)
            texts[f"{measure.label}: best at"] = f"{row[f'best_{metric}']:g}"
        lines.append(texts)
    numbers = []
    for row in members.to_dict("records"):
        own = frame[frame["method"] == row["method"]]
        numbers.append({str(key): value for key, value in row.items()} | {"n": len(own)} | summarised(own, measures)[0])
    caption = (
        "Lowest and highest mean over seeds while one constant is swept and all else stays: the range says how much "
        "depends on it, but seeds alone make it larger than zero, and it grows with the number of values and with "
        "their span, which stand beside each constant. k: share of the pixels of every image; τ: share of the "
        "saliency that may be masked; kmax: largest share of pixels; κ: budget of lost information; β: memory of the "
        f"running means; λ: weight of the consistency. The CSV file holds every value's mean ± sd. {end}"
    )
    title = f"How much each constant matters, {setting.name}"
    return Table(f"sweep_{setting.place}", title, caption, pd.DataFrame(numbers), pd.DataFrame(lines))


def _values(row: Mapping[Hashable, Any]) -> str:
    return f"{row['values']} from {row['smallest']:g} to {row['largest']:g}"


def conditions_table(gains: pd.DataFrame, reference: str, measures: Metrics, setting: Setting, end: str) -> Table:
    """What methods gain over the reference at each level of each condition, gains that are none included.

    Args:
        gains: as from `choice.condition_gains`.
        reference: what gains are taken to.
        measures, setting, end: as for `oracle_table`.
    """
    rows: list[Row] = []
    for (axis, level, method), own in gains.groupby(["axis", "level", "method"], sort=False):
        keys = {"axis": str(axis), "level": str(level), "method": str(method)}
        texts = {"Condition": str(axis), "Level": str(level), "Method": display_name(str(method))}
        for row in own.to_dict("records"):
            measure = measures[row["metric"]]
            texts[f"{display_name(reference)}: {measure.header}"] = plus_minus(
                measure.factor * row["reference_mean"], measure.factor * row["reference_sd"], measure.digits
            )
            texts[f"{measure.label}: gain"] = difference_text(row, measure) + gain_mark(row)
        rows.append((dict(keys), texts))
    caption = (
        f"Gain: minus {display_name(reference)} under the same condition, paired by seed, with 95 % confidence "
        "interval (not adjusted); p: paired t-test, Holm-adjusted over the lines of a condition in the same measure."
        f"{UNCLEAR}: the interval is not above zero;{WORSE}: it lies below zero. {SPREAD[0].upper()}{SPREAD[1:]}. {end}"
    )
    display = pd.DataFrame([texts for _, texts in blank_repeats(rows, ("Condition", "Level"))])
    name, title = f"conditions_{setting.place}", f"Gains under other conditions, {setting.name}"
    return Table(name, title, caption, scaled(gains, measures), display)


def gain_mark(gain: Mapping[Hashable, Any]) -> str:
    """What stands behind a gain whose interval is not above zero, or lies below it."""
    if gain["low"] > 0:
        return ""
    return WORSE if gain["high"] < 0 else UNCLEAR
