"""A queue's engine: Slurm, through submitit.

Tasks go out as job arrays on a file system that this machine shares with the nodes. Every job runs under ``srun``.
Before its time is over, and where a site asks for it when it is preempted, it gets a signal and is put into the queue
again: its `checkpoint` hands in the same call, for what was done is in the run's entry of the ledger. The entry's lock
lets the new job wait for an old one that is still ending. A node that is lost calls nothing, and Slurm puts its jobs
into the queue again; a job that is gone without a result is the queue's to start again.

States come from ``squeue``: one call for all jobs, also where there is no accounting.
"""

import logging
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import submitit
from filelock import FileLock, Timeout
from submitit.core.utils import FailedJobError, FailedSubmissionError, pickle_load

from workbench.runner.pool import ONE_THREAD, Report
from workbench.runner.queue import Ended, Finished, Function, call, naming_full_disks

BUSY = (
    *("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD"),
    *("RESIZING", "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT", "STOPPED", "SUSPENDED"),
)
# Why a waiting job waits for ever, beside every reason that ends in PerJobLimit.
NEVER = (
    *("PartitionNodeLimit", "PartitionTimeLimit", "PartitionDown", "PartitionInactive", "BadConstraints"),
    *("InvalidAccount", "InvalidQOS", "JobHeldUser", "JobHeldAdmin", "DependencyNeverSatisfied", "AccountNotAllowed"),
)
ARRAY = 1000  # jobs in one array; Slurm's own default is 1001
SETTLE = 3.0  # seconds in which a shared file system shows what another machine wrote
PAUSE = 30.0  # most seconds between two questions to Slurm; fewer with less than 3,000 jobs
SILENCE = 600.0  # seconds without an answer after which Slurm is given up
TIMEOUTS = 100  # how often a job may start again because its time was over
OWN = (
    *("partition", "time", "job_name", "array_parallelism", "stderr_to_stdout", "setup", "teardown", "map_count"),
    *("nodes", "ntasks_per_node", "use_srun", "srun_args", "additional_parameters", "signal_delay_s"),
)


class SlurmError(RuntimeError):
    """Slurm is not there, refuses the jobs, or cannot run them."""


@dataclass(frozen=True)
class Call:
    """What a job runs, and, as submitit asks, what it runs after an interruption."""

    function: Function
    argument: Any

    def __call__(self) -> Finished:
        return call(self.function, self.argument, _report)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """The same call: what is finished is in the run's entry of the ledger."""
        return submitit.helpers.DelayedSubmission(self)


@dataclass(frozen=True)
class Wishes:
    """What is asked of Slurm for every job.

    Attributes:
        partition: Slurm's default if None.
        minutes: walltime of a job; a run that needs more goes on in the next.
        gpus: of a job.
        at_once: jobs in Slurm's queue at the same time.
        start_within: minutes of waiting without any job running, after which it is given up.
        options: further options of sbatch, by submitit's names.
    """

    partition: str | None = None
    minutes: int = 240
    gpus: int = 0
    at_once: int = 1000
    start_within: float = 1440
    options: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        for name in ("minutes", "at_once", "start_within"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}: expected more than 0")
        known = sorted(submitit.SlurmExecutor._valid_parameters() - {*OWN})
        for name in self.options or {}:
            if name not in known:
                raise ValueError(f"unknown Slurm option {name!r}: expected one of {', '.join(known)}")


@dataclass
class _Job:
    name: str
    job: "submitit.SlurmJob[Finished]"
    submitted: float
    gone: float | None = None  # when it was first seen to have left the queue


