"""The judge of each data set through the ledger: trained in a worker process, weights and facts in their places.

``python -m workbench.stages.judge_cells --profile laptop`` trains those of a whole profile, as the pipeline does.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from workbench.config import files, paths
from workbench.config.profile import load_grid, load_judge, load_run
from workbench.config.run import DatasetConfig, JudgeConfig, ModelConfig
from workbench.data import sets as data
from workbench.runner import ledger, provenance
from workbench.runner.pool import Report
from workbench.training.devices import pick_device

CODE = "workbench.stages.judge_cells"  # not __name__: this module may run as the main one


@dataclass(frozen=True)
class Task:
    """The judge of one data set."""

    profile: str
    dataset: DatasetConfig
    backbone: ModelConfig
    judge: JudgeConfig
    fills: tuple[str, ...]
    device: str


def train_seed(task: Task, report: Report) -> str:
    """Trains one judge in its ledger folder, or finds it finished there.

    Returns:
        The folder with ``weights.safetensors``, ``judge.json`` and ``provenance.json``.
    """
    images = data.load_once(task.dataset.name)
    device = pick_device(task.device)
    config = {name: value for name, value in asdict(task).items() if name not in ("profile", "device")}
    key = ledger.entry_key(
        "judge",
        config,
        ledger.code_hash(CODE),
        device=device.type,
        threads=torch.get_num_threads(),
        extra=images.sha256,
    )
    with ledger.claim("judge", f"{task.profile}/{task.dataset.name}", task.judge.seed, key) as entry:
        if not entry.finished:
            # Libraries that take seconds to import: only a worker with something to do needs them.
            from workbench.measuring.judge import train_judge
            from workbench.training.models import save_weights

            start = time.perf_counter()
            network, found = train_judge(
                task.judge,
                task.dataset,
                task.backbone,
                images,
                fills=task.fills,
                device=device,
                report=lambda epoch, loss: report(epoch, loss=loss),
            )
            save_weights(network.state_dict(), entry.folder / "weights.safetensors")
            files.write_json(files.simplified(found, "judge"), entry.folder / "judge.json")
            facts = provenance.facts(key, seconds=time.perf_counter() - start)
            files.write_json(facts, entry.folder / "provenance.json")
            entry.finish()
    return str(entry.folder)


def train_judges(profile: str, datasets: Sequence[str] | None = None) -> list[Path]:
    """Trains the judges of a profile and puts weights, facts and provenance in their places.

    Args:
        profile: its block ``judge`` says how.
        datasets: the grid's own if None.

    Returns:
        The file of facts of each data set.

    Raises:
        ValueError: for an unknown name or a bad parameter.
    """
    grid, judge = load_grid(profile), load_judge(profile)
    names = grid.datasets if datasets is None else datasets
    tasks = [_task(profile, name, judge, grid.methods[0]) for name in names]
    folders = ledger.run_seeds(
        train_seed, tasks, workers=grid.workers, describe=f"judges of {profile}", steps=judge.epochs
    )
    folder, written = paths.ProfilePaths(profile), []
    for name, source in zip(names, map(Path, folders), strict=True):
        files.copy_whole(source / "weights.safetensors", folder.judge_weights / f"{name}.safetensors")
        files.copy_whole(source / "judge.json", folder.judge / f"{name}.json")
        facts = files.read_json(source / "provenance.json")
        files.keep_provenance(folder.provenance / "judge" / f"{name}.json", "judge", facts)
        written.append(folder.judge / f"{name}.json")
    return written


def _task(profile: str, dataset: str, judge: JudgeConfig, method: str) -> Task:
    """What the profile says of the judge of a data set; a run's method does not matter to it."""
    run = load_run(dataset, judge.backbone, method, judge.seed, profile)
    return Task(profile, run.dataset, run.backbone, judge, run.evaluation.fills, run.training.device)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train the judge of every data set of a profile.")
    parser.add_argument("--profile", default="laptop")
    try:
        for path in train_judges(parser.parse_args(arguments).profile):
            facts = files.read_json(path)
            print(f"judge of {facts['dataset']}: test accuracy {facts['accuracy']:.4f}")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
