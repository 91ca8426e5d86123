"""Evaluation through the ledger: records that say what was measured, and that never change."""

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import digits, fresh, in_this_process, own_checkout, run, silent
from torch import nn

from workbench.config import files
from workbench.config.cells import Cell
from workbench.config.profile import load_judge, load_run
from workbench.measuring import evaluation
from workbench.results import records as results
from workbench.runner import ledger
from workbench.stages import judge_cells
from workbench.stages.evaluation_cells import Task, evaluate_cell, evaluate_seed
from workbench.stages.training_cells import train_cell
from workbench.training import models

PLACE = Path("digits/two_conv_small/sgt")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(ledger, "run_seeds", in_this_process)
    return own_checkout(tmp_path / "checkout", monkeypatch)


@pytest.fixture
def trained(root: Path) -> Path:
    """The root of a checkout with one cell and the judge trained."""
    train_cell("digits", "two_conv_small", "sgt", "smoke")
    judge_cells.train_judges("smoke", ["digits"])
    return root / "runs" / "smoke"


def task(folder: Path, seed: int = 0) -> Task:
    config = load_run("digits", "two_conv_small", "sgt", seed, "smoke")
    return Task(
        config,
        folder / "weights" / PLACE / f"{seed}.safetensors",
        folder / "results/history" / PLACE / f"{seed}.csv",
        load_judge("smoke"),
        folder / "judge" / "digits.safetensors",
    )


def judge(folder: Path) -> nn.Module:
    """The judge of the digits, from its file."""
    network = fresh(run()).network  # of the same backbone
    models.load_weights(network, folder / "judge" / "digits.safetensors")
    return network


def no_evaluation(*_: Any, **__: Any) -> None:
    raise AssertionError("measured once more")


def test_a_cell_is_measured_seed_by_seed(trained: Path) -> None:
    frame = evaluate_cell("digits", "two_conv_small", "sgt", "smoke")
    cell = Cell("smoke", "digits", "two_conv_small", "sgt")
    for seed in (0, 1):
        config = load_run("digits", "two_conv_small", "sgt", seed, "smoke")
        network = fresh(replace(config, seed=5)).network
        models.load_weights(network, task(trained, seed).weights)
        direct = evaluation.evaluate_network(network, digits(), config, judge(trained))
        record = results.read_record(trained / "results/records" / PLACE / f"{seed}.json")
        assert (record.cell, record.seed) == (cell, seed)
        assert record.metrics == pytest.approx(dict(direct.metrics), abs=1e-6, nan_ok=True)
        for fill in ("mean", "black"):
            for kind, scores in direct.curves[fill].items():
                assert record.curves[fill][kind] == pytest.approx(scores, abs=1e-6)
        row = frame[frame["seed"] == seed].iloc[0]
        assert {name: row[name] for name in record.metrics} == pytest.approx(dict(record.metrics), nan_ok=True)
        samples = files.read_samples(trained / "results/records" / PLACE / "samples.npz")
        assert np.array_equal(samples.saliency, direct.samples.saliency) == (seed == 0)  # the first seed's
    assert len(frame) == 2 and set(frame["method"]) == {"sgt"}


def test_a_record_says_what_it_depends_on(trained: Path) -> None:
    evaluate_cell("digits", "two_conv_small", "sgt", "smoke", seeds=[1])
    record = results.read_record(trained / "results/records" / PLACE / "1.json")
    config = load_run("digits", "two_conv_small", "sgt", 1, "smoke")
    assert record.config == files.simplified(config.as_dict(), "config", digits=None)
    assert record.data == digits().sha256
    assert record.packages["torch"] == version("torch") and record.packages["timm"] == version("timm")
    code = ledger.code_hash("workbench.stages.training_cells", "workbench.stages.evaluation_cells")
    assert record.code == code != ledger.code_hash("workbench.stages.training_cells")
    history = files.read_history(trained / "results/history" / PLACE / "1.csv")
    accuracies = history["validation_accuracy"].tolist()
    assert record.history == {
        "epochs": 3,
        "best_epoch": accuracies.index(max(accuracies)) + 1,
        "validation_accuracy": max(accuracies),
        "train_accuracy": history["accuracy"].iloc[-1],
        "masked_share": 1.0,
        "final_masked_share": 1.0,
        "information_loss": history["information_loss"].iloc[-1],
    }


