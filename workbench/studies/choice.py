"""Which rule becomes the default? The selection rule of studies/number/params.yaml, over all regimes of the study.

A regime is one profile of the study with one of its networks. The rule was written down before any of the networks was
evaluated; these are its three steps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

PROFILES = ("number", "number_few", "number_resnet")
LATER = ("number_noise", "number_many", "number_vit")  # trained after the choice, which they do not change
CANDIDATES = (
    "competence_signed",
    "gap",
    "gap_turns",
    "per_image_loss",
    "per_image_model",
    "per_image_right",
    "per_image_public",
    "first_order",
    "first_order_4",
)
CONTROLS = (  # numbers fixed beforehand, numbers of other images, random masks, no masks
    "ramp",
    "share_10",
    "share_25",
    "share_50",
    "signed_k20",
    "per_image_shuffled",
    "random_mask",
    "random_k20",
    "gap_random",
    "sgt_improved",
    "plain",
)
MEASURES = (
    "judge_gap_right_mean",
    "judge_gap_right_black",
    "second_judge_gap_right_mean",
    "second_judge_gap_right_black",
    "relevance_mass",
)
BASELINE = "plain"
LIMIT, SLACK = 0.003, 0.001  # of accuracy: how much less is still as accurate, and what is added where nobody is
RESAMPLES = 10_000
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Regime:
    """The runs of one regime.

    Attributes:
        name: as tables show it.
        frame: method, seed and metrics of every run.
        costs: of each method, relative to plain training.
    """

    name: str
    frame: pd.DataFrame
    costs: Mapping[str, float]

    def differences(self, metric: str) -> pd.DataFrame:
        """Each method's metric minus plain training's: one row per seed, one column per method."""
        values = self.frame.pivot(index="seed", columns="method", values=metric)
        return values.sub(values[BASELINE], axis=0)


def choose(regimes: Sequence[Regime]) -> pd.DataFrame:
    """The candidates in the order of the selection rule.

    Args:
        regimes: each with plain training and the candidates that were trained in all of them.

    Returns:
        One row per candidate: ``method``; ``worst_accuracy``, the mean difference to plain training in its worst
        regime; ``accurate``, whether that is within the limit; ``score`` and, among the accurate ones, ``behind`` the
        first with its standard error ``behind_se``; ``cost``, the mean over regimes; ``chosen``, for one row.

    Raises:
        ValueError: if no candidate was trained in all regimes.
    """
    named = [name for name in CANDIDATES if all(name in regime.costs for regime in regimes)]
    if not named:
        raise ValueError(f"no candidate was trained in all of {[regime.name for regime in regimes]}")
    worst = _worst_accuracy(regimes, named)
    limit = (-LIMIT if (worst >= -LIMIT).any() else worst.max() - SLACK) - 1e-9
    resampled = _resampled_scores(regimes, named)
    rows = pd.DataFrame(
        {
            "method": named,
            "worst_accuracy": worst,
            "accurate": worst >= limit,
            "score": standard_scores(regimes, named),
            "cost": np.mean([[regime.costs[name] for name in named] for regime in regimes], axis=0),
        }
    )
    left = rows["score"].where(rows["accurate"])
    first = int(np.nanargmax(left.to_numpy()))
    rows["behind"] = (left.max() - left).to_numpy()
    rows["behind_se"] = np.where(rows["accurate"], (resampled[:, [first]] - resampled).std(axis=0), np.nan)
    as_good = rows["accurate"] & (rows["behind"] <= rows["behind_se"])
    chosen = rows["cost"].where(as_good).idxmin()
    return rows.assign(chosen=rows.index == chosen).sort_values(["accurate", "score"], ascending=False)


def compared(regimes: Sequence[Regime], chosen: str, others: Sequence[str]) -> pd.DataFrame:
    """The chosen rule's standard score beside those of other methods; plain training's is 0.

    Returns:
        One row for each of the others, which all regimes have: ``method``; ``worst_accuracy`` as of a candidate; its
        ``score``; ``ahead``, by how much the rule's is higher, and the standard error ``ahead_se`` of that difference.
    """
    named = [chosen, *others]
    resampled = _resampled_scores(regimes, named)
    rows = pd.DataFrame({"method": named, "worst_accuracy": _worst_accuracy(regimes, named)})
    rows["score"] = standard_scores(regimes, named)
    rows["ahead"] = rows["score"][0] - rows["score"]
    rows["ahead_se"] = (resampled[:, [0]] - resampled).std(axis=0)
    return rows[1:]


def _worst_accuracy(regimes: Sequence[Regime], methods: Sequence[str]) -> Array:
    """Mean difference in accuracy to plain training, in the regime where it is lowest."""
    return np.asarray(np.min([regime.differences("accuracy")[list(methods)].mean() for regime in regimes], axis=0))


def standard_scores(regimes: Sequence[Regime], methods: Sequence[str]) -> Array:
    """Mean over regimes and measures of each method's standard score.

    A standard score is the mean difference to plain training, divided by the standard deviation of these means over all
    other methods of the regime.
    """
    return np.asarray(np.mean([one.mean(0) for regime in regimes for one in _scaled(regime, methods)], axis=0))


def _scaled(regime: Regime, methods: Sequence[str]) -> list[Array]:
    """For each measure the scaled differences to plain training: one row per seed, one column per method."""
    found = [regime.differences(measure) for measure in MEASURES]
    scales = [one.drop(columns=BASELINE).mean().std(ddof=1) for one in found]
    return [one[list(methods)].to_numpy() / scale for one, scale in zip(found, scales, strict=True)]


def _resampled_scores(regimes: Sequence[Regime], methods: Sequence[str]) -> Array:
    """`standard_scores` of `RESAMPLES` resamples of the seeds of each regime, one row each."""
    draws, total = np.random.default_rng(0), np.zeros((RESAMPLES, len(methods)))
    for regime in regimes:
        scaled = _scaled(regime, methods)
        seeds = len(scaled[0])
        weights = draws.multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES) / seeds
        total += sum(weights @ one for one in scaled)
    return total / (len(regimes) * len(MEASURES))
