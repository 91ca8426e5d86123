import math
from dataclasses import replace

import pandas as pd
import pytest
from drawing import LOOKS, unlabelled
from synthetic import SETTING, run_record

from workbench.config.cells import Cell
from workbench.reporting.questions import Study
from workbench.results.records import RunRecord, metrics_frame
from workbench.results.statistics import compared_frame
from workbench.studies import compare

CELL = Cell("laptop", "fashion_mnist", "resnet10_narrow", "plain")


@pytest.fixture(scope="module")
def records() -> list[RunRecord]:
    return [run_record(replace(CELL, method=method), seed) for method in LOOKS for seed in (0, 1, 2)]


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
