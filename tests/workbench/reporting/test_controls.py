import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from synthetic import ATTRIBUTIONS, SETTING, TITLES, Network, run_of, run_record

from workbench.reporting import controls
from workbench.reporting.captions import Setting
from workbench.reporting.table import Table
from workbench.reporting.words import Titles
from workbench.results.records import attributions_frame

NETWORK = Network("laptop", "fashion_mnist", "resnet10_narrow", "smoot")  # explained in every way by the parameters
METHODS = {name: TITLES[name] for name in ("plain", "smoot")}
PLACES = [SETTING, replace(SETTING, dataset="shortcut_mnist", region="shortcut")]
ON_SHORTCUT = replace(NETWORK, dataset="shortcut_mnist", backbone="two_conv_small")
(SEED,) = run_of(NETWORK, 0).evaluation.attributions.seeds


@pytest.fixture
def frame() -> pd.DataFrame:
    """Two settings, the grid's second one first; on the first one also the plain method."""
    records = [run_record(network, SEED) for network in (ON_SHORTCUT, replace(NETWORK, method="plain"), NETWORK)]
    made = attributions_frame(records)
    assert len(made) == 3 * len(ATTRIBUTIONS)
    made.loc[made["dataset"] == "shortcut_mnist", "backbone"] = "resnet10_narrow"
    return made


def test_lines_follow_the_settings_and_the_attributions_order_with_the_records_numbers(frame: pd.DataFrame) -> None:
    table = controls.attributions_table(frame, TITLES, PLACES)
    lines = dict.fromkeys(zip(table.data["dataset"], table.data["method"], strict=True))
    assert list(lines) == [("fashion_mnist", "plain"), ("fashion_mnist", "smoot"), ("shortcut_mnist", "smoot")]
    assert table.display["Method"].tolist() == ["Plain", *[""] * 5, "SMOOT", *[""] * 5, "SMOOT", *[""] * 5]
    names = ["Gradient", "Input × gradient", "SmoothGrad", "Integrated gradients", "Random", "Edges"]
    assert table.display["Attribution"].tolist() == 3 * names
    assert " | ".join(table.display.columns[3:]) == (
        "Gap, mean (points) ↑ | Gap, black (points) ↑ | Judge's gap, right answers, mean (points) ↑ | "
        "Relevance mass (%) ↑, shortcut ↓ | Pointing game (%) ↑, shortcut ↓ | Gini index (%) ↑ | Stability ↑"
    )
    found = table.data.set_index(["dataset", "method", "attribution"]).loc[("fashion_mnist", "smoot", "edges")]
    own = run_record(NETWORK, SEED).attributions["edges"]
    means = found[["gap_mean_mean", "stability_mean"]].tolist()
    assert means == pytest.approx([100 * own["gap_mean"], own["stability"]])
    assert math.isnan(found["gap_mean_sd"]) and found["n"] == 1


@pytest.mark.parametrize("table", [controls.attributions_table, controls.sanity_table])
def test_the_caption_says_how_many_seeds_were_explained(
    frame: pd.DataFrame, table: Callable[[pd.DataFrame, Titles, list[Setting]], Table]
) -> None:
    caption = table(frame, TITLES, PLACES).caption
    assert f"(seed {SEED}), so n = 1" in caption and "n = 1 seed," in caption and "100" in caption
    assert "n = 5" not in caption
    two = pd.concat([frame, frame.assign(seed=SEED + 3)])
    assert f"n = 2 seeds ({SEED}, {SEED + 3})" in table(two, TITLES, PLACES).caption
    own = frame[frame["dataset"] == "fashion_mnist"]  # a setting without attributions is not named
    assert "Shortcut-MNIST" not in table(own, TITLES, PLACES).caption


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
    table = controls.sanity_table(frame, TITLES, PLACES)
    shown = table.display.iloc[:6].set_index("Attribution")
    fails = shown.index[shown["Verdict"] == "does not change: fails"].tolist()
    assert fails == ["Integrated gradients", "Random", "Edges"]
    assert shown.loc["Gradient", "Spearman ↓"] == "0.05"
    assert table.data["verdict"].tolist() == table.display["Verdict"].tolist()
    assert "is above 0.5" in table.note


