"""Train, evaluate, judge, retrain: jobs in worker processes, each computed once, and where their results go.

A job is one network. Its worker claims the job's entry in the ledger and computes only what is not finished there;
then the weights of all jobs are copied to ``runs/`` and their rows put into the tables of ``results/``. Nothing here
decides a number: what a job computes is a function of the rooms `training` and `measuring`. The functions for whole
settings take the arguments of :func:`train` and raise its errors, and FileNotFoundError for a run that is not trained.
"""

import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, Self

import pandas as pd
import torch
from safetensors import SafetensorError

from workbench.config import files
from workbench.config.paths import ProfilePaths, SettingPaths, required
from workbench.config.profile import (
    Grid,
    load_backbone,
    load_dataset,
    load_grid,
    load_judge,
    load_retraining,
    load_run,
    load_runs,
)
from workbench.config.run import JudgeConfig, ModelConfig, RetrainingConfig, RunConfig
from workbench.data.sets import ImageData, load_once, split
from workbench.results import records, samples, tables
from workbench.results.records import RunRecord
from workbench.runner import ledger, pool
from workbench.runner.fingerprints import fingerprint
from workbench.runner.pool import Report
from workbench.runner.requests import Request, digest
from workbench.stages.gathering import FACTS, gathered, keep_provenance, mean_samples
from workbench.training.networks import pick_device

TRAINING = ("smoot", "config", "data", "training")  # the rooms that decide what a training gives
MEASURING = (*TRAINING, "measuring")
PACKAGES = ("torch", "torchvision", "timm", "numpy", "torchmetrics", "captum")
WEIGHTS = "weights.safetensors"
Work = Callable[[Sequence["Job"]], list[Path]]  # the folders of jobs, each finished


class WeightsUnusable(RuntimeError):
    """Weights could not be read or written: the file is damaged, or the disk is full."""


@dataclass(frozen=True)
class Job(ABC):
    """One network to be trained or measured; of a judge, ``config`` is a run with its data set, backbone and seed."""

    stage: ClassVar[str]
    rooms: ClassVar[tuple[str, ...]]
    config: RunConfig

    @property
    def place(self) -> str:
        """Its folder in the ledger, below the stage's."""
        return f"{self.config.profile}/{self.config.network}"

    @property
    def name(self) -> str:
        """``STAGE/PROFILE/SETTING/METHOD/SEED``; a judge has no method."""
        return f"{self.stage}/{self.place}/{self.config.seed}"

    @property
    def identity(self) -> dict[str, Any]:
        """What tells its rows from those of others in the tables of its setting."""
        return {"method": self.config.method.name, "seed": self.config.seed}

    @property
    def inputs(self) -> tuple[Path, ...]:
        """The files that it starts from, beside the data."""
        return ()

    def with_networks(self, folders: Sequence[Path]) -> Self:
        """The job with the networks that it needs, from the folders of the jobs that trained them."""
        return self

    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """All parameters that the result depends on."""

    @abstractmethod
    def compute(self, images: ImageData, folder: Path, report: Report) -> None:
        """Do the work, from what a previous attempt left, and write the results into the folder."""


def complete(job: Job, report: Report) -> Path:
    """Compute a job in its folder of the ledger, or find it finished there; runs in a worker process.

    Returns:
        The folder with the job's results and ``provenance.json``.

    Raises:
        FileNotFoundError: if a file that the job starts from is missing.
        ValueError: for a profile that asks for more images than there are.
        WeightsUnusable: if weights are damaged, or cannot be written.
    """
    config, images = job.config, load_once(job.config.dataset.name)
    config.check_images(len(images.test_labels))
    contents = [hashlib.sha256(file.read_bytes()).hexdigest() for file in job.inputs]
    key = ledger.entry_key(
        job.stage,
        job.parameters(),
        fingerprint(*job.rooms),
        device=pick_device(config.training.device).type,
        threads=torch.get_num_threads(),
        data="".join([images.sha256, *contents]),
    )
    with ledger.claim(job.stage, job.place, config.seed, key) as entry:
        if not entry.finished:
            start = time.perf_counter()
            try:
                job.compute(images, entry.folder, report)
            except (SafetensorError, RuntimeError) as error:
                reason = " ".join(str(error).split())
                if not isinstance(error, SafetensorError) and "loading state_dict" not in reason:
                    raise
                if job.inputs:
                    one = " or ".join(map(str, job.inputs))
                    raise WeightsUnusable(f"{one} holds no weights ({reason}): delete it and make it again") from None
                raise WeightsUnusable(f"weights of {job.place}, seed {config.seed}, not written: {reason}") from None
            files.write_json(ledger.provenance(key, seconds=time.perf_counter() - start), entry.folder / FACTS)
            entry.finish()
    return entry.folder


