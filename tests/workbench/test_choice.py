import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_oracle import changed, config_of, grid_configs, plan_of, small_frame

from smoot.workbench import choice
from smoot.workbench.statistics import compare, holm
from smoot.workbench.study import Choice, Condition

RULE = Choice(("a", "b", "c"), "accuracy", 0.01, ("gap", "stability"))


def frame_of(values: dict[str, dict[str, list[float]]]) -> pd.DataFrame:
    """From candidate: metric: one value a seed."""
    rows = []
    for method, metrics in values.items():
        for seed in range(len(next(iter(metrics.values())))):
            rows.append({"method": method, "seed": seed} | {name: found[seed] for name, found in metrics.items()})
    return pd.DataFrame(rows)


VALUES = {
    "a": {"accuracy": [0.80, 0.82], "gap": [0.20, 0.22], "stability": [0.5, 0.6]},
    "b": {"accuracy": [0.80, 0.805], "gap": [0.30, 0.32], "stability": [0.6, 0.6]},
    "c": {"accuracy": [0.70, 0.72], "gap": [0.90, 0.94], "stability": [0.9, 0.9]},
    "other": {"accuracy": [0.99, 0.99], "gap": [9.0, 9.0], "stability": [9.0, 9.0]},
}


def test_the_most_faithful_of_those_that_are_accurate_enough() -> None:
    chosen = choice.choose(frame_of(VALUES), RULE)
    assert chosen.name == "b"  # c is more faithful, but loses ten points; others are no candidates
    assert chosen.least == pytest.approx(0.80)
    table = chosen.table.set_index("method")
    assert table["accuracy"].tolist() == pytest.approx([0.81, 0.8025, 0.71])
    assert table["eligible"].tolist() == [True, True, False]
    gap, stability = stats.zscore([0.21, 0.31, 0.92]), stats.zscore([0.55, 0.6, 0.9])
    assert table["z_gap"].tolist() == pytest.approx(gap)
    assert table["z_stability"].tolist() == pytest.approx(stability)
    assert table["score"].tolist() == pytest.approx((gap + stability) / 2)
    assert table["rank"].tolist() == pytest.approx([2, 1, math.nan], nan_ok=True)


def test_the_margin_counts_its_end_and_nothing_beyond() -> None:
    values = {"a": {"accuracy": [0.83], "gap": [0.1]}, "b": {"accuracy": [0.827], "gap": [0.2]}}
    rule = Choice(("a", "b"), "accuracy", 0.003, ("gap",))
    assert choice.choose(frame_of(values), rule).name == "b"
    values["b"]["accuracy"] = [0.826999]
    assert choice.choose(frame_of(values), rule).name == "a"


def test_equals_are_chosen_in_order_and_agreement_says_nothing() -> None:
    same = {"accuracy": [0.8, 0.8], "gap": [0.3, 0.3]}
    rule = Choice(("b", "a"), "accuracy", 0.0, ("gap",))
    chosen = choice.choose(frame_of({"a": same, "b": same}), rule)
    assert chosen.name == "b" and chosen.runner_up == "a"
    assert chosen.table["chosen_share"].tolist() == [1, 0] and chosen.table["left_out"].tolist() == [2, 0]
    assert chosen.table["score"].tolist() == [0, 0]
    assert chosen.table["rank"].tolist() == [1, 2]


def test_resampling_two_seeds_gives_their_binomial_shares() -> None:
    # a: best on seed 0 and on both; b: on seed 1 twice
    values = {"a": {"accuracy": [0.8, 0.8], "gap": [0.9, 0.1]}, "b": {"accuracy": [0.8, 0.8], "gap": [0.2, 0.6]}}
    chosen = choice.choose(frame_of(values), Choice(("a", "b"), "accuracy", 0.0, ("gap",)))
    shares = chosen.table.set_index("method")["chosen_share"]
    assert shares["b"] == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / choice.RESAMPLES))
    assert shares.sum() == pytest.approx(1)
    assert chosen.name == "a" and chosen.seeds == 2
    assert chosen.table["left_out"].tolist() == [1, 1]  # a without seed 1, b without seed 0
    again = choice.choose(frame_of(values), Choice(("a", "b"), "accuracy", 0.0, ("gap",)))
    assert again.table["chosen_share"].tolist() == shares.tolist()


