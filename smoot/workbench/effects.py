"""What each choice of a mask does: a factorial over ranking, fill and target, paired over seeds.

How pixels are ranked, what masked ones become, and whether the gradient goes through the target of the consistency
term are read from the methods' own configurations. Either every combination was run (``cross``), or each factor was
varied alone from the baselines (``star``). The effect of a level is the mean over the pairs of cells that differ in
that factor alone, level minus baseline, one number per seed; so in a star it is the difference from the centre.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import product
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from scipy import stats

from smoot.workbench.oracle import check_measured, flat_config, method_configs
from smoot.workbench.results import RunRecord
from smoot.workbench.statistics import PairedComparison, compare, holm

FACTORS: Mapping[str, tuple[str, ...]] = {  # levels in the order of tables, the baseline first
    "ranking": ("magnitude", "signed", "random", "protected", "highest"),
    "fill": ("uniform", "mean", "constant", "worst_case"),
    "target": ("detached", "through"),
}
BASELINE = tuple(levels[0] for levels in FACTORS.values())
# Where cells may differ: their levels, and what a level brings with it.
FREE = {"plan.ranking", "plan.protected", "guidance.reduction", "guidance.fill", "guidance.fill_value"}
FREE |= {"guidance.detach_target"}
CHANGE = "first_order_change"
Design: TypeAlias = Literal["cross", "star"]
Combination: TypeAlias = tuple[str, ...]  # a level of each factor


def factor_levels(records: Sequence[RunRecord]) -> pd.DataFrame:
    """The cells of the factorial: the methods that mask every image by a constant plan.

    Returns:
        One row per method, ``method`` and its level of each factor, in the order of the levels.

    Raises:
        ValueError: if there is no such method, if two are the same combination or differ in anything but the
            factors, or if the combinations are neither a full cross nor a star.
    """
    configs = method_configs(records)
    constant = {method: config for method, config in configs.items() if config["schedule"] == "constant"}
    cells = {method: config for method, config in constant.items() if config["plan"]["image_fraction"] == 1}
    if not cells:
        raise ValueError(f"methods are {', '.join(configs)}: expected some that mask every image by a constant plan")
    _check_rest(cells)
    order = [*product(*FACTORS.values())]
    placed = sorted(cells, key=lambda method: order.index(_combination(cells[method])))
    levels = pd.DataFrame([(m, *_combination(cells[m])) for m in placed], columns=["method", *FACTORS])
    design(levels)
    return levels


def _combination(config: Mapping[str, Any]) -> tuple[str, str, str]:
    """The level of each factor that a method has."""
    plan, guidance = config["plan"], config["guidance"]
    signed = guidance["reduction"] == "signed_mean"
    ranking = ("signed" if signed else "magnitude") if plan["ranking"] == "saliency" else plan["ranking"]
    return ranking, guidance["fill"], "detached" if guidance["detach_target"] else "through"


def _check_rest(cells: Mapping[str, Mapping[str, Any]]) -> None:
    """Everything but the factors is the same in all cells; otherwise it would pass for an effect."""
    flat = {method: flat_config(config) for method, config in cells.items()}
    rest = {method: {key: own[key] for key in own if key not in FREE} for method, own in flat.items()}
    (first, expected), *others = rest.items()
    for method, found in others:
        for key in sorted(expected.keys() | found.keys()):
            if found.get(key) != expected.get(key):
                raise ValueError(
                    f"method {method!r} has {key} {found.get(key)!r} and {first!r} has {expected.get(key)!r}: "
                    f"expected cells of a factorial to differ in {', '.join(FACTORS)} alone"
                )


def _combinations(levels: pd.DataFrame) -> list[Combination]:
    """The combination of each cell, in order."""
    return [tuple(map(str, row)) for row in levels[list(FACTORS)].to_numpy().tolist()]


def design(levels: pd.DataFrame) -> Design:
    """How the cells lie: every combination of the levels that occur, or one factor at a time from the baselines.

    Raises:
        ValueError: if they are neither, if a combination is there twice, or if a factor is varied without its
            baseline.
    """
    found = _combinations(levels)
    doubled = [combination for combination in dict.fromkeys(found) if found.count(combination) > 1]
    if doubled:
        methods = [m for m, c in zip(levels["method"], found, strict=True) if c == doubled[0]]
        raise ValueError(f"methods {', '.join(methods)} are all {', '.join(doubled[0])}: expected one a combination")
    present = {factor: set(levels[factor]) for factor in FACTORS}
    for factor, own in present.items():
        if len(own) > 1 and FACTORS[factor][0] not in own:
            raise ValueError(f"{factor} is one of {', '.join(sorted(own))}: expected its baseline {FACTORS[factor][0]}")
    missing = set(product(*present.values())) - set(found)
    if not missing:
        return "cross"
    if BASELINE in found and all(_distance(combination, BASELINE) <= 1 for combination in found):
        return "star"
    named = "; ".join(", ".join(combination) for combination in sorted(missing))
    raise ValueError(f"the factorial has no {named}: expected every combination, or one factor varied at a time")


def _distance(combination: Combination, other: Combination) -> int:
    """In how many factors two combinations differ."""
    return sum(one != two for one, two in zip(combination, other, strict=True))


def main_effects(frame: pd.DataFrame, levels: pd.DataFrame, metrics: Iterable[str]) -> pd.DataFrame:
    """The effect of every level on every metric; Holm's adjustment runs over the effects on one metric.

    Args:
        frame: the metrics of each method and seed of one data set and backbone.
        levels: as from `factor_levels`.
        metrics: measured in every run of the cells.

    Returns:
        One row per metric and level: ``metric``, ``factor``, ``level``, ``baseline``, ``pairs`` (of cells), then
        the fields of `statistics.PairedComparison`, ``mean`` being that of the level.

    Raises:
        ValueError: if a run of a cell lacks a metric, or a cell a seed.
    """
    rows: list[dict[str, Any]] = []
    for metric, by_cell in _measured(frame, levels, metrics).items():
        found = []
        for factor, level, baseline in _contrasts(levels):
            pairs = _pairs(by_cell, factor, level, baseline)
            effect = compare(*(_mean([by_cell[cell] for cell in side]) for side in zip(*pairs, strict=True)))
            keys = {"factor": factor, "level": level, "baseline": baseline, "pairs": len(pairs)}
            found.append(keys | asdict(effect))
        rows.extend({"metric": metric} | row for row in _adjusted(found))
    return pd.DataFrame(rows, columns=["metric", "factor", "level", "baseline", "pairs", *_FIELDS])


_FIELDS = tuple(PairedComparison.__dataclass_fields__)


def _measured(
    frame: pd.DataFrame, levels: pd.DataFrame, metrics: Iterable[str]
) -> dict[str, dict[Combination, np.ndarray]]:
    """For each metric its values over the seeds by combination."""
    own = frame[frame["method"].isin(levels["method"])]
    combinations = dict(zip(levels["method"], _combinations(levels), strict=True))
    values: dict[str, dict[Combination, np.ndarray]] = {}
    for metric in metrics:
        check_measured(own, [metric])
        wide = own.pivot(index="seed", columns="method", values=metric)
        lacking = [method for method in combinations if method not in wide or wide[method].isna().any()]
        if lacking:
            raise ValueError(f"cannot pair {metric}: expected the same seeds of every method, {lacking} lack some")
        values[metric] = {cell: wide[method].to_numpy(dtype=float) for method, cell in combinations.items()}
    return values


def _contrasts(levels: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Factor, level, baseline: every level that occurs but the baselines."""
    present = {factor: set(levels[factor]) for factor in FACTORS}
    return [
        (factor, level, known[0])
        for factor, known in FACTORS.items()
        for level in known[1:]
        if level in present[factor] and known[0] in present[factor]
    ]


