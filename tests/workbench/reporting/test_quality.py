import math
from dataclasses import replace

import pandas as pd
import pytest
from synthetic import SETTING, TITLES

from workbench.reporting import quality

METHODS = {name: TITLES[name] for name in ("plain", "sgt", "smoot")}
REFERENCES = ("plain", "random_mask", "sgt", "sgt_improved")


@pytest.fixture
def frame() -> pd.DataFrame:
    """Three methods, three seeds; smoot beats plain by 2, 3 and 4 points."""
    accuracies = {"plain": (0.80, 0.81, 0.82), "sgt": (0.79, 0.81, 0.80), "smoot": (0.82, 0.84, 0.86)}
    rows = [(method, seed, value) for method, values in accuracies.items() for seed, value in enumerate(values)]
    runs = pd.DataFrame(rows, columns=["method", "seed", "accuracy"])
    seed, found = runs["seed"] / 100, {"dataset": "fashion_mnist", "backbone": "resnet10_narrow"}
    found |= {"nll": runs["accuracy"] - 0.3, "ece": 0.05 + seed, "accuracy_pgd": 0.25 + seed, "gini": 0.55 + seed}
    found |= {"accuracy_noise": 0.5, "accuracy_blur": 0.6, "relevance_mass": 0.45, "relevance_rank": 0.5}
    found |= {"stability": 0.7, "pointing_game": 0.8, "grid_pointing": 0.4}
    of_smoot = 0.1 * (runs["method"] == "smoot")  # what tables must not show
    for control, level in (("random", 0.0), ("edges", 0.5)):
        found |= {f"{control}_relevance_mass": level + 0.2 + 10 * seed + of_smoot}
        found |= {f"{control}_relevance_rank": level + 0.21, f"{control}_pointing_game": level + 0.3}
        found |= {f"{control}_gini": level + 0.33}
    for fill, factor in (("mean", 1.0), ("black", 0.5)):
        found |= {f"insertion_auc_{fill}": 0.6 * factor, f"deletion_auc_{fill}": 0.2 * factor}
        found |= {f"random_deletion_auc_{fill}": 0.4 * factor, f"gap_{fill}": (0.4 + seed) * factor}
        found |= {f"random_insertion_auc_{fill}": 0.41 * factor, f"random_gap_{fill}": seed - 0.01 + of_smoot}
        found |= {f"edges_deletion_auc_{fill}": 0.3, f"edges_insertion_auc_{fill}": 0.4, f"edges_gap_{fill}": 0.1}
        for judge, level in (("judge", 0.3), ("second_judge", 0.2)):
            found |= {f"{judge}_gap_right_{fill}": (level + 2 * seed) * factor}
            found |= {f"random_{judge}_gap_right_{fill}": seed, f"edges_{judge}_gap_right_{fill}": level / 2}
    return runs.assign(**found)


def test_accuracy_as_shown_and_as_numbers(frame: pd.DataFrame) -> None:
    accuracy = quality.accuracy_table(frame, METHODS, REFERENCES, SETTING)
    assert accuracy.name == "accuracy_fashion_mnist_resnet10_narrow"
    assert accuracy.title == "Accuracy, Fashion-MNIST, ResNet-10 (narrow)"
    # differences 2, 3, 4 points: 3 ± 4.3027 / sqrt(3); t = 5.196, p = 0.0351, the smallest of 3: 0.105
    assert accuracy.display.set_index("Method").loc["SMOOT"].drop("Minus SGT").to_dict() == {
        "Accuracy (%) ↑": "84.00 ± 2.00",
        "NLL (nats) ↓": "0.540 ± 0.020",
        "ECE (%) ↓": "6.00 ± 1.00",
        "Accuracy under noise (%) ↑": "50.00 ± 0.00",
        "Accuracy under blur (%) ↑": "60.00 ± 0.00",
        "Accuracy under PGD (%) ↑": "26.00 ± 1.00",
        "Minus Plain": "+3.00 [+0.52, +5.48], p = 0.105",
    }
    assert accuracy.display["Method"].tolist() == ["Plain", "SGT", "SMOOT"]
    assert accuracy.display["Minus SGT"].tolist()[:2] == ["–", "–"]  # SGT minus Plain stands in the row of SGT

    smoot = accuracy.data.set_index("method").loc["smoot"]
    names = ["accuracy_mean", "accuracy_sd", "difference_plain", "effect_size_plain", "p_wilcoxon_plain"]
    assert smoot[names].tolist() == pytest.approx([84, 2, 3, 3, 0.25])
    assert smoot["p_value_plain"] == pytest.approx(0.0351, abs=1e-4)
    assert smoot["p_holm_plain"] == pytest.approx(3 * smoot["p_value_plain"])
    assert math.isnan(accuracy.data.set_index("method").loc["plain", "difference_sgt"])

    assert SETTING.facts in accuracy.caption and SETTING.origin in accuracy.caption
    for fact in (
        "best epoch is chosen on 1,000 other training images",
        "Noise: Gaussian, sd 0.3; blur: Gaussian, sd 1 px; both on 1,000 test images",
        "5 steps against the label, no pixel changed by more than 0.03, on 400 test images",
        "Holm-adjusted over all 3 pairs of methods",
    ):
        assert fact in accuracy.note


