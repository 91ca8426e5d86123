"""The jobs of a profile: train, evaluate, judge, retrain. Each is done once, in a folder of the ledger.

A *job* is one network to train or to measure. :func:`complete` does it in a worker process or finds it done; the
functions of the stages (:func:`train`, :func:`evaluate`, :func:`train_judges`, :func:`retrain`) hand out the jobs
and put weights and rows of tables in their places. Whatever decides a number is in ``training`` and ``measuring``.
"""

import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import torch

from workbench.config import files
from workbench.config.paths import ProfilePaths, SettingPaths, required
from workbench.config.profile import load_backbone, load_dataset, load_grid, load_judge, load_retraining, load_runs
from workbench.config.run import DatasetConfig, JudgeConfig, ModelConfig, RetrainingConfig, RunConfig
from workbench.data.sets import ImageData, load_once
from workbench.results import records, samples, tables
from workbench.runner import ledger, pool
from workbench.runner.fingerprints import fingerprint
from workbench.training.networks import pick_device, save_weights

Report = pool.Report
PACKAGES = ("torch", "torchvision", "timm", "numpy", "torchmetrics", "captum")
TRAINING_ROOMS = ("smoot", "config", "data", "training")
MEASURING_ROOMS = (*TRAINING_ROOMS, "measuring")


@dataclass(frozen=True)
class Job(ABC):
    """One network to train or to measure; a subclass says what decides its result and how it is made."""

    stage: ClassVar[str]
    rooms: ClassVar[tuple[str, ...]] = MEASURING_ROOMS  # those whose code decides the result

    @property
    @abstractmethod
    def dataset(self) -> str:
        """The name of the data set."""

    @property
    @abstractmethod
    def place(self) -> str:
        """The folder in the ledger: ``PROFILE/SETTING/METHOD`` or ``PROFILE/DATASET``."""

    @property
    @abstractmethod
    def seed(self) -> int:
        """The seed of every draw."""

    @property
    @abstractmethod
    def device(self) -> str:
        """``auto``, ``cpu``, ``cuda`` or ``mps``."""

    @property
    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """All parameters that decide the result, as plain values."""

    @property
    def sources(self) -> tuple[Path, ...]:
        """Files whose content decides the result."""
        return ()

    @abstractmethod
    def work(self, images: ImageData, folder: Path, report: Report) -> None:
        """Make the result in ``folder``, going on from what is there."""


def complete(job: Job, report: Report) -> str:
    """Do a job in its folder of the ledger or find it done; returns the folder, with ``provenance.json`` in it."""
    images = load_once(job.dataset)
    key = ledger.entry_key(
        job.stage,
        job.parameters,
        fingerprint(*job.rooms),
        device=pick_device(job.device).type,
        threads=torch.get_num_threads(),
        data=images.sha256 + "".join(hashlib.sha256(file.read_bytes()).hexdigest() for file in job.sources),
    )
    with ledger.claim(job.stage, job.place, job.seed, key) as entry:
        if not entry.finished:
            start = time.perf_counter()
            job.work(images, entry.folder, report)
            facts = ledger.provenance(key, seconds=time.perf_counter() - start)
            files.write_json(facts, entry.folder / "provenance.json")
            entry.finish()
    return str(entry.folder)


@dataclass(frozen=True)
class RunJob(Job):
    """A job of one run."""

    config: RunConfig

    @property
    def dataset(self) -> str:
        return self.config.dataset.name

    @property
    def place(self) -> str:
        return f"{self.config.profile}/{self.config.network}"

    @property
    def seed(self) -> int:
        return self.config.seed

    @property
    def device(self) -> str:
        return self.config.training.device

    @property
    def parameters(self) -> dict[str, Any]:
        return self.config.as_dict()

    @property
    def run(self) -> dict[str, Any]:
        """What identifies the run in a table of its setting."""
        return {"method": self.config.method.name, "seed": self.config.seed}


