from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from synthetic import run_record
from test_charts import CELL, METHODS, SEEDS, unlabelled

from workbench.results import records as results
from workbench.studies import comparison_charts

GAPS = {"gap_mean": "Mean fill", "gap_black": "Black fill", "judge_gap_mean": "Judge, mean fill"}


@pytest.fixture(scope="module")
def records() -> list[results.RunRecord]:
    return [run_record(replace(CELL, method=method), seed) for method in METHODS for seed in SEEDS]


def test_scatter_has_a_dot_per_seed_and_the_interval_of_the_mean(records: list[results.RunRecord]) -> None:
    frame = results.metrics_frame(records)
    figure = comparison_charts.accuracy_faithfulness(frame, METHODS, GAPS)
    left, right, judge = figure.axes
    own = 100 * frame[frame["method"] == "plain"][["accuracy", "gap_mean"]].to_numpy()

    dots = left.collections[0].get_offsets()
    assert np.asarray(dots) == pytest.approx(own)
    mean = left.containers[0].lines[0]
    assert (mean.get_xdata()[0], mean.get_ydata()[0]) == pytest.approx(tuple(own.mean(0)))
    assert [axes.get_title(loc="left") for axes in (left, right, judge)] == list(GAPS.values())
    judged = 100 * frame[frame["method"] == "plain"][["accuracy", "judge_gap_mean"]].to_numpy()
    assert np.asarray(judge.collections[0].get_offsets()) == pytest.approx(judged)
    assert not list(unlabelled(figure))


@pytest.mark.parametrize("panels", [1, 3])
def test_forest(panels: int) -> None:
    frame = pd.DataFrame(
        {"method": ["sgt", "smoot"], "difference": [-0.02, 0.01], "low": [-0.03, 0.002], "high": [-0.01, 0.018]}
    )
    figure = comparison_charts.difference_forest({f"cell {number}": frame for number in range(panels)}, "plain")

    assert len(figure.axes) == panels
    axes = figure.axes[0]
    bars = axes.containers
    assert [bar.lines[0].get_xdata()[0] for bar in bars] == pytest.approx([-2, 1])
    segment = bars[1].lines[2][0].get_segments()[0]
    assert segment[:, 0] == pytest.approx([0.2, 1.8])
    assert [text.get_text() for text in axes.get_yticklabels()] == ["SGT", "SMOOT"]
    assert figure.axes[-1].get_xlabel() == "Accuracy minus Plain (points)"
    assert not list(unlabelled(figure))
    named = comparison_charts.difference_forest({"cell": frame}, "plain", "Accuracy under PGD")
    assert named.axes[0].get_xlabel() == "Accuracy under PGD minus Plain (points)"
