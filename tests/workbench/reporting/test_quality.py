import math
from dataclasses import replace

import pandas as pd
import pytest
from synthetic import SETTING, TITLES

from workbench.reporting import quality as quality_tables
from workbench.reporting.metrics import quality
from workbench.reporting.table import Table
from workbench.results.statistics import compared_frame

METHODS = {name: TITLES[name] for name in ("plain", "sgt", "smoot")}
REFERENCES = ("plain", "random_mask", "sgt", "sgt_improved")


@pytest.fixture
def frame() -> pd.DataFrame:
    """Three methods, three seeds; smoot beats plain by 2, 3 and 4 points."""
    rows = []
    for seed, plain, sgt, smoot in [(0, 0.80, 0.79, 0.82), (1, 0.81, 0.81, 0.84), (2, 0.82, 0.80, 0.86)]:
        for method, accuracy in zip(METHODS, (plain, sgt, smoot), strict=True):
            row = {"dataset": "fashion_mnist", "backbone": "resnet10_narrow", "method": method, "seed": seed}
            row |= {"accuracy": accuracy, "nll": accuracy - 0.3, "ece": 0.05 + seed / 100, "accuracy_noise": 0.5}
            row |= {"accuracy_blur": 0.6, "accuracy_pgd": 0.25 + seed / 100}
            for fill, factor in (("mean", 1.0), ("black", 0.5)):
                row |= {f"insertion_auc_{fill}": 0.6 * factor, f"deletion_auc_{fill}": 0.2 * factor}
                row |= {f"random_auc_{fill}": 0.4 * factor, f"gap_{fill}": (0.4 + seed / 100) * factor}
                row |= {f"judge_gap_{fill}": (0.2 + seed / 100) * factor, f"judge_random_auc_{fill}": 0.45}
                row |= {f"judge_gap_right_{fill}": (0.3 + seed / 50) * factor}
            row |= {"relevance_mass": 0.45, "relevance_rank": 0.5, "gini": 0.55 + seed / 100, "stability": 0.7}
            row |= {"pointing_game": 0.8, "grid_pointing": 0.4, "random_relevance_mass": 0.2 + seed / 10}
            rows.append(row | {"random_relevance_rank": 0.21, "random_pointing_game": 0.3, "random_gini": 0.33})
    return pd.DataFrame(rows)


@pytest.fixture
def accuracy(frame: pd.DataFrame) -> Table:
    compared = compared_frame(frame, "accuracy", list(METHODS))
    return quality_tables.accuracy_table(frame, compared, METHODS, REFERENCES, SETTING)


def test_accuracy_as_shown(accuracy: Table) -> None:
    shown = accuracy.display.set_index("Method")
    assert list(shown.index) == ["Plain", "SGT", "SMOOT"]
    assert list(shown.columns) == [
        "n",
        "Accuracy (%) ↑",
        "NLL (nats) ↓",
        "ECE (%) ↓",
        "Accuracy under noise (%) ↑",
        "Accuracy under blur (%) ↑",
        "Accuracy under PGD (%) ↑",
        "Minus Plain",
        "Minus SGT",
    ]
    assert shown.loc["SMOOT", "n"] == "3"
    assert shown.loc["Plain", "Accuracy (%) ↑"] == "81.00 ± 1.00"
    assert shown.loc["SMOOT", "Accuracy (%) ↑"] == "84.00 ± 2.00"
    assert shown.loc["SMOOT", "NLL (nats) ↓"] == "0.540 ± 0.020"
    assert shown.loc["SGT", "ECE (%) ↓"] == "6.00 ± 1.00"
    assert shown.loc["SGT", "Accuracy under noise (%) ↑"] == "50.00 ± 0.00"
    assert shown.loc["SGT", "Accuracy under PGD (%) ↑"] == "26.00 ± 1.00"
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
        "noise: gaussian, sd 0.3; blur: gaussian, sd 1 px; both on 1,000 test images",
        "5 steps against the label, no pixel changed by more than 0.03, on 400 test images",
        "95 % confidence interval",
        "holm-adjusted over all 3 pairs of methods",
        "`results/laptop/fashion_mnist-resnet10_narrow`",
    ):
        assert fact.lower() in accuracy.caption.lower()


def test_one_seed_gives_no_spread_and_no_p(frame: pd.DataFrame) -> None:
    one = frame[frame["seed"] == 0]
    compared = compared_frame(one, "accuracy", list(METHODS))
    shown = quality_tables.accuracy_table(one, compared, METHODS, REFERENCES, SETTING).display.set_index("Method")
    assert shown.loc["SMOOT", "Accuracy (%) ↑"] == "82.00"
    assert shown.loc["SMOOT", "Minus Plain"] == "+2.00, p –"


