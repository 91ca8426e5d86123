"""What a study recommends: the rule written beforehand, how much each constant matters, where the gain holds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from smoot.workbench.oracle import Config, by_seed, check_measured, family, is_constant
from smoot.workbench.statistics import compare, holm
from smoot.workbench.study import Choice, Condition

Array: TypeAlias = npt.NDArray[np.float64]
RESAMPLES = 10_000
ROUNDING = 1e-9  # stored metrics have 6 decimals: this far below the margin is at it
GRADIENTS: Mapping[str, Config] = {  # family of a sweep over the share of pixels: its guidance
    "SGT as published": {"of": "log_prob", "reduction": "signed_mean", "detach_target": False},
    "SGT improved": {"of": "log_odds", "reduction": "mean_abs", "detach_target": True},
}
ADAPTIVE = "SMOOT"  # the family of sweeps over one constant of the adaptive schedule: key and symbol
CONSTANTS = {
    "plan.mask_fraction": "k",
    "plan.mass": "τ",
    "plan.max_fraction": "kmax",
    "adaptive.budget": "κ",
    "adaptive.decay": "β",
    "guidance.kl_weight": "λ",
}


@dataclass(frozen=True)
class Chosen:
    """What the rule chose.

    Attributes:
        name: the method.
        table: one row per candidate, in order: ``method``, ``accuracy`` (mean over seeds), ``eligible``,
            ``z_METRIC`` for each measure of faithfulness, ``score`` (their mean), ``rank`` among the eligible
            (NaN for the others), ``chosen_share`` of the resamples of seeds (NaN with one seed), ``left_out``: on
            how many of the sets that leave one seed out it is chosen.
        least: the accuracy from which on candidates are eligible.
        seeds: their number.
    """

    name: str
    table: pd.DataFrame
    least: float
    seeds: int

    @property
    def runner_up(self) -> str | None:
        """The second of those that are accurate enough, if there are two."""
        second = self.table.loc[self.table["rank"] == 2, "method"].tolist()
        return str(second[0]) if second else None


def choose(frame: pd.DataFrame, choice: Choice) -> Chosen:
    """Apply the rule: of the candidates near the most accurate one, the one with the most faithful maps.

    Eligible is whose mean accuracy is at most the margin below the best candidate's. The faithfulness score is the
    mean of the z-scores, over all candidates, of the seed means of its metrics. The best score wins; of equals
    the first.

    Args:
        frame: the metrics for each method and seed; all candidates have the same seeds.
        choice: the rule.

    Raises:
        ValueError: for a metric that is missing or undefined in a run of a candidate; names both.
    """
    values = _values(frame, choice)
    means = values.mean(axis=1)
    z = _z_scores(means[..., 1:])
    score, eligible = z.mean(axis=-1), _eligible(means, choice.margin)
    ranked = pd.Series(np.where(eligible, score, math.nan)).rank(ascending=False, method="first")
    table = pd.DataFrame({"method": choice.candidates, "accuracy": means[:, 0], "eligible": eligible})
    for place, metric in enumerate(choice.faithfulness):
        table[f"z_{metric}"] = z[:, place]
    shares, without = _chosen_shares(values, choice.margin), _left_out(values, choice.margin)
    table = table.assign(score=score, rank=ranked, chosen_share=shares, left_out=without)
    winner, least = int(_winners(means, choice.margin)), float(means[:, 0].max()) - choice.margin
    return Chosen(choice.candidates[winner], table, least, values.shape[1])


def on_all_images(choice: Choice) -> Choice:
    """The rule with the judge's gap on all images where it asks for that on rightly answered ones."""
    asked = dict.fromkeys(metric.replace("judge_gap_right_", "judge_gap_") for metric in choice.faithfulness)
    return replace(choice, faithfulness=tuple(asked))


def seed_scores(frame: pd.DataFrame, choice: Choice) -> pd.DataFrame:
    """Each candidate's ``accuracy`` and faithfulness ``score`` seed by seed, on the scale of the seed means."""
    values = _values(frame, choice)
    means = values.mean(axis=1)[:, 1:]
    scores = _z_scores(values[..., 1:], means).mean(axis=-1)
    seeds = sorted(frame["seed"].unique())
    index = pd.MultiIndex.from_product([choice.candidates, seeds], names=["method", "seed"])
    columns = {"accuracy": values[..., 0].ravel(), "score": scores.ravel()}
    return pd.DataFrame(columns, index=index).reset_index()


def _values(frame: pd.DataFrame, choice: Choice) -> Array:
    """Candidates × seeds × metrics, accuracy first."""
    own = frame[frame["method"].isin(choice.candidates)]
    columns = []
    for metric in (choice.accuracy, *choice.faithfulness):
        check_measured(own, [metric])
        wide = by_seed(own, metric).reindex(columns=list(choice.candidates))
        undefined = wide.columns[wide.isna().any()].tolist()
        if undefined:
            raise ValueError(
                f"cannot choose by {metric!r}: {undefined} lack seeds, expected the same of every candidate"
            )
        columns.append(wide.to_numpy(dtype=np.float64).T)
    return np.stack(columns, axis=-1)


def _z_scores(values: Array, means: Array | None = None) -> Array:
    """Values ``(..., candidates, metrics)`` in standard deviations over the candidates' means; 0 where these agree.

    With ``means`` ``(candidates, metrics)`` the values are ``(candidates, seeds, metrics)`` on the means' scale.
    """
    scale = values if means is None else means
    centre, spread = scale.mean(axis=-2, keepdims=True), scale.std(axis=-2, keepdims=True)
    return np.asarray((values - centre) / np.where(spread > ROUNDING, spread, math.inf))