def test_the_drop_is_paired_with_the_run_it_belongs_to() -> None:
    rows = [("plain", 0.9, 0.7), ("plain", 0.8, 0.5), ("smoot", 0.9, 0.9), ("smoot", 0.8, 0.8)]
    frame = pd.DataFrame(rows, columns=["method", "validation_accuracy", "accuracy"])
    frame = frame.assign(dataset="shortcut_mnist", backbone="resnet10_narrow", relevance_mass=0.1)
    table = controls.shortcut_table(frame.assign(random_relevance_mass=0.02), METHODS, [PLACES[1]])
    assert table.display.set_index("Method").loc["Plain"].to_dict() == {
        "Setting": "Shortcut-MNIST, ResNet-10 (narrow)",
        "Validation accuracy with the shortcut (%)": "85.00 ± 7.07",
        "Test accuracy without (%) ↑": "60.00 ± 14.14",
        "Drop (points) ↓": "25.00 ± 7.07",
        "Saliency on the patch (%) ↓": "10.0 ± 0.0",
        "Of a random map (control) (%)": "2.0 ± 0.0",
    }
    assert table.data["drop_mean"].tolist() == pytest.approx([25, 0])
    assert "2,000 of 60,000 training images" in table.caption


def test_judges() -> None:
    judge = {"dataset": "mnist", "backbone": "two_conv_small", "train_images": 10000, "epochs": 10, "seed": 1000}
    table = controls.judges_table(pd.DataFrame([judge | {"accuracy": 0.9876, "validation_accuracy": 0.98}]))
    assert table.display.iloc[0].tolist() == ["MNIST", "Two-conv (small)", "10,000", "10", "1000", "98.76", "98.00"]
    assert table.data.iloc[0]["accuracy"] == pytest.approx(98.76)


def retrained() -> pd.DataFrame:
    runs = product(["plain", "smoot"], [0, 1, 2], [0.5, 0.1, 0.3])
    frame = pd.DataFrame(runs, columns=["method", "seed", "level"])
    extra = np.where(frame["method"] == "smoot", 0.05, 0.0)
    top = 0.6 + frame["level"] / 10 + extra + frame["seed"] * extra / 10
    found = frame.assign(top=top, bottom=0.4, diffroar=top - 0.4)
    return found.assign(dataset=SETTING.dataset, backbone=SETTING.backbone)


def test_retraining_shows_every_level_in_order_and_the_difference_at_the_middle_one() -> None:
    table = controls.retraining_table(retrained(), METHODS, "plain", [SETTING])
    names = ["Top 10 % of pixels (%) ↑", "Bottom 10 % of pixels (%) ↓", "DiffROAR at 10 % (points) ↑"]
    assert list(table.display.columns)[2:5] == names
    assert list(table.display.columns)[-1] == "DiffROAR at 30 % minus Plain"
    plain, smoot = (table.display.set_index("Method").loc[name] for name in ("Plain", "SMOOT"))
    assert plain["Top 50 % of pixels (%) ↑"] == "65.0" and plain["DiffROAR at 10 % (points) ↑"] == "21.0 ± 0.0"
    assert plain.iloc[-1] == "–"
    assert smoot["DiffROAR at 50 % (points) ↑"] == "30.5 ± 0.5"
    # differences 5, 5.5 and 6 points
    half = 4.302652729911275 * 0.5 / math.sqrt(3)
    assert smoot.iloc[-1].startswith(f"+5.50 [+{5.5 - half:.2f}, +{5.5 + half:.2f}], p = 0.003")
    assert table.data.set_index("method").loc["smoot", "diffroar_mean_30"] == pytest.approx(28.5)
    alone = retrained().query("method == 'smoot'")  # without Plain there are no differences
    table = controls.retraining_table(alone, {"smoot": "SMOOT"}, "plain", [SETTING])
    assert list(table.display.columns)[-1] == "DiffROAR at 50 % (points) ↑"
