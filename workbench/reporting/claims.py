"""The claims that a profile's parameters make of its results, and what the results say of them."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from workbench.reporting.captions import Setting, all_facts
from workbench.reporting.metrics import Metric, quality
from workbench.reporting.questions import Claim
from workbench.reporting.table import Row, Table, blank_repeats, table
from workbench.reporting.words import NOTHING, display_name, fixed, interval
from workbench.results.statistics import PairedComparison, holm, measured, shifted

SUPPORTED, REFUTED, OPEN, ABSENT = "supported", "contradicted", "inconclusive", "not measured"
MARKS = {SUPPORTED: "✓", REFUTED: "✗", OPEN: "?"}


@dataclass(frozen=True)
class Judged:
    """A claim on one setting; ``found`` is None where the metric was not measured."""

    claim: Claim
    setting: Setting
    found: PairedComparison | None

    @property
    def family(self) -> tuple[str, str]:
        return self.setting.key, self.claim.family


def judge_claims(claims: Sequence[Claim], groups: Sequence[tuple[Setting, pd.DataFrame]]) -> pd.DataFrame:
    """Judge every claim on every setting that it is made for.

    The improvement is the method's mean advantage over the reference, paired by seed; a claim with a margin m
    is tested as `statistics.shifted` does. Holm's adjustment runs over the claims of one family on one setting.

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
    judged = [
        Judged(claim, setting, _found(claim, frame))
        for claim in claims
        for setting, frame in groups
        if not claim.settings or setting.key in claim.settings
    ]
    return pd.DataFrame([_row(one) for one in _adjusted(judged)])


def _found(claim: Claim, frame: pd.DataFrame) -> PairedComparison | None:
    """The claim's comparison on one setting, if all of it was measured."""
    own = frame[frame["method"].isin([claim.method, claim.reference])]
    if set(own["method"]) != {claim.method, claim.reference} or not measured(own, claim.metric):
        return None
    by_seed = own.pivot(index="seed", columns="method", values=claim.metric)
    if by_seed.isna().to_numpy().any():
        lacking = by_seed.index[by_seed.isna().any(axis=1)].tolist()
        raise ValueError(
            f"cannot judge {claim.name!r}: {claim.method} and {claim.reference} do not share the seeds {lacking}"
        )
    values, reference = by_seed[claim.method].tolist(), by_seed[claim.reference].tolist()
    return shifted(values, reference, better=claim.better, margin=claim.margin)


def _adjusted(judged: Sequence[Judged]) -> list[Judged]:
    """The same with Holm's adjustment within each setting's families."""
    raw = [one.found.p_value if one.found else math.nan for one in judged]
    adjusted = list(raw)
    for family in {one.family for one in judged}:
        places = [place for place, one in enumerate(judged) if one.family == family]
        for place, p in zip(places, holm([raw[place] for place in places]), strict=True):
            adjusted[place] = p
    return [
        replace(one, found=replace(one.found, p_holm=p)) if one.found else one
        for one, p in zip(judged, adjusted, strict=True)
    ]


def verdict(claim: Claim, found: PairedComparison | None) -> str:
    """What a comparison says of a claim: `SUPPORTED`, `REFUTED`, `OPEN` or `ABSENT`."""
    if found is None:
        return ABSENT
    if found.p_holm < claim.p and found.difference > -claim.margin:
        return SUPPORTED
    return REFUTED if found.high < -claim.margin else OPEN


def _row(judged: Judged) -> dict[str, object]:
    claim, setting, found = judged.claim, judged.setting, judged.found
    names = ("low", "high", "effect_size", "p_value", "p_wilcoxon", "p_holm")
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
        **{name: getattr(found, name) if found else math.nan for name in names},
        "p_required": claim.p,
        "verdict": verdict(claim, found),
    }