class Slurm:
    """A cluster.

    Args:
        function: of the module level; ``function(argument, report)`` does a task.
        folder: for jobs and logs, on a file system that the nodes share.
        title: the jobs' name in Slurm's queue.
        wishes: what is asked for every job.

    Raises:
        SlurmError: if there is no Slurm, it does not answer, or has no such partition.
        ValueError: for an option that there is not.
    """

    def __init__(self, function: Function, folder: Path, *, title: str, wishes: Wishes) -> None:
        _check_slurm(wishes.partition)
        logging.getLogger("submitit").setLevel(logging.ERROR)
        self.function, self.folder, self.title, self.wishes = function, folder.absolute(), title, wishes
        self.live: dict[str, _Job] = {}
        self.heard = self.active = time.monotonic()  # when Slurm answered last; when a job ran last
        self.executor = submitit.SlurmExecutor(self.folder / "%A", max_num_timeout=TIMEOUTS)
        self.executor.update_parameters(**self._parameters())

    def _parameters(self) -> dict[str, Any]:
        asked = {
            "job_name": self.title,
            "partition": self.wishes.partition,
            "time": self.wishes.minutes,
            "cpus_per_task": 1,
            "gpus_per_node": self.wishes.gpus or None,
            "setup": [f"export {name}={value}" for name, value in ONE_THREAD.items()],
            "stderr_to_stdout": True,
            "array_parallelism": self.wishes.at_once,
            "additional_parameters": {"requeue": True},
        }
        return asked | dict(self.wishes.options or {})

    @property
    def room(self) -> int:
        return self.wishes.at_once - len(self.live)

    def submit(self, arguments: Mapping[str, Any]) -> dict[str, str]:
        names = iter(arguments)
        while part := list(islice(names, ARRAY)):
            self._send(part, [Call(self.function, arguments[name]) for name in part])
        return {name: self.live[name].job.job_id for name in arguments}

    def _send(self, names: Sequence[str], calls: Sequence[Call]) -> None:
        try:
            with naming_full_disks(), self.executor.batch():
                jobs: list[Any] = [self.executor.submit(call) for call in calls]
        except (FailedJobError, FailedSubmissionError) as error:
            words = [line for line in str(error).splitlines() if "error:" in line]
            said = words[-1].partition("error: ")[2] if words else str(error).partition("\n")[0]
            raise SlurmError(f"Slurm refused the jobs ({said}): correct what is asked for every job") from None
        self.live |= {name: _Job(name, job, time.monotonic()) for name, job in zip(names, jobs, strict=True)}

    def attach(self, jobs: Mapping[str, str]) -> None:
        for name, job in jobs.items():
            self.live[name] = _Job(name, submitit.SlurmJob(self.folder / "%A", job), time.monotonic())

    def look(self, seconds: float) -> tuple[set[str], list[Ended]]:
        time.sleep(max(seconds, min(PAUSE, len(self.live) / 100)))
        states = self._states()
        if states is None:
            return set(), []
        running, ended = set(), []
        for name, watched in self.live.items():
            state, reason, node = states.get(watched.job.job_id, ("GONE", "", ""))
            if state in ("RUNNING", "SUSPENDED"):
                running.add(name)
            if state in BUSY and state != "COMPLETING":
                watched.gone = None
                self._check_start(watched, state, reason)
            elif end := self._end(watched, state, node):
                ended.append(end)
        for end in ended:
            del self.live[end.name]
        self.active = time.monotonic() if running or ended else self.active
        return running, ended

    def _end(self, watched: _Job, state: str, node: str) -> Ended | None:
        """How a job that left the queue ended; None as long as its result may still appear."""
        name, paths = watched.name, watched.job.paths
        if paths.result_pickle.exists():
            kind, given = pickle_load(paths.result_pickle)
            if kind == "success":
                paths.result_pickle.unlink()
                paths.submitted_pickle.unlink(missing_ok=True)
                return Ended(name, given, log=paths.stdout)
            return Ended(name, error=given.strip().splitlines()[-1], log=paths.stdout)
        if state == "COMPLETING":
            return None
        watched.gone = watched.gone or time.monotonic()
        if time.monotonic() - watched.gone < SETTLE:
            return None
        if state == "CANCELLED":
            return Ended(name, error="the job was cancelled", log=paths.stdout)
        where = f" on {node}" if node else ""
        how = f"its job {watched.job.job_id} ended{where} without a result, state {state}"
        return Ended(name, error=how, lost=True, counts=state != "PREEMPTED", log=paths.stdout)

    def _check_start(self, watched: _Job, state: str, reason: str) -> None:
        if state == "REQUEUE_HOLD" or (state == "PENDING" and (reason in NEVER or reason.endswith("PerJobLimit"))):
            raise SlurmError(
                f"job {watched.job.job_id} ({watched.name}) can never start: Slurm gives the reason {reason}: ask for "
                "less time or fewer resources, or for another partition"
            )
        waited = time.monotonic() - max(self.active, watched.submitted)
        if waited > 60 * self.wishes.start_within:
            raise SlurmError(
                f"no job started within {self.wishes.start_within:g} minutes: Slurm gives the reason {reason}: look at "
                "`sinfo`, ask for another partition, or for more patience with --start-within"
            )

    def _states(self) -> dict[str, tuple[str, str, str]] | None:
        """State, reason and node of all jobs of this name, by number; None if Slurm did not answer."""
        command = ("squeue", "-h", "-r", "-t", "all", "-u", str(os.getuid()), "-n", self.title, "-o", "%i|%T|%r|%N")
        try:
            lines = _asked(*command).splitlines()
        except SlurmError as error:
            if time.monotonic() - self.heard > SILENCE:
                raise SlurmError(f"{error}; the jobs go on, and the same command takes them up again") from None
            return None
        self.heard = time.monotonic()
        split = [line.split("|", 3) for line in lines]
        return {job: (state, reason, node) for job, state, reason, node in split}

    def probe(self) -> None:
        """Run a job that reads a file of this machine, and answers whether it sees a lock of this machine.

        Raises:
            SlurmError: if the nodes do not share the folder or its locks, or the job cannot run.
        """
        word, lock = uuid.uuid4().hex, self.folder / "probe.lock"
        with naming_full_disks():
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "probe").write_text(word)
        with FileLock(lock):
            self._send(["probe"], [Call(answer, self.folder)])
            try:
                while not (ended := self.look(0.5)[1]):
                    pass
            finally:
                self.close(detach=False)
        self._judge(ended[0], word)

    def _judge(self, end: Ended, word: str) -> None:
        if end.finished is None and end.log and end.log.exists():
            raise SlurmError(f"a job cannot run here ({end.error}): read {end.log}")
        if end.finished is None or end.finished.folder != word:
            why = f" ({end.error})" if end.error else ""
            raise SlurmError(
                f"{self.folder} is not the same on this machine and on the nodes: put the checkout on a file system "
                f"that they share{why}"
            )
        if end.finished.seconds:
            raise SlurmError(
                f"the nodes do not see the locks of this machine in {self.folder}: have it mounted with locks (Lustre: "
                "flock; NFS: without nolock and local_lock)"
            )

    def close(self, *, detach: bool) -> str:
        """Cancel what is left, or leave it to Slurm."""
        jobs = [watched.job.job_id for watched in self.live.values()]
        if detach or not jobs:
            return f"{len(jobs)} jobs go on; the same command takes them up again" if jobs else ""
        for start in range(0, len(jobs), ARRAY):
            subprocess.run(["scancel", *jobs[start : start + ARRAY]], capture_output=True, timeout=120, check=False)
        self.live.clear()
        return f"{len(jobs)} jobs cancelled; the same command starts them again"


