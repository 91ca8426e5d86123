import math
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from workbench.results.statistics import compare, compared_frame, holm, mean_interval, measured, pairs, shifted


@pytest.fixture
def paired() -> tuple[list[float], list[float]]:
    draw = np.random.default_rng(0)
    reference = draw.normal(0.80, 0.01, 8)
    return (reference + draw.normal(0.006, 0.005, 8)).tolist(), reference.tolist()


def test_against_scipy(paired: tuple[list[float], list[float]]) -> None:
    values, reference = paired
    found, oracle = compare(values, reference), stats.ttest_rel(values, reference)
    interval = oracle.confidence_interval(0.95)
    assert (found.mean, found.sd) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert (found.reference_mean, found.reference_sd) == pytest.approx((np.mean(reference), np.std(reference, ddof=1)))
    assert found.difference == pytest.approx(np.mean(values) - np.mean(reference))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p_value == pytest.approx(oracle.pvalue)
    assert found.p_wilcoxon == pytest.approx(stats.wilcoxon(values, reference).pvalue)
    assert found.effect_size == pytest.approx(oracle.statistic / math.sqrt(8))
    assert found.n == 8 and math.isnan(found.p_holm)


def test_by_hand() -> None:
    found = compare([3.0, 5.0, 7.0], [1.0, 2.0, 3.0])  # differences 2, 3, 4: mean 3, sd 1
    assert (found.difference, found.effect_size) == pytest.approx((3, 3))
    half = 4.302652729911275 / math.sqrt(3)  # t quantile at 2 degrees of freedom
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half))


def test_one_seed_has_no_spread() -> None:
    found = compare([0.83], [0.82])
    assert found.difference == pytest.approx(0.01)
    undefined = (found.sd, found.low, found.high, found.p_value, found.p_wilcoxon, found.effect_size)
    assert all(math.isnan(number) for number in undefined)


def test_equal_runs_and_equal_differences_in_spite_of_rounding() -> None:
    reference = [0.1, 0.2, 0.7, 0.35, 0.91]
    found = compare(reference, reference)
    assert (found.difference, found.low, found.high, found.effect_size) == (0, 0, 0, 0)
    assert (found.p_value, found.p_wilcoxon) == (1, 1)
    found = compare([value - 0.1 for value in reference], reference)
    assert (found.low, found.high) == pytest.approx((-0.1, -0.1))
    assert (found.p_value, found.effect_size) == (0, -math.inf)
    assert found.p_wilcoxon == pytest.approx(2 / 2**5)


