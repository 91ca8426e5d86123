"""Training through the ledger: what is kept, what is found again, and where it ends up."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import METHODS, fitted, in_this_process, own_checkout, run, same, silent, weights

from workbench.config import files
from workbench.runner import ledger
from workbench.stages.training_cells import train_cell, train_seed
from workbench.training import guided as training


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(ledger, "run_seeds", in_this_process)
    return own_checkout(tmp_path / "checkout", monkeypatch)


def no_training(*_: Any) -> None:
    raise AssertionError("trained once more")


def test_a_seed_leaves_its_best_weights_history_and_provenance(root: Path, tmp_path: Path) -> None:
    config = run("sgt")
    folder, direct = Path(train_seed(config, silent)), fitted(config, tmp_path / "checkpoint")
    assert folder.parent == root / "scratch/ledger/train/smoke/digits/two_conv_small/sgt"
    assert sorted(file.name for file in folder.iterdir()) == [
        "done",
        "history.csv",
        "provenance.json",
        "weights.safetensors",
    ]
    assert same(dict(sorted(load_file(folder / "weights.safetensors").items())), dict(sorted(direct.best.items())))
    history = files.read_history(folder / "history.csv")
    assert history["epoch"].tolist() == [1, 2, 3]
    for name in ("total", "consistency", "validation_accuracy", "information_loss", "masked_share"):
        assert history[name].tolist() == pytest.approx([row[name] for row in direct.history], abs=1e-6)
    facts = files.read_json(folder / "provenance.json")
    assert facts["key"] == folder.name.removeprefix("0-") and facts["seconds"] > 0


def test_a_finished_seed_is_found_and_not_trained_again(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = train_seed(run("smoot"), silent)
    monkeypatch.setattr(training, "fit", no_training)
    assert train_seed(run("smoot"), silent) == folder
    measured_otherwise = replace(run("smoot").evaluation, stability_std=0.1)
    assert train_seed(replace(run("smoot"), evaluation=measured_otherwise), silent) == folder
    for other in (run("sgt"), run("smoot", seed=1), run("smoot", training={"epochs": 2})):
        with pytest.raises(AssertionError, match="once more"):
            train_seed(other, silent)


def test_the_ledger_switched_off_trains_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    train_seed(run(), silent)
    monkeypatch.setenv("SMOOT_LEDGER", "off")
    monkeypatch.setattr(training, "fit", no_training)
    with pytest.raises(AssertionError, match="once more"):
        train_seed(run(), silent)


@pytest.mark.parametrize("done", [1, 2, 3])
def test_a_seed_that_was_stopped_goes_on_where_it_was(done: int, tmp_path: Path) -> None:
    def stop(step: int, **numbers: float) -> None:
        if step == done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_seed(run("random_mask"), stop)
    steps: list[int] = []
    folder = Path(train_seed(run("random_mask"), lambda step, **_: steps.append(step)))
    assert steps == list(range(done + 1, 4))
    assert not (folder / "checkpoint.pt").exists()
    best = fitted(run("random_mask"), tmp_path / "checkpoint").best
    found = load_file(folder / "weights.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in best.items()) and len(found) == len(best)


def test_a_cell_puts_every_seed_in_its_place(root: Path) -> None:
    frame = train_cell("digits", "two_conv_small", "sgt", "smoke")
    assert frame[["seed", "epoch"]].to_numpy().tolist() == [[seed, epoch] for seed in (0, 1) for epoch in (1, 2, 3)]
    cell = "digits/two_conv_small/sgt"
    for seed in (0, 1):
        (entry,) = (root / "scratch/ledger/train/smoke" / cell).glob(f"{seed}-*")
        for place, source in {
            f"weights/{cell}/{seed}.safetensors": "weights.safetensors",
            f"results/history/{cell}/{seed}.csv": "history.csv",
        }.items():
            assert (root / "runs/smoke" / place).read_bytes() == (entry / source).read_bytes()
        kept = files.read_json(root / "runs/smoke/results/provenance" / cell / f"{seed}.json")
        assert kept == {"train": files.read_json(entry / "provenance.json")}
    assert sorted(path.name for path in root.iterdir()) == ["data", "runs", "scratch", "tests"]


def test_without_a_method_every_method_of_the_profile_is_trained(root: Path) -> None:
    frame = train_cell("digits", "two_conv_small", None, "smoke", seeds=[1])
    assert list(dict.fromkeys(frame["method"])) == list(METHODS)
    for method in METHODS:
        assert (root / f"runs/smoke/weights/digits/two_conv_small/{method}/1.safetensors").exists()
    alone = train_cell("digits", "two_conv_small", "sgt", "smoke", seeds=[1])
    pd.testing.assert_frame_equal(frame[frame["method"] == "sgt"].reset_index(drop=True), alone)


def test_a_cell_made_again_changes_no_byte(root: Path) -> None:
    def contents() -> dict[Path, bytes]:
        return {file: file.read_bytes() for file in sorted((root / "runs").rglob("*")) if file.is_file()}

    train_cell("digits", "two_conv_small", "smoot", "smoke", seeds=[1])
    before = contents()
    assert len(before) == 3 and all("1." in file.name for file in before)
    for entry in (root / "scratch/ledger").rglob("done"):
        entry.unlink()  # trained again, in another time
    train_cell("digits", "two_conv_small", "smoot", "smoke", seeds=[1])
    assert contents() == before


def test_the_trained_weights_are_not_the_initial_ones(root: Path) -> None:
    train_cell("digits", "two_conv_small", "plain", "smoke", seeds=[0])
    trained = load_file(root / "runs/smoke/weights/digits/two_conv_small/plain/0.safetensors")
    config = run()
    initial = weights(training.create_state(config, (1, 8, 8), 10, 72).network)
    assert set(trained) == set(initial)
    assert not any(torch.equal(trained[name], initial[name]) for name in initial)
