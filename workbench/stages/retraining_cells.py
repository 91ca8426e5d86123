"""DiffROAR through the ledger: one trained network in a worker process, every run of the listed settings.

``python -m workbench.stages.retraining_cells --profile laptop`` measures a whole profile, as the pipeline does.
"""

import argparse
import hashlib
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from workbench.config import files, paths
from workbench.config.cells import Cell, required
from workbench.config.profile import load_backbone, load_grid, load_retraining, load_runs
from workbench.config.run import ModelConfig, RetrainingConfig, RunConfig
from workbench.data import sets as data
from workbench.runner import ledger, provenance
from workbench.runner.pool import Report
from workbench.training.devices import pick_device

SCHEMA = 1
CODE = "workbench.stages.retraining_cells"  # not __name__: this module may run as the main one


@dataclass(frozen=True)
class Task:
    """One trained network, and the network that is trained on the pixels its maps keep."""

    config: RunConfig
    weights: Path
    retraining: RetrainingConfig
    backbone: ModelConfig

    @property
    def cell(self) -> Cell:
        """The cell of the trained network."""
        config = self.config
        return Cell(config.profile, config.dataset.name, config.backbone.name, config.method.name)


def retrain_seed(task: Task, report: Report) -> str:
    """Measures one trained network in its ledger folder, or finds it measured there.

    Returns:
        The folder with ``retraining.json`` and ``provenance.json``.

    Raises:
        FileNotFoundError: if the weights are missing.
    """
    config = task.config
    images = data.load_once(config.dataset.name)
    device = pick_device(config.training.device)
    measured = {"retraining": asdict(task.retraining), "backbone": asdict(task.backbone)}
    del measured["retraining"]["settings"]
    key = ledger.entry_key(
        "retrain",
        config.as_dict() | measured,
        ledger.code_hash(CODE),
        device=device.type,
        threads=torch.get_num_threads(),
        extra=images.sha256 + hashlib.sha256(task.weights.read_bytes()).hexdigest(),
    )
    with ledger.claim("retrain", f"{config.profile}/{config.network}", config.seed, key) as entry:
        if not entry.finished:
            # Libraries that take seconds to import: only a worker with something to do needs them.
            from workbench.measuring.retraining import diffroar
            from workbench.training.models import create_backbone, load_weights

            start = time.perf_counter()
            shape = images.test_images.shape[1:]
            network = create_backbone(
                config.backbone,
                config.dataset,
                image_shape=(shape[0], shape[1], shape[2]),
                num_classes=images.num_classes,
            )
            load_weights(network, task.weights)
            found = diffroar(network.to(device), images, config, task.retraining, task.backbone, report=report)
            cell = asdict(task.cell) | {"seed": config.seed}
            content = {"schema": SCHEMA, "cell": cell, "levels": found.levels}
            content |= {"top": found.top, "bottom": found.bottom, "diffroar": found.diffroar}
            files.write_json(files.simplified(content, "retraining"), entry.folder / "retraining.json")
            facts = provenance.facts(key, seconds=time.perf_counter() - start)
            files.write_json(facts, entry.folder / "provenance.json")
            entry.finish()
    return str(entry.folder)


def retrain_cells(profile: str) -> list[Path]:
    """Measures every run of the settings that the profile's block ``retraining`` lists.

    Returns:
        The file of each run.

    Raises:
        FileNotFoundError: if a run is not trained; names the command that trains it.
        ValueError: for an unknown name or a bad parameter.
    """
    grid, retraining = load_grid(profile), load_retraining(profile)
    backbone = load_backbone(retraining.backbone, profile)
    runs = [run for pair in grid.settings if "-".join(pair) in retraining.settings for run in _runs(pair, profile)]
    tasks = [_task(run, retraining, backbone) for run in runs]
    paths.ProfilePaths(profile).retraining.mkdir(parents=True, exist_ok=True)
    folders = ledger.run_seeds(
        retrain_seed,
        tasks,
        workers=grid.workers,
        describe=f"retraining of {profile}",
        steps=2 * len(retraining.levels),
    )
    for task, folder in zip(tasks, map(Path, folders), strict=True):
        seed = task.config.seed
        files.copy_whole(folder / "retraining.json", task.cell.retraining_path(seed))
        facts = files.read_json(folder / "provenance.json")
        files.keep_provenance(task.cell.provenance_path(seed), "retrain", facts)
    return [task.cell.retraining_path(task.config.seed) for task in tasks]


def _runs(setting: tuple[str, str], profile: str) -> list[RunConfig]:
    return load_runs(*setting, None, profile)


def _task(config: RunConfig, retraining: RetrainingConfig, backbone: ModelConfig) -> Task:
    cell = Cell(config.profile, config.dataset.name, config.backbone.name, config.method.name)
    return Task(config, required(cell.weights_path(config.seed), cell, "train"), retraining, backbone)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Retrain on the pixels that maps keep.")
    parser.add_argument("--profile", default="laptop")
    try:
        written = retrain_cells(parser.parse_args(arguments).profile)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{len(written)} runs measured by retraining")
    return 0


if __name__ == "__main__":
    sys.exit(main())
