import re
from pathlib import Path

import pytest
from synthetic import Network, run_record

from workbench.reporting.chance import CONTROLS, controlled
from workbench.reporting.metrics import (
    ACCURACY,
    REGISTRY,
    Metric,
    faithfulness,
    judged_fill,
    localisation,
    quality,
    retraining,
)

DOCUMENT = Path(__file__).parents[3] / "docs" / "metrics.md"


def test_headers_tell_unit_and_direction() -> None:
    assert Metric("Accuracy").header == "Accuracy (%) ↑"
    assert Metric("NLL", "nats", better="lower").header == "NLL (nats) ↓"
    assert Metric("Stability", "").header == "Stability ↑"
    assert Metric("Random", better="").header == "Random (%)"
    assert Metric("Mass", better="region").header == "Mass (%) ↑, shortcut ↓"


def test_a_difference_of_per_cents_is_in_points_and_of_the_rest_in_their_unit() -> None:
    assert ACCURACY["accuracy"].difference == "Accuracy (points) ↑"
    assert ACCURACY["nll"].difference == "NLL (nats) ↓"
    assert faithfulness(["mean"])["gap_mean"].difference == "Gap, mean (points) ↑"
    assert localisation(["block"])["stability"].difference == "Stability ↑"
    assert [Metric("x", unit).factor for unit in ("%", "points", "nats", "")] == [100, 100, 1, 1]


@pytest.mark.parametrize(
    ("regions", "header"),
    [
        (["foreground", "foreground"], "Relevance mass, object (%) ↑"),
        (["block"], "Relevance mass, block (%) ↑"),
        (["shortcut"], "Relevance mass, shortcut (%) ↓"),
        (["foreground", "block"], "Relevance mass (%) ↑"),
        (["foreground", "shortcut"], "Relevance mass (%) ↑, shortcut ↓"),
    ],
)
def test_on_a_shortcut_lower_is_better_and_the_header_says_where(regions: list[str], header: str) -> None:
    metrics = localisation(regions)
    assert metrics["relevance_mass"].header == header
    assert metrics["grid_pointing"].header == "Grid pointing (%) ↑"  # its region is always the class's own tile


def test_fills_and_levels_stand_in_names_and_labels() -> None:
    assert list(faithfulness(("mean", "black")))[5:7] == ["second_judge_gap_right_mean", "gap_black"]
    assert faithfulness(("mean",))["second_judge_gap_right_mean"].label == "Second judge's gap, right answers, mean"
    assert retraining(0.3)["top"].header == "Top 30 % of pixels (%) ↑"


def test_every_metric_of_a_record_is_shown_somewhere() -> None:
    metrics = set(run_record(Network("laptop", "fashion_mnist", "resnet10_narrow", "smoot"), 0).metrics)
    shown = set(quality(("mean", "black"), ["foreground"]))
    controls = {f"{control}_{name}" for control in CONTROLS for name in controlled(("mean", "black"))}
    assert metrics == shown | controls


@pytest.mark.parametrize("name", REGISTRY)
def test_every_metric_is_explained_under_its_name(name: str) -> None:
    headings = re.findall(r"^### (.*)$", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    named = set(re.findall(r"`(\w+)`", " ".join(headings)))
    name = name.format(fill="F")
    assert {name, name.removeprefix("random_")} & named, f"docs/metrics.md has no heading with `{name}`"


def test_the_mean_fill_stands_for_the_judge_if_it_was_used() -> None:
    assert (judged_fill(("black", "mean")), judged_fill(("noise", "black"))) == ("mean", "noise")
