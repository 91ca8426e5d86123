"""Evaluation through the ledger: one seed in a worker process, every seed of a cell for notebook 02."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch

from smoot.workbench import data, ledger, paths, provenance, results, storage
from smoot.workbench.cells import Cell, required
from smoot.workbench.config import RunConfig, load_grid, load_run
from smoot.workbench.workers import Report

if TYPE_CHECKING:
    from smoot.workbench.evaluation import Evaluation

PACKAGES = ("torch", "torchvision", "timm", "numpy", "torchmetrics")
CODE = ("smoot.workbench.training_cells", __name__)


@dataclass(frozen=True)
class Task:
    """One trained network to measure."""

    config: RunConfig
    weights: Path
    history: Path


def evaluate_seed(task: Task, report: Report) -> str:
    """Measures one trained network in its ledger folder, or finds it measured there.

    Returns:
        The folder with ``record.json``, ``samples.npz`` and ``provenance.json``.

    Raises:
        FileNotFoundError: if the weights are missing.
    """
    # timm and torchmetrics take seconds to import: only the worker needs them.
    from smoot.workbench.evaluation import evaluate_network
    from smoot.workbench.models import create_backbone, load_weights, pick_device

    config = task.config
    images = data.load(config.dataset.name)
    device = pick_device(config.training.device)
    weights = hashlib.sha256(task.weights.read_bytes()).hexdigest()
    key = ledger.entry_key(
        "evaluate",
        config.as_dict(),
        ledger.code_hash(*CODE),
        device=device.type,
        threads=torch.get_num_threads(),
        extra=images.sha256 + weights,
    )
    with ledger.claim("evaluate", f"{config.profile}/{config.cell}", config.seed, key) as entry:
        if not entry.finished:
            start = time.perf_counter()
            shape = images.test_images.shape[1:]
            network = create_backbone(
                config.backbone,
                config.dataset,
                image_shape=(shape[0], shape[1], shape[2]),
                num_classes=images.num_classes,
            )
            load_weights(network, task.weights)
            measured = evaluate_network(network.to(device), images, config)
            results.write_record(_record(task, measured, images.sha256), entry.folder / "record.json")
            storage.write_samples(measured.samples, entry.folder / "samples.npz")
            facts = provenance.facts(key, seconds=time.perf_counter() - start)
            storage.write_json(facts, entry.folder / "provenance.json")
            entry.finish()
    report(1)
    return str(entry.folder)


def evaluate_cell(
    dataset: str, backbone: str, method: str, profile: str, seeds: Sequence[int] | None = None
) -> pd.DataFrame:
    """Measures every trained seed of a cell and puts records, samples and provenance in their places.

    Args:
        dataset, backbone, method, profile: the cell.
        seeds: the profile's own seeds if None.

    Returns:
        One row a seed: dataset, backbone, method, seed and every metric of its record.

    Raises:
        FileNotFoundError: if a seed is not trained; names the command that trains it.
        ValueError: for an unknown name or a bad parameter.
    """
    grid = load_grid(profile)
    cell = Cell(profile, dataset, backbone, method)
    weights = paths.ProfilePaths(profile).weights / cell.folder
    tasks = [
        Task(
            load_run(dataset, backbone, method, seed, profile),
            required(weights / f"{seed}.safetensors", cell, "train"),
            required(cell.history_path(seed), cell, "train"),
        )
        for seed in (grid.seeds if seeds is None else seeds)
    ]
    folders = ledger.run_seeds(evaluate_seed, tasks, workers=grid.workers, describe=f"evaluate {cell.folder}", steps=1)
    for task, folder in zip(tasks, map(Path, folders), strict=True):
        seed = task.config.seed
        storage.copy_whole(folder / "record.json", cell.record_path(seed))
        facts = storage.read_json(folder / "provenance.json")
        storage.keep_provenance(cell.provenance_path(seed), "evaluate", facts)
    storage.copy_whole(Path(folders[0]) / "samples.npz", cell.samples_path)
    records = [results.read_record(cell.record_path(task.config.seed)) for task in tasks]
    return results.metrics_frame(records)


def _record(task: Task, measured: "Evaluation", data_hash: str) -> results.RunRecord:
    """The run record of one measured network."""
    config = task.config
    history = storage.read_history(task.history)
    best = int(history["validation_accuracy"].argmax())
    return results.RunRecord(
        cell=Cell(config.profile, config.dataset.name, config.backbone.name, config.method.name),
        seed=config.seed,
        config=config.as_dict(),
        metrics=measured.metrics,
        curves=measured.curves,
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
