"""The claims that a profile's parameters make of its results, and what the results say of them."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from workbench.reporting.captions import Setting, all_facts
from workbench.reporting.metrics import Metric
from workbench.reporting.questions import Claim
from workbench.reporting.table import SETTING, Row, Table, blank_repeats
from workbench.reporting.words import NOTHING, Titles, fixed, interval, probability
from workbench.results.statistics import PairedComparison, holm, measured, shifted

SUPPORTED, REFUTED, OPEN, ABSENT = "supported", "contradicted", "inconclusive", "not measured"
MARKS = {SUPPORTED: "✓", REFUTED: "✗", OPEN: "?"}
TESTED = ("low", "high", "effect_size", "p_value", "p_wilcoxon", "p_holm")  # fields of `PairedComparison`


def claim_verdicts(claims: Sequence[Claim], groups: Sequence[tuple[Setting, pd.DataFrame]]) -> pd.DataFrame:
    """The verdict on every claim in every setting that it is made for.

    The improvement is the method's mean advantage over the reference, paired by seed; a claim with a margin m
    is tested as `statistics.shifted` does. Holm's adjustment runs over the claims of one family in one setting.

    Args:
        claims: as in the profile's parameters.
        groups: for each data set and backbone its setting and one row of metrics per method and seed.

    Returns:
        One row per claim and setting, claim by claim: ``claim``, ``family``, ``dataset``, ``backbone``,
        ``metric``, ``better``, ``method``, ``reference``, ``margin``, ``n``, ``effect``, ``low``, ``high`` (the
        improvement and its 95 % confidence interval in the metric's own unit), ``effect_size``, ``p_value``,
        ``p_wilcoxon``, ``p_holm``, ``p_required``, ``verdict``.

    Raises:
        ValueError: if a method lacks a seed that its reference has, or no record has a claim's metric.
    """
    known = {str(column) for _, frame in groups for column in frame}
    for claim in claims:
        if claim.metric not in known:
            raise ValueError(f"claim {claim.name!r}: no record has the metric {claim.metric!r}: correct its name")
    verdicts = pd.DataFrame(
        [
            _row(claim, setting, _found(claim, frame))
            for claim in claims
            for setting, frame in groups
            if not claim.settings or setting.key in claim.settings
        ]
    )
    if verdicts.empty:
        return verdicts
    families = verdicts.groupby(["dataset", "backbone", "family"])["p_value"]
    verdicts["p_holm"] = families.transform(lambda p: np.array(holm(p.tolist())))
    return verdicts.assign(verdict=[verdict(row) for row in verdicts.to_dict("records")])


def _found(claim: Claim, frame: pd.DataFrame) -> PairedComparison | None:
    """The claim's comparison in one setting, if all of it was measured; by chance are random maps on the same runs."""
    own = frame[frame["method"] == claim.method].set_index("seed").sort_index()
    other = own if claim.against_chance else frame[frame["method"] == claim.reference].set_index("seed")
    metric = f"random_{claim.metric}" if claim.against_chance else claim.metric
    if own.empty or other.empty or not (measured(own, claim.metric) and measured(other, metric)):
        return None
    if lacking := own.index.symmetric_difference(other.index).tolist():
        raise ValueError(
            f"cannot decide {claim.name!r}: {claim.method} and {claim.reference} do not share the seeds {lacking}"
        )
    values, reference = own[claim.metric].tolist(), other.loc[own.index, metric].tolist()
    return shifted(values, reference, better=claim.better, margin=claim.margin)


def _row(claim: Claim, setting: Setting, found: PairedComparison | None) -> dict[str, object]:
    return {
        "claim": claim.name,
        "family": claim.family,
        "dataset": setting.dataset,
        "backbone": setting.backbone,
        "metric": claim.metric,
        "better": claim.better,
        "method": claim.method,
        "reference": claim.reference,
        "margin": claim.margin,
        "n": found.n if found else 0,
        "effect": found.difference if found else math.nan,
        **{name: getattr(found, name) if found else math.nan for name in TESTED},
        "p_required": claim.p,
    }


def verdict(row: Mapping[Hashable, Any]) -> str:
    """What the numbers of a row say of its claim: `SUPPORTED`, `REFUTED`, `OPEN` or `ABSENT`."""
    if row["n"] == 0:
        return ABSENT
    if row["p_holm"] < row["p_required"] and row["effect"] > -row["margin"]:
        return SUPPORTED
    return REFUTED if row["high"] < -row["margin"] else OPEN


def claims_table(verdicts: pd.DataFrame, methods: Titles, settings: Sequence[Setting]) -> Table:
    """Every claim in every setting, from the rows of :func:`claim_verdicts`."""
    by_key = {setting.key: setting for setting in settings}
    rows: list[Row] = []
    for found in verdicts.to_dict("records"):
        setting = by_key[f"{found['dataset']}-{found['backbone']}"]
        metric = _metric(found["metric"], setting)
        effect, low, high, margin = (metric.factor * found[key] for key in ("effect", "low", "high", "margin"))
        missing = math.isnan(found["effect"])
        texts = {
            "Claim": f"{methods[found['method']]}: {found['claim']}",
            SETTING: setting.name,
            "Measure": metric.difference,
            "Improvement ↑": NOTHING if missing else interval(effect, low, high, metric.digits),
            "Margin": fixed(margin, metric.digits),
            "p ↓": probability(found["p_holm"]).removeprefix("p ").removeprefix("= "),
            "Verdict": found["verdict"],
        }
        rows.append(({str(key): value for key, value in found.items()}, texts))
    caption = (
        "Claims written into the profile's parameters, with their results. Improvement: positive where the method is "
        f"better, paired by seed, with 95 % confidence interval. {all_facts(settings)}"
    )
    note = (
        "Improvement: advantage over the reference, whatever the arrow; its interval is not adjusted. Against chance: "
        "over a random map on the same networks. Margin: how much worse still counts as not worse. p: paired t-test of "
        "improvement + margin against zero, Holm-adjusted over the claims of one family in one setting; nothing is "
        "adjusted over settings. Supported: p below what the claim needs (in the CSV file, as its family and n), and "
        "improvement above −margin; contradicted: the whole interval below −margin; inconclusive: neither; not "
        "measured: the metric is undefined there. Intervals are over the networks' seeds; each judge is one network. "
        "Effect sizes in the CSV file are of improvement + margin."
    )
    return Table.of_rows("claims", "Claims and verdicts", caption, blank_repeats(rows, ("Claim",)), note)


def claims_overview(verdicts: pd.DataFrame, methods: Titles, settings: Sequence[Setting]) -> Table:
    """The rows of :func:`claim_verdicts` at a glance: one row per claim, one column per data set and backbone."""
    rows: list[Row] = []
    for name, found in verdicts.groupby(["claim", "family", "method"], sort=False):
        claim, family, method = map(str, name)
        by_setting = {f"{row['dataset']}-{row['backbone']}": row for row in found.to_dict("records")}
        found_there = {key: row["verdict"] for key, row in by_setting.items()}
        texts = {"Claim": f"{methods[method]}: {claim}"}
        texts |= {setting.name: _glance(by_setting.get(setting.key), setting) for setting in settings}
        rows.append(({"claim": claim, "family": family} | found_there, texts))
    caption = (
        "✓ supported, ✗ contradicted, ? inconclusive; numbers: mean improvement, in percentage points or the "
        f"measure's unit. {all_facts(settings)}"
    )
    note = (
        "Supported: after Holm's adjustment within the claim's family and setting; contradicted: by the whole 95 % "
        "interval, not adjusted. Nothing is adjusted over settings. Rule, intervals and p-values: `claims.md`."
    )
    return Table.of_rows("claims_overview", "Claims at a glance", caption, rows, note)


def _glance(found: Mapping[Hashable, Any] | None, setting: Setting) -> str:
    """``✓ +0.86``; a dash where the claim was not made or not measured."""
    if found is None or found["verdict"] not in MARKS:
        return NOTHING
    metric = _metric(found["metric"], setting)
    return f"{MARKS[found['verdict']]} {fixed(metric.factor * found['effect'], metric.digits, sign=True)}"


def _metric(name: str, setting: Setting) -> Metric:
    return setting.metrics.get(name, Metric(name, "", 3, ""))