# The functions that compute are imported where they are called: their libraries take seconds to load.


class Train(Job):
    """The training of one run."""

    stage, rooms = "train", TRAINING

    def parameters(self) -> dict[str, Any]:
        return _without(self.config.as_dict(), "evaluation")

    def compute(self, images: ImageData, folder: Path, report: Report) -> None:
        from workbench.training.networks import save_weights
        from workbench.training.ranks import fit

        part = split(images, **self.config.split_arguments())
        state = fit(self.config, part, images.num_classes, folder / ledger.CHECKPOINT, report)
        save_weights(state.best, folder / WEIGHTS)
        tables.EPOCH_TABLE.update(pd.DataFrame(state.history).assign(**self.identity), folder)


@dataclass(frozen=True)
class Judge(Job):
    """The training of one judge of a data set."""

    stage, rooms = "judge", MEASURING
    judge: JudgeConfig

    @property
    def place(self) -> str:
        return f"{self.config.profile}/{self.config.setting}"

    @property
    def identity(self) -> dict[str, Any]:
        return {"dataset": self.config.dataset.name, "backbone": self.config.backbone.name}

    def parameters(self) -> dict[str, Any]:
        return {
            "dataset": asdict(self.config.dataset),
            "backbone": asdict(self.config.backbone),
            "judge": _without(asdict(self.judge), "backbone", "second"),
            "fills": self.config.evaluation.fills,
        }

    def compute(self, images: ImageData, folder: Path, report: Report) -> None:
        from workbench.measuring.judge import train_judge
        from workbench.training.networks import save_weights

        config, judge = self.config, self.judge
        device, fills = pick_device(config.training.device), config.evaluation.fills
        trained = train_judge(judge, config.dataset, config.backbone, images, fills=fills, device=device, report=report)
        save_weights(trained.network.state_dict(), folder / WEIGHTS)
        row = self.identity | {name: getattr(judge, name) for name in ("train_images", "epochs", "seed")}
        row |= {"accuracy": trained.accuracy, "validation_accuracy": trained.validation_accuracy}
        tables.JUDGE_TABLE.update(pd.DataFrame([row]), folder)