def claims_table(judged: pd.DataFrame, fills: Sequence[str], settings: Sequence[Setting]) -> Table:
    """Every claim on every setting, and what came of it.

    Args:
        judged: rows of `claims.judge_claims`.
        fills: what removed pixels were replaced by, in order.
        settings: the data sets and backbones, in order.
    """
    regions = {setting.key: setting.region for setting in settings}
    rows: list[Row] = []
    for found in judged.to_dict("records"):
        region = regions[f"{found['dataset']}-{found['backbone']}"]
        measure = quality(fills, [region]).get(found["metric"], Metric(found["metric"], "", 3, ""))
        effect, low, high, margin = (measure.factor * found[key] for key in ("effect", "low", "high", "margin"))
        missing = math.isnan(found["effect"])
        texts = {
            "Claim": f"{display_name(found['method'])}: {found['claim']}",
            "Family": found["family"],
            "Data": display_name(found["dataset"]),
            "Backbone": display_name(found["backbone"]),
            "Measure": measure.difference,
            "Improvement ↑": NOTHING if missing else interval(effect, low, high, measure.digits),
            "Margin": fixed(margin, measure.digits),
            "n": str(found["n"]),
            "p ↓": _p(found["p_holm"]),
            "p needed": f"{found['p_required']:g}",
            "Verdict": found["verdict"],
        }
        rows.append(({str(key): value for key, value in found.items()}, texts))
    caption = (
        "Claims as they stand in the profile's parameters, whatever came out. Improvement: advantage over the "
        "reference, positive where the method is better whatever the arrow, paired by seed, with 95 % confidence "
        "interval. A margin is how much worse still counts as not worse; p: paired t-test of improvement + margin "
        "against zero, Holm-adjusted over the claims of the same family on the same data set and backbone; nothing is "
        "adjusted over data sets and backbones. Supported: p below what is needed and improvement above −margin; not "
        "supported: the whole interval, which is not adjusted, below −margin; inconclusive: neither; not measured: the "
        "metric is undefined there. Intervals are over the networks' seeds; the judge is one network. Effect sizes in "
        f"the CSV file are of improvement + margin. {all_facts(settings)}"
    )
    return table("claims", "Claims and verdicts", caption, blank_repeats(rows, ("Claim", "Family")))


def claims_overview(judged: pd.DataFrame, fills: Sequence[str], settings: Sequence[Setting]) -> Table:
    """The claims at a glance: one line each, one column for every data set and backbone.

    Args:
        judged: rows of `claims.judge_claims`.
        fills: what removed pixels were replaced by, in order.
        settings: the data sets and backbones, in order.
    """
    rows: list[Row] = []
    for name, found in judged.groupby(["claim", "family", "method"], sort=False):
        claim, family, method = map(str, name)
        by_setting = {f"{row['dataset']}-{row['backbone']}": row for row in found.to_dict("records")}
        verdicts = {
            setting.key: by_setting[setting.key]["verdict"] for setting in settings if setting.key in by_setting
        }
        texts = {"Claim": f"{display_name(method)}: {claim}", "Family": family}
        texts |= {setting.name: _glance(by_setting.get(setting.key), fills, setting) for setting in settings}
        rows.append(({"claim": claim, "family": family} | verdicts, texts))
    caption = (
        "What came of each claim: ✓ supported, after Holm's adjustment within its family and setting; ✗ contradicted "
        "by the whole 95 % interval, which is not adjusted; ? inconclusive. Nothing is adjusted over settings. Beside "
        "it the mean improvement in the measure's own unit (points for shares); the rule, intervals and p-values: "
        "`claims.md`. "
        f"{all_facts(settings)}"
    )
    return table("claims_overview", "Claims at a glance", caption, rows)


def _glance(found: Mapping[Hashable, Any] | None, fills: Sequence[str], setting: Setting) -> str:
    """``✓ +0.86``; a dash where the claim was not made or not measured."""
    if found is None or found["verdict"] not in MARKS:
        return NOTHING
    measure = quality(fills, [setting.region])[found["metric"]]
    return f"{MARKS[found['verdict']]} {fixed(measure.factor * found['effect'], measure.digits, sign=True)}"


def _p(value: float) -> str:
    """A p-value alone: ``0.008``, ``< 0.001``."""
    if math.isnan(value):
        return NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
