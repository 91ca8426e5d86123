"""Training through the ledger: one seed in a worker process; every method and seed of a setting for notebook 01."""

import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from workbench.config import files
from workbench.config.cells import Cell
from workbench.config.profile import load_grid, load_runs
from workbench.config.run import RunConfig
from workbench.data import sets as data
from workbench.runner import ledger, provenance
from workbench.runner.pool import Report
from workbench.training.devices import pick_device


def train_seed(config: RunConfig, report: Report) -> str:
    """Trains one run in its ledger folder, or finds it finished there.

    Returns:
        The folder with ``weights.safetensors``, ``history.csv`` and ``provenance.json``.
    """
    images = data.load_once(config.dataset.name)
    key = ledger.entry_key(
        "train",
        {name: value for name, value in config.as_dict().items() if name != "evaluation"},
        ledger.code_hash(__name__),
        device=pick_device(config.training.device).type,
        threads=torch.get_num_threads(),
        extra=images.sha256,
    )
    with ledger.claim("train", f"{config.profile}/{config.network}", config.seed, key) as entry:
        if not entry.finished:
            # Libraries that take seconds to import: only a worker with something to do needs them.
            from workbench.training.guided import fit
            from workbench.training.models import save_weights

            start = time.perf_counter()
            split = data.split(images, **config.split_arguments())
            checkpoint = entry.folder / "checkpoint.pt"
            state = fit(config, split, images.num_classes, checkpoint, report)
            save_weights(state.best, entry.folder / "weights.safetensors")
            history = pd.DataFrame(state.history).astype({"epoch": int})
            files.write_history(history, entry.folder / "history.csv")
            facts = provenance.facts(key, seconds=time.perf_counter() - start)
            files.write_json(facts, entry.folder / "provenance.json")
            entry.finish()
            checkpoint.unlink()
    return str(entry.folder)


def train_cell(
    dataset: str, backbone: str, method: str | None, profile: str, seeds: Sequence[int] | None = None
) -> pd.DataFrame:
    """Trains every seed of a cell and puts weights, histories and provenance in their places.

    Args:
        dataset, backbone, method, profile: the cell; every method of the profile if ``method`` is None.
        seeds: the profile's own seeds if None.

    Returns:
        The histories: method, seed, and one row an epoch.

    Raises:
        ValueError: for an unknown name or a bad parameter.
        TrainingDiverged: if a run diverges.
    """
    grid = load_grid(profile)
    runs = load_runs(dataset, backbone, method, profile, seeds)
    described = f"train {dataset}/{backbone}" + (f"/{method}" if method else "")
    folders = ledger.run_seeds(
        train_seed, runs, workers=grid.workers, describe=described, steps=runs[0].training.epochs
    )
    histories = []
    for run, folder in zip(runs, map(Path, folders), strict=True):
        cell = Cell(profile, dataset, backbone, run.method.name)
        files.copy_whole(folder / "weights.safetensors", cell.weights_path(run.seed))
        files.copy_whole(folder / "history.csv", cell.history_path(run.seed))
        facts = files.read_json(folder / "provenance.json")
        files.keep_provenance(cell.provenance_path(run.seed), "train", facts)
        history = files.read_history(folder / "history.csv")
        histories.append(history.assign(method=run.method.name, seed=run.seed))
    return pd.concat(histories, ignore_index=True)
