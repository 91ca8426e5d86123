import math
from dataclasses import replace

import pandas as pd
import pytest
from drawing import LOOKS, unlabelled
from scipy import stats
from synthetic import SETTING, TITLES, Network, history, run_record

from workbench.reporting.questions import Study
from workbench.results.statistics import compared_frame, holm
from workbench.studies import compare
from workbench.studies.runs import StudyRuns

NETWORK = Network("laptop", "fashion_mnist", "resnet10_narrow", "plain")
LOST = {"plain": 0.0, "sgt": 0.01, "smoot": 0.0}  # per seed and one: SGT is 1, 2 and 3 points less accurate
RECORDS = [
    run_record(replace(NETWORK, method=method), seed, accuracy=0.5 + seed / 100 - lost * (1 + seed))
    for method, lost in LOST.items()
    for seed in (0, 1, 2)
]
HISTORIES = pd.concat([history(record, record.seed, 3).assign(**record.keys) for record in RECORDS])


def runs(*compared: str) -> StudyRuns:
    study = Study("What matters", ("comparison",), "plain", "Three seeds.", compared)
    return StudyRuns(study, RECORDS, HISTORIES, SETTING)


@pytest.mark.parametrize("metric", compare.COMPARED)
@pytest.mark.parametrize("lacking", ["undefined", "absent"])
def test_a_metric_that_some_run_lacks_is_named_with_the_run(metric: str, lacking: str) -> None:
    values = {name: value for name, value in RECORDS[4].metrics.items() if name != metric}
    changed = replace(RECORDS[4], metrics=values | ({metric: math.nan} if lacking == "undefined" else {}))
    with pytest.raises(ValueError, match=f"'{metric}' of method 'sgt', seed 1, is missing or undefined"):
        compare.table(replace(runs(), records=[*RECORDS[:4], changed, *RECORDS[5:]]), TITLES)


def test_where_no_run_has_a_region_the_table_leaves_relevance_out() -> None:
    everywhere = [replace(record, metrics={**record.metrics, "random_relevance_mass": 0.9}) for record in RECORDS]
    shown = compare.table(replace(runs(), records=everywhere), TITLES).display
    assert not [name for name in shown if "Relevance" in name] and "Gini index (%) ↑" in shown
    assert "Relevance mass, object (%) ↑" in compare.table(runs(), TITLES).display


def test_the_headline_is_accuracy_and_the_judges_gap_of_the_fill_that_was_used() -> None:
    assert list(runs().headline()) == ["accuracy", "judge_gap_right_mean"]
    black = replace(SETTING, evaluation=replace(SETTING.evaluation, fills=("black",)))
    assert list(replace(runs(), setting=black).headline()) == ["accuracy", "judge_gap_right_black"]


@pytest.mark.parametrize("compared", [(), ("sgt", "smoot"), ("smoot",)])
def test_the_forest_shows_the_compared_methods_against_the_reference(compared: tuple[str, ...]) -> None:
    chart = compare.chart(runs(*compared), LOOKS)
    assert chart.name == f"comparison_{SETTING.place}"
    assert "Differences to Plain" in chart.caption and SETTING.facts in chart.caption
    accuracy, *_, stability = chart.figure.axes
    others = [method for method in LOOKS if method in (compared or LOOKS) and method != "plain"]
    assert [text.get_text() for text in accuracy.get_yticklabels()] == [LOOKS[method].title for method in others]
    rows = compared_frame(runs().frame, "accuracy", ["plain", *others], ["plain"])
    drawn = [bar.lines[0].get_xdata()[0] for bar in accuracy.containers]
    assert drawn == pytest.approx((100 * rows["difference"]).tolist())
    assert (accuracy.get_xlabel(), stability.get_xlabel()) == ("points ↑", "correlation ↑")
    assert not list(unlabelled(chart.figure))


def test_the_table_shows_what_methods_reach_gain_mask_and_cost() -> None:
    table = compare.table(runs(), TITLES)
    shown, data = table.display.set_index("Method"), table.data.set_index("method")
    assert table.title == "What matters, Fashion-MNIST, ResNet-10 (narrow)"
    assert shown.index.tolist() == ["Plain", "SGT", "SMOOT", "Random map", "Edge filter"]
    p = stats.ttest_1samp([-1, -2, -3], 0).pvalue
    half = 4.302652729911275 / math.sqrt(3)
    text = f"−2.00 [−{2 + half:.2f}, +{half - 2:.2f}], p = {holm([p, 1.0])[0]:.3f}"  # SMOOT is as accurate as Plain
    assert shown["Accuracy (minus Plain)"].tolist() == ["–", text, "+0.00 [+0.00, +0.00], p = 1.000", "–", "–"]
    by_chance = [100 * record.metrics["random_judge_gap_right_mean"] for record in RECORDS[:3]]  # Plain's
    assert data.loc["random", "judge_gap_right_mean_mean"] == pytest.approx(sum(by_chance) / 3)
    assert shown.loc["Edge filter", ["Accuracy (%) ↑", "Stability ↑", "Images masked (%)"]].tolist() == ["–"] * 3
    assert data.loc["sgt", ["accuracy_difference", "accuracy_p_holm"]].tolist() == pytest.approx([-2, 2 * p])
    share = history(replace(NETWORK, method="smoot"), 0, 3)["masked_share"].mean()  # the same for every seed, about
    assert data.loc["smoot", "masked_share_mean"] == pytest.approx(100 * share, abs=5)
    assert shown.loc["Plain", ["Images masked (%)", "Cost of the run (×) ↓"]].tolist() == ["0.0 ± 0.0", "1.00 ± 0.00"]
    assert "Three seeds. Judge's gap, right answers: on each method's own right answers" in table.note
    assert f"{SETTING.facts}; maps on the first 500 of them, PGD on the first 400." in table.note
    assert f"{SETTING.facts}. {SETTING.origin}" in table.caption


def test_the_reference_need_not_be_a_row() -> None:
    shown = compare.table(runs("smoot"), TITLES).display.set_index("Method")
    assert shown.index.tolist() == ["SMOOT", "Random map", "Edge filter"]
    assert shown.loc["SMOOT", "Accuracy (minus Plain)"] == "+0.00 [+0.00, +0.00], p = 1.000"
