"""A whole profile without the pipeline: on this machine's GPUs or cores, or on a Slurm cluster.

Judges come first, then the trainings setting by setting and seed by seed; a network is measured as soon as it is
trained. Then the tables are written from the finished runs, as the stages of the pipeline write them. An interrupted
grid goes on with the same command, and the pipeline, on a machine like those that computed, finds every run in the
ledger and only assembles.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from workbench.config import files, paths
from workbench.config.locks import waiting_for
from workbench.config.profile import load_backbone, load_grid, load_judge, load_retraining, load_run, load_runs
from workbench.runner.local import Local
from workbench.runner.pool import Report
from workbench.runner.queue import Finished, Journal, Queue, Task
from workbench.runner.requests import digest
from workbench.stages import runs
from workbench.stages.gathering import FACTS
from workbench.stages.runs import Evaluate, Job, Judge, Retrain, Train


class Unfinished(RuntimeError):
    """Runs of a grid failed or were lost; the others are finished."""


class Planned(NamedTuple):
    """A job of the grid, and the names of those that train the networks that it needs."""

    job: Job
    needs: tuple[str, ...] = ()


def finish(job: Job, report: Report) -> Finished:
    """Complete a job where an engine runs it."""
    folder = runs.complete(job, report)
    return Finished(str(folder), files.read_json(folder / FACTS)["seconds"])


def works(profile: str) -> dict[str, Planned]:
    """All jobs of a profile by name, each after those that it needs."""
    grid, judge, retraining = load_grid(profile), load_judge(profile), load_retraining(profile)
    judges = [runs.judge_job(dataset, name, grid, judge) for dataset in grid.datasets for name in judge.backbones]
    found = {job.name: Planned(job) for job in judges}
    fresh = load_backbone(retraining.backbone, profile)
    for dataset, backbone in grid.settings:
        own = {job.config.backbone.name: job.name for job in judges if job.config.dataset.name == dataset}
        for run in sorted(load_runs(dataset, backbone, None, profile), key=lambda run: run.seed):
            train = Train(run)
            found[train.name] = Planned(train)
            evaluate = Evaluate(run, Path(), pd.DataFrame(), tuple((load_backbone(n, profile), Path()) for n in own))
            found[evaluate.name] = Planned(evaluate, (train.name, *own.values()))
            if f"{dataset}-{backbone}" in retraining.settings:
                again = Retrain(run, Path(), retraining, fresh)
                found[again.name] = Planned(again, (train.name,))
    return found


def tasks_of(found: Mapping[str, Planned]) -> list[Task]:
    """Tasks for a queue; a digest covers what the needed networks are made by."""
    digests: dict[str, str] = {}
    tasks = []
    for name, (job, needs) in found.items():
        digests[name] = digest(runs.asked(job), *(digests[need] for need in needs))
        tasks.append(Task(name, partial(_made, job, needs), needs, digests[name]))
    return tasks


def _made(job: Job, needs: Sequence[str], done: Mapping[str, Finished]) -> Job:
    return job.with_networks([Path(done[need].folder) for need in needs])


def assemble(profile: str, found: Mapping[str, Planned], done: Mapping[str, Finished]) -> None:
    """Put the finished runs in their places, setting by setting; one that is not whole is left as it is.

    Raises:
        ValueError: if the parameters, data or code changed since the runs were asked for.
    """
    grid = load_grid(profile)

    def finished(jobs: Sequence[Job]) -> list[Path]:
        for job in jobs:
            if job.name not in found or runs.asked(job) != runs.asked(found[job.name].job):
                raise ValueError(
                    f"{job.name}: parameters, code or data changed while the grid ran: expected those that it started "
                    "with; give the same command again"
                )
        return [Path(done[job.name].folder) for job in jobs]

    if all(name in done for name, work in found.items() if isinstance(work.job, Judge)):
        runs.train_judges(profile, work=finished)
    for number, setting in enumerate(grid.settings, start=1):
        whole = [name for name, work in found.items() if _of(work.job, setting) or isinstance(work.job, Judge)]
        if not all(name in done for name in whole):
            continue
        print(f"{profile}, setting {number} of {len(grid.settings)}: {', '.join(setting)}", flush=True)
        runs.train(*setting, None, profile, work=finished)
        metrics = runs.evaluate(*setting, None, profile, work=finished)
        runs.retrain(*setting, profile, work=finished)
        for method, own in metrics.groupby("method", sort=False):
            print(f"  {method}: accuracy {own['accuracy'].mean():.4f} over {len(own)} seeds", flush=True)


def _of(job: Job, setting: tuple[str, str]) -> bool:
    return not isinstance(job, Judge) and (job.config.dataset.name, job.config.backbone.name) == setting


def run_grid(profile: str, given: argparse.Namespace | None = None) -> None:
    """Train and measure every setting of a profile, and write its tables.

    Args:
        profile: its name.
        given: the options of the command line; the defaults if None.

    Raises:
        ValueError: for an unknown name or a bad parameter.
        Unfinished: if runs failed or were lost; names them, and what the others gave is in its place.
        SlurmError: if Slurm is not there, refuses the jobs or cannot run them.
        OutOfSpace: if the disk or the quota is full.
    """
    given = given or _parser().parse_args([])
    folder = paths.ROOT / "scratch" / "grid" / profile
    found = works(profile)
    with waiting_for(folder / "lock", f"runs the grid of {profile}"):
        queue = _queue(profile, given, tasks_of(found), folder)
        queue.run()
        assemble(profile, found, queue.done)
    if len(queue.done) < len(found):
        raise Unfinished(_summary(profile, queue, len(found)))


def _queue(profile: str, given: argparse.Namespace, tasks: list[Task], folder: Path) -> Queue:
    """The tasks on the engine that is asked for."""
    grid = load_grid(profile)
    training = load_run(*grid.settings[0], grid.methods[0], grid.seeds[0], profile).training
    describe = f"grid {profile}"
    if given.engine == "local":
        if given.on_interrupt == "detach":
            raise ValueError(
                "--on-interrupt is 'detach': expected cancel, for runs on this machine end with the command; to leave "
                "it alone, start it under nohup or tmux"
            )
        gpus = _gpus(training.devices) if training.device != "cpu" else []
        shares = {
            "per_gpu": grid.workers if given.per_gpu is None else given.per_gpu,
            "cores": grid.workers if given.cores is None else given.cores,
        }
        return Queue(tasks, Local(finish, folder / "logs", gpus=gpus, **shares), describe, folder)
    from workbench.runner.slurm import Slurm, Wishes

    wishes = Wishes(
        partition=given.partition,
        minutes=given.minutes,
        gpus=0 if training.device == "cpu" else training.devices,
        at_once=given.at_once,
        start_within=given.start_within,
        options=_options(given.slurm),
    )
    engine = Slurm(finish, folder / "jobs", title=f"smoot-{profile}", wishes=wishes)
    engine.probe()
    journal = Journal(folder / "journal.jsonl")
    if os.environ.get("SMOOT_LEDGER") == "off":
        journal.file.unlink(missing_ok=True)
    return Queue(tasks, engine, describe, folder, journal, detach=given.on_interrupt == "detach")


def _gpus(together: int) -> list[str]:
    """The GPUs that this process sees, as ``CUDA_VISIBLE_DEVICES`` names them, in groups for one run each.

    Raises:
        ValueError: if there are fewer than one run takes.
    """
    import torch

    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    seen = named[: torch.cuda.device_count()] or [str(number) for number in range(torch.cuda.device_count())]
    if 0 < len(seen) < together:
        raise ValueError(f"training.devices is {together}: expected at most {len(seen)}, the GPUs of this machine")
    return [",".join(seen[start : start + together]) for start in range(0, len(seen) - together + 1, together)]


def _options(given: Sequence[str]) -> dict[str, str]:
    """``KEY=VALUE`` texts as a mapping."""
    for text in given:
        if not all(text.partition("=")):
            raise ValueError(f"--slurm is {text!r}: expected KEY=VALUE, such as account=physics")
    return {key: value for key, _, value in (text.partition("=") for text in given)}


def _summary(profile: str, queue: Queue, total: int) -> str:
    """What did not get done, and why."""
    lines = [
        f"{len(queue.done)} of {total} jobs of {profile} are finished, and the same command goes on with the rest:"
    ]
    for end in list(queue.failed.values())[:20]:
        log = f" (log: {end.log})" if end.log else ""
        lines.append(f"  {end.name} {'was lost' if end.lost else 'failed'}: {end.error}{log}")
    if len(queue.failed) > 20:
        lines.append(f"  and {len(queue.failed) - 20} more")
    if blocked := total - len(queue.done) - len(queue.failed):
        lines.append(f"  {blocked} that need one of these were not started")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m workbench grid", description="Train and measure a whole profile without the pipeline."
    )
    parser.add_argument("--profile", default="laptop", help="laptop (the default), paper, smoke or a study")
    parser.add_argument("--engine", choices=("local", "slurm"), default="local", help="where the runs go")
    parser.add_argument("--per-gpu", type=int, help="local: runs that share a GPU (default: the profile's workers)")
    parser.add_argument("--cores", type=int, help="local, no GPU: runs at a time (default: the profile's workers)")
    parser.add_argument("--partition", help="slurm: where (default: Slurm's own)")
    parser.add_argument("--minutes", type=int, default=240, help="slurm: walltime of a job; a longer run goes on")
    parser.add_argument("--at-once", type=int, default=1000, help="slurm: jobs in the queue at the same time")
    parser.add_argument("--start-within", type=float, default=1440, help="slurm: minutes to wait for any job to start")
    parser.add_argument("--slurm", action="append", default=[], metavar="KEY=VALUE", help="slurm: further options")
    parser.add_argument(
        "--on-interrupt", choices=("cancel", "detach"), default="cancel", help="what Ctrl-C does with Slurm's jobs"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: 0 if every run is finished and in its place."""
    given = _parser().parse_args(arguments)
    run_grid(given.profile, given)
    return 0
