"""Comparisons paired over seeds.

Two methods that share a seed share initialisation, subset, validation split and order of the data, so the
differences are taken seed by seed. Tests and intervals are SciPy's; degenerate cases, which it leaves undefined or
warns of, have defined answers here:

- one seed: no spread, so sd, interval, effect size and both p-values are NaN;
- all differences equal and not zero: the interval is that one value, the t-test's p is 0 and the effect
  size infinite (Wilcoxon's p keeps its floor of 2 / 2^n);
- all differences zero: interval [0, 0], both p-values 1, effect size 0.

With 5 seeds Wilcoxon's p cannot fall below 0.0625.

A claim that a method is *not worse* than a reference allows a margin m: `shifted` tests whether the
improvement d differs from -m, that is whether d + m differs from zero. With m = 0 it is a plain paired test.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

CONFIDENCE = 0.95
EQUAL = 1e-12  # differences that spread less than this (stored numbers have 6 decimals) are equal


@dataclass(frozen=True)
class PairedComparison:
    """A method against a reference over the same seeds.

    Attributes:
        n: number of pairs.
        mean, sd: of the method (sd with n - 1).
        reference_mean, reference_sd: of the reference.
        difference: mean of method minus reference.
        low, high: 95 % confidence interval of the difference (t distribution).
        p_value: two-sided paired t-test.
        p_wilcoxon: two-sided signed-rank test.
        effect_size: Cohen's d_z, the mean difference in standard deviations of the differences.
        p_holm: ``p_value`` adjusted within its family; NaN outside of one.
    """

    n: int
    mean: float
    sd: float
    reference_mean: float
    reference_sd: float
    difference: float
    low: float
    high: float
    p_value: float
    p_wilcoxon: float
    effect_size: float
    p_holm: float = math.nan


def mean_interval(values: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], ...]:
    """Mean and the two ends of its 95 % confidence interval over the first axis; NaN ends for one row."""
    array = np.asarray(values, dtype=np.float64)
    n, mean = array.shape[0], array.mean(axis=0)
    if n < 2:
        return mean, np.full_like(mean, math.nan), np.full_like(mean, math.nan)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * array.std(axis=0, ddof=1) / math.sqrt(n)
    return mean, mean - half, mean + half


def sample_sd(values: npt.ArrayLike) -> float:
    """Standard deviation with n - 1; NaN for one value."""
    array = np.asarray(values, dtype=np.float64)
    return float(array.std(ddof=1)) if array.size > 1 else math.nan


def compare(values: Sequence[float], reference: Sequence[float]) -> PairedComparison:
    """Compare a method with a reference, seed by seed.

    Raises:
        ValueError: if the two differ in length, are empty or hold a number that is not finite.
    """
    first, second = np.asarray(values, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or not first.size:
        raise ValueError(f"cannot pair {first.shape} values with {second.shape}: expected one of each per seed")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError(f"cannot compare {first.tolist()} with {second.tolist()}: expected finite numbers")
    difference = first - second
    low, high, p_value, effect_size = _t_statistics(difference)
    return PairedComparison(
        n=first.size,
        mean=float(first.mean()),
        sd=sample_sd(first),
        reference_mean=float(second.mean()),
        reference_sd=sample_sd(second),
        difference=float(difference.mean()),
        low=low,
        high=high,
        p_value=p_value,
        p_wilcoxon=_wilcoxon(difference),
        effect_size=effect_size,
    )


def shifted(
    values: Sequence[float],
    reference: Sequence[float],
    *,
    better: Literal["higher", "lower"] = "higher",
    margin: float = 0.0,
) -> PairedComparison:
    """Compare a method with a reference, where being worse by less than a margin still counts as not worse.

    Args:
        values, reference: one of each per seed.
        better: whether a higher or a lower value is an improvement.
        margin: in the values' own unit; 0 or more.

    Returns:
        ``difference``, ``low`` and ``high`` are of the improvement d (positive where the method is better);
        both p-values and the effect size are of d + margin against zero. A small p says that d differs from
        -margin; compare ``difference`` with it to see in which direction.

    Raises:
        ValueError: as `compare`; also for a negative margin.
    """
    if not margin >= 0:
        raise ValueError(f"margin is {margin}: expected 0 or more, in the unit of the values")
    sign = 1.0 if better == "higher" else -1.0
    found = compare((sign * np.asarray(values)).tolist(), (sign * np.asarray(reference)).tolist())
    moved = compare((sign * np.asarray(values) + margin).tolist(), (sign * np.asarray(reference)).tolist())
    tested = {name: getattr(moved, name) for name in ("p_value", "p_wilcoxon", "effect_size")}
    return replace(found, mean=sign * found.mean, reference_mean=sign * found.reference_mean, **tested)


def _t_statistics(difference: npt.NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Ends of the interval, p of the t-test, effect size."""
    mean, sd = float(difference.mean()), sample_sd(difference)
    if difference.size < 2:
        return math.nan, math.nan, math.nan, math.nan
    if sd < EQUAL:
        same = abs(mean) < EQUAL
        return mean, mean, float(same), 0.0 if same else math.copysign(math.inf, mean)
    test = stats.ttest_1samp(difference, 0.0)
    low, high = test.confidence_interval(CONFIDENCE)
    return float(low), float(high), float(test.pvalue), mean / sd