@dataclass(frozen=True)
class Train(RunJob):
    """Train the network of a run: ``weights.safetensors`` and ``epochs.csv``."""

    stage: ClassVar[str] = "train"
    rooms: ClassVar[tuple[str, ...]] = TRAINING_ROOMS

    @property
    def parameters(self) -> dict[str, Any]:
        return {name: value for name, value in super().parameters.items() if name != "evaluation"}

    def work(self, images: ImageData, folder: Path, report: Report) -> None:
        from workbench.training.guided import train_run

        checkpoint = folder / "checkpoint.pt"
        trained = train_run(self.config, images, checkpoint, report)
        save_weights(trained.weights, folder / "weights.safetensors")
        tables.EPOCH_TABLE.update(trained.history.assign(**self.run), folder)
        checkpoint.unlink(missing_ok=True)


@dataclass(frozen=True)
class Evaluate(RunJob):
    """Measure a trained network: the tables of a setting, with one run."""

    weights: Path
    history: pd.DataFrame
    judge: JudgeConfig
    judge_backbone: ModelConfig
    judge_weights: Path
    stage: ClassVar[str] = "evaluate"

    @property
    def sources(self) -> tuple[Path, ...]:
        return (self.weights, self.judge_weights)

    def work(self, images: ImageData, folder: Path, report: Report) -> None:
        from workbench.measuring.evaluation import evaluate_run

        config = self.config
        measured = evaluate_run(config, images, self.weights, self.judge_backbone, self.judge_weights)
        record = records.RunRecord(
            profile=config.profile,
            dataset=config.dataset.name,
            backbone=config.backbone.name,
            method=config.method.name,
            seed=config.seed,
            config=config.as_dict(),
            metrics=measured.metrics,
            curves=measured.curves,
            summary=records.summarised(self.history),
            code={room: fingerprint(room) for room in self.rooms},
            packages={name: version(name) for name in PACKAGES},
            data=images.sha256,
            attributions=measured.attributions,
            sanity=measured.sanity,
        )
        records.write_records([record], folder)
        samples.write_samples({config.method.name: measured.samples}, folder)


@dataclass(frozen=True)
class Judge(Job):
    """Train the judge of a data set: ``weights.safetensors`` and ``judges.csv``."""

    profile: str
    data: DatasetConfig
    judge: JudgeConfig
    backbone: ModelConfig
    fills: tuple[str, ...]
    on: str
    stage: ClassVar[str] = "judge"

    @property
    def dataset(self) -> str:
        return self.data.name

    @property
    def place(self) -> str:
        return f"{self.profile}/{self.dataset}"

    @property
    def seed(self) -> int:
        return self.judge.seed

    @property
    def device(self) -> str:
        return self.on

    @property
    def parameters(self) -> dict[str, Any]:
        blocks = {"dataset": asdict(self.data), "judge": asdict(self.judge), "backbone": asdict(self.backbone)}
        return blocks | {"fills": list(self.fills)}

    def work(self, images: ImageData, folder: Path, report: Report) -> None:
        from workbench.measuring.judge import train_judge

        trained = train_judge(
            self.judge,
            self.data,
            self.backbone,
            images,
            fills=self.fills,
            device=pick_device(self.device),
            report=report,
        )
        save_weights(trained.network.state_dict(), folder / "weights.safetensors")
        row = {
            "dataset": self.dataset,
            "backbone": self.judge.backbone,
            "train_images": self.judge.train_images,
            "epochs": self.judge.epochs,
            "seed": self.judge.seed,
            "accuracy": trained.accuracy,
            "validation_accuracy": trained.validation_accuracy,
        }
        tables.JUDGE_TABLE.update(pd.DataFrame([row]), folder)


@dataclass(frozen=True)
class Retrain(RunJob):
    """Train networks afresh on the pixels that a run's maps keep (DiffROAR): ``retraining.csv``."""

    weights: Path
    retraining: RetrainingConfig
    backbone: ModelConfig
    stage: ClassVar[str] = "retrain"

    @property
    def parameters(self) -> dict[str, Any]:
        measured = {name: value for name, value in asdict(self.retraining).items() if name != "settings"}
        return super().parameters | {"retraining": measured, "retrained_backbone": asdict(self.backbone)}

    @property
    def sources(self) -> tuple[Path, ...]:
        return (self.weights,)

    def work(self, images: ImageData, folder: Path, report: Report) -> None:
        from workbench.measuring.retraining import retrain_run

        found = retrain_run(self.config, images, self.weights, self.retraining, self.backbone, report)
        levels = pd.DataFrame(
            {"level": found.levels, "top": found.top, "bottom": found.bottom, "diffroar": found.diffroar}
        )
        tables.RETRAINING_TABLE.update(levels.assign(**self.run), folder)