def _eligible(means: Array, margin: float) -> npt.NDArray[np.bool_]:
    """Which of the candidates ``(..., candidates, metrics)`` lose no more accuracy than the margin."""
    best = means[..., 0].max(axis=-1, keepdims=True)
    return np.asarray(means[..., 0] >= best - margin - ROUNDING)


def _winners(means: Array, margin: float) -> npt.NDArray[np.intp]:
    """The place of the chosen candidate, for means ``(..., candidates, metrics)``."""
    score = _z_scores(means[..., 1:]).mean(axis=-1)
    return np.asarray(np.where(_eligible(means, margin), score, -math.inf).argmax(axis=-1))


def _chosen_shares(values: Array, margin: float) -> Array:
    """How often each candidate is chosen when seeds are drawn with replacement; NaN with one seed."""
    candidates, seeds, _ = values.shape
    if seeds < 2:
        return np.full(candidates, math.nan)
    draws = np.random.default_rng(0).multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES) / seeds
    means = np.einsum("bs,csm->bcm", draws, values)
    return np.bincount(_winners(means, margin), minlength=candidates) / RESAMPLES


def _left_out(values: Array, margin: float) -> npt.NDArray[np.intp]:
    """On how many of the sets that leave one seed out each candidate is chosen; none with one seed."""
    candidates, seeds, _ = values.shape
    rest = [np.delete(values, seed, axis=1).mean(axis=1) for seed in range(seeds)] if seeds > 1 else []
    return np.bincount([int(_winners(means, margin)) for means in rest], minlength=candidates)


def sweeps(configs: Mapping[str, Config]) -> pd.DataFrame:
    """The families of methods that differ in one constant: ``family``, ``constant``, ``value``, ``method``.

    For each of `GRADIENTS` the methods that mask a share of pixels of every image; and for each of `CONSTANTS` the
    largest group of adaptive methods that differ in nothing else.

    Raises:
        ValueError: if two methods of a family have the same value, or there is nothing to compare.
    """
    adaptive = {name: config for name, config in configs.items() if config["schedule"] == "adaptive"}
    found = []
    for title, guidance in GRADIENTS.items():
        asked = {name: config for name, config in configs.items() if _masks_all(config, guidance)}
        found.append((title, "k", family(asked, ["plan.mask_fraction"])))
    found += [(ADAPTIVE, constant, family(adaptive, [key])) for key, constant in CONSTANTS.items()]
    swept = [
        own.set_axis(["method", "value"], axis="columns").assign(family=title, constant=constant).sort_values("value")
        for title, constant, own in found
        if len(own) > 1
    ]
    for own in swept:
        twice = own.loc[own["value"].duplicated(keep=False), "method"].tolist()
        if twice:
            raise ValueError(f"the methods {twice} are the same: expected one for each value of a sweep")
    if not swept:
        raise ValueError(f"no two of the methods {list(configs)} differ in one swept constant: expected a sweep")
    return pd.concat(swept, ignore_index=True)[["family", "constant", "value", "method"]]


def _masks_all(config: Config, guidance: Config) -> bool:
    """Whether a method masks a fixed share of pixels of every image and ranks and compares them like this."""
    alike = all(config["guidance"][key] == value for key, value in guidance.items())
    return is_constant(config) and config["plan"]["image_fraction"] == 1 and alike


def sensitivity(members: pd.DataFrame, frame: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """How far the seed means of each metric lie apart within each sweep, and where the best one is.

    Args:
        members: as from :func:`sweeps`.
        frame: the metrics for each method and seed.
        metrics: higher is better.

    Returns:
        One row per family and constant: ``family``, ``constant``, ``values``, ``smallest``, ``largest``, and for
        each metric ``low_METRIC``, ``high_METRIC``, ``range_METRIC``, ``best_METRIC`` (the constant's value).
    """
    rows = []
    for (title, constant), own in members.groupby(["family", "constant"], sort=False):
        row = {"family": title, "constant": constant, "values": len(own)}
        row |= {"smallest": own["value"].min(), "largest": own["value"].max()}
        for metric in metrics:
            means = by_seed(frame, metric)[own["method"].tolist()].mean().to_numpy()
            row |= {f"low_{metric}": means.min(), f"high_{metric}": means.max(), f"range_{metric}": np.ptp(means)}
            row[f"best_{metric}"] = own["value"].iloc[int(means.argmax())]
        rows.append(row)
    return pd.DataFrame(rows)


def condition_gains(
    frame: pd.DataFrame, conditions: Sequence[Condition], reference: str, metrics: Sequence[str]
) -> pd.DataFrame:
    """What each method gains over the reference at each level of each condition, paired by seed.

    Args:
        frame: the metrics for each method and seed.
        conditions, reference: level by level, and the base method of each that gains are taken to.
        metrics: what is compared.

    Returns:
        One row per condition, base method and metric: ``axis``, ``level``, ``method``, ``metric``, the fields of
        `statistics.PairedComparison`; ``p_holm`` is over the rows of an axis and metric.
    """
    rows = []
    for condition in conditions:
        for base, metric in product([base for base in condition.methods if base != reference], metrics):
            wide = by_seed(frame, metric)
            found = compare(wide[condition.methods[base]].tolist(), wide[condition.methods[reference]].tolist())
            rows.append({"axis": condition.axis, "level": condition.level, "method": base, "metric": metric})
            rows[-1] |= asdict(found)
    gains = pd.DataFrame(rows)
    gains["p_holm"] = gains.groupby(["axis", "metric"])["p_value"].transform(lambda p: np.array(holm(p.tolist())))
    return gains