def _pairs(cells: Collection[Combination], factor: str, level: str, baseline: str) -> list[tuple[Combination, ...]]:
    """The cells at the level, each with the one that differs from it in being at the baseline."""
    place = list(FACTORS).index(factor)
    at_level = [cell for cell in cells if cell[place] == level]
    both = [(cell, (*cell[:place], baseline, *cell[place + 1 :])) for cell in at_level]
    return [pair for pair in both if pair[1] in cells]


def _mean(values: Sequence[np.ndarray]) -> list[float]:
    """The mean over cells, seed by seed."""
    return list(map(float, np.mean(values, axis=0)))


def _adjusted(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows as one family for Holm's adjustment."""
    adjusted = holm([row["p_value"] for row in rows])
    return [row | {"p_holm": p} for row, p in zip(rows, adjusted, strict=True)]


def interactions(frame: pd.DataFrame, levels: pd.DataFrame, metrics: Iterable[str]) -> pd.DataFrame:
    """How the effect of a ranking changes with the fill: differences of differences to both baselines.

    Returns:
        One row per metric, ranking and fill: ``metric``, ``ranking``, ``fill``, ``pairs``, then the fields of
        `statistics.PairedComparison`: ``mean`` is the ranking's effect with this fill, ``reference_mean`` that with
        the baseline's; one family a metric. Without rows for a star, which has no such cells.
    """
    rows: list[dict[str, Any]] = []
    for metric, by_cell in _measured(frame, levels, metrics).items():
        found = []
        for ranking, fill in product(FACTORS["ranking"][1:], FACTORS["fill"][1:]):
            corners = [
                [(r, f, target) for f in (fill, BASELINE[1]) for r in (ranking, BASELINE[0])]
                for target in FACTORS["target"]
            ]
            whole = [corner for corner in corners if set(corner) <= by_cell.keys()]
            if whole:
                both, rest, own, base = (_mean([by_cell[corner[place]] for corner in whole]) for place in range(4))
                effect = compare(np.subtract(both, rest).tolist(), np.subtract(own, base).tolist())
                found.append({"ranking": ranking, "fill": fill, "pairs": len(whole)} | asdict(effect))
        rows.extend({"metric": metric} | row for row in _adjusted(found))
    return pd.DataFrame(rows, columns=["metric", "ranking", "fill", "pairs", *_FIELDS])


def with_change(frame: pd.DataFrame, histories: pd.DataFrame, levels: pd.DataFrame) -> pd.DataFrame:
    """The frame with what masking changes in the label's log-probability to first order, by method and seed.

    It is the median over epochs, each of which measures it on its last batch.

    Raises:
        ValueError: if the histories do not hold it, or not for every run of the cells.
    """
    if CHANGE not in histories:
        raise ValueError(f"the histories have no column {CHANGE!r}: train the runs again")
    change = histories.groupby(["method", "seed"])[CHANGE].median().reset_index()
    found = frame.drop(columns=CHANGE, errors="ignore").merge(change, on=["method", "seed"], how="left")
    check_measured(found[found["method"].isin(levels["method"])], [CHANGE])
    return found


def correlation(frame: pd.DataFrame, levels: pd.DataFrame, metric: str) -> float:
    """Spearman's rank correlation over cells of a metric with the first-order change; both are means over seeds.

    Without p-value: cells that share levels are no independent draws. NaN for fewer than three, or if all are alike.
    """
    own = frame[frame["method"].isin(levels["method"])]
    means = own.groupby("method")[[CHANGE, metric]].mean()
    if len(means) < 3 or (means.nunique() < 2).any():
        return math.nan
    return float(stats.spearmanr(means[CHANGE], means[metric]).statistic)


def fill_correlations(frame: pd.DataFrame, levels: pd.DataFrame, metric: str) -> dict[str, float]:
    """`correlation` over the cells of each fill that has three or more."""
    fills = levels.groupby("fill", sort=False)
    return {str(fill): correlation(frame, own, metric) for fill, own in fills if len(own) > 2}