def train(
    dataset: str, backbone: str, method: str | None, profile: str, seeds: Sequence[int] | None = None
) -> pd.DataFrame:
    """Train runs of a setting and put weights, epochs and provenance in their places.

    Args:
        dataset, backbone: the setting.
        method: one method; all of the profile if None.
        profile: its name.
        seeds: the profile's own if None.

    Returns:
        Method, seed and one row per epoch.

    Raises:
        ValueError: for an unknown name or a bad parameter.
        TrainingDiverged: if a run diverges.
    """
    grid, setting = load_grid(profile), SettingPaths(profile, dataset, backbone)
    jobs = [Train(run) for run in load_runs(dataset, backbone, method, profile, seeds)]
    folders = _complete_all(jobs, grid.workers, f"train {_named(setting, method)}", jobs[0].config.training.epochs)
    for job, folder in zip(jobs, folders, strict=True):
        files.copy_whole(folder / "weights.safetensors", setting.weights(job.config.method.name, job.seed))
    epochs = pd.concat([tables.EPOCH_TABLE.read(folder) for folder in folders], ignore_index=True)
    tables.EPOCH_TABLE.update(epochs, setting.folder, order=grid.methods)
    _note(jobs, folders, setting, grid.methods)
    return epochs


def evaluate(
    dataset: str, backbone: str, method: str | None, profile: str, seeds: Sequence[int] | None = None
) -> pd.DataFrame:
    """Measure trained runs of a setting and put tables, samples and provenance in their places.

    The data set's judge is trained first if it is not there. Samples are those of the first seed.

    Args:
        dataset, backbone, method, profile, seeds: as for :func:`train`.

    Returns:
        One row per run: dataset, backbone, method, seed and every metric.

    Raises:
        FileNotFoundError: if a run is not trained; names the command that trains it.
        ValueError: for an unknown name or a bad parameter.
    """
    grid, setting = load_grid(profile), SettingPaths(profile, dataset, backbone)
    runs = load_runs(dataset, backbone, method, profile, seeds)
    judge, judge_weights = load_judge(profile), ProfilePaths(profile).judge_weights / f"{dataset}.safetensors"
    made_by = setting.made_by("train")
    for run in runs:
        required(setting.weights(run.method.name, run.seed), made_by)
    epochs = tables.EPOCH_TABLE.read(required(setting.epochs, made_by).parent)
    if not judge_weights.exists():
        train_judges(profile, [dataset])
    backbone_of_judge = load_backbone(judge.backbone, profile)
    jobs = [
        Evaluate(
            run,
            setting.weights(run.method.name, run.seed),
            epochs[(epochs["method"] == run.method.name) & (epochs["seed"] == run.seed)],
            judge,
            backbone_of_judge,
            judge_weights,
        )
        for run in runs
    ]
    folders = _complete_all(jobs, grid.workers, f"evaluate {_named(setting, method)}", 1)
    measured = [record for folder in folders for record in records.records_in(folder)]
    records.write_records(measured, setting.folder, order=grid.methods)
    shown: dict[str, samples.Samples] = {}
    for job, folder in zip(jobs, folders, strict=True):
        if job.seed == jobs[0].seed:
            shown |= samples.samples_in(folder)
    samples.write_samples(shown, setting.folder, order=grid.methods)
    _note(jobs, folders, setting, grid.methods)
    return records.metrics_frame(measured)


