"""The table of recipes in the documents, and what is said of learning rate and weight: recomputed from the runs."""

import re

import pytest
from paired import difference, prose, shown, table

TEXT = prose("docs/deviations.md")
RUNS = table("recipe")
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


def over_plain(method: str, measure: str, digits: int) -> str:
    return shown(difference(RUNS, method, "plain", measure), digits, "+")


@pytest.mark.parametrize(("words", "method"), ROWS.items())
def test_every_row_of_the_table(words: str, method: str) -> None:
    assert f"| {words} | {over_plain(method, 'accuracy', 2)} | {over_plain(method, GAP, 1)} |" in TEXT


def test_the_row_of_the_learning_rate() -> None:
    plain, signed = (
        (over_plain(f"{method}_lr_high", "accuracy", 2), over_plain(f"{method}_lr_high", GAP, 1))
        for method in ("plain", "signed_k20")
    )
    words = f"| learning rate 0.01 (plain training: {plain[0]}, {plain[1]}) | {signed[0]} | {signed[1]} |"
    assert words in TEXT and f"table of {RUNS['method'].nunique()} recipes" in TEXT


def test_what_the_higher_rate_does_in_every_family() -> None:
    means = RUNS.groupby("method")["accuracy"].mean()
    for family in FAMILIES:
        assert difference(RUNS, f"{family}_lr_high", family, "accuracy").mean() > 0
        assert difference(RUNS, f"{family}_lr_high", family, GAP).mean() < 0
    low, high = (sorted(FAMILIES, key=lambda family: means[family + end]) for end in ("", "_lr_high"))
    places = [low.index(family) for family in ("signed_k20", "sgt_improved")]
    assert abs(places[0] - places[1]) == 1
    low[places[0]], low[places[1]] = low[places[1]], low[places[0]]
    assert low == high


def test_what_a_smaller_weight_does_to_sgt() -> None:
    gain, kept = (difference(RUNS, "sgt_weight_low", "sgt", measure) for measure in ("accuracy", GAP))
    assert f"gains {shown(gain, 1).replace(' [', ' points [')} and keeps its judge's gap ({shown(kept, 1)})" in TEXT
    behind = difference(RUNS, "plain", "sgt_weight_low", "accuracy").mean()
    assert re.search(rf"stays {behind:.1f} points below plain", TEXT)