def _wilcoxon(difference: npt.NDArray[np.float64]) -> float:
    if difference.size < 2:
        return math.nan
    changed = np.round(difference[np.abs(difference) >= EQUAL], 12)  # equal differences are ties
    return float(stats.wilcoxon(changed).pvalue) if changed.size else 1.0


def holm(p_values: Iterable[float]) -> tuple[float, ...]:
    """Holm's step-down adjustment; undefined (NaN) values stay so and do not count."""
    p = np.array([*p_values], dtype=np.float64)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN sorts last
    adjusted = np.full_like(p, math.nan)
    stepped = p[order] * np.arange(order.size, 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(stepped))
    return tuple(adjusted.tolist())


def pairs(methods: Sequence[str], references: Sequence[str] | None = None) -> Iterator[tuple[str, str]]:
    """Every pair (method, reference) once; of two references, the later one in ``methods`` is the method.

    With ``references`` None, every method is a reference.
    """
    references = methods if references is None else references
    for index, method in enumerate(methods):
        for reference in references:
            known = reference in methods and reference != method
            if known and not (method in references and methods.index(reference) > index):
                yield method, reference


def measured(frame: pd.DataFrame, metric: str) -> bool:
    """Whether the frame has a metric, defined in every row."""
    return metric in frame and not frame[metric].isna().any()


def compared_frame(
    frame: pd.DataFrame, metric: str, methods: Sequence[str], references: Sequence[str] | None = None
) -> pd.DataFrame:
    """All pairs of one metric on one data set and backbone: one family for Holm's adjustment.

    Args:
        frame: one row per method and seed, with columns ``method``, ``seed`` and the metric.
        metric: the column to compare.
        methods, references: as for `pairs`.

    Returns:
        One row per pair: ``method``, ``reference``, then the fields of `PairedComparison`. No rows if the metric was
        not measured in every run.

    Raises:
        ValueError: if a method lacks a seed that another one has.
    """
    columns = ["method", "reference", *(field.name for field in fields(PairedComparison))]
    if not measured(frame, metric):
        return pd.DataFrame(columns=columns)
    by_seed = frame.pivot(index="seed", columns="method", values=metric)
    rows = []
    for method, reference in pairs(methods, references):
        both = by_seed[[method, reference]]
        if lacking := both.index[both.isna().any(axis=1)].tolist():
            raise ValueError(f"cannot pair {metric} of {method} with {reference}: undefined for seeds {lacking}")
        rows.append([method, reference, *astuple(compare(both[method].tolist(), both[reference].tolist()))])
    found = pd.DataFrame(rows, columns=columns)
    return found.assign(p_holm=holm(found["p_value"]))