def train_judges(profile: str, datasets: Sequence[str] | None = None) -> pd.DataFrame:
    """Train the judges of a profile and put weights, their table and provenance in their places.

    Args:
        profile: its block ``judge`` says how.
        datasets: the grid's own if None.

    Returns:
        One row per data set, with the judge's accuracies.

    Raises:
        ValueError: for an unknown name or a bad parameter.
    """
    grid, judge, place = load_grid(profile), load_judge(profile), ProfilePaths(profile)
    run = load_runs(*grid.settings[0], grid.methods[0], profile, grid.seeds[:1])[0]
    backbone = load_backbone(judge.backbone, profile)
    jobs = [
        Judge(profile, load_dataset(name, profile), judge, backbone, run.evaluation.fills, run.training.device)
        for name in (grid.datasets if datasets is None else datasets)
    ]
    folders = _complete_all(jobs, grid.workers, f"judges of {profile}", judge.epochs)
    for job, folder in zip(jobs, folders, strict=True):
        files.copy_whole(folder / "weights.safetensors", place.judge_weights / f"{job.dataset}.safetensors")
    found = pd.concat([tables.JUDGE_TABLE.read(folder) for folder in folders], ignore_index=True)
    tables.JUDGE_TABLE.update(found, place.results, order=grid.datasets)
    facts = [_facts(folder) | {"dataset": job.dataset} for job, folder in zip(jobs, folders, strict=True)]
    tables.keep_provenance(tables.JUDGE_PROVENANCE_TABLE, facts, place.results, order=grid.datasets)
    return found


def retrain(dataset: str, backbone: str, profile: str) -> pd.DataFrame:
    """Measure every run of a setting by retraining, if the profile's block ``retraining`` lists the setting.

    Returns:
        Method, seed and one row per level; empty, as the table is, if the setting is not listed.

    Raises:
        FileNotFoundError: if a run is not trained; names the command that trains it.
        ValueError: for an unknown name or a bad parameter.
    """
    grid, setting, retraining = load_grid(profile), SettingPaths(profile, dataset, backbone), load_retraining(profile)
    jobs = []
    if setting.name in retraining.settings:
        network = load_backbone(retraining.backbone, profile)
        for run in load_runs(dataset, backbone, None, profile):
            weights = required(setting.weights(run.method.name, run.seed), setting.made_by("train"))
            jobs.append(Retrain(run, weights, retraining, network))
    folders = _complete_all(jobs, grid.workers, f"retrain {setting.name}", 2 * len(retraining.levels))
    empty = pd.DataFrame(columns=list(tables.RETRAINING_TABLE.columns))
    found = [tables.RETRAINING_TABLE.read(folder) for folder in folders]
    levels = pd.concat(found, ignore_index=True) if found else empty
    tables.RETRAINING_TABLE.update(levels, setting.folder, order=grid.methods)
    _note(jobs, folders, setting, grid.methods)
    return levels


def run_grid(profile: str) -> None:
    """Judges, training, evaluation and retraining of a whole profile without the pipeline, for a GPU machine.

    It calls what the stages call and finds finished jobs in the ledger: an interrupted grid goes on with the same
    command, and the pipeline on the same machine then only assembles tables and figures.

    Raises:
        ValueError: for an unknown profile or a bad parameter.
    """
    settings = load_grid(profile).settings
    train_judges(profile)
    for number, setting in enumerate(settings, start=1):
        print(f"{profile}, setting {number} of {len(settings)}: {', '.join(setting)}", flush=True)
        train(*setting, None, profile)
        for method, own in evaluate(*setting, None, profile).groupby("method", sort=False):
            print(f"  {method}: accuracy {own['accuracy'].mean():.4f} over {len(own)} seeds", flush=True)
        retrain(*setting, profile)


def _complete_all(jobs: Sequence[Job], workers: int, describe: str, steps: int) -> list[Path]:
    """The jobs' folders in the ledger, once all are done."""
    return [Path(folder) for folder in pool.run_tasks(complete, jobs, workers=workers, describe=describe, steps=steps)]


def _named(setting: SettingPaths, method: str | None) -> str:
    return setting.name + (f"/{method}" if method else "")


def _facts(folder: Path) -> dict[str, Any]:
    return files.read_json(folder / "provenance.json")


def _note(jobs: Sequence[RunJob], folders: Sequence[Path], setting: SettingPaths, order: Sequence[str]) -> None:
    """Put the provenance of runs in its place."""
    rows = [{**_facts(folder), **job.run, "stage": job.stage} for job, folder in zip(jobs, folders, strict=True)]
    tables.keep_provenance(tables.PROVENANCE_TABLE, rows, setting.folder, order=order)
