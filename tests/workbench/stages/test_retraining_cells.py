"""DiffROAR through the ledger: every run of the listed settings, and no other."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_runs import METHODS, in_this_process, own_checkout

from workbench.config import files
from workbench.measuring import retraining
from workbench.runner import ledger
from workbench.stages import retraining_cells
from workbench.stages.training_cells import train_cell
from workbench.studies.index import read_retraining


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(ledger, "run_seeds", in_this_process)
    checkout = own_checkout(tmp_path / "checkout", monkeypatch)
    file = checkout / "tests" / "smoke.yaml"
    params = yaml.safe_load(file.read_text())
    params["seeds"] = [0]
    params["retraining"] |= {"train_images": 80, "test_images": 40, "epochs": 1, "levels": [0.5]}
    file.write_text(yaml.safe_dump(params))
    return checkout


def set_settings(root: Path, settings: list[str]) -> None:
    file = root / "tests" / "smoke.yaml"
    params = yaml.safe_load(file.read_text())
    params["retraining"]["settings"] = settings
    file.write_text(yaml.safe_dump(params))


def no_training(*_: Any, **__: Any) -> None:
    raise AssertionError("trained once more")


def test_every_run_of_the_listed_setting_is_measured_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_cell("digits", "two_conv_small", None, "smoke")
    written = retraining_cells.retrain_cells("smoke")
    folder = root / "runs/smoke/results/retraining/digits/two_conv_small"
    assert written == [folder / method / "0.json" for method in METHODS]
    content = files.read_json(written[0])
    assert content["cell"] == {
        "profile": "smoke",
        "dataset": "digits",
        "backbone": "two_conv_small",
        "method": "plain",
        "seed": 0,
    }
    assert content["diffroar"][0] == pytest.approx(content["top"][0] - content["bottom"][0], abs=2e-6)
    frame = read_retraining("smoke")
    assert frame["method"].tolist() == list(METHODS) and set(frame["level"]) == {0.5}
    kept = files.read_json(root / "runs/smoke/results/provenance/digits/two_conv_small/plain/0.json")
    assert set(kept) == {"train", "retrain"}
    monkeypatch.setattr(retraining, "diffroar", no_training)
    assert retraining_cells.retrain_cells("smoke") == written


def test_without_settings_there_is_an_empty_folder(root: Path) -> None:
    set_settings(root, [])
    assert retraining_cells.retrain_cells("smoke") == []
    assert list((root / "runs/smoke/results/retraining").iterdir()) == []


def test_a_run_that_was_not_trained_names_file_and_command(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert retraining_cells.main(["--profile", "smoke"]) == 2
    told = capsys.readouterr().err
    assert "plain/0.safetensors is missing: the train notebook" in told
    assert not (root / "runs/smoke/results/retraining").exists()
