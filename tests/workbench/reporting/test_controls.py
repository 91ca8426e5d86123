import math
from dataclasses import replace

import pandas as pd
import pytest
from synthetic import ATTRIBUTIONS, SETTING, run_record

from workbench.config.cells import Cell
from workbench.config.profile import load_run
from workbench.reporting import controls
from workbench.results.records import attributions_frame

CELL = Cell("laptop", "fashion_mnist", "resnet10_narrow", "smoot")  # explained in every way by the parameters
PLACES = [SETTING, replace(SETTING, dataset="shortcut_mnist", region="shortcut")]
SHORTCUT = replace(CELL, dataset="shortcut_mnist", backbone="two_conv_small")
(SEED,) = load_run("fashion_mnist", "resnet10_narrow", "smoot", 0, "laptop").evaluation.attributions.seeds


@pytest.fixture
def frame() -> pd.DataFrame:
    """Two settings, the grid's second one first; on the first one also the plain method."""
    records = [run_record(cell, SEED) for cell in (SHORTCUT, replace(CELL, method="plain"), CELL)]
    made = attributions_frame(records)
    assert len(made) == 3 * len(ATTRIBUTIONS)
    made.loc[made["dataset"] == "shortcut_mnist", "backbone"] = "resnet10_narrow"
    return made


def test_lines_follow_the_settings_and_the_attributions_order(frame: pd.DataFrame) -> None:
    table = controls.attributions_table(frame, ("mean", "black"), PLACES)
    assert table.data[["dataset", "method"]].drop_duplicates().to_numpy().tolist() == [
        ["fashion_mnist", "plain"],
        ["fashion_mnist", "smoot"],
        ["shortcut_mnist", "smoot"],
    ]
    assert table.display["Method"].tolist() == ["Plain", *[""] * 5, "SMOOT", *[""] * 5, "SMOOT", *[""] * 5]
    assert table.display["Attribution"].tolist()[:6] == [
        "Gradient", "Input × gradient", "SmoothGrad", "Integrated gradients", "Random", "Edges",
    ]  # fmt: skip
    assert list(table.display.columns)[4:] == [
        "Gap, mean (points) ↑",
        "Gap, black (points) ↑",
        "Judge's gap, mean (points) ↑",
        "Relevance mass (%) ↑, shortcut ↓",
        "Pointing game (%) ↑, shortcut ↓",
        "Gini index (%) ↑",
        "Stability ↑",
    ]


def test_numbers_are_those_of_the_records(frame: pd.DataFrame) -> None:
    table = controls.attributions_table(frame, ("mean", "black"), PLACES)
    found = table.data.set_index(["dataset", "method", "attribution"]).loc[("fashion_mnist", "smoot", "edges")]
    own = run_record(CELL, SEED).attributions["edges"]
    assert found["gap_mean_mean"] == pytest.approx(100 * own["gap_mean"])
    assert found["stability_mean"] == pytest.approx(own["stability"])
    assert math.isnan(found["gap_mean_sd"]) and found["n"] == 1


def test_the_caption_says_that_one_seed_was_explained(frame: pd.DataFrame) -> None:
    for table in (
        controls.attributions_table(frame, ("mean",), PLACES),
        controls.sanity_table(frame, PLACES),
    ):
        assert f"(seed {SEED}), so n = 1" in table.caption and "n = 1 seed," in table.caption
        assert "n = 5" not in table.caption
        assert "100" in table.caption
    two = pd.concat([frame, frame.assign(seed=SEED + 3)])
    assert f"n = 2 seeds ({SEED}, {SEED + 3})" in controls.sanity_table(two, PLACES).caption


def test_settings_without_attributions_are_not_in_the_caption(frame: pd.DataFrame) -> None:
    own = frame[frame["dataset"] == "fashion_mnist"]
    assert "Shortcut-MNIST" not in controls.sanity_table(own, PLACES).caption


@pytest.mark.parametrize(
    ("spearman", "ssim", "said"),
    [
        (0.1, 0.2, "changes"),
        (0.5, 0.5, "changes"),  # not above
        (0.51, 0.1, "does not change: fails"),
        (-0.51, 0.1, "does not change: fails"),  # a mirrored map shows the same
        (0.1, 0.51, "does not change: fails"),
        (math.nan, 0.1, "changes"),
        (math.nan, 0.9, "does not change: fails"),
        (math.nan, math.nan, "–"),
    ],
)
def test_sanity_verdict(spearman: float, ssim: float, said: str) -> None:
    assert controls.sanity_verdict(spearman, ssim) == said


def test_sanity(frame: pd.DataFrame) -> None:
    table = controls.sanity_table(frame, PLACES)
    shown = table.display.iloc[:6].set_index("Attribution")
    fails = shown.index[shown["Verdict"] == "does not change: fails"].tolist()
    assert fails == ["Integrated gradients", "Random", "Edges"]
    assert shown.loc["Gradient", "Spearman ↓"] == "0.05"
    assert table.data["verdict"].tolist() == table.display["Verdict"].tolist()
    assert "is above 0.5" in table.caption