def test_pairs_with_a_method_that_is_no_reference_count_for_holm_and_have_no_column(frame: pd.DataFrame) -> None:
    other = frame[frame["method"] == "smoot"].assign(method="hlgm", accuracy=lambda rows: rows["accuracy"] - 0.05)
    methods = {"plain": "Plain", "hlgm": "High and low", "smoot": "SMOOT"}
    compared = compared_frame(pd.concat([frame, other]), "accuracy", list(methods))
    table = quality_tables.accuracy_table(pd.concat([frame, other]), compared, methods, REFERENCES, SETTING)
    assert [name for name in table.display if name.startswith("Minus")] == ["Minus Plain"]
    assert "all 3 pairs" in table.caption
    assert ("smoot", "hlgm") in set(zip(compared["method"], compared["reference"], strict=True))


def test_faithfulness(frame: pd.DataFrame) -> None:
    table = quality_tables.faithfulness_table(frame, METHODS, ("mean", "black"), SETTING)
    shown = table.display.set_index("Method").loc["SMOOT"]
    assert shown.to_dict() == {
        "n": "3",
        "Gap, mean (points) ↑": "41.0 ± 1.0",
        "Deletion, mean (%) ↓": "20.0",
        "Insertion, mean (%) ↑": "60.0",
        "Random, mean (%)": "40.0",
        "Gap, black (points) ↑": "20.5 ± 0.5",
        "Deletion, black (%) ↓": "10.0",
        "Insertion, black (%) ↑": "30.0",
        "Random, black (%)": "20.0",
        "Judge's gap, mean (points) ↑": "21.0 ± 1.0",
        "Judge's gap, right answers, mean (points) ↑": "32.0 ± 2.0",
        "Judge, random, mean (%)": "45.0",
        "Judge's gap, black (points) ↑": "10.5 ± 0.5",
        "Judge's gap, right answers, black (points) ↑": "16.0 ± 1.0",
        "Judge, random, black (%)": "45.0",
    }
    assert table.name == "faithfulness_fashion_mnist_resnet10_narrow"
    assert table.data.set_index("method").loc["sgt", "gap_mean_mean"] == pytest.approx(41)
    for fact in ("curves on 500 of them", "2,000 of 60,000 training images", "(mean or black)"):
        assert fact in table.caption


def test_localisation_with_its_control(frame: pd.DataFrame) -> None:
    table = quality_tables.localisation_table(frame, METHODS, SETTING)
    shown = table.display.set_index("Method")
    assert list(shown.index) == ["Plain", "SGT", "SMOOT", "Random map (control)"]
    assert shown.loc["SMOOT"].to_dict() == {
        "n": "3",
        "Relevance mass, object (%) ↑": "45.0 ± 0.0",
        "Relevance rank, object (%) ↑": "50.0 ± 0.0",
        "Pointing game, object (%) ↑": "80.0 ± 0.0",
        "Grid pointing (%) ↑": "40.0 ± 0.0",
        "Gini index (%) ↑": "56.0 ± 1.0",
        "Stability ↑": "0.70 ± 0.00",
    }
    # seeds 20, 30 and 40 %, the same for every method: one row per seed, not per run
    assert shown.loc["Random map (control)"].tolist() == ["3", "30.0 ± 10.0", "21.0 ± 0.0", "30.0 ± 0.0", "25.0 ± 0.0",
                                                          "33.0 ± 0.0", "–"]  # fmt: skip
    assert "at most 1 pixel away" in table.caption and "sd 0.05" in table.caption and "(100 of them)" in table.caption


def test_on_a_shortcut_lower_is_better_and_the_caption_says_why(frame: pd.DataFrame) -> None:
    table = quality_tables.localisation_table(frame, METHODS, replace(SETTING, region="shortcut"))
    assert "Pointing game, shortcut (%) ↓" in table.display
    assert "lower is better" in table.caption and "lower is better" not in table.display
    block = quality_tables.localisation_table(frame, METHODS, replace(SETTING, region="block"))
    assert "Relevance mass, block (%) ↑" in block.display and "half of the image" in block.caption


def test_a_network_of_one_image_size_has_no_grid_pointing_nor_a_control_for_it(frame: pd.DataFrame) -> None:
    shown = quality_tables.localisation_table(frame.assign(grid_pointing=math.nan), METHODS, SETTING).display
    assert shown["Grid pointing (%) ↑"].tolist() == ["–"] * 4


def test_an_undefined_metric_is_a_dash_not_a_mean_of_the_rest(frame: pd.DataFrame) -> None:
    frame.loc[frame["seed"] == 1, "relevance_mass"] = math.nan
    table = quality_tables.localisation_table(frame, METHODS, SETTING)
    assert table.display["Relevance mass, object (%) ↑"].tolist()[:3] == ["–"] * 3
    assert table.data["relevance_mass_sd"].isna().tolist()[:3] == [True] * 3


@pytest.fixture
def comparisons(frame: pd.DataFrame) -> Table:
    undefined = frame.assign(grid_pointing=math.nan)
    metrics = quality(("mean", "black"), ["foreground"])
    compared = {metric: compared_frame(undefined, metric, list(METHODS)) for metric in metrics}
    return quality_tables.comparisons_table(compared, "smoot", REFERENCES, METHODS, ("mean", "black"), SETTING)


