import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from test_typesetting import ABOUT

from smoot.workbench import tabulation
from smoot.workbench.statistics import compare_methods, comparisons_frame
from smoot.workbench.typesetting import Table

METHODS = ("plain", "sgt", "smoot")


@pytest.fixture
def frame() -> pd.DataFrame:
    """Three methods, three seeds; smoot beats plain by 2, 3 and 4 points."""
    rows = []
    for seed, plain, sgt, smoot in [(0, 0.80, 0.79, 0.82), (1, 0.81, 0.81, 0.84), (2, 0.82, 0.80, 0.86)]:
        for method, accuracy in zip(METHODS, (plain, sgt, smoot), strict=True):
            row = {"dataset": "fashion_mnist", "backbone": "resnet10_narrow", "method": method, "seed": seed}
            row |= {"accuracy": accuracy, "nll": accuracy - 0.3, "ece": 0.05 + seed / 100, "accuracy_noise": 0.5}
            for fill, factor in (("mean", 1.0), ("black", 0.5)):
                row |= {f"insertion_auc_{fill}": 0.6 * factor, f"deletion_auc_{fill}": 0.2 * factor}
                row |= {f"random_auc_{fill}": 0.4 * factor, f"gap_{fill}": (0.4 + seed / 100) * factor}
            rows.append(row | {"relevance_mass": 0.45, "relevance_rank": 0.5, "gini": 0.55})
    return pd.DataFrame(rows)


@pytest.fixture
def accuracy(frame: pd.DataFrame) -> Table:
    compared = comparisons_frame(compare_methods(frame, "accuracy", METHODS))
    return tabulation.accuracy_table(frame, compared, METHODS, ABOUT)


def test_accuracy_as_shown(accuracy: Table) -> None:
    shown = accuracy.display.set_index("Method")
    assert list(shown.index) == ["Plain", "SGT", "SMOOT"]
    assert list(shown.columns) == [
        "n",
        "Accuracy (%) ↑",
        "NLL (nats) ↓",
        "ECE (%) ↓",
        "Accuracy under noise (%) ↑",
        "Minus Plain",
        "Minus SGT",
    ]
    assert shown.loc["SMOOT", "n"] == "3"
    assert shown.loc["Plain", "Accuracy (%) ↑"] == "81.00 ± 1.00"
    assert shown.loc["SMOOT", "Accuracy (%) ↑"] == "84.00 ± 2.00"
    assert shown.loc["SMOOT", "NLL (nats) ↓"] == "0.540 ± 0.020"
    assert shown.loc["SGT", "ECE (%) ↓"] == "6.00 ± 1.00"
    assert shown.loc["SGT", "Accuracy under noise (%) ↑"] == "50.00 ± 0.00"
    assert shown.loc["Plain", "Minus Plain"] == "–"
    assert shown.loc["SGT", "Minus SGT"] == "–"
    # differences 2, 3, 4 points: 3 ± 4.3027 / sqrt(3); t = 5.196, p = 0.0351, the smallest of 3: 0.105
    assert shown.loc["SMOOT", "Minus Plain"] == "+3.00 [+0.52, +5.48], p = 0.105"


def test_accuracy_as_numbers(accuracy: Table) -> None:
    smoot = accuracy.data.set_index("method").loc["smoot"]
    assert smoot["accuracy_mean"] == pytest.approx(84)
    assert smoot["accuracy_sd"] == pytest.approx(2)
    assert smoot["difference_plain"] == pytest.approx(3)
    assert smoot["effect_size_plain"] == pytest.approx(3)
    assert smoot["p_value_plain"] == pytest.approx(0.0351, abs=1e-4)
    assert smoot["p_holm_plain"] == pytest.approx(3 * smoot["p_value_plain"])
    assert smoot["p_wilcoxon_plain"] == pytest.approx(0.25)
    plain = accuracy.data.set_index("method").loc["plain"]
    assert math.isnan(plain["difference_sgt"])


def test_accuracy_caption_says_what_it_must(accuracy: Table) -> None:
    assert accuracy.name == "accuracy_fashion_mnist_resnet10_narrow"
    assert accuracy.title == "Accuracy, Fashion-MNIST, ResNet-10 (narrow)"
    for fact in (
        "2,000 of 60,000 training images",
        "10 epochs",
        "n = 5 seeds",
        "10,000 test images",
        "best epoch is chosen on 1,000 other training images",
        "sd 0.3",
        "95 % confidence interval",
        "Holm-adjusted over this table's 3 pairs",
        "`results/laptop/records/fashion_mnist/resnet10_narrow`",
    ):
        assert fact in accuracy.caption