def test_one_seed_gives_no_spread_and_no_p(frame: pd.DataFrame) -> None:
    one = quality.accuracy_table(frame[frame["seed"] == 0], METHODS, REFERENCES, SETTING)
    shown = one.display.set_index("Method").loc["SMOOT"]
    assert (shown["Accuracy (%) ↑"], shown["Minus Plain"]) == ("82.00", "+2.00, p –")


def test_pairs_with_a_method_that_is_no_reference_count_for_holm_and_have_no_column(frame: pd.DataFrame) -> None:
    other = frame[frame["method"] == "smoot"].assign(method="hlgm", accuracy=lambda rows: rows["accuracy"] - 0.05)
    methods = {"plain": "Plain", "hlgm": "High and low", "smoot": "SMOOT"}
    table = quality.accuracy_table(pd.concat([frame, other]), methods, REFERENCES, SETTING)
    assert [name for name in table.display if name.startswith("Minus")] == ["Minus Plain"]
    assert "all 3 pairs" in table.note


def test_faithfulness(frame: pd.DataFrame) -> None:
    table = quality.faithfulness_table(frame, METHODS, SETTING)
    shown = table.display.set_index("Method").loc["SMOOT"]
    assert shown.to_dict() == {
        "Gap, mean (points) ↑": "41.0 ± 1.0",
        "Deletion, mean (%) ↓": "20.0",
        "Insertion, mean (%) ↑": "60.0",
        "Deletion, random map, mean (%)": "40.0",
        "Gap, black (points) ↑": "20.5 ± 0.5",
        "Deletion, black (%) ↓": "10.0",
        "Insertion, black (%) ↑": "30.0",
        "Deletion, random map, black (%)": "20.0",
        "Judge's gap, right answers, mean (points) ↑": "32.0 ± 2.0",
        "Second judge's gap, right answers, mean (points) ↑": "22.0 ± 2.0",
        "Judge's gap, right answers, black (points) ↑": "16.0 ± 1.0",
        "Second judge's gap, right answers, black (points) ↑": "11.0 ± 1.0",
    }
    controls = table.display.set_index("Method").iloc[-2:]
    assert list(controls.index) == ["Random map", "Edge filter"] and table.data["n"].tolist() == [3] * 5
    assert controls["Gap, mean (points) ↑"].tolist() == ["0.0 ± 1.0", "10.0 ± 0.0"]  # of Plain's runs
    assert controls["Deletion, mean (%) ↓"].tolist() == ["40.0", "30.0"]
    assert controls["Judge's gap, right answers, mean (points) ↑"].tolist() == ["1.0 ± 1.0", "15.0 ± 0.0"]
    assert controls["Second judge's gap, right answers, mean (points) ↑"].tolist() == ["1.0 ± 1.0", "10.0 ± 0.0"]
    assert controls["Deletion, random map, mean (%)"].tolist() == ["–", "–"]
    assert "on the runs of Plain." in table.note and "(mean or black)" in table.note
    assert table.name == "faithfulness_fashion_mnist_resnet10_narrow"
    assert table.data.set_index("method").loc["sgt", "gap_mean_mean"] == pytest.approx(41)
    for fact in ("curves on 500 of them", "2,000 of 60,000 training images"):
        assert fact in table.caption