def test_comparisons_show_the_subject_and_hold_every_pair(comparisons: Table) -> None:
    shown = comparisons.display.set_index("Measure")
    assert list(shown.columns) == ["Minus Plain", "Minus SGT"]
    assert len(shown) == len(quality(("mean", "black"), ["foreground"]))
    # as in the table of accuracy
    assert shown.loc["Accuracy (points) ↑", "Minus Plain"] == "+3.00 [+0.52, +5.48], p = 0.105"
    assert shown.loc["NLL (nats) ↓", "Minus Plain"] == "+0.030 [+0.005, +0.055], p = 0.105"
    assert shown.loc["Gap, mean (points) ↑", "Minus SGT"] == "+0.0 [+0.0, +0.0], p = 1.000"
    assert shown.loc["Grid pointing (points) ↑"].tolist() == ["–", "–"]

    data = comparisons.data.set_index(["metric", "method", "reference"])
    assert list(comparisons.data.columns[:3]) == ["metric", "method", "reference"]
    pairs = {("sgt", "plain"), ("smoot", "plain"), ("smoot", "sgt")}
    assert {place[1:] for place in data.index if place[0] == "accuracy"} == pairs
    assert "grid_pointing" not in set(comparisons.data["metric"])
    found = data.loc[("accuracy", "smoot", "plain")]
    assert (found["n"], found["difference"], found["sd"]) == pytest.approx((3, 3, 2))
    assert (found["effect_size"], found["p_wilcoxon"]) == pytest.approx((3, 0.25))
    assert data.loc[("nll", "smoot", "plain"), "difference"] == pytest.approx(0.03)
    assert "the CSV file holds all of them" in comparisons.caption


def test_summary_covers_the_grid_and_names_each_data_set_once(frame: pd.DataFrame) -> None:
    other = replace(SETTING, backbone="two_conv_small")
    both = pd.concat([frame, frame.assign(backbone="two_conv_small", accuracy=0.5)], ignore_index=True)
    table = quality_tables.summary_table(both, METHODS, ("mean",), [SETTING, other])
    assert table.display["Data"].tolist() == ["Fashion-MNIST", "", "", "", "", ""]
    assert table.display["Backbone"].tolist() == ["ResNet-10 (narrow)", "", "", "Two-conv (small)", "", ""]
    assert table.display["Method"].tolist() == ["Plain", "SGT", "SMOOT"] * 2
    assert table.display["Accuracy (%) ↑"].tolist()[2:4] == ["84.00 ± 2.00", "50.00 ± 0.00"]
    assert table.data["dataset"].tolist() == ["fashion_mnist"] * 6
    assert list(table.display.columns)[3:] == [
        "Accuracy (%) ↑",
        "ECE (%) ↓",
        "Accuracy under noise (%) ↑",
        "Accuracy under PGD (%) ↑",
        "Gap, mean (points) ↑",
        "Judge's gap, mean (points) ↑",
        "Relevance mass, object (%) ↑",
        "Stability ↑",
    ]


def test_summary_of_mixed_regions_says_where_lower_is_better(frame: pd.DataFrame) -> None:
    other = replace(SETTING, dataset="shortcut_mnist", region="shortcut")
    both = pd.concat([frame, frame.assign(dataset="shortcut_mnist")], ignore_index=True)
    table = quality_tables.summary_table(both, METHODS, ("mean",), [SETTING, other])
    assert "Relevance mass (%) ↑, shortcut ↓" in table.display
    assert "object (Fashion-MNIST), shortcut (Shortcut-MNIST)" in table.caption


def test_masking_means_over_epochs_then_seeds() -> None:
    rows = []
    for seed, shares in ((0, (0.0, 0.5)), (1, (0.2, 0.7))):
        for epoch, share in enumerate(shares, start=1):
            lost = math.nan if share == 0 else share
            row = {"dataset": "fashion_mnist", "backbone": "resnet10_narrow", "seed": seed, "epoch": epoch}
            names = ("masked_pixels", "information_loss", "flip_share", "cross_entropy_rise")
            rows.append(row | {"method": "smoot", "masked_share": share} | dict.fromkeys(names, lost))
            nothing = {"masked_share": 0.0} | dict.fromkeys(names, math.nan)
            rows += [row | {"method": method} | nothing for method in ("plain", "sgt")]
    table = quality_tables.masking_table(pd.DataFrame(rows), METHODS, [SETTING])

    assert table.display["Method"].tolist() == ["SMOOT"]  # the others mask nothing
    shown = table.display.iloc[0]
    assert shown["Images masked (%)"] == "35.0 ± 14.1"  # 25 and 45
    assert shown["Their pixels masked (%)"] == "47.5 ± 3.5"  # 50 (one epoch undefined) and 45
    assert shown["Information lost (nats)"] == "0.475 ± 0.035"
    assert shown["Answers changed (%)"] == "47.5 ± 3.5"
    assert shown["Cross-entropy rise (nats)"] == "0.475 ± 0.035"
    assert "2,000 of 60,000 training images" in table.caption