def test_one_seed_gives_no_spread_and_no_p(frame: pd.DataFrame) -> None:
    one = frame[frame["seed"] == 0]
    compared = comparisons_frame(compare_methods(one, "accuracy", METHODS))
    shown = tabulation.accuracy_table(one, compared, METHODS, ABOUT).display.set_index("Method")
    assert shown.loc["SMOOT", "Accuracy (%) ↑"] == "82.00"
    assert shown.loc["SMOOT", "Minus Plain"] == "+2.00, p –"


def test_saliency_quality(frame: pd.DataFrame) -> None:
    table = tabulation.saliency_table(frame, METHODS, ("mean", "black"), ABOUT)
    shown = table.display.set_index("Method").loc["SMOOT"]
    assert shown.to_dict() == {
        "Gap, mean ↑": "41.0 ± 1.0",
        "Deletion, mean ↓": "20.0",
        "Random, mean": "40.0",
        "Insertion, mean ↑": "60.0",
        "Gap, black ↑": "20.5 ± 0.5",
        "Deletion, black ↓": "10.0",
        "Random, black": "20.0",
        "Insertion, black ↑": "30.0",
        "Relevance mass ↑": "45.0",
        "Relevance rank ↑": "50.0",
        "Gini (sparser ↑)": "55.0",
    }
    assert table.data.set_index("method").loc["sgt", "gap_mean_mean"] == pytest.approx(41)
    assert "curves on 500 of them" in table.caption
    assert "2,000 of 60,000 training images" in table.caption


def test_an_undefined_metric_is_a_dash_not_a_mean_of_the_rest(frame: pd.DataFrame) -> None:
    frame.loc[frame["seed"] == 1, "relevance_mass"] = math.nan
    table = tabulation.saliency_table(frame, METHODS, ("mean",), ABOUT)
    assert table.display["Relevance mass ↑"].tolist() == ["–"] * 3


def test_summary_covers_the_grid_and_names_each_data_set_once(frame: pd.DataFrame) -> None:
    other = replace(ABOUT, backbone="two_conv_small")
    both = pd.concat([frame, frame.assign(backbone="two_conv_small", accuracy=0.5)], ignore_index=True)
    table = tabulation.summary_table(both, METHODS, ("mean",), [ABOUT, other])
    assert table.display["Data"].tolist() == ["Fashion-MNIST", "", "", "", "", ""]
    assert table.display["Backbone"].tolist() == ["ResNet-10 (narrow)", "", "", "Two-conv (small)", "", ""]
    assert table.display["Method"].tolist() == ["Plain", "SGT", "SMOOT"] * 2
    assert table.display["Accuracy (%) ↑"].tolist()[2:4] == ["84.00 ± 2.00", "50.00 ± 0.00"]
    assert table.data["dataset"].tolist() == ["fashion_mnist"] * 6


def test_masking_means_over_epochs_then_seeds() -> None:
    rows = []
    for seed, shares in ((0, (0.0, 0.5)), (1, (0.2, 0.7))):
        for epoch, share in enumerate(shares, start=1):
            lost = math.nan if share == 0 else share
            row = {"dataset": "fashion_mnist", "backbone": "resnet10_narrow", "seed": seed, "epoch": epoch}
            names = ("masked_pixels", "information_loss", "flip_share", "cross_entropy_rise")
            rows.append(row | {"method": "smoot", "masked_share": share} | dict.fromkeys(names, lost))
            rows.append(row | {"method": "plain", "masked_share": 0.0} | dict.fromkeys(names, math.nan))
    table = tabulation.masking_table(pd.DataFrame(rows), ("plain", "smoot"), [ABOUT])

    assert table.display["Method"].tolist() == ["SMOOT"]  # plain masks nothing
    shown = table.display.iloc[0]
    assert shown["Images masked (%)"] == "35.0 ± 14.1"  # 25 and 45
    assert shown["Their pixels masked (%)"] == "47.5 ± 3.5"  # 50 (one epoch undefined) and 45
    assert shown["Information lost (nats)"] == "0.475 ± 0.035"
    assert shown["Answers changed (%)"] == "47.5 ± 3.5"
    assert shown["Cross-entropy rise (nats)"] == "0.475 ± 0.035"
    assert "2,000 of 60,000 training images" in table.caption


def test_costs() -> None:
    costs = pd.DataFrame(
        [
            ["resnet10_narrow", "plain", 0.0, 20.04, 1.0, 1.0, "one core", 64],
            ["two_conv", "sgt", 0.5, 1500.0, 2.5, 8 / 3, "one core", 64],
        ],
        columns=tabulation.COSTS,
    )
    table = tabulation.cost_table(costs)
    assert table.display.to_numpy().tolist() == [
        ["ResNet-10 (narrow)", "Plain", "0", "20.0", "1.00 ×", "1.00 ×"],
        ["Two-conv", "SGT", "50", "1,500.0", "2.50 ×", "2.67 ×"],
    ]
    assert "one core, batches of 64." in table.caption
    assert np.allclose(table.data["unit_limit"], [1, 8 / 3])