def test_localisation_with_its_controls(frame: pd.DataFrame) -> None:
    table = quality.localisation_table(frame, METHODS, SETTING)
    shown = table.display.set_index("Method")
    assert list(shown.index) == ["Plain", "SGT", "SMOOT", "Random map", "Edge filter"]
    assert shown.loc["SMOOT"].to_dict() == {
        "Relevance mass, object (%) ↑": "45.0 ± 0.0",
        "Relevance rank, object (%) ↑": "50.0 ± 0.0",
        "Pointing game, object (%) ↑": "80.0 ± 0.0",
        "Grid pointing (%) ↑": "40.0 ± 0.0",
        "Gini index (%) ↑": "56.0 ± 1.0",
        "Stability ↑": "0.70 ± 0.00",
    }
    random, edges = (", ".join(shown.loc[name]) for name in ("Random map", "Edge filter"))
    assert random == "30.0 ± 10.0, 21.0 ± 0.0, 30.0 ± 0.0, 25.0 ± 0.0, 33.0 ± 0.0, –"  # Plain's seeds: 20, 30, 40 %
    assert edges == "80.0 ± 10.0, 71.0 ± 0.0, 80.0 ± 0.0, 25.0 ± 0.0, 83.0 ± 0.0, –"
    assert "at most 1 pixel away" in table.note and "sd 0.05" in table.note and "(100 of them)" in table.note


def test_on_a_shortcut_lower_is_better_and_the_caption_says_why(frame: pd.DataFrame) -> None:
    table = quality.localisation_table(frame, METHODS, replace(SETTING, region="shortcut"))
    assert "Pointing game, shortcut (%) ↓" in table.display
    assert "lower is better" in table.caption and "lower is better" not in table.display
    block = quality.localisation_table(frame, METHODS, replace(SETTING, region="block"))
    assert "Relevance mass, block (%) ↑" in block.display and "half of the image" in block.caption


def test_an_undefined_metric_is_a_dash_not_a_mean_of_the_rest(frame: pd.DataFrame) -> None:
    frame.loc[frame["seed"] == 1, "relevance_mass"] = math.nan
    frame["grid_pointing"] = math.nan  # a network of one image size has none, nor a control for it
    table = quality.localisation_table(frame, METHODS, SETTING)
    assert table.display["Relevance mass, object (%) ↑"].tolist()[:3] == ["–"] * 3
    assert table.data["relevance_mass_sd"].isna().tolist()[:3] == [True] * 3
    assert table.display["Grid pointing (%) ↑"].tolist() == ["–"] * 5


def test_comparisons_show_the_subject_and_hold_every_pair(frame: pd.DataFrame) -> None:
    undefined = frame.assign(grid_pointing=math.nan)
    table = quality.comparisons_table(undefined, METHODS, "smoot", REFERENCES, SETTING)
    shown = table.display.set_index("Measure")
    assert list(shown.columns) == ["Minus Plain", "Minus SGT"] and len(shown) == len(SETTING.metrics)
    # as in the table of accuracy
    assert shown.loc["Accuracy (points) ↑", "Minus Plain"] == "+3.00 [+0.52, +5.48], p = 0.105"
    assert shown.loc["NLL (nats) ↓", "Minus Plain"] == "+0.030 [+0.005, +0.055], p = 0.105"
    assert shown.loc["Gap, mean (points) ↑", "Minus SGT"] == "+0.0 [+0.0, +0.0], p = 1.000"
    assert shown.loc["Grid pointing (points) ↑"].tolist() == ["–", "–"]

    data = table.data.set_index(["metric", "method", "reference"])
    pairs = {("sgt", "plain"), ("smoot", "plain"), ("smoot", "sgt")}
    assert {place[1:] for place in data.index if place[0] == "accuracy"} == pairs
    assert "grid_pointing" not in set(table.data["metric"])
    found = data.loc[("accuracy", "smoot", "plain"), ["n", "difference", "sd", "effect_size", "p_wilcoxon"]]
    assert found.tolist() == pytest.approx([3, 3, 2, 3, 0.25])
    assert data.loc[("nll", "smoot", "plain"), "difference"] == pytest.approx(0.03)


