"""Whole study profiles: parameters and records in, tables, figures and report out."""

from pathlib import Path

import pandas as pd
import pytest
from synthetic import Network, run_record
from synthetic_studies import MASKS, PLANS, write_study

from workbench.config import paths
from workbench.config.profile import Grid
from workbench.stages import figures, report, tables

PLACE = "fashion_mnist_resnet10_narrow"
OF_MASKS = ["comparison_mnist_two_conv_small", "comparison_fashion_mnist_two_conv_small"]
OF_PLANS = [f"{exhibit}_{PLACE}" for exhibit in PLANS["study"]["exhibits"]]
DEVELOPMENT = "Measured on development images, drawn from the rest of the training split, never on test images."


@pytest.fixture
def of_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Grid:
    return write_study(tmp_path, monkeypatch, MASKS)


@pytest.fixture
def of_plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Grid:
    return write_study(tmp_path, monkeypatch, PLANS)


def test_a_study_has_the_tables_and_figures_of_its_exhibits_the_same_bytes_each_time(of_masks: Grid) -> None:
    target = paths.ROOT / "figures" / "masks"
    assert list(tables.write_all("masks")) == list(figures.write_all("masks")) == OF_MASKS
    first = {file.relative_to(target).as_posix(): file.read_bytes() for file in target.glob("*/*")}
    made = {kind.format(name) for name in OF_MASKS for kind in ("tables/{}.md", "tables/{}.csv", "plots/{}.png")}
    assert set(first) == made | {"plots/captions.json"}
    tables.write_all("masks")
    figures.write_all("masks")
    assert {name: (target / name).read_bytes() for name in first} == first


def test_each_table_is_of_the_runs_of_its_own_setting(of_masks: Grid) -> None:
    written = tables.write_all("masks")
    for dataset, name, images in zip(MASKS["datasets"], OF_MASKS, ("1,000", "2,000"), strict=True):
        network = Network("masks", dataset, "two_conv_small", "mean_fill")
        expected = [100 * run_record(network, seed).metrics["accuracy"] for seed in of_masks.seeds]
        numbers = pd.read_csv(paths.ROOT / f"figures/masks/tables/{name}.csv").set_index("method")
        assert numbers.loc["mean_fill", "accuracy_mean"] == pytest.approx(sum(expected) / 2, abs=1e-4)
        assert numbers.loc["mean_fill", "n"] == 2
        facts = f"{images} of 60,000 training images, 10 epochs, n = 2 seeds, 10,000 test images"
        assert facts in written[name].caption
        assert "Seeds are few. " in written[name].note and f"{facts}; maps on the first 500" in written[name].note
    for chart in figures.draw_all("masks"):
        assert "10,000 test images" in chart.caption and len(chart.caption.split()) < 60


def test_what_chooses_says_development_images_everywhere(of_plans: Grid) -> None:
    built, drawn = tables.build_all("plans"), {one.name: one.caption for one in figures.draw_all("plans")}
    assert list(built) == list(drawn) == OF_PLANS
    for caption in [*(table.caption for table in built.values()), *drawn.values()]:
        assert "5,000 development images" in caption and "test image" not in caption
    for table in built.values():
        assert DEVELOPMENT in table.note and "test image" not in table.note.replace(DEVELOPMENT, "")


def test_methods_of_their_own_training_are_told_and_counted(of_plans: Grid) -> None:
    built = tables.build_all("plans")
    facts = "2,000 of 60,000 training images, 10 epochs where a method does not say otherwise, n = 2 seeds"
    assert all(facts in table.caption for table in built.values())
    compared = built[f"comparison_{PLACE}"]
    assert compared.data["method"].tolist() == ["plain", "smoot", "smoot_long", "random", "edges"]
    passes = compared.data.set_index("method")["passes_mean"]
    assert passes["plain"] == 1 and passes["smoot_long"] > 2.5 * 4 / 3  # 25 epochs, saliency in each, and masks
    costs = built[f"oracle_{PLACE}"].data.set_index("method")["cost"]
    assert costs["smoot"].max() < passes["smoot_long"] == pytest.approx(costs["smoot_long"].max(), abs=1e-9)


def test_the_report_of_a_study(of_plans: Grid) -> None:
    figures.write_all("plans")
    said = report.write_report("plans").read_text(encoding="utf-8")
    assert "results of profile plans" in said and "Which plan, Fashion-MNIST" in said
    assert said.count("<img") == len(OF_PLANS)
