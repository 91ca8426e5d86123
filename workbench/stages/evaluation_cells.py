"""Evaluation through the ledger: one run in a worker process; every method and seed of a setting for notebook 02."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch

from workbench.config import files, paths
from workbench.config.cells import Cell, required
from workbench.config.profile import load_backbone, load_grid, load_judge, load_runs
from workbench.config.run import JudgeConfig, RunConfig
from workbench.data import sets as data
from workbench.results import records as results
from workbench.runner import ledger, provenance
from workbench.runner.pool import Report
from workbench.stages import judge_cells
from workbench.training.devices import pick_device

if TYPE_CHECKING:
    from workbench.measuring.evaluation import Evaluation

PACKAGES = ("torch", "torchvision", "timm", "numpy", "torchmetrics", "captum")
CODE = ("workbench.stages.training_cells", __name__)


@dataclass(frozen=True)
class Task:
    """One trained network to measure, and the judge of its data set."""

    config: RunConfig
    weights: Path
    history: Path
    judge: JudgeConfig
    judge_weights: Path


def evaluate_seed(task: Task, report: Report) -> str:
    """Measures one trained network in its ledger folder, or finds it measured there.

    Returns:
        The folder with ``record.json``, ``samples.npz`` and ``provenance.json``.

    Raises:
        FileNotFoundError: if the weights are missing.
    """
    config = task.config
    images = data.load_once(config.dataset.name)
    device = pick_device(config.training.device)
    weights = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (task.weights, task.judge_weights)]
    key = ledger.entry_key(
        "evaluate",
        config.as_dict(),
        ledger.code_hash(*CODE),
        device=device.type,
        threads=torch.get_num_threads(),
        extra=images.sha256 + "".join(weights),
    )
    with ledger.claim("evaluate", f"{config.profile}/{config.network}", config.seed, key) as entry:
        if not entry.finished:
            start = time.perf_counter()
            measured = _measure(task, images, device)
            results.write_record(_record(task, measured, images.sha256), entry.folder / "record.json")
            files.write_samples(measured.samples, entry.folder / "samples.npz")
            facts = provenance.facts(key, seconds=time.perf_counter() - start)
            files.write_json(facts, entry.folder / "provenance.json")
            entry.finish()
    report(1)
    return str(entry.folder)


def evaluate_cell(
    dataset: str, backbone: str, method: str | None, profile: str, seeds: Sequence[int] | None = None
) -> pd.DataFrame:
    """Measures every trained seed of a cell and puts records, samples and provenance in their places.

    The data set's judge is trained first if it is not there.

    Args:
        dataset, backbone, method, profile: the cell; every method of the profile if ``method`` is None.
        seeds: the profile's own seeds if None.

    Returns:
        One row a run: dataset, backbone, method, seed and every metric of its record.

    Raises:
        FileNotFoundError: if a seed is not trained; names the command that trains it.
        ValueError: for an unknown name or a bad parameter.
    """
    tasks = [_task(config) for config in load_runs(dataset, backbone, method, profile, seeds)]
    if not tasks[0].judge_weights.exists():
        judge_cells.train_judges(profile, [dataset])
    described = f"evaluate {dataset}/{backbone}" + (f"/{method}" if method else "")
    folders = ledger.run_seeds(evaluate_seed, tasks, workers=load_grid(profile).workers, describe=described, steps=1)
    records = []
    for task, folder in zip(tasks, map(Path, folders), strict=True):
        cell, seed = _cell(task.config), task.config.seed
        files.copy_whole(folder / "record.json", cell.record_path(seed))
        facts = files.read_json(folder / "provenance.json")
        files.keep_provenance(cell.provenance_path(seed), "evaluate", facts)
        if seed == tasks[0].config.seed:  # pictures are those of the first seed
            files.copy_whole(folder / "samples.npz", cell.samples_path)
        records.append(results.read_record(cell.record_path(seed)))
    return results.metrics_frame(records)


def _cell(config: RunConfig) -> Cell:
    return Cell(config.profile, config.dataset.name, config.backbone.name, config.method.name)


def _task(config: RunConfig) -> Task:
    """What there is to measure of a run; it must have been trained."""
    cell, profile = _cell(config), config.profile
    return Task(
        config,
        required(cell.weights_path(config.seed), cell, "train"),
        required(cell.history_path(config.seed), cell, "train"),
        load_judge(profile),
        paths.ProfilePaths(profile).judge_weights / f"{config.dataset.name}.safetensors",
    )


def _measure(task: Task, images: data.ImageData, device: torch.device) -> "Evaluation":
    """Builds the network and its judge from their weights and measures the network."""
    # Libraries that take seconds to import: only a worker with something to do needs them.
    from workbench.measuring.evaluation import evaluate_network
    from workbench.training.models import create_backbone, load_weights

    config = task.config
    if config.dataset.development_images:
        images = data.development(images, **config.split_arguments())
    shape = images.test_images.shape[1:]
    networks = []
    judging = load_backbone(task.judge.backbone, config.profile)
    for backbone, weights in ((config.backbone, task.weights), (judging, task.judge_weights)):
        network = create_backbone(
            backbone, config.dataset, image_shape=(shape[0], shape[1], shape[2]), num_classes=images.num_classes
        )
        load_weights(network, weights)
        networks.append(network.to(device))
    return evaluate_network(networks[0], images, config, judge=networks[1])


def _record(task: Task, measured: "Evaluation", data_hash: str) -> results.RunRecord:
    """The run record of one measured network."""
    config = task.config
    history = files.read_history(task.history)
    best = int(history["validation_accuracy"].argmax())
    return results.RunRecord(
        cell=_cell(config),
        seed=config.seed,
        config=config.as_dict(),
        metrics=measured.metrics,
        curves=measured.curves,
        attributions=measured.attributions,
        sanity=measured.sanity,
        history={
            "epochs": len(history),
            "best_epoch": int(history["epoch"].iloc[best]),
            "validation_accuracy": float(history["validation_accuracy"].iloc[best]),
            "train_accuracy": float(history["accuracy"].iloc[-1]),
            "masked_share": float(history["masked_share"].mean()),
            "final_masked_share": float(history["masked_share"].iloc[-1]),
            "information_loss": float(history["information_loss"].iloc[-1]),
        },
        code=ledger.code_hash(*CODE),
        packages={name: version(name) for name in PACKAGES},
        data=data_hash,
    )
