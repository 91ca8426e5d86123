from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from drawing import LOOKS, unlabelled
from synthetic import SETTING, TITLES
from synthetic_studies import config_of, plan_of, runs_of

from workbench.reporting.metrics import Metric
from workbench.reporting.questions import Study
from workbench.reporting.words import fixed
from workbench.results.statistics import compare, holm
from workbench.studies import oracle
from workbench.studies.runs import StudyRuns

SHARES = {"half": (0.5, 0.2), "half_more": (0.5, 0.6), "all": (1.0, 0.2)}
PLANS = {name: plan_of(*shares) for name, shares in SHARES.items()}
ALL_TITLES = {**TITLES, **{name: name.replace("_", " ").capitalize() for name in PLANS}}
PLAIN = np.array([0.80, 0.82, 0.84])
MIXED = np.array([0.03, -0.02, 0.01])
RISING = np.array([0.02, 0.03, 0.04])
ACCURACIES = {"half": PLAIN + 0.01, "half_more": PLAIN + RISING + 0.01, "all": PLAIN - 0.01}
COSTS = {"plain": 1.0, "half": 1.5, "half_more": 1.5, "all": 2.0, "smoot": 1.25}
STUDY = Study("A study", ("oracle",), "plain", "A note.")


@pytest.fixture(scope="module")
def runs() -> StudyRuns:
    configs = {"plain": config_of("plain")} | PLANS | {"smoot": config_of("smoot")}
    return runs_of(STUDY, configs, {**ACCURACIES, "plain": PLAIN, "smoot": PLAIN + RISING})


def standings(values: Mapping[str, Iterable[float]]) -> pd.DataFrame:
    rows = [(name, seed, value) for name, found in values.items() for seed, value in enumerate(found)]
    frame = pd.DataFrame(rows, columns=["method", "seed", "accuracy"])
    return oracle.standings(frame, list(PLANS), ["smoot"], "plain", COSTS).set_index("kind")


def test_what_is_searched_differs_in_the_two_shares_alone() -> None:
    others = {
        "plain": config_of("plain"),
        "random_mask": config_of("random_mask"),
        "signed": plan_of(0.5, 0.4, guidance__reduction="signed_mean"),
        "signed_too": plan_of(0.5, 0.5, guidance__reduction="signed_mean"),
        "longer": plan_of(0.5, 0.4, training={"epochs": 25}),
        "by_effect": plan_of(0.5, 0.4, plan__max_effect=1.0),
        "smoot": config_of("smoot"),
    }
    assert oracle.constant_plans(others | PLANS) == list(PLANS)
    with pytest.raises(ValueError, match="differ in nothing but the constant shares they mask"):
        oracle.constant_plans({"one": PLANS["half"], "plain": config_of("plain"), "signed": others["signed"]})


def test_a_rule_changes_the_number_in_time_or_from_image_to_image() -> None:
    ramp = config_of("plain", schedule="sequence", sequence={"image_fractions": [0.0, 1.0]})
    others = {"smoot": config_of("smoot"), "ramp": ramp, "by_effect": plan_of(1.0, 0.9, plan__max_effect=1.0)}
    assert oracle.online_rules(PLANS | others) == ["smoot", "ramp", "by_effect"]


def test_the_best_is_the_best_mean_and_the_held_out_one_does_not_see_its_seed() -> None:
    wide = pd.DataFrame({"a": (0.5, 0.5, 0.5), "b": (0.9, 0.4, 0.4), "c": (0.1, 0.51, 0.52), "d": (0.0, 0.0, 0.0)})
    assert oracle.best_plan(wide) == "b"
    # without seed 0: 0.5, 0.4, 0.515; without 1: 0.5, 0.65, 0.31; without 2: 0.5, 0.65, 0.305
    assert oracle.held_out_plans(wide) == {0: "c", 1: "b", 2: "b"}
    assert oracle.held_out_plans(wide[:1]) == {}


def test_standings_pair_by_seed_share_what_is_gained_held_out_and_pay_for_the_search() -> None:
    """Without the seed that favours it, the best plan is another one: the held-out gain is smaller."""
    plain, smoot = [0.0] * 4, [0.02, 0.03, 0.02, 0.03]
    values = {"half": [0.05, 0.06, 0.05, 0.06], "half_more": [0.3, 0.04, 0.03, 0.04], "all": plain}
    found = standings(values | {"plain": plain, "smoot": smoot})
    # without seed 0 the first plan is best, without another one the second: 0.05, 0.04, 0.03, 0.04
    expected = {"reference": 0.0, "hindsight": 0.1025, "held_out": 0.04, "rule": 0.025}
    assert found["difference"].to_dict() == pytest.approx(expected)
    assert found["share"].to_dict() == pytest.approx({kind: gain / 0.04 for kind, gain in expected.items()})
    by_hand = compare(smoot, plain)
    assert tuple(found.loc["rule", ["low", "high"]]) == pytest.approx((by_hand.low, by_hand.high))
    methods = {"reference": "plain", "hindsight": "half_more", "held_out": "half half_more", "rule": "smoot"}
    assert found["method"].to_dict() == methods
    search = 1.5 + 1.5 + 2.0
    costs = {"reference": 1.0, "hindsight": 4 * search, "held_out": 3 * search + 1.5, "rule": 1.25}
    assert found["cost"].to_dict() == pytest.approx(costs)


