"""Judges through the ledger: trained once, put in their places, the same bytes when made again."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import digits, fresh, in_this_process, own_checkout, run

from workbench.config import files
from workbench.measuring import judge
from workbench.runner import ledger
from workbench.stages import judge_cells
from workbench.training import models
from workbench.training.inference import accuracy


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(ledger, "run_seeds", in_this_process)
    return own_checkout(tmp_path / "checkout", monkeypatch)


def no_training(*_: Any, **__: Any) -> None:
    raise AssertionError("trained once more")


def test_the_facts_are_those_of_the_weights_beside_them(root: Path) -> None:
    (file,) = judge_cells.train_judges("smoke", ["digits"])
    assert file == root / "runs/smoke/results/judge/digits.json"
    facts = files.read_json(file)
    assert (facts["dataset"], facts["backbone"], facts["epochs"]) == ("digits", "two_conv_small", 2)
    network = fresh(run()).network
    models.load_weights(network, root / "runs/smoke/judge/digits.safetensors")
    images = digits()
    assert facts["accuracy"] == pytest.approx(
        accuracy(network, images.test_images, images.test_labels, batch_size=64), abs=1e-6
    )
    kept = files.read_json(root / "runs/smoke/results/provenance/judge/digits.json")
    assert kept["judge"]["seconds"] > 0


def test_a_judge_is_found_until_its_training_changes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge_cells.train_judges("smoke", ["digits"])
    before = load_file(root / "runs/smoke/judge/digits.safetensors")
    monkeypatch.setattr(judge, "train_judge", no_training)
    judge_cells.train_judges("smoke", ["digits"])
    params = root / "tests" / "smoke.yaml"
    params.write_text(params.read_text().replace("seed: 1000", "seed: 1001"))
    with pytest.raises(AssertionError, match="once more"):
        judge_cells.train_judges("smoke", ["digits"])
    monkeypatch.undo()
    assert all(torch.isfinite(tensor).all() for tensor in before.values())


def test_made_again_it_has_the_same_bytes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge_cells.train_judges("smoke", ["digits"])
    first = {file: file.read_bytes() for file in (root / "runs").rglob("*") if file.is_file()}
    monkeypatch.setenv("SMOOT_LEDGER", "off")
    judge_cells.train_judges("smoke", ["digits"])
    assert {file: file.read_bytes() for file in (root / "runs").rglob("*") if file.is_file()} == first


def test_the_command_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert judge_cells.main(["--profile", "smoke"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in told] == [
        f"judge of {name}" for name in ("digits", "block_digits", "shortcut_digits")
    ]
    assert judge_cells.main(["--profile", "big"]) == 2
    assert "unknown profile 'big'" in capsys.readouterr().err
