"""Runs of one method in processes of their own that stop at a chosen moment, where a test ends them.

As a script it trains and evaluates some seeds as the notebooks do. It writes down what really runs. The
process in which the chosen call comes does not go past it and does not rest: it computes until it is ended.
"""

import functools
import json
import os
import pkgutil
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from processes import PATIENCE, start, until

from workbench.config import paths
from workbench.config.run import RunConfig
from workbench.runner.pool import Report
from workbench.stages import runs
from workbench.training import checkpoints

SOURCES = Path(__file__).parents[2]
RUNS = ("digits", "resnet10_narrow", "smoot", "smoke")
EPOCHS, STEPS, BATCH = 5, 10, 32  # of one run; of one epoch; images of a step


@dataclass(frozen=True)
class Moment:
    """Before or after the n-th call of a function in a process that trains or evaluates, or in their parent."""

    process: str
    function: str
    call: int = 1
    after: bool = False


@dataclass(frozen=True)
class Checkout:
    """A root of its own for the smoke profile, with a few quick epochs."""

    root: Path
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @classmethod
    def new(cls, root: Path) -> "Checkout":
        params = yaml.safe_load((SOURCES / "tests" / "smoke.yaml").read_text())
        params["datasets"]["digits"] |= {"train_images": STEPS * BATCH, "validation_images": 4}
        params["training"] |= {"epochs": EPOCHS, "batch_size": BATCH}
        params["judge"] |= {"train_images": 100, "epochs": 1}
        params["evaluation"]["attributions"]["networks"] = []
        for folder in ("tests", "data", "stopped"):
            (root / folder).mkdir(parents=True)
        (root / "tests" / "smoke.yaml").write_text(yaml.safe_dump(params))
        for file in ("methods.yaml", "data/datasets.yaml"):
            shutil.copyfile(SOURCES / file, root / file)
        return cls(root)

    def copy(self, root: Path) -> "Checkout":
        shutil.copytree(self.root, root)
        return Checkout(root)

    def start(self, *seeds: int, last: str = "evaluate", stop: Moment | None = None) -> subprocess.Popen[bytes]:
        """Start the runs in a session of their own: to the last stage's end, or to the moment."""
        for sign in self.stopped:
            (self.root / "stopped" / str(sign)).unlink()
        given = {"SMOOT_ROOT": str(self.root), "STOP": json.dumps(stop and asdict(stop)), "OMP_NUM_THREADS": "1"}
        folders = [str(SOURCES), str(SOURCES / "tests")]
        given["PYTHONPATH"] = os.pathsep.join(folders)
        command = [sys.executable, __file__, last, *map(str, seeds)]
        with self.told.open("ab") as told:
            process = start(command, env=os.environ | given, stdout=told, stderr=told)
        self.started.append(process)
        return process

    def run(self, *seeds: int) -> None:
        """Start the runs and wait for its end, which must be a good one."""
        assert self.start(*seeds).wait(PATIENCE) == 0, self.told.read_text()

    def stop(self, *seeds: int, at: Moment, last: str = "evaluate") -> subprocess.Popen[bytes]:
        """Start the runs and wait until one of its processes has come to the moment."""
        process = self.start(*seeds, last=last, stop=at)
        assert until(lambda: self.stopped or process.poll() is not None), f"never came to {at}"
        assert process.poll() is None, self.told.read_text()
        return process

    def close(self) -> None:
        """End what still runs."""
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    @property
    def stopped(self) -> list[int]:
        """The processes that came to their moment."""
        return [int(sign.name) for sign in (self.root / "stopped").iterdir()]

    @property
    def told(self) -> Path:
        """All that its processes printed."""
        return self.root / "told.txt"

    @property
    def ran(self) -> list[str]:
        """What really ran, as it began: ``SEED epoch NUMBER`` and ``SEED evaluation``."""
        log = self.root / "ran.txt"
        return log.read_text().splitlines() if log.exists() else []

    @property
    def epochs_kept(self) -> list[int]:
        """The finished epochs in each checkpoint that there is."""
        found = (self.root / "scratch" / "ledger" / "train").rglob("checkpoint.pt")
        kept = [checkpoints.load(file, torch.device("cpu")) for file in found]
        return [len(content["history"]) for content in kept if content]

    @property
    def outputs(self) -> dict[str, bytes]:
        """What was put in its place, but for the provenance, which tells of times, and the judge."""
        files = [file for file in (self.root / "runs").rglob("*") if file.is_file()]
        named = {file.relative_to(self.root / "runs" / "smoke").as_posix(): file.read_bytes() for file in files}
        others = ("provenance.csv", "judges.csv", "judge/")
        return {name: content for name, content in named.items() if not any(other in name for other in others)}


def complete(job: runs.Job, report: Report) -> str:
    """The package's own, in a process that is watched."""
    watch(job.stage)
    return runs.complete(job, report)


@functools.cache
def watch(process: str) -> None:
    """Write down what this process runs, and have it stop at its moment."""
    if process == "train":
        wrap("workbench.training.guided.train_epoch", lambda *args, epoch: note(args[-1], f"epoch {epoch}"))
    if process == "evaluate":
        wrap("workbench.measuring.evaluation.evaluate_network", lambda *args: note(args[2], "evaluation"))
    given = json.loads(os.environ["STOP"])
    if given is None or given["process"] != process:
        return
    calls: list[None] = []

    def stay(*args: Any, **kwargs: Any) -> None:
        calls.append(None)
        if len(calls) == given["call"]:
            compute()

    wrap(given["function"], **{"after" if given["after"] else "before": stay})


def nothing(*args: Any, **kwargs: Any) -> None:
    """What is done where nothing is to be done."""


def wrap(function: str, before: Callable[..., None] = nothing, after: Callable[..., None] = nothing) -> None:
    """Have something done around every call of a function, which is named with its module or class."""
    place, _, name = function.rpartition(".")
    holder = pkgutil.resolve_name(place)
    original = getattr(holder, name)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        before(*args, **kwargs)
        result = original(*args, **kwargs)
        after(*args, **kwargs)
        return result

    setattr(holder, name, wrapped)


def note(config: RunConfig, what: str) -> None:
    with (paths.ROOT / "ran.txt").open("a") as log:
        log.write(f"{config.seed} {what}\n")


def compute() -> None:
    """Give a sign and be busy until this process is ended."""
    (paths.ROOT / "stopped" / str(os.getpid())).touch()
    matrix, end = torch.eye(300), time.monotonic() + PATIENCE
    while time.monotonic() < end:
        matrix = matrix @ matrix


def main(last: str, *seeds: str) -> None:
    import stopping  # the workers import this file by its name, not as __main__

    runs.complete = stopping.complete  # here alone: in a worker it is the package's own
    stopping.watch("parent")
    runs.train(*RUNS, [int(seed) for seed in seeds])
    if last == "evaluate":
        runs.evaluate(*RUNS, [int(seed) for seed in seeds])


if __name__ == "__main__":
    main(*sys.argv[1:])
