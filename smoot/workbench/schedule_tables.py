"""The tables of studies that look for a schedule: the oracle's grid, sweeps, the choice, gains under conditions.

Frames hold one row per method and seed of one data set and backbone; shares become per cent and points.
"""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from smoot.workbench import choice, oracle
from smoot.workbench.costs import read_costs
from smoot.workbench.measures import Measure, Measures
from smoot.workbench.oracle import Prices
from smoot.workbench.results import RunRecord, metrics_frame
from smoot.workbench.study import Choice, Study, remarks
from smoot.workbench.tabulation import SPREAD, Row, blank_repeats, difference_text, head, summarised, table
from smoot.workbench.typesetting import NOTHING, Setting, Table, display_name, fixed, interval, plus_minus

SCALED = ("mean", "sd", "reference_mean", "reference_sd", "difference", "low", "high")
TIMED = (
    "measured steps (CPU, float32, `results/benchmarks/step_cost.csv`, straight lines between no, half and all images "
    "masked)"
)
COUNTED = (
    "passes counted in forwards: a plain step 3; one that masks the share r of its images 3 + 3r, plus 1 for saliency "
    "from the same forward or 2 for saliency from a forward of its own; backward passes count 2, to the inputs only 1"
)
UNCLEAR, WORSE = " ○", " ✗"  # behind a gain that is not one


def build(study: Study, records: Sequence[RunRecord], histories: pd.DataFrame, about: Setting) -> Iterator[Table]:
    """The tables that a study asks of this module, for one data set and backbone.

    Args:
        study: which exhibits, and what gains are taken to.
        records: of this data set and backbone.
        histories: one row per epoch; those of other settings are left out.
        about: what the captions say of the runs.
    """
    own = histories[(histories["dataset"] == about.dataset) & (histories["backbone"] == about.backbone)]
    end = f"{remarks(study, records)} {about.facts}. {about.origin}".lstrip()
    frame, measures, configs = metrics_frame(records), oracle.headline(records, about), oracle.method_configs(records)
    if "oracle" in study.exhibits:
        cells = oracle.read_grid(configs)
        scheduled = oracle.scheduled_methods(configs)
        lines = oracle.standings(cells, scheduled, frame, list(measures), study.reference)
        prices = oracle.read_prices(records, own, read_costs(), cells)
        yield oracle_table(lines, cells, prices, measures, about, end)
    if "sweep" in study.exhibits:
        yield sweep_table(choice.sweeps(configs), frame, measures, about, end)
    if study.choice is not None:
        known = oracle.known_measures(records, about)
        yield choice_table(frame, study.choice, known, about, end)
    if study.conditions:
        gains = choice.condition_gains(frame, study.conditions, study.reference, list(measures))
        yield conditions_table(gains, study.reference, measures, about, end)


def oracle_table(
    lines: pd.DataFrame, cells: pd.DataFrame, prices: Prices, measures: Measures, about: Setting, end: str
) -> Table:
    """The reference, the best constant plans in hindsight, and what schedules reach of them.

    Args:
        lines: as from `oracle.standings`; the numbers hold the grid's cells too.
        cells: as from `oracle.read_grid`.
        prices: what training them costs.
        measures: what is shown, in order.
        about: names the data set and backbone.
        end: of the caption.
    """
    shares = cells.set_index("method")
    shown = []
    for (kind, of, method), own in lines[lines["kind"] != "cell"].groupby(["kind", "of", "method"], sort=False):
        name = display_name(str(method))
        if of:
            cell = "held out" if kind == "held_out" else _plan(shares, str(method))
            name = f"Best plan for {_small(measures[str(of)])} ({cell})"
        texts = {"Method": name}
        for row in own.to_dict("records"):
            texts |= _standing(row, measures[row["metric"]])
        shown.append(texts | {"Cost (plain trainings) ↓": fixed(_price(str(kind), str(method), prices), 1)})
    reference = display_name(str(lines["method"].iloc[0]))
    images, pixels = (_percents(sorted(set(cells[axis]))) for axis in oracle.AXES)
    caption = (
        f"The grid: {len(cells)} constant plans that mask {images} of the images and {pixels} of their pixels. Best: "
        "the plan with the best mean over seeds, chosen in hindsight; held out: chosen on all seeds but one and scored "
        f"on that one, which is what a search finds. {SPREAD[0].upper()}{SPREAD[1:]}; gain: minus {reference}, paired "
        "by seed, with 95 % confidence interval, not adjusted; of the best plan's gain: as a share of what the "
        f"best plan for this measure gains, {NOTHING} where the interval of that gain is not above zero. Cost: of one "
        "training, for the best plans one of every plan of the grid, in "
        f"{TIMED if prices.measured else COUNTED}. {end}"
    )
    data = _scaled(lines, measures).merge(cells, on="method", how="left")
    cost = [_price(row["kind"], row["method"], prices) for row in lines.to_dict("records")]
    name, title = f"oracle_{about.place}", f"The best constant plan and the schedules, {about.name}"
    return Table(name, title, caption, data.assign(cost=cost), pd.DataFrame(shown))


def _small(measure: Measure) -> str:
    return measure.label[0].lower() + measure.label[1:]


def _percents(levels: Sequence[float]) -> str:
    """``20, 50 or 100 %``."""
    words = [f"{100 * level:g}" for level in levels]
    return f"{' or '.join([', '.join(words[:-1]), words[-1]] if len(words) > 1 else words)} %"


