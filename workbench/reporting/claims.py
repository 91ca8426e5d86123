"""The claims that a profile's parameters make of its results, and what the results say of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from workbench.config.protocol import Claim
from workbench.reporting.words import Setting
from workbench.results.statistics import PairedComparison, holm, measured, shifted

SUPPORTED, REFUTED, OPEN, ABSENT = "supported", "contradicted", "inconclusive", "not measured"


@dataclass(frozen=True)
class Judged:
    """A claim on one setting; ``found`` is None where the metric was not measured."""

    claim: Claim
    about: Setting
    found: PairedComparison | None

    @property
    def family(self) -> tuple[str, str]:
        return self.about.key, self.claim.family


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
        Judged(claim, about, _found(claim, frame))
        for claim in claims
        for about, frame in groups
        if not claim.settings or about.key in claim.settings
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
    claim, about, found = judged.claim, judged.about, judged.found
    names = ("low", "high", "effect_size", "p_value", "p_wilcoxon", "p_holm")
    return {
        "claim": claim.name,
        "family": claim.family,
        "dataset": about.dataset,
        "backbone": about.backbone,
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
