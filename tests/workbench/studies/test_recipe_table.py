"""The table of recipes in the documents, and what is said of learning rate and weight: recomputed from the runs."""

import re

import pandas as pd
import pytest
from scipy import stats

from workbench.config import paths

TEXT = " ".join((paths.ROOT / "docs" / "deviations.md").read_text().split())
GAP = "judge_gap_right_mean"
ROWS = {
    "signed, mean fill, k = 20 %": "signed_k20",
    "ranked by magnitude": "magnitude_mean_k20",
    "uniform fill": "signed_uniform_k20",
    "k = 50 %": "signed_k50",
    "gradient through the target too": "signed_k20_target",
    "log p in place of the log-odds": "signed_k20_score",
    "weight λ = 0.3": "signed_k20_weight_low",
    "weight λ = 3": "signed_k20_weight_high",
}
FAMILIES = ("plain", "random_k20", "sgt", "sgt_improved", "signed_k20", "gap")


def runs() -> pd.DataFrame:
    (file,) = (paths.ROOT / "results" / "recipe").glob("*/runs.csv")
    return pd.read_csv(file)


def difference(method: str, other: str, measure: str) -> "pd.Series[float]":
    values = runs().pivot(index="seed", columns="method", values=measure)
    return 100 * (values[method] - values[other])


def shown(method: str, measure: str, digits: int, other: str = "plain", sign: str = "+") -> str:
    values = difference(method, other, measure)
    low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    mean, low, high = (f"{number:{sign}.{digits}f}".replace("-", "−") for number in (values.mean(), low, high))
    return f"{mean} [{low}, {high}]"


@pytest.mark.parametrize(("words", "method"), ROWS.items())
def test_every_row_of_the_table(words: str, method: str) -> None:
    assert f"| {words} | {shown(method, 'accuracy', 2)} | {shown(method, GAP, 1)} |" in TEXT


def test_the_row_of_the_learning_rate() -> None:
    plain, signed = (
        (shown(f"{method}_lr_high", "accuracy", 2), shown(f"{method}_lr_high", GAP, 1))
        for method in ("plain", "signed_k20")
    )
    words = f"| learning rate 0.01 (plain training: {plain[0]}, {plain[1]}) | {signed[0]} | {signed[1]} |"
    assert words in TEXT and f"table of {runs()['method'].nunique()} recipes" in TEXT


def test_what_the_higher_rate_does_in_every_family() -> None:
    means = runs().groupby("method")["accuracy"].mean()
    for family in FAMILIES:
        assert difference(f"{family}_lr_high", family, "accuracy").mean() > 0
        assert difference(f"{family}_lr_high", family, GAP).mean() < 0
    low, high = (sorted(FAMILIES, key=lambda family: means[family + end]) for end in ("", "_lr_high"))
    places = [low.index(family) for family in ("signed_k20", "sgt_improved")]
    assert abs(places[0] - places[1]) == 1
    low[places[0]], low[places[1]] = low[places[1]], low[places[0]]
    assert low == high


def test_what_a_smaller_weight_does_to_sgt() -> None:
    gain = shown("sgt_weight_low", "accuracy", 1, "sgt", "").replace(" [", " points [")
    assert f"gains {gain} and keeps its judge's gap ({shown('sgt_weight_low', GAP, 1, 'sgt', '')})" in TEXT
    assert re.search(rf"stays {-difference('sgt_weight_low', 'plain', 'accuracy').mean():.1f} points below plain", TEXT)