def test_each_metric_has_its_own_best() -> None:
    rows = [("plain", 0.5, 0.5), ("half", 0.9, 0.4), ("half_more", 0.4, 0.9), ("all", 0.0, 0.0)]
    one = pd.DataFrame(rows, columns=["method", "a", "b"])
    frame = pd.concat([one.assign(seed=seed) for seed in (0, 1)])[["method", "seed", "a", "b"]]
    found = oracle.standings(frame, list(PLANS), [], "plain", COSTS).set_index(["kind", "of", "metric"])
    best = {("a", "a"): "half", ("b", "a"): "half_more", ("a", "b"): "half", ("b", "b"): "half_more"}
    assert found["method"][["hindsight"]].droplevel(0).to_dict() == best
    shares = found["share"][["held_out"]].droplevel(0).to_dict()
    assert shares == pytest.approx({("a", "a"): 1, ("b", "a"): -0.25, ("a", "b"): -0.25, ("b", "b"): 1})


def test_no_share_of_a_gain_that_may_be_none() -> None:
    values = {"half": PLAIN + MIXED, "half_more": PLAIN, "all": PLAIN, "plain": PLAIN, "smoot": PLAIN + 0.01}
    found = standings(values)
    assert found["share"].isna().all() and "held_out" in found.index
    alone = standings({name: found[:1] for name, found in values.items()})
    assert alone["share"].isna().all() and "held_out" not in alone.index


def test_the_table_puts_the_rules_below_the_search(runs: StudyRuns) -> None:
    table = oracle.table(runs, ALL_TITLES)
    assert table.name == f"oracle_{SETTING.place}" and "nan" not in table.markdown
    shown, share = table.display.set_index("Method"), "Accuracy: of the held-out gain (%)"
    judged = "Best constant for judge's gap"  # 1 minus the accuracy: the least accurate plan
    assert dict(zip(shown.index, zip(shown["Accuracy (%) ↑"], shown[share], strict=True), strict=True)) == {
        "Plain": ("82.00 ± 2.00", "–"),
        "Best constant for accuracy (Half more)": ("86.00 ± 3.00", "100"),
        "Best constant for accuracy (held out)": ("86.00 ± 3.00", "100"),
        f"{judged} (All)": ("81.00 ± 2.00", "−25"),
        f"{judged} (held out)": ("81.00 ± 2.00", "−25"),
        "SMOOT": ("85.00 ± 3.00", "75"),
        "Random map": ("–", "–"),
        "Edge filter": ("–", "–"),
    }
    gap = runs.frame.query("method == 'plain'")["random_judge_gap_right_mean"]  # of chance, on Plain's networks
    judged_by_chance = shown.loc["Random map", "Judge's gap, right answers, mean (points) ↑"]
    assert judged_by_chance == f"{fixed(100 * gap.mean(), 1)} ± {fixed(100 * gap.std(), 1)}"
    assert shown.loc["Edge filter", ["Accuracy: gain", "Cost (trainings) ↓"]].tolist() == ["–", "–"]
    assert shown.loc["Plain", "Accuracy: gain"] == "–"
    assert shown.loc["SMOOT", "Accuracy: gain"] == "+3.00 [+0.52, +5.48]"
    half, every = 5.5 / 3, 7 / 3  # of the images
    search = 2 * half + every
    costs = [1.0, 3 * search, 2 * search + half, 3 * search, 2 * search + every]
    assert shown["Cost (trainings) ↓"].tolist()[:5] == [f"{cost:.1f}" for cost in costs]
    assert 1 < table.data.set_index("method").loc["smoot", "cost"].iloc[0] < every
    assert "The search tries 3 constant numbers (Half; Half more; All). " in table.note
    assert table.note.endswith(runs.ending({"judge_gap_right_mean": Metric("")}))
    assert table.caption.endswith(f"{SETTING.facts}. {SETTING.origin}")


def test_no_share_in_the_table_where_the_search_may_gain_nothing(runs: StudyRuns) -> None:
    unsure = {method: PLAIN + (MIXED if method in PLANS else 0) for method in runs.methods}
    shown = oracle.table(runs_of(STUDY, runs.methods, unsure), ALL_TITLES).display
    assert set(shown["Accuracy: of the held-out gain (%)"]) == {"–"}


def test_the_chart_holds_what_is_fair_to_compare(runs: StudyRuns) -> None:
    chart = oracle.chart(runs, LOOKS)
    assert chart.name == f"oracle_{SETTING.place}" and chart.caption.startswith(f"Gains over Plain, {SETTING.name}, ")
    accuracy, gap = chart.figure.axes
    bests = [f"Best constant for {name} (held out)" for name in ("accuracy", "judge's gap")]
    assert [text.get_text() for text in accuracy.get_yticklabels()] == [*bests, "SMOOT"]
    drawn = [bar.lines[0].get_xdata()[0] for bar in accuracy.containers]
    assert drawn == pytest.approx([4, -1, 3])
    p_values = holm([compare(list(PLAIN + gain), list(PLAIN)).p_value for gain in (RISING + 0.01, -0.01, RISING)])
    filled = [bar.lines[0].get_markerfacecolor() != "white" for bar in accuracy.containers]
    assert filled == [p < 0.05 for p in p_values] == [True, True, True]
    assert (accuracy.get_xlabel(), gap.get_title(loc="left")) == ("Accuracy: gain (points) ↑", "Judge's gap")
    assert not list(unlabelled(chart.figure))


def test_only_compared_rules_are_shown(runs: StudyRuns) -> None:
    chosen = replace(runs, study=replace(STUDY, compared=("plain",)))
    assert "SMOOT" not in oracle.table(chosen, ALL_TITLES).display["Method"].tolist()