def test_pairs_without_difference_do_not_count_for_wilcoxon() -> None:
    found = compare([1.0, 2.0, 3.0, 4.5, 5.7, 6.9], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert found.p_wilcoxon == pytest.approx(2 / 2**3)


@pytest.mark.parametrize(
    ("values", "reference", "message"),
    [
        ([1.0, 2.0], [1.0], "expected one of each per seed"),
        ([], [], "expected one of each per seed"),
        ([1.0, math.nan], [1.0, 2.0], "expected finite numbers"),
        ([1.0, 2.0], [1.0, math.inf], "expected finite numbers"),
    ],
)
def test_bad_input(values: list[float], reference: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare(values, reference)


def test_holm_by_hand() -> None:
    # sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1 = 0.04, 0.06, 0.06, 0.04; made monotone: 0.06 at the end
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx((0.06, 0.04, 0.06, 0.06))
    assert holm([0.5, 0.6]) == (1.0, 1.0)
    assert holm([]) == ()
    assert holm([0.02, math.nan, 0.01]) == pytest.approx((0.02, math.nan, 0.02), nan_ok=True)  # it is left out


@pytest.mark.parametrize(
    ("methods", "references", "expected"),
    [
        ("abc", None, "ba ca cb"),
        ("abcde", "acd", "ba bc bd ca da dc ea ec ed"),
        ("ec", "ac", "ec"),
        ("abcde", "a", "ba ca da ea"),
        ("a", None, ""),
    ],
)
def test_every_pair_once(methods: str, references: str | None, expected: str) -> None:
    assert [method + reference for method, reference in pairs(methods, references)] == expected.split()


def test_a_family_is_paired_by_seed_and_adjusted_together() -> None:
    values = {"plain": [0.80, 0.82, 0.81], "sgt": [0.79, 0.80, 0.78], "smoot": [0.82, 0.85, 0.83]}
    orders = {"plain": [0, 1, 2], "smoot": [2, 0, 1], "sgt": [1, 2, 0]}
    rows = [(method, seed, values[method][seed]) for method, seeds in orders.items() for seed in seeds]
    frame = pd.DataFrame(rows, columns=["method", "seed", "accuracy"])
    found = compared_frame(frame, "accuracy", ("plain", "sgt", "smoot"))

    expected = [compare(values[method], values[reference]) for method, reference in pairs(tuple(values))]
    adjusted = holm([comparison.p_value for comparison in expected])
    assert list(zip(found.pop("method"), found.pop("reference"), strict=True)) == list(pairs(tuple(values)))
    rows = [asdict(replace(comparison, p_holm=p)) for comparison, p in zip(expected, adjusted, strict=True)]
    assert found.to_dict("records") == rows
    assert found["difference"][1] == pytest.approx(0.07 / 3) and found["p_holm"][1] > found["p_value"][1]


def test_a_missing_seed_is_named() -> None:
    frame = pd.DataFrame({"method": ["plain", "plain", "sgt"], "seed": [0, 7, 0], "accuracy": [0.8, 0.8, 0.7]})
    with pytest.raises(ValueError, match=r"cannot pair accuracy of sgt with plain: undefined for seeds \[7\]"):
        compared_frame(frame, "accuracy", ("plain", "sgt"))


def test_mean_interval_against_scipy() -> None:
    values = np.random.default_rng(1).normal(size=(5, 3))
    mean, low, high = mean_interval(values)
    for column in range(3):
        one = stats.ttest_1samp(values[:, column], 0).confidence_interval(0.95)
        assert (low[column], high[column]) == pytest.approx((one.low, one.high))
    assert mean == pytest.approx(values.mean(0))
    mean, low, high = mean_interval(values[:1])
    assert mean == pytest.approx(values[0]) and np.isnan(low).all() and np.isnan(high).all()


def test_a_margin_shifts_the_test_and_not_the_interval(paired: tuple[list[float], list[float]]) -> None:
    values, reference = paired
    found, plain = shifted(values, reference, margin=0.004), compare(values, reference)
    differences = np.subtract(values, reference)
    oracle = stats.ttest_1samp(differences, -0.004)
    interval = oracle.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p_value == pytest.approx(oracle.pvalue)
    assert found.p_wilcoxon == pytest.approx(stats.wilcoxon(differences + 0.004).pvalue)
    assert found.effect_size == pytest.approx((differences.mean() + 0.004) / differences.std(ddof=1))
    assert (found.difference, found.mean, found.sd) == pytest.approx((plain.difference, plain.mean, plain.sd))
    assert found.p_value < plain.p_value
    assert repr(shifted(values, reference)) == repr(plain)  # to the last digit; NaN is not equal to itself


def test_where_lower_is_better_an_improvement_is_a_fall() -> None:
    found = shifted([1.0, 2.0, 3.0], [3.0, 5.0, 7.0], better="lower", margin=1.0)  # improvements 2, 3, 4
    half = 4.302652729911275 / math.sqrt(3)
    assert (found.difference, found.low, found.high) == pytest.approx((3, 3 - half, 3 + half))
    assert (found.mean, found.reference_mean) == (2, 5)  # in their own direction
    assert found.effect_size == pytest.approx(4)  # of 3, 4, 5
    assert found.p_value == pytest.approx(stats.ttest_1samp([3, 4, 5], 0).pvalue)


@pytest.mark.parametrize("margin", [-0.001, math.nan])
def test_a_margin_is_not_negative(margin: float) -> None:
    with pytest.raises(ValueError, match=r"margin is .*: expected 0 or more"):
        shifted([1.0, 2.0], [1.0, 1.0], margin=margin)


def test_what_was_not_measured_has_no_comparisons() -> None:
    frame = pd.DataFrame({"method": ["plain", "plain", "sgt", "sgt"], "seed": [0, 1, 0, 1]})
    frame = frame.assign(a=[1.0, 2, 3, 5], b=[1, math.nan, 1, 1])
    assert [measured(frame, name) for name in "abc"] == [True, False, False]
    assert compared_frame(frame, "b", ("plain", "sgt")).empty and compared_frame(frame, "c", ("plain", "sgt")).empty
    found = compared_frame(frame, "a", ("plain", "sgt"))
    assert found[["method", "reference", "difference"]].to_numpy().tolist() == [["sgt", "plain", 2.5]]
    assert list(found.columns) == list(compared_frame(frame, "b", ("plain", "sgt")).columns)
