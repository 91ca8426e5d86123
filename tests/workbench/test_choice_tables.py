from dataclasses import replace

import pandas as pd
import pytest
from test_choice import frame_of
from test_oracle import whole_study
from test_schedule_tables import RULE
from test_typesetting import ABOUT

from smoot.workbench import choice
from smoot.workbench.choice_tables import choice_table
from smoot.workbench.measures import Measure, quality
from smoot.workbench.results import metrics_frame
from smoot.workbench.statistics import compare
from smoot.workbench.study import Choice
from smoot.workbench.typesetting import Table, interval

KNOWN = quality(("mean", "black"), ("foreground",))
JUDGED = Choice(("a", "b", "c"), "accuracy", 0.01, ("judge_gap_right_mean",))


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return metrics_frame(whole_study()[0])


@pytest.fixture(scope="module")
def table(frame: pd.DataFrame) -> Table:
    return choice_table(frame, RULE, "plain", KNOWN, ABOUT, "The end.")


def judged_frame(right: dict[str, float], everywhere: dict[str, float]) -> pd.DataFrame:
    """Three seeds that differ in accuracy alone."""
    values = {
        name: {
            "accuracy": [0.800, 0.805, 0.81 if name == "a" else 0.82],
            "judge_gap_right_mean": [right[name]] * 3,
            "judge_gap_mean": [everywhere[name]] * 3,
        }
        for name in right
    }
    return frame_of(values)


def test_the_candidates_and_the_rule(frame: pd.DataFrame, table: Table) -> None:
    chosen = choice.choose(frame, RULE)
    assert table.name == f"choice_{ABOUT.place}" and table.caption.endswith(" The end.")
    assert table.display["Method"].tolist() == ["Plain", "i100_k50", "SMOOT", "smoot_tau_0.3"]
    assert table.display["Accurate enough"].tolist() == ["✗", "✓", "✓", "✓"]
    assert table.display["Rank"].tolist()[0] == "–" and sorted(table.display["Rank"])[:3] == ["1", "2", "3"]
    assert "at most 0.30 points below the best one's" in table.caption
    assert table.data["score"].tolist() == pytest.approx(chosen.table["score"].tolist())
    assert "nan" not in table.markdown


def test_how_much_of_the_choice_is_chance(frame: pd.DataFrame, table: Table) -> None:
    chosen = choice.choose(frame, RULE)
    rows = chosen.table.set_index("method")
    own = rows.loc[chosen.name]
    said = f"in {100 * own['chosen_share']:.0f} % of 10,000 resamples of the 5 seeds"
    assert f"Chosen: {chosen.name} (score +{own['score']:.2f}), {said} and by {own['left_out']} of the 5 sets" in (
        table.caption
    )
    second = rows.sort_values("rank").index[1]
    assert f"; runner-up: {'SMOOT' if second == 'smoot' else second} (score {rows.loc[second, 'score']:+.2f})." in (
        table.caption.replace("−", "-")
    )
    assert table.display["Chosen in leave-one-out sets"].tolist() == [str(count) for count in rows["left_out"]]
    assert "stable" not in table.caption


def test_what_the_chosen_one_gains_and_what_the_references_reach(frame: pd.DataFrame) -> None:
    rule = replace(RULE, candidates=("i100_k50", "smoot"))
    caption = choice_table(frame, rule, "plain", KNOWN, ABOUT, "").caption
    chosen = choice.choose(frame, rule).name
    wide = 100 * frame.pivot(index="seed", columns="method", values="accuracy")
    gain = compare(wide[chosen].tolist(), wide["plain"].tolist())
    text = interval(gain.difference, gain.low, gain.high)
    assert f"minus Plain: {text} points, paired by seed, with 95 % confidence interval" in caption
    plain = wide["plain"]
    assert f"Accuracy beside the candidates: Plain {plain.mean():.2f} ± {plain.std():.2f}. " in caption
    assert "beside the candidates" not in choice_table(frame, RULE, "plain", KNOWN, ABOUT, "").caption  # Plain is one


def test_the_gap_on_all_images_stands_beside_and_does_not_decide() -> None:
    right, same = {"a": 0.1, "b": 0.3, "c": 0.2}, {"a": 0.1, "b": 0.4, "c": 0.2}
    table = choice_table(judged_frame(right, same), JUDGED, "a", KNOWN, ABOUT, "")
    assert table.display["Judge's gap, mean (points) ↑"].tolist() == ["10.0 ± 0.0", "40.0 ± 0.0", "20.0 ± 0.0"]
    swapped = "With judge's gap, mean, which does not decide, in place of the gap on right answers "
    assert f"{swapped}the winner would be the same." in table.caption
    other = choice_table(judged_frame(right, {"a": 0.1, "b": 0.3, "c": 0.5}), JUDGED, "a", KNOWN, ABOUT, "")
    assert "Chosen: b" in other.caption and f"{swapped}c would be chosen." in other.caption
    plain = {name: Measure(name) for name in ("accuracy", "judge_gap_mean")}
    asked = replace(JUDGED, faithfulness=("judge_gap_mean",))
    assert "does not decide" not in choice_table(judged_frame(right, same), asked, "a", plain, ABOUT, "").caption


def test_one_seed_and_one_that_is_accurate_enough() -> None:
    values = {"a": {"accuracy": [0.9], "gap": [0.1]}, "b": {"accuracy": [0.5], "gap": [0.2]}}
    rule = Choice(("a", "b"), "accuracy", 0.01, ("gap",))
    caption = choice_table(frame_of(values), rule, "b", KNOWN, ABOUT, "").caption
    assert "Chosen: a (score −1.00), with one seed, which says nothing of other seeds" in caption
    assert "; no other candidate is accurate enough." in caption and "a minus b: +40.00 points" in caption


def test_a_metric_that_a_run_lacks_is_named() -> None:
    frame = judged_frame({"a": 0.1, "b": 0.3, "c": 0.2}, {"a": 0.1, "b": 0.3, "c": 0.2})
    frame.loc[4, "judge_gap_mean"] = None
    with pytest.raises(ValueError, match="'judge_gap_mean' of method 'b', seed 1, is missing"):
        choice_table(frame, JUDGED, "a", KNOWN, ABOUT, "")