def answer(folder: Path, report: Report) -> Finished:
    """On a node: the word in the probe file, and 1 second if the lock beside it could be had, which it must not."""
    word = (folder / "probe").read_text()
    try:
        with FileLock(folder / "probe.lock", timeout=0):
            return Finished(word, 1.0)
    except Timeout:
        return Finished(word, 0.0)


def _report(step: int, **numbers: float) -> None:
    print(f"step {step}", *(f"{name} {float(value):.4g}" for name, value in numbers.items()), flush=True)


def _check_slurm(partition: str | None) -> None:
    if not (shutil.which("sbatch") and shutil.which("srun")):
        raise SlurmError(
            "there is no Slurm here (no sbatch): run this on a cluster's login node, or use --engine local"
        )
    known = _asked("sinfo", "-h", "-o", "%R").split()
    if partition is not None and partition not in known:
        raise SlurmError(f"Slurm has no partition {partition!r}: expected one of {', '.join(dict.fromkeys(known))}")


def _asked(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except subprocess.TimeoutExpired:
        said = "no answer for 60 s"
    except subprocess.CalledProcessError as error:
        said = (error.stderr.strip().splitlines() or ["no words"])[-1]
    raise SlurmError(
        f"Slurm does not answer ({said}): look whether `sinfo` works here, and ask the cluster's staff if not"
    )