def test_resampling_also_resamples_who_is_accurate_enough() -> None:
    # b is more faithful always, but accurate enough only if seed 1 was never drawn twice
    values = {"a": {"accuracy": [0.8, 0.8], "gap": [0.1, 0.1]}, "b": {"accuracy": [0.82, 0.78], "gap": [0.5, 0.5]}}
    chosen = choice.choose(frame_of(values), Choice(("a", "b"), "accuracy", 0.005, ("gap",)))
    assert chosen.name == "b"
    assert chosen.table["chosen_share"].tolist() == pytest.approx([0.25, 0.75], abs=0.02)


def test_leaving_a_seed_out_also_decides_anew_who_is_accurate_enough() -> None:
    # b is more faithful always; without the first seed it is not accurate enough
    values = {
        "a": {"accuracy": [0.80, 0.80, 0.80], "gap": [0.1, 0.1, 0.1]},
        "b": {"accuracy": [0.85, 0.79, 0.78], "gap": [0.5, 0.5, 0.5]},
    }
    chosen = choice.choose(frame_of(values), Choice(("a", "b"), "accuracy", 0.005, ("gap",)))
    assert chosen.name == "b" and chosen.table["left_out"].tolist() == [1, 2] and chosen.seeds == 3


def test_who_is_second_is_accurate_enough_too() -> None:
    assert choice.choose(frame_of(VALUES), RULE).runner_up == "a"  # c has the higher score
    strict = Choice(("a", "b", "c"), "accuracy", 0.001, ("gap", "stability"))
    alone = choice.choose(frame_of(VALUES), strict)
    assert alone.name == "a" and alone.runner_up is None


def test_the_rule_on_all_images_asks_each_metric_once() -> None:
    rule = Choice(("a", "b"), "accuracy", 0.003, ("judge_gap_right_mean", "stability"))
    assert choice.on_all_images(rule).faithfulness == ("judge_gap_mean", "stability")
    both = Choice(("a", "b"), "accuracy", 0.003, ("judge_gap_right_mean", "judge_gap_mean"))
    assert choice.on_all_images(both).faithfulness == ("judge_gap_mean",)
    assert choice.on_all_images(RULE) == RULE


def test_one_seed_says_nothing_of_stability() -> None:
    values = {name: {metric: found[:1] for metric, found in own.items()} for name, own in VALUES.items()}
    chosen = choice.choose(frame_of(values), RULE)
    assert chosen.table["chosen_share"].isna().all() and chosen.table["left_out"].tolist() == [0, 0, 0]
    assert chosen.seeds == 1


def test_a_missing_metric_is_named() -> None:
    with pytest.raises(ValueError, match="'gap' of method 'a', seed 0, is missing"):
        choice.choose(frame_of(VALUES).drop(columns="gap"), RULE)
    frame = frame_of(VALUES)
    frame.loc[(frame["method"] == "b") & (frame["seed"] == 1), "stability"] = math.nan
    with pytest.raises(ValueError, match="'stability' of method 'b', seed 1, is missing"):
        choice.choose(frame, RULE)
    with pytest.raises(ValueError, match=r"'accuracy': \['c'\] lack seeds, expected the same"):
        choice.choose(frame_of({name: VALUES[name] for name in "ab"}), RULE)


def test_the_seeds_scores_are_on_the_scale_of_the_means() -> None:
    frame = frame_of(VALUES)
    scores = choice.seed_scores(frame, RULE)
    means = scores.groupby("method")["score"].mean()
    assert means.tolist() == pytest.approx(choice.choose(frame, RULE).table["score"].tolist())
    gaps, stabilities = np.array([0.21, 0.31, 0.92]), np.array([0.55, 0.6, 0.9])
    by_hand = ((0.22 - gaps.mean()) / gaps.std() + (0.6 - stabilities.mean()) / stabilities.std()) / 2
    own = scores[(scores["method"] == "a") & (scores["seed"] == 1)].iloc[0]
    assert own["score"] == pytest.approx(by_hand) and own["accuracy"] == 0.82


