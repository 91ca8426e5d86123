import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from drawing import LOOKS, legend_texts, lines, unlabelled
from matplotlib.figure import Figure
from synthetic import SETTING, TITLES, Network, run_record

from workbench.reporting import captions
from workbench.reporting.metrics import Metric
from workbench.reporting.questions import Condition, Study
from workbench.results.statistics import compare, holm
from workbench.studies import conditions
from workbench.studies.runs import StudyRuns

METRICS = {"accuracy": Metric("Accuracy", digits=2), "nll": Metric("NLL", "nats", 3, "lower")}
NETWORK = Network("laptop", "fashion_mnist", "resnet10_narrow", "plain")
ASKED = (
    Condition("Training images", "500", {"plain": "plain", "smoot": "smoot"}),
    Condition("Training images", "2,000", {"plain": "plain", "smoot": "sgt"}),
    Condition("Training images", "8,000", {"plain": "plain", "smoot": "same"}),
    Condition("Wrong labels", "20 %", {"plain": "sgt", "smoot": "smoot", "sgt": "plain"}),
)
STUDY = Study("A study", ("conditions",), "plain", "A note.", conditions=ASKED)
ACCURACY = {  # by seed: SMOOT certainly better, SGT certainly worse, the last one neither
    "plain": (0.80, 0.81, 0.82),
    "smoot": (0.82, 0.831, 0.838),
    "sgt": (0.77, 0.782, 0.789),
    "same": (0.81, 0.80, 0.82),
}
RECORDS = [
    replace(run_record(NETWORK, seed, accuracy=value), method=method)
    for method, values in ACCURACY.items()
    for seed, value in enumerate(values)
]
RUNS = StudyRuns(STUDY, RECORDS, pd.DataFrame(), SETTING)


def test_gains_are_paired_within_a_level_and_adjusted_within_a_condition() -> None:
    found = conditions.gains(RUNS.frame, ASKED, "plain", ["accuracy", "nll"])
    own = found[found["metric"] == "accuracy"].set_index(["axis", "level", "method"])
    pairs = {
        ("Training images", "500", "smoot"): ("smoot", "plain"),
        ("Training images", "2,000", "smoot"): ("sgt", "plain"),
        ("Training images", "8,000", "smoot"): ("same", "plain"),
        ("Wrong labels", "20 %", "smoot"): ("smoot", "sgt"),
        ("Wrong labels", "20 %", "sgt"): ("plain", "sgt"),
    }
    assert own.index.tolist() == list(pairs)
    by_hand = {keys: compare(ACCURACY[method], ACCURACY[base]) for keys, (method, base) in pairs.items()}
    for keys, expected in by_hand.items():
        assert tuple(own.loc[keys, ["difference", "low", "high"]]) == pytest.approx(
            (expected.difference, expected.low, expected.high)
        )
    p_values = [comparison.p_value for comparison in by_hand.values()]
    assert own["p_holm"].tolist() == pytest.approx([*holm(p_values[:3]), *holm(p_values[3:])])
    assert len(found) == 2 * len(pairs)


def test_the_table_shows_gains_that_are_none_and_marks_them() -> None:
    table = conditions.table(RUNS, TITLES)
    assert table.display["Condition"].tolist() == ["Training images", "", "", "Wrong labels", ""]
    assert table.display["Level"].tolist() == ["500", "2,000", "8,000", "20 %", ""]
    shown = table.display["Accuracy: gain"].tolist()
    assert shown[0].startswith("+1.97 [") and not shown[0].endswith(("○", "✗"))
    assert shown[1].startswith("−2.97 [") and shown[1].endswith(" ✗")
    assert shown[2].startswith("0.00") or (shown[2].startswith("+0.00") and shown[2].endswith(" ○"))
    assert table.data["difference"].iloc[0] == pytest.approx(100 * np.mean([0.02, 0.021, 0.018]))
    assert f" A note. {captions.JUDGED} {SETTING.facts}; maps" in table.caption


@pytest.mark.parametrize(
    ("low", "high", "mark"), [(0.1, 0.3, ""), (-0.1, 0.3, " ○"), (-0.3, -0.1, " ✗"), (math.nan, math.nan, " ○")]
)
def test_marks(low: float, high: float, mark: str) -> None:
    assert conditions.gain_mark({"low": low, "high": high}) == mark


def test_the_figure_has_a_row_per_condition_and_a_column_per_metric() -> None:
    chart = conditions.chart(RUNS, LOOKS)
    assert chart.name == f"conditions_{SETTING.place}" and chart.caption.startswith("Gain over Plain under the same")
    assert len(chart.figure.axes) == 4 and legend_texts(chart.figure) == ["SMOOT", "SGT"]


def figure_of(axis: str, *levels: str) -> Figure:
    """Gains that tell level, method and metric apart."""
    rows = []
    for place, level in enumerate(levels):
        for sign, method in ((1, "smoot"), (-1, "sgt")):
            for metric in METRICS:
                gain = 0.01 * (1 + place) * sign + (metric == "nll")
                row = {"axis": axis, "level": level, "method": method, "metric": metric, "difference": gain}
                rows.append(row | {"low": gain - 0.005, "high": gain + 0.002})
    return conditions.gain_lines(pd.DataFrame(rows), "plain", METRICS, LOOKS)


def test_levels_make_a_line_in_their_order_with_its_band() -> None:
    figure = figure_of("Training images", "2,000", "500", "8,000")
    left, right = figure.axes
    assert left.get_xscale() == "log" and left.get_xlabel() == "Training images"
    assert left.get_ylabel() == "Gain over Plain (points)" and not list(unlabelled(figure))
    ((x, y),) = lines(left, "smoot")
    assert x == [500, 2000, 8000] and y == pytest.approx([2, 1, 3])
    ends = left.collections[0].get_paths()[0].vertices
    assert (ends[:, 1].min(), ends[:, 1].max()) == pytest.approx((0.5, 3.2))
    assert [text.get_text() for text in left.get_xticklabels()] == ["500", "2,000", "8,000"]
    assert (right.get_title(loc="left"), right.get_ylabel()) == ("NLL ↓", "Gain over Plain (nats)")
    assert lines(right, "smoot")[0][1] == pytest.approx([1.02, 1.01, 1.03])


def test_zero_has_no_logarithm() -> None:
    axes = figure_of("Wrong labels", "0 %", "20 %", "40 %").axes[0]
    assert axes.get_xscale() == "linear"
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0 %", "20 %", "40 %"]


@pytest.mark.parametrize("level", ["clean", ""])
def test_a_level_that_is_no_number_is_an_error(level: str) -> None:
    with pytest.raises(ValueError, match=f"level is '{level}': expected a number"):
        figure_of("Labels", "0 %", level)