def test_summary_covers_the_grid_and_names_each_data_set_once(frame: pd.DataFrame) -> None:
    other = replace(SETTING, backbone="two_conv_small")
    both = pd.concat([frame, frame.assign(backbone="two_conv_small", accuracy=0.5)], ignore_index=True)
    table = quality.summary_table(both, METHODS, [SETTING, other])
    assert table.display["Setting"].tolist() == [SETTING.name, *[""] * 4, other.name, *[""] * 4]
    assert table.display["Method"].tolist() == ["Plain", "SGT", "SMOOT", "Random map", "Edge filter"] * 2
    assert table.display["Accuracy (%) ↑"].tolist()[2:6] == ["84.00 ± 2.00", "–", "–", "50.00 ± 0.00"]
    assert table.display["Relevance mass, object (%) ↑"].tolist()[3:5] == ["30.0 ± 10.0", "80.0 ± 10.0"]
    assert table.data["dataset"].tolist() == ["fashion_mnist"] * 10
    assert " | ".join(table.display.columns[2:]) == (
        "Accuracy (%) ↑ | ECE (%) ↓ | Accuracy under noise (%) ↑ | Accuracy under PGD (%) ↑ | Stability ↑ | "
        "Gap, mean (points) ↑ | Gap, black (points) ↑ | Judge's gap, right answers, mean (points) ↑ | "
        "Relevance mass, object (%) ↑"
    )


def test_summary_of_mixed_regions_says_where_lower_is_better(frame: pd.DataFrame) -> None:
    other = replace(SETTING, dataset="shortcut_mnist", region="shortcut")
    both = pd.concat([frame, frame.assign(dataset="shortcut_mnist")], ignore_index=True)
    table = quality.summary_table(both, METHODS, [SETTING, other])
    assert "Relevance mass (%) ↑, shortcut ↓" in table.display
    assert "object (Fashion-MNIST), shortcut (Shortcut-MNIST)" in table.note


def test_masking_means_over_epochs_then_seeds() -> None:
    smoot = pd.DataFrame({"seed": [0, 0, 1, 1], "epoch": [1, 2, 1, 2], "masked_share": [0.0, 0.5, 0.2, 0.7]})
    smoot = smoot.assign(dataset=SETTING.dataset, backbone=SETTING.backbone)
    none = [smoot.assign(method=method, masked_share=0.0) for method in ("plain", "sgt")]
    runs = pd.concat([smoot.assign(method="smoot"), *none])
    lost = runs["masked_share"].where(runs["masked_share"] > 0)  # of what is not masked, it is undefined
    names = ("masked_pixels", "information_loss", "flip_share", "cross_entropy_rise")
    table = quality.masking_table(runs.assign(**dict.fromkeys(names, lost)), METHODS, [SETTING])

    assert table.display["Method"].tolist() == ["SMOOT"]  # the others mask nothing
    shown = table.display.iloc[0]
    assert shown["Images masked (%)"] == "35.0 ± 14.1"  # 25 and 45
    assert shown["Their pixels masked (%)"] == "47.5 ± 3.5"  # 50 (one epoch undefined) and 45
    assert shown["Information lost per masked image (nats)"] == "0.475 ± 0.035"
    # 0 and 0.5 x 0.5; 0.2 x 0.2 and 0.7 x 0.7: means 0.125 and 0.265
    assert shown["Information lost per training image (nats)"] == "0.195 ± 0.099"
    assert shown["Answers changed (%)"] == "47.5 ± 3.5"
    assert shown["Cross-entropy rise (nats)"] == "0.475 ± 0.035"
    assert "2,000 of 60,000 training images" in table.caption