def test_sweeps_are_found_by_what_differs() -> None:
    configs = {
        "sgt_improved": config_of("sgt_improved"),
        "improved_30": plan_of(1.0, 0.3),
        "improved_half": plan_of(0.5, 0.3),
        "improved_longer": plan_of(1.0, 0.7, training={"epochs": 25}),
        "sgt": config_of("sgt"),
        "sgt_90": plan_of(1.0, 0.9, "sgt"),
        "first": changed(config_of("smoot"), plan__mass=0.5),
        "smoot": config_of("smoot"),
        "kmax": changed(config_of("smoot"), plan__max_fraction=0.5),
        "both": changed(config_of("smoot"), plan__max_fraction=0.5, plan__mass=0.3),
        "scaled": changed(config_of("smoot"), adaptive__scale_mass=True),
        "hardest": changed(config_of("smoot"), plan__order="hardest"),
        "less": changed(config_of("smoot"), dataset={"train_images": 500}),
        "weight": changed(config_of("smoot"), guidance__kl_weight=2.0),
    }
    found = [tuple(row) for row in choice.sweeps(configs).to_numpy().tolist()]
    assert found == [
        ("SGT as published", "k", 0.5, "sgt"),
        ("SGT as published", "k", 0.9, "sgt_90"),
        ("SGT improved", "k", 0.3, "improved_30"),
        ("SGT improved", "k", 0.5, "sgt_improved"),
        ("SMOOT", "τ", 0.2, "smoot"),
        ("SMOOT", "τ", 0.5, "first"),
        ("SMOOT", "kmax", 0.5, "kmax"),
        ("SMOOT", "kmax", 0.9, "smoot"),
        ("SMOOT", "λ", 1.0, "smoot"),
        ("SMOOT", "λ", 2.0, "weight"),
    ]


def test_of_several_groups_the_largest_is_swept() -> None:
    budget = changed(config_of("smoot"), adaptive__images="budget")
    configs = {"smoot": config_of("smoot"), "small": changed(config_of("smoot"), adaptive__budget=0.03)}
    configs |= {f"b{kappa}": changed(budget, adaptive__budget=kappa) for kappa in (0.3, 0.1, 0.03)}
    swept = choice.sweeps(configs)
    assert swept[["constant", "value", "method"]].to_numpy().tolist() == [
        ["κ", 0.03, "b0.03"],
        ["κ", 0.1, "b0.1"],
        ["κ", 0.3, "b0.3"],
    ]


def test_a_sweep_needs_two_values_and_each_once() -> None:
    twice = {"one": plan_of(1.0, 0.3), "same": plan_of(1.0, 0.3)}
    with pytest.raises(ValueError, match=r"\['one', 'same'\] are the same"):
        choice.sweeps(twice)
    with pytest.raises(ValueError, match=r"no two of the methods \['plain', 'smoot'\] differ"):
        choice.sweeps({name: config_of(name) for name in ("plain", "smoot")})


def test_sensitivity_is_the_range_of_the_means() -> None:
    configs = grid_configs({"k10": (1.0, 0.1), "k50": (1.0, 0.5), "k90": (1.0, 0.9)})
    frame = small_frame({"k10": (0.8, 0.9), "k50": (0.9, 0.9), "k90": (0.5, 0.7), "plain": (0.0, 0.0)})
    (row,) = choice.sensitivity(choice.sweeps(configs), frame, ["accuracy"]).to_dict("records")
    assert (row["family"], row["constant"], row["values"]) == ("SGT improved", "k", 3)
    assert (row["smallest"], row["largest"], row["best_accuracy"]) == (0.1, 0.9, 0.5)
    assert (row["low_accuracy"], row["high_accuracy"]) == pytest.approx((0.6, 0.9))
    assert row["range_accuracy"] == pytest.approx(0.3)


def test_gains_are_paired_within_their_condition() -> None:
    draw = np.random.default_rng(0)
    names = ("plain", "smoot", "sgt", "plain_500", "smoot_500", "sgt_500")
    frame = small_frame({name: draw.normal(0.8, 0.01, 4) for name in names})
    conditions = [
        Condition("Images", "500", {"plain": "plain_500", "smoot": "smoot_500", "sgt": "sgt_500"}),
        Condition("Images", "2,000", {"plain": "plain", "smoot": "smoot", "sgt": "sgt"}),
        Condition("Labels", "clean", {"plain": "plain", "smoot": "smoot"}),
    ]
    gains = choice.condition_gains(frame, conditions, "plain", ["accuracy"])
    assert gains[["axis", "level", "method"]].to_numpy().tolist() == [
        *([axis, level, method] for (axis, level), method in product([("Images", "500")], ["smoot", "sgt"])),
        *([axis, level, method] for (axis, level), method in product([("Images", "2,000")], ["smoot", "sgt"])),
        ["Labels", "clean", "smoot"],
    ]
    wide = frame.pivot(index="seed", columns="method", values="accuracy")
    by_hand = compare(wide["smoot_500"].tolist(), wide["plain_500"].tolist())
    assert gains.loc[0, ["difference", "low", "high"]].tolist() == pytest.approx(
        [by_hand.difference, by_hand.low, by_hand.high]
    )
    assert gains["p_holm"].tolist() == pytest.approx([*holm(gains["p_value"].tolist()[:4]), gains["p_value"].iloc[4]])
