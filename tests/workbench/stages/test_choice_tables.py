"""The choice of the default, from the results of made-up studies to its two tables."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic import Network, rewrite, run_record
from synthetic_studies import masks, write_study

from workbench.__main__ import main
from workbench.config import paths
from workbench.config.profile import Grid
from workbench.results.records import RunRecord
from workbench.stages import choice, pages
from workbench.studies import choice as rule
from workbench.studies.choice import MEASURES, standard_scores

EVERYWHERE = ("plain", "gap", "first_order", "signed_k20", "random_mask")
KEYS: dict[str, dict[str, Any]] = {
    "gap": {"like": "smoot"},
    "gap_turns": {"like": "smoot"},
    "first_order": masks(1.0, 0.9),
    "signed_k20": masks(1.0, 0.2),
    "share_25": masks(0.25, 0.2),
}
LACKING = ["gap_turns", "share_25"]  # in the second regime
SEEDS, SETTING = (3, 5), ("fashion_mnist", "two_conv_small")


def study(profile: str, methods: tuple[str, ...]) -> dict[str, Any]:
    return {
        "profile": profile,
        "datasets": ("fashion_mnist",),
        "backbone": "two_conv_small",
        "development_images": 5000,
        "methods": {name: KEYS.get(name, {}) for name in methods},
        "study": {"title": f"Regime {profile}", "exhibits": ["comparison"], "reference": "plain"},
    }


@pytest.fixture
def grids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Grid]:
    monkeypatch.setattr(rule, "PROFILES", ("one", "two"))
    monkeypatch.setattr(rule, "LATER", ("three",))
    asked = {
        "one": (*EVERYWHERE, *LACKING),
        "two": EVERYWHERE,
        "three": ("plain", "gap", "first_order", "share_25", "sgt_improved"),
    }
    return [write_study(tmp_path, monkeypatch, study(profile, methods), SEEDS) for profile, methods in asked.items()]


def measured(network: Network, metric: str) -> np.ndarray:
    return np.array([run_record(network, seed).metrics[metric] for seed in SEEDS])


def test_the_tables_hold_the_rules_numbers_each_time(grids: list[Grid], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=r"unknown block 'choice/choice': neither .*figures/choice/choice\.md nor"):
        pages.block("choice/choice")
    assert main(["choice"]) == 0
    folder = paths.ROOT / "figures" / "choice"
    first = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert set(first) == {f"{name}.{kind}" for name in ("choice", "controls", "regimes") for kind in ("md", "csv")}
    candidates = pd.read_csv(folder / "choice.csv").set_index("method")
    controls = pd.read_csv(folder / "controls.csv").set_index("method")
    assert set(candidates.index) == {"gap", "first_order"}
    assert controls.index.tolist() == ["signed_k20", "random_mask", "plain"]
    chosen = candidates.index[candidates["chosen"]].tolist()
    assert capsys.readouterr().out == f"{chosen[0]} of 2 candidates: figures/choice/choice.md\n" and len(chosen) == 1

    regimes = [choice.regime(runs) for runs in choice.load_all(("one", "two"))]
    scores = dict(zip(EVERYWHERE[1:], standard_scores(regimes, EVERYWHERE[1:]), strict=True)) | {"plain": 0.0}
    assert candidates["score"].to_dict() == pytest.approx({name: scores[name] for name in candidates.index}, abs=1e-6)
    assert controls["score"].to_dict() == pytest.approx({name: scores[name] for name in controls.index}, abs=1e-6)
    for regime, profile in zip(regimes, ("one", "two"), strict=True):
        gap, plain = (np.mean(measured(Network(profile, *SETTING, name), MEASURES[0])) for name in ("gap", "plain"))
        assert regime.differences(MEASURES[0])["gap"].mean() == pytest.approx(gap - plain, abs=2e-6)
    assert candidates.loc["first_order", "cost"] == pytest.approx(7 / 3) and candidates.loc["gap", "cost"] < 7 / 3

    assert main(["choice"]) == 0
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == first
    for name in ("choice", "controls", "regimes"):
        assert pages.block(f"choice/{name}") == (folder / f"{name}.md").read_text(encoding="utf-8").strip()


def test_captions_say_what_was_compared_and_what_was_left_out(grids: list[Grid]) -> None:
    candidates, controls, regimes = choice.build()
    first, second = (f"Regime {name}, Fashion-MNIST, Two-conv (small) (2,000 of 60,000" for name in ("one", "two"))
    for table in (candidates, controls):
        assert table.note.index(first) < table.note.index(second)
        assert "Measured on development images" in table.note and "nan" not in table.markdown
    assert "limit: a loss of 0.3 points. " in candidates.note
    assert "Left out, because a regime lacks them: " in candidates.note
    assert candidates.display["Chosen"].tolist().count("✓") == 1
    assert candidates.display["Behind the first ↓"].tolist()[0] == "0.00 ± 0.00"
    assert list(controls.display)[-1].endswith(": score ahead")
    assert "Trained after the choice: Regime three. " in regimes.note and "nan" not in regimes.markdown


def test_the_chosen_rule_is_compared_with_each_reference_and_a_constant_in_every_regime(grids: list[Grid]) -> None:
    candidates, _, regimes = choice.build()
    chosen = candidates.data.loc[candidates.data["chosen"], "method"].item()
    plain, masked, constant = (chosen, "plain"), (chosen, "random_mask"), ("share_25", "plain")
    improved = (chosen, "sgt_improved")
    shown = {"Regime one": [plain, masked, constant], "Regime two": [plain, masked]}
    shown |= {"Regime three": [plain, improved, constant]}
    found = regimes.data.set_index(["regime", "method", "reference"])
    assert list(found.index) == [(regime, *pair) for regime, pairs in shown.items() for pair in pairs]
    for (title, method, reference), row in found.iterrows():
        own = Network(str(title).split()[-1], *SETTING, str(method))
        other = replace(own, method=str(reference))
        difference = 100 * (measured(own, "relevance_mass") - measured(other, "relevance_mass"))
        low, high = stats.ttest_1samp(difference, 0).confidence_interval()
        numbers = [row[f"relevance_mass_{name}"] for name in ("difference", "low", "high")]
        assert numbers == pytest.approx([difference.mean(), low, high], abs=1e-3)


def test_where_all_lose_more_the_caption_says_which_limit_was_taken(grids: list[Grid]) -> None:
    def less_accurate(record: RunRecord) -> RunRecord:
        lost = 0.0 if record.method == "plain" else 0.1
        return replace(record, metrics={**record.metrics, "accuracy": record.metrics["accuracy"] - lost})

    rewrite(grids[1], less_accurate)
    limit = "limit: the smallest loss plus 0.1 points, as every candidate loses more than 0.3. "
    assert limit in choice.build()[0].note


def test_what_is_missing_is_named(grids: list[Grid], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule, "PROFILES", ("one", "laptop"))
    with pytest.raises(ValueError, match="laptop has no block study: expected one of one, laptop"):
        choice.build()
    monkeypatch.setattr(rule, "PROFILES", ("one", "two"))
    rewrite(grids[1], lambda record: replace(record, metrics={**record.metrics, MEASURES[2]: float("nan")}))
    with pytest.raises(ValueError, match=f"'{MEASURES[2]}' of method 'plain', seed 3, is missing or undefined"):
        choice.build()
    (paths.ROOT / "results/two/fashion_mnist-two_conv_small/runs.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"evaluate@fashion_mnist-two_conv_small` makes it"):
        choice.build()