@dataclass(frozen=True)
class Evaluate(Job):
    """The measurement of one trained network.

    Attributes:
        history: of its training, one row per epoch.
        judges: backbone and weights of the judge and of the second judge.
    """

    stage, rooms = "evaluate", MEASURING
    weights: Path
    history: pd.DataFrame
    judges: tuple[tuple[ModelConfig, Path], ...]

    @property
    def inputs(self) -> tuple[Path, ...]:
        return (self.weights, *(weights for _, weights in self.judges))

    def with_networks(self, folders: Sequence[Path]) -> Self:
        trained, *judges = folders
        pairs = tuple((config, folder / WEIGHTS) for (config, _), folder in zip(self.judges, judges, strict=True))
        return replace(self, weights=trained / WEIGHTS, history=tables.EPOCH_TABLE.read(trained), judges=pairs)

    def parameters(self) -> dict[str, Any]:
        return self.config.as_dict()

    def compute(self, images: ImageData, folder: Path, report: Report) -> None:
        from workbench.measuring.evaluation import evaluate_run
        from workbench.measuring.judge import JUDGES

        config = self.config
        measured = evaluate_run(config, images, self.weights, dict(zip(JUDGES, self.judges, strict=True)))
        record = RunRecord(
            profile=config.profile,
            dataset=config.dataset.name,
            backbone=config.backbone.name,
            **self.identity,
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
class Retrain(Job):
    """DiffROAR of one trained network: fresh ones of ``backbone`` on the pixels its maps rank highest and lowest."""

    stage, rooms = "retrain", MEASURING
    weights: Path
    retraining: RetrainingConfig
    backbone: ModelConfig

    @property
    def inputs(self) -> tuple[Path, ...]:
        return (self.weights,)

    def with_networks(self, folders: Sequence[Path]) -> Self:
        return replace(self, weights=folders[0] / WEIGHTS)

    def parameters(self) -> dict[str, Any]:
        asked = _without(asdict(self.retraining), "settings")
        return self.config.as_dict() | {"retraining": asked, "retrained_backbone": asdict(self.backbone)}

    def compute(self, images: ImageData, folder: Path, report: Report) -> None:
        from workbench.measuring.retraining import diffroar
        from workbench.training.networks import load_network

        config = self.config
        device = pick_device(config.training.device)
        network = load_network(config.backbone, config.dataset, images, self.weights, device)
        found = diffroar(network, images, config, self.retraining, self.backbone, report=report)
        tables.RETRAINING_TABLE.update(found.assign(**self.identity), folder)


def _without(parameters: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if name not in names}


def train(
    dataset: str,
    backbone: str,
    method: str | None,
    profile: str,
    seeds: Sequence[int] | None = None,
    work: Work | None = None,
) -> pd.DataFrame:
    """Train runs of a setting.

    Args:
        dataset, backbone, profile: the setting.
        method: every method of the grid if None.
        seeds: the profile's own seeds if None.
        work: gives the folders of finished jobs; if None they are done in worker processes.

    Returns:
        The histories: method, seed, and one row per epoch, see `tables.EPOCH_TABLE`.

    Raises:
        ValueError: for an unknown name or a bad parameter.
        TrainingDiverged: if a run diverges.
        WorkerDied: if a process was killed; what was finished stays in the ledger.
        Superseded: if the runs were asked for otherwise meanwhile.
    """
    grid, setting = load_grid(profile), SettingPaths(profile, dataset, backbone)
    jobs = [Train(run) for run in load_runs(dataset, backbone, method, profile, seeds)]
    steps = max(job.config.training.epochs for job in jobs)
    with _finished(jobs, grid, _described("train", setting, method), steps, work) as folders:
        for job, folder in zip(jobs, folders, strict=True):
            files.copy_whole(folder / WEIGHTS, setting.weights(**job.identity))
        histories = gathered(tables.EPOCH_TABLE, folders, setting.folder, grid.methods)
        keep_provenance(tables.PROVENANCE_TABLE, jobs, folders, setting.folder, grid.methods)
    return histories


def evaluate(
    dataset: str,
    backbone: str,
    method: str | None,
    profile: str,
    seeds: Sequence[int] | None = None,
    work: Work | None = None,
) -> pd.DataFrame:
    """Measure trained runs of a setting; the judges of its data set are trained first if one is not there.

    Returns:
        One row per run: dataset, backbone, method, seed, and every metric.

    Raises:
        FileNotFoundError: if a run is not trained; names the command that trains it.
    """
    grid, setting = load_grid(profile), SettingPaths(profile, dataset, backbone)
    places, names = ProfilePaths(profile), load_judge(profile).backbones
    judges = tuple((load_backbone(name, profile), places.judge_weights(dataset, name)) for name in names)
    runs = load_runs(dataset, backbone, method, profile, seeds)
    trained = [_weights(run, setting) for run in runs]
    histories = tables.EPOCH_TABLE.read(required(setting.epochs, setting.made_by("train")).parent)
    own = [_history(run, histories, setting) for run in runs]
    jobs = [Evaluate(*parts, judges) for parts in zip(runs, trained, own, strict=True)]
    if not all(weights.exists() for _, weights in judges):
        train_judges(profile, [dataset])
    with _finished(jobs, grid, _described("evaluate", setting, method), 1, work) as folders:
        found = [record for folder in folders for record in records.records_in(folder)]
        records.write_records(found, setting.folder, grid.methods)
        keep_provenance(tables.PROVENANCE_TABLE, jobs, folders, setting.folder, grid.methods)
        samples.write_samples(mean_samples(jobs, folders, setting.folder, grid), setting.folder, grid.methods)
    return records.metrics_frame(found)


def train_judges(profile: str, datasets: Sequence[str] | None = None, work: Work | None = None) -> pd.DataFrame:
    """Train the judges of a profile as its block ``judge`` says: of these data sets, or of all in the grid.

    Returns:
        One row per data set and backbone, see `tables.JUDGE_TABLE`.
    """
    grid, judge, places = load_grid(profile), load_judge(profile), ProfilePaths(profile)
    names = product(grid.datasets if datasets is None else datasets, judge.backbones)
    jobs = [judge_job(dataset, backbone, grid, judge) for dataset, backbone in names]
    with _finished(jobs, grid, f"judges of {profile}", judge.epochs, work) as folders:
        for job, folder in zip(jobs, folders, strict=True):
            files.copy_whole(folder / WEIGHTS, places.judge_weights(**job.identity))
        judges = gathered(tables.JUDGE_TABLE, folders, places.results, grid.datasets)
        keep_provenance(tables.JUDGE_PROVENANCE_TABLE, jobs, folders, places.results, grid.datasets)
    return judges


def retrain(dataset: str, backbone: str, profile: str, work: Work | None = None) -> pd.DataFrame:
    """Measure every run of a setting by DiffROAR, if the profile's block ``retraining`` lists the setting.

    Returns:
        One row per run and level, see `tables.RETRAINING_TABLE`; none, as in the file, for another setting.
    """
    grid, setting, config = load_grid(profile), SettingPaths(profile, dataset, backbone), load_retraining(profile)
    fresh = load_backbone(config.backbone, profile)
    runs = load_runs(dataset, backbone, None, profile) if setting.name in config.settings else []
    jobs = [Retrain(run, _weights(run, setting), config, fresh) for run in runs]
    with _finished(jobs, grid, _described("retrain", setting), 2 * len(config.levels), work) as folders:
        found = gathered(tables.RETRAINING_TABLE, folders, setting.folder, grid.methods)
        keep_provenance(tables.PROVENANCE_TABLE, jobs, folders, setting.folder, grid.methods)
    return found


@contextmanager
def _finished(jobs: Sequence[Job], grid: Grid, described: str, steps: int, work: Work | None) -> Iterator[list[Path]]:
    """The folders of the jobs, each finished; the block puts them in place, unless there is a later request."""
    request = Request(grid.profile, {job.name: asked(job) for job in jobs})
    request.register()
    if work is not None:
        folders = work(jobs)
    else:
        folders = pool.run_tasks(complete, jobs, workers=grid.workers, describe=described, steps=steps)
    with request.in_turn():
        yield folders


def asked(job: Job) -> str:
    """A digest of all that decides a job, as far as it is known before the data are loaded."""
    manifest = ProfilePaths(job.config.profile).manifest / f"{job.config.dataset.name}.json"
    data = manifest.read_text("utf-8", errors="replace") if manifest.is_file() else ""
    return digest(job.stage, job.parameters(), fingerprint(*job.rooms), data)


def _described(stage: str, setting: SettingPaths, method: str | None = None) -> str:
    return f"{stage} {setting.name}" + (f"/{method}" if method else "")


def judge_job(dataset: str, backbone: str, grid: Grid, judge: JudgeConfig) -> Judge:
    """The training of a judge; of the run that it holds, it takes all but the method."""
    run = load_run(dataset, backbone, grid.methods[0], judge.seed, grid.profile)
    return Judge(replace(run, dataset=load_dataset(dataset, grid.profile)), judge)


def _weights(run: RunConfig, setting: SettingPaths) -> Path:
    return required(setting.weights(run.method.name, run.seed), setting.made_by("train"))


def _history(run: RunConfig, histories: pd.DataFrame, setting: SettingPaths) -> pd.DataFrame:
    own = histories[(histories["method"] == run.method.name) & (histories["seed"] == run.seed)]
    if own.empty:
        made_by = setting.made_by("train")
        raise FileNotFoundError(f"{setting.epochs} lacks {run.method.name}, seed {run.seed}: {made_by} makes it")
    return own