def test_records_samples_and_provenance_do_not_change_when_made_again(trained: Path) -> None:
    def contents() -> dict[Path, bytes]:
        return {file: file.read_bytes() for file in sorted((trained / "results").rglob("*")) if file.is_file()}

    evaluate_cell("digits", "two_conv_small", "sgt", "smoke")
    before = contents()
    assert len(before) == 2 + 2 + 2 + 1 + 2  # histories, records, provenance of two seeds, samples, the judge's two
    for done in (trained.parents[1] / "scratch/ledger/evaluate").rglob("done"):
        done.unlink()
    evaluate_cell("digits", "two_conv_small", "sgt", "smoke")
    assert contents() == before
    kept = files.read_json(trained / "results/provenance" / PLACE / "0.json")
    assert set(kept) == {"train", "evaluate"} and kept["train"]["key"] != kept["evaluate"]["key"]


def test_what_was_measured_is_found_until_weights_or_settings_change(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    folder = evaluate_seed(task(trained), lambda step, **_: told.append(step))
    assert sorted(file.name for file in Path(folder).iterdir()) == [
        "done",
        "provenance.json",
        "record.json",
        "samples.npz",
    ]
    monkeypatch.setattr(evaluation, "evaluate_network", no_evaluation)
    assert evaluate_seed(task(trained), lambda step, **_: told.append(step)) == folder
    assert told == [1, 1]
    settings = replace(task(trained).config.evaluation, stability_std=0.1)
    changed = replace(task(trained), config=replace(task(trained).config, evaluation=settings))
    with pytest.raises(AssertionError, match="once more"):
        evaluate_seed(changed, silent)
    other = trained / "other.safetensors"
    models.save_weights(fresh(run(seed=4)).network.state_dict(), other)
    with pytest.raises(AssertionError, match="once more"):
        evaluate_seed(replace(task(trained), judge_weights=other), silent)
    models.save_weights(fresh(run(seed=3)).network.state_dict(), task(trained).weights)
    with pytest.raises(AssertionError, match="once more"):
        evaluate_seed(task(trained), silent)


def test_the_weights_are_those_of_the_file_whatever_was_drawn_before(trained: Path, tmp_path: Path) -> None:
    torch.manual_seed(31)
    first = Path(evaluate_seed(task(trained), silent))
    content = (first / "record.json").read_bytes()
    (first / "done").unlink()
    torch.manual_seed(32)
    assert (Path(evaluate_seed(task(trained), silent)) / "record.json").read_bytes() == content


@pytest.mark.parametrize(("lost", "kind"), [("weights", "safetensors"), ("results/history", "csv")])
def test_a_seed_that_was_not_trained_names_file_and_command(trained: Path, lost: str, kind: str) -> None:
    file = trained / lost / PLACE / f"1.{kind}"
    file.unlink()
    with pytest.raises(FileNotFoundError) as caught:
        evaluate_cell("digits", "two_conv_small", "sgt", "smoke")
    assert str(caught.value) == (
        f"{file} is missing: the train notebook with profile=smoke, dataset=digits, method=sgt makes it"
    )
    assert not (trained / "results/records").exists()


def test_a_judge_that_is_missing_is_trained_first(trained: Path) -> None:
    weights = trained / "judge" / "digits.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    frame = evaluate_cell("digits", "two_conv_small", "sgt", "smoke", seeds=[0])
    assert weights.read_bytes() == content and len(frame) == 1
