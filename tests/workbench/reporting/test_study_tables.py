import math
from dataclasses import replace

import pandas as pd
import pytest
from synthetic import SETTING

from workbench.reporting import claims as claim_tables
from workbench.reporting import controls
from workbench.reporting.claims import judge_claims
from workbench.reporting.questions import Claim

METHODS = ("plain", "smoot")
SHORTCUT = replace(SETTING, dataset="shortcut_mnist", region="shortcut")


def test_the_drop_is_paired_with_the_run_it_belongs_to() -> None:
    rows = [("plain", 0.9, 0.7), ("plain", 0.8, 0.5), ("smoot", 0.9, 0.9), ("smoot", 0.8, 0.8)]
    frame = pd.DataFrame(rows, columns=["method", "validation_accuracy", "accuracy"])
    frame = frame.assign(dataset="shortcut_mnist", backbone="resnet10_narrow", relevance_mass=0.1)
    table = controls.shortcut_table(frame.assign(random_relevance_mass=0.02), METHODS, [SHORTCUT])
    assert table.display.set_index("Method").loc["Plain"].to_dict() == {
        "Data": "Shortcut-MNIST",
        "Backbone": "ResNet-10 (narrow)",
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
    rows = []
    for method, extra in (("plain", 0.0), ("smoot", 0.05)):
        for seed in (0, 1, 2):
            for level in (0.5, 0.1, 0.3):
                top, bottom = 0.6 + level / 10 + extra + seed * extra / 10, 0.4
                row = {"method": method, "seed": seed, "level": level, "top": top, "bottom": bottom}
                rows.append(row | {"diffroar": top - bottom, "dataset": SETTING.dataset, "backbone": SETTING.backbone})
    return pd.DataFrame(rows)


def test_retraining_shows_every_level_in_order_and_the_difference_at_the_middle_one() -> None:
    table = controls.retraining_table(retrained(), METHODS, [SETTING])
    assert list(table.display.columns)[3:6] == [
        "Top 10 % of pixels (%) ↑",
        "Bottom 10 % of pixels (%) ↓",
        "DiffROAR at 10 % (points) ↑",
    ]
    assert list(table.display.columns)[-1] == "DiffROAR at 30 % minus Plain"
    plain, smoot = (table.display.set_index("Method").loc[name] for name in ("Plain", "SMOOT"))
    assert plain["Top 50 % of pixels (%) ↑"] == "65.0" and plain["DiffROAR at 10 % (points) ↑"] == "21.0 ± 0.0"
    assert plain.iloc[-1] == "–"
    assert smoot["DiffROAR at 50 % (points) ↑"] == "30.5 ± 0.5"
    # differences 5, 5.5 and 6 points
    half = 4.302652729911275 * 0.5 / math.sqrt(3)
    assert smoot.iloc[-1].startswith(f"+5.50 [+{5.5 - half:.2f}, +{5.5 + half:.2f}], p = 0.003")
    assert table.data.set_index("method").loc["smoot", "diffroar_mean_30"] == pytest.approx(28.5)


def test_retraining_without_plain_has_no_differences() -> None:
    frame = retrained().query("method == 'smoot'")
    table = controls.retraining_table(frame, ("smoot",), [SETTING])
    assert list(table.display.columns)[-1] == "DiffROAR at 50 % (points) ↑"


def test_claims_as_shown() -> None:
    values = {"plain": (0.80, 0.81, 0.82), "smoot": (0.81, 0.821, 0.832)}
    rows = [(m, seed, value, math.nan) for m, found in values.items() for seed, value in enumerate(found)]
    frame = pd.DataFrame(rows, columns=["method", "seed", "accuracy", "grid_pointing"])
    groups = [(SETTING, frame), (SHORTCUT, frame)]
    claims = [
        Claim("not worse than plain", "accuracy", "higher", "smoot", "plain", "primary", margin=0.003),
        Claim("better in the grid", "grid_pointing", "higher", "smoot", "plain", "other", p=0.01),
    ]
    judged = judge_claims(claims, groups)
    glance = claim_tables.claims_overview(judged, ("mean",), [SETTING, SHORTCUT]).display
    assert glance["Claim"].tolist() == ["SMOOT: not worse than plain", "SMOOT: better in the grid"]
    assert glance[SETTING.name].tolist()[0] == "✓ +1.10" and glance[SHORTCUT.name].tolist()[1] == "–"
    table = claim_tables.claims_table(judged, ("mean",), [SETTING, SHORTCUT])
    half = 100 * 4.302652729911275 * 0.001 / math.sqrt(3)
    assert table.display.iloc[0].to_dict() == {
        "Claim": "SMOOT: not worse than plain",
        "Family": "primary",
        "Data": "Fashion-MNIST",
        "Backbone": "ResNet-10 (narrow)",
        "Measure": "Accuracy (points) ↑",
        "Improvement ↑": f"+1.10 [+{1.1 - half:.2f}, +{1.1 + half:.2f}]",
        "Margin": "0.30",
        "n": "3",
        "p ↓": "0.002",
        "p needed": "0.05",
        "Verdict": "supported",
    }
    assert table.display["Claim"].tolist() == ["SMOOT: not worse than plain", "", "SMOOT: better in the grid", ""]
    undefined = table.display.iloc[3]
    assert (undefined["Improvement ↑"], undefined["p ↓"], undefined["Verdict"]) == ("–", "–", "not measured")
    assert undefined["p needed"] == "0.01" and undefined["Data"] == "Shortcut-MNIST"
    assert table.data["effect"].tolist()[:2] == pytest.approx([0.011, 0.011])  # in the metric's own unit
