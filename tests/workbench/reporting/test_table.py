import math
from pathlib import Path

import pandas as pd
import pytest
from synthetic import SETTING

from workbench.reporting import table as tables
from workbench.reporting.metrics import Metric
from workbench.results.statistics import compared_frame

METRICS = {"a": Metric("A"), "b": Metric("B", "nats", 3, "lower")}
FRAME = pd.DataFrame({"method": ["x"] * 3, "a": [0.1, 0.2, 0.3], "b": [1.0, 1.0, 4.0]})


def test_means_and_deviations_in_the_metrics_unit() -> None:
    numbers, texts = tables.summarised(FRAME, METRICS, bare=["b"])
    assert texts == {"A (%) ↑": "20.0 ± 10.0", "B (nats) ↓": "2.000"}
    assert numbers == pytest.approx({"a_mean": 20, "a_sd": 10, "b_mean": 2, "b_sd": math.sqrt(3)})


def test_one_undefined_value_makes_mean_and_deviation_undefined() -> None:
    numbers, texts = tables.summarised(FRAME.assign(a=[0.1, math.nan, 0.3]), METRICS)
    assert texts["A (%) ↑"] == "–"
    assert math.isnan(float(str(numbers["a_mean"]))) and math.isnan(float(str(numbers["a_sd"])))


def test_differences_stand_in_their_own_line_only() -> None:
    frame = pd.DataFrame({"method": ["plain"] * 2 + ["sgt"] * 2, "seed": [0, 1, 0, 1], "a": [0.1, 0.2, 0.3, 0.5]})
    compared = compared_frame(frame, "a", ("plain", "sgt"))
    numbers, texts = tables.differences("sgt", compared, {"plain": "Plain"}, METRICS["a"])
    assert numbers["difference_plain"] == pytest.approx(25)
    assert texts["Minus Plain"].startswith("+25.0 [")
    numbers, texts = tables.differences("plain", compared, {"plain": "Plain"}, METRICS["a"])
    assert texts == {"Minus Plain": "–"} and math.isnan(float(str(numbers["p_holm_plain"])))


def test_a_word_is_repeated_where_one_before_it_changes() -> None:
    lines = [("a", "x", "m"), ("a", "x", "n"), ("a", "y", "n"), ("b", "y", "n")]
    rows = [({}, dict(zip(("Data", "Backbone", "Method"), line, strict=True))) for line in lines]
    shown = [tuple(texts.values()) for _, texts in tables.blank_repeats(rows, ("Data", "Backbone", "Method"))]
    assert shown == [("a", "x", "m"), ("", "", "n"), ("", "y", "n"), ("b", "y", "n")]


def test_one_line_per_setting_and_method_each_with_its_own_runs() -> None:
    frame = pd.concat(
        [FRAME.assign(method=m, dataset=SETTING.dataset, backbone=SETTING.backbone) for m in ("plain", "sgt")]
    )
    frame.loc[frame["method"] == "sgt", "a"] = 0.5
    rows = tables.grid_rows(frame, {"sgt": "SGT", "plain": "Plain"}, [SETTING], METRICS)
    assert [(row[1]["Setting"], row[1]["Method"], row[1]["A (%) ↑"]) for row in rows] == [
        (SETTING.name, "SGT", "50.0 ± 0.0"),
        ("", "Plain", "20.0 ± 10.0"),
    ]
    assert rows[1][0]["n"] == 3 and rows[1][0]["dataset"] == "fashion_mnist"


def test_a_table_as_markdown_and_csv(tmp_path: Path) -> None:
    data = pd.DataFrame({"method": ["plain"], "accuracy_mean": [81.96666666]})
    display = pd.DataFrame({"Method": ["Plain"], "p < 1": ["81.97"]})
    tables.Table("accuracy", "Accuracy", "Some `facts`.", data, display).write(tmp_path)
    markdown = (tmp_path / "accuracy.md").read_bytes()
    assert markdown == b"**Accuracy.** Some `facts`.\n\n| Method | p < 1 |\n| --- | --: |\n| Plain | 81.97 |\n"
    assert (tmp_path / "accuracy.csv").read_bytes() == b"method,accuracy_mean\nplain,81.966667\n"


def test_a_wide_table_comes_in_pieces_that_say_what_each_row_is() -> None:
    display = pd.DataFrame([{"Setting": "A", "Method": "Plain"} | {f"m{place}": str(place) for place in range(6)}])
    table = tables.Table("wide", "Wide", "Facts.", display, display, note="A gap is a difference.")
    assert [list(piece.columns) for piece in table.pieces] == [
        ["Setting", "Method", "m0", "m1", "m2"],
        ["Setting", "Method", "m3", "m4", "m5"],
    ]
    assert table.markdown == (
        "**Wide.** Facts.\n\n| Setting | Method | m0 | m1 | m2 |\n| --- | --- | --: | --: | --: |\n"
        "| A | Plain | 0 | 1 | 2 |\n\n| Setting | Method | m3 | m4 | m5 |\n| --- | --- | --: | --: | --: |\n"
        "| A | Plain | 3 | 4 | 5 |\n\n*Reading it.* A gap is a difference.\n"
    )