def _plan(shares: pd.DataFrame, method: str) -> str:
    """``80 % of images, 30 % of pixels``."""
    images, pixels = (100 * float(shares[axis][method]) for axis in oracle.AXES)
    return f"{images:g} % of images, {pixels:g} % of pixels"


def _standing(row: Mapping[Hashable, Any], measure: Measure) -> dict[str, str]:
    """Value, gain and share of the best plan's gain in one measure."""
    values = {name: measure.factor * row[name] for name in SCALED}
    gain = interval(values["difference"], values["low"], values["high"], measure.digits)
    reference = row["kind"] == "reference"
    return {
        measure.header: plus_minus(values["mean"], values["sd"], measure.digits),
        f"{measure.label}: gain": NOTHING if reference else gain,
        f"{measure.label}: of the best plan's gain (%)": NOTHING if reference else fixed(100 * row["share"], 0),
    }


def _price(kind: str, method: str, prices: Prices) -> float:
    """Of one line: plain, a whole search, or its own; undefined for a single cell."""
    fixed_prices = {"reference": 1.0, "oracle": prices.search, "held_out": prices.search}
    return fixed_prices.get(kind, prices.methods.get(method, math.nan))


def _scaled(rows: pd.DataFrame, measures: Measures) -> pd.DataFrame:
    """The same comparisons in the units that tables show."""
    factor = rows["metric"].map({metric: measure.factor for metric, measure in measures.items()})
    return rows.assign(**{name: factor * rows[name] for name in SCALED})


def sweep_table(members: pd.DataFrame, frame: pd.DataFrame, measures: Measures, about: Setting, end: str) -> Table:
    """How much each constant matters; the numbers hold every method of the sweeps.

    Args:
        members: as from `choice.sweeps`.
        frame: the metrics for each method and seed.
        measures, about, end: as for `oracle_table`.
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
        "depends on it; seeds alone make it larger than zero. k: share of the pixels of every image; τ: share of the "
        "saliency that may be masked; kmax: largest share of pixels; κ: budget of lost information; β: memory of the "
        f"running means; λ: weight of the consistency. The CSV file holds every value's mean ± sd. {end}"
    )
    title = f"How much each constant matters, {about.name}"
    return Table(f"sweep_{about.place}", title, caption, pd.DataFrame(numbers), pd.DataFrame(lines))


def _values(row: Mapping[Hashable, Any]) -> str:
    return f"{row['values']} from {row['smallest']:g} to {row['largest']:g}"


def choice_table(frame: pd.DataFrame, rule: Choice, known: Measures, about: Setting, end: str) -> Table:
    """The candidates and what the rule made of them.

    Args:
        frame: the metrics for each method and seed.
        rule: written before the runs.
        known: how each metric is shown.
        about, end: as for `oracle_table`.
    """
    chosen = choice.choose(frame, rule)
    measures = {metric: known.get(metric, Measure(metric, "", 3)) for metric in (rule.accuracy, *rule.faithfulness)}
    rows: list[Row] = []
    for row in chosen.table.to_dict("records"):
        own = frame[frame["method"] == row["method"]]
        numbers, texts = summarised(own, measures)
        said = {
            "Accurate enough": "✓" if row["eligible"] else WORSE.strip(),
            "Faithfulness score ↑": fixed(row["score"], sign=True),
            "Rank": fixed(row["rank"], 0),
            "Chosen in resamples (%)": fixed(100 * row["chosen_share"], 0),
        }
        keys = {str(key): value for key, value in row.items() if key != "accuracy"}
        rows.append((keys | {"n": len(own)} | numbers, head({"method": row["method"]}) | texts | said))
    accuracy, measured = measures[rule.accuracy], [_small(measures[metric]) for metric in rule.faithfulness]
    unit = "points" if accuracy.unit == "%" else accuracy.unit
    margin = f"{fixed(accuracy.factor * rule.margin, accuracy.digits)} {unit}".rstrip()
    again = f"in {fixed(100 * chosen.share, 0)} % of {choice.RESAMPLES:,} resamples of the seeds"
    caption = (
        f"The rule, written before the runs: of the candidates whose mean {_small(accuracy)} is at most {margin} below "
        f"the best one's, the one with the highest faithfulness score, the mean of the seed means' z-scores over all "
        f"candidates in {'; '.join(measured)}. Chosen: {display_name(chosen.name)}, {again}: the choice is "
        f"{'stable' if chosen.stable else 'not stable'} ({fixed(100 * choice.STABLE, 0)} % asked for). "
        f"{SPREAD[0].upper()}{SPREAD[1:]}. {end}"
    )
    return table(f"choice_{about.place}", f"The choice, {about.name}", caption, rows)


def conditions_table(gains: pd.DataFrame, reference: str, measures: Measures, about: Setting, end: str) -> Table:
    """What methods gain over the reference at each level of each condition, gains that are none included.

    Args:
        gains: as from `choice.condition_gains`.
        reference: what gains are taken to.
        measures, about, end: as for `oracle_table`.
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
    name, title = f"conditions_{about.place}", f"Gains under other conditions, {about.name}"
    return Table(name, title, caption, _scaled(gains, measures), display)


def gain_mark(gain: Mapping[Hashable, Any]) -> str:
    """What stands behind a gain whose interval is not above zero, or lies below it."""
    if gain["low"] > 0:
        return ""
    return WORSE if gain["high"] < 0 else UNCLEAR
