import math
from dataclasses import replace

import pandas as pd
import pytest
from drawing import LOOKS, unlabelled
from scipy import stats
from synthetic import SETTING, TITLES, Network, history, run_record

from workbench.reporting.questions import Study
from workbench.reporting.table import Table
from workbench.results.records import RunRecord, metrics_frame
from workbench.results.statistics import compared_frame, holm
from workbench.studies import compare

NETWORK = Network("laptop", "fashion_mnist", "resnet10_narrow", "plain")


@pytest.fixture(scope="module")
def records() -> list[RunRecord]:
    return [run_record(replace(NETWORK, method=method), seed) for method in LOOKS for seed in (0, 1, 2)]


def test_a_missing_metric_is_named_with_its_run() -> None:
    rows = [("plain", 0, 0.1), ("plain", 1, math.nan), ("smoot", 0, math.nan), ("smoot", 1, 0.2)]
    frame = pd.DataFrame(rows, columns=["method", "seed", "accuracy"])
    with pytest.raises(ValueError, match="'accuracy' of method 'plain', seed 1, is missing or undefined"):
        compare.check_measured(frame, ["seed", "accuracy"])
    with pytest.raises(ValueError, match="'gini' of method 'plain', seed 0, is missing"):
        compare.check_measured(frame, ["gini"])
    compare.check_measured(frame.dropna(), ["accuracy"])


def test_the_headline_holds_what_was_measured(records: list[RunRecord]) -> None:
    found = compare.headline(records, SETTING)
    assert list(found) == ["accuracy", "judge_gap_right_mean"] and found["judge_gap_right_mean"].factor == 100
    lacking = replace(records[0], metrics=dict(records[0].metrics) | {"judge_gap_right_mean": math.nan})
    with pytest.raises(ValueError, match="'judge_gap_right_mean' of method 'plain', seed 0, is missing or undefined"):
        compare.headline([*records, lacking], SETTING)


@pytest.mark.parametrize("compared", [(), ("sgt", "smoot"), ("smoot",)])
def test_the_forest_shows_the_compared_methods_against_the_reference(
    records: list[RunRecord], compared: tuple[str, ...]
) -> None:
    study = Study("A study", ("comparison",), "plain", "A note.", compared)
    (chart,) = compare.charts(study, records, pd.DataFrame(), SETTING, LOOKS)
    assert chart.name == f"comparison_{SETTING.place}"
    assert "Differences to Plain" in chart.caption and " A note. " in chart.caption
    accuracy, *_, stability = chart.figure.axes
    methods = [method for method in LOOKS if method in (compared or LOOKS)]
    others = [method for method in methods if method != "plain"]
    assert [text.get_text() for text in accuracy.get_yticklabels()] == [LOOKS[method].title for method in others]
    rows = compared_frame(metrics_frame(records), "accuracy", ["plain", *others], ["plain"])
    drawn = [bar.lines[0].get_xdata()[0] for bar in accuracy.containers]
    assert drawn == pytest.approx((100 * rows["difference"]).tolist())
    assert (accuracy.get_xlabel(), stability.get_xlabel()) == ("Points ↑", "Difference ↑")
    assert not list(unlabelled(chart.figure))
    assert not list(compare.charts(Study("A study", ("sweep",), "plain"), records, pd.DataFrame(), SETTING, LOOKS))


def comparison(records: list[RunRecord], compared: tuple[str, ...] = ()) -> Table:
    """The table of these records; histories of another setting stand beside theirs."""
    study = Study("What matters", ("comparison",), "plain", "Three seeds.", compared)
    own = pd.concat([history(record, record.seed, 3).assign(**record.keys) for record in records])
    elsewhere = own.assign(backbone="two_conv_small", masked_share=0.123)
    (table,) = compare.tables(study, records, pd.concat([elsewhere, own]), SETTING, TITLES)
    return table


def test_the_table_shows_what_methods_reach_gain_mask_and_cost(records: list[RunRecord]) -> None:
    lost = {"plain": 0.0, "sgt": 0.01, "smoot": 0.0}  # per seed and one: SGT is 1, 2 and 3 points less accurate
    values = [0.5 + record.seed / 100 - lost[record.method] * (1 + record.seed) for record in records]
    moved = [replace(r, metrics={**r.metrics, "accuracy": a}) for r, a in zip(records, values, strict=True)]
    table = comparison(moved)
    shown, data = table.display.set_index("Method"), table.data.set_index("method")
    assert table.title == "What matters, Fashion-MNIST, ResNet-10 (narrow)"
    assert shown.index.tolist() == ["Plain", "SGT", "SMOOT"]
    p = stats.ttest_1samp([-1, -2, -3], 0).pvalue
    half = 4.302652729911275 / math.sqrt(3)
    text = f"−2.00 [−{2 + half:.2f}, +{half - 2:.2f}], p = {holm([p, 1.0])[0]:.3f}"  # SMOOT is as accurate as Plain
    assert shown["Accuracy (minus Plain)"].tolist() == ["–", text, "+0.00 [+0.00, +0.00], p = 1.000"]
    assert data.loc["sgt", ["accuracy_difference", "accuracy_p_holm"]].tolist() == pytest.approx([-2, 2 * p])
    share = history(replace(NETWORK, method="smoot"), 0, 3)["masked_share"].mean()  # the same for every seed, about
    assert data.loc["smoot", "masked_share_mean"] == pytest.approx(100 * share, abs=5)
    assert shown.loc["Plain", ["Images masked (%)", "Cost of the run (×) ↓"]].tolist() == ["0.0 ± 0.0", "1.00 ± 0.00"]
    assert "Three seeds. Judge's gap, right answers: on each method's own right answers" in table.caption
    assert f"{SETTING.facts}; maps on the first 500 of them, PGD on the first 400. {SETTING.origin}" in table.caption


def test_the_reference_need_not_be_a_row(records: list[RunRecord]) -> None:
    shown = comparison(records, ("smoot",)).display
    assert shown["Method"].tolist() == ["SMOOT"] and shown["Accuracy (minus Plain)"].tolist() != ["–"]


@pytest.mark.parametrize("metric", compare.COMPARED)
def test_a_metric_that_some_run_lacks_is_named(records: list[RunRecord], metric: str) -> None:
    lacking = replace(records[4], metrics={**records[4].metrics, metric: math.nan})
    with pytest.raises(ValueError, match=f"'{metric}' of method 'sgt', seed 1, is missing or undefined"):
        comparison([*records[:4], lacking, *records[5:]])
