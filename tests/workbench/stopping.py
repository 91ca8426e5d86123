"""One cell in processes of their own that stop at a chosen moment, where a test ends them.

As a script it trains and evaluates seeds of a cell as the notebooks do. It writes down what really runs, and
the process in which the chosen call comes neither goes past it nor rests: it computes until it is ended.
"""

import functools
import os
import pkgutil
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
import yaml

from smoot.workbench import evaluation_cells, paths, training_cells
from smoot.workbench.config import RunConfig
from smoot.workbench.workers import Report

SOURCES = Path(__file__).parents[2]
PACKAGE = Path(training_cells.__file__).parents[2]
CELL = ("digits", "resnet10_narrow", "smoot")
EPOCHS, STEPS = 5, 10  # of one run; steps of an epoch
IMAGES, BATCH = 320, 32


@dataclass(frozen=True)
class Moment:
    """Before or after the n-th call of a function in a process that trains, that evaluates, or their parent."""

    process: str
    function: str
    call: int = 1
    after: bool = False


@dataclass(frozen=True)
class Checkout:
    """A root of its own for the smoke profile, with a few quick epochs."""

    root: Path

    @classmethod
    def new(cls, root: Path) -> "Checkout":
        params = yaml.safe_load((SOURCES / "tests" / "smoke.yaml").read_text())
        params["datasets"]["digits"]["train_images"] = IMAGES
        params["training"] |= {"epochs": EPOCHS, "batch_size": BATCH}
        for folder in ("tests", "data"):
            (root / folder).mkdir(parents=True)
        (root / "tests" / "smoke.yaml").write_text(yaml.safe_dump(params))
        shutil.copyfile(SOURCES / "data" / "datasets.yaml", root / "data" / "datasets.yaml")
        return cls(root)

    def copy(self, root: Path) -> "Checkout":
        shutil.copytree(self.root, root)
        return Checkout(root)

    def start(
        self, *seeds: int, evaluate: bool = True, stop: Moment | None = None, ledger: str = "on"
    ) -> "subprocess.Popen[bytes]":
        """Start the cell in a session of its own; it stops at the moment, or comes to its end."""
        (self.root / "stopped").mkdir(exist_ok=True)
        for sign in self.stopped():
            (self.root / "stopped" / str(sign)).unlink()
        given = {"SMOOT_ROOT": str(self.root), "SMOOT_LEDGER": ledger, "STOP": repr(stop), "OMP_NUM_THREADS": "1"}
        given["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PACKAGE), os.environ.get("PYTHONPATH")]))
        command = [sys.executable, __file__, "evaluate" if evaluate else "train", *map(str, seeds)]
        with self.told.open("ab") as told:
            return subprocess.Popen(
                command, env=os.environ | given, stdout=told, stderr=told, start_new_session=True
            )

    def run(self, *seeds: int, **how: Any) -> None:
        """Start the cell and wait for its end, which must be a good one."""
        assert self.start(*seeds, **how).wait(300) == 0, self.told.read_text()

    def stop(self, *seeds: int, at: Moment, **how: Any) -> tuple["subprocess.Popen[bytes]", int]:
        """Start the cell and wait until one of its processes, whose number comes back too, is at the moment."""
        process = self.start(*seeds, stop=at, **how)
        assert until(lambda: self.stopped() or process.poll() is not None, 120), f"never came to {at}"
        assert process.poll() is None, self.told.read_text()
        return process, self.stopped()[0]

    def stopped(self) -> list[int]:
        """Numbers of the processes that stopped at their moment."""
        return [int(sign.name) for sign in (self.root / "stopped").iterdir()]

    @property
    def told(self) -> Path:
        """All that its processes printed."""
        return self.root / "told.txt"

    @property
    def ran(self) -> list[str]:
        """What really ran: ``SEED epoch NUMBER`` as it began, ``SEED evaluation`` likewise."""
        log = self.root / "ran.txt"
        return log.read_text().splitlines() if log.exists() else []

    @property
    def checkpoints(self) -> dict[int, int]:
        """Finished epochs by seed, of the runs whose checkpoint is there."""
        found = (self.root / "scratch" / "ledger" / "train").rglob("checkpoint.pt")
        return {int(file.parent.name.split("-")[0]): len(torch.load(file)["history"]) for file in found}

    @property
    def outputs(self) -> dict[str, bytes]:
        """What the cell put in its places, without provenance, which tells of times."""
        files = [file for file in (self.root / "runs").rglob("*") if file.is_file()]
        named = {file.relative_to(self.root / "runs" / "smoke").as_posix(): file.read_bytes() for file in files}
        return {name: content for name, content in named.items() if "provenance" not in name}


def until(condition: Callable[[], Any], seconds: float) -> bool:
    """Whether the condition comes true in that time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def running(pid: int) -> bool:
    """Whether the process still runs (a zombie does not)."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def crew(process: "subprocess.Popen[bytes]") -> list[int]:
    """The process and all that came from it."""
    return [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]


def train_seed(config: RunConfig, report: Report) -> str:
    """The package's own, in a process that is watched."""
    watch("train")
    return training_cells.train_seed(config, report)


def evaluate_seed(task: evaluation_cells.Task, report: Report) -> str:
    """The package's own, in a process that is watched."""
    watch("evaluate")
    return evaluation_cells.evaluate_seed(task, report)


@functools.cache
def watch(process: str) -> None:
    """Write down what this process runs, and have it stop at its moment."""
    if process == "train":
        wrap("smoot.workbench.training.train_epoch", lambda *args, epoch: note(args[-1], f"epoch {epoch}"))
    if process == "evaluate":
        wrap("smoot.workbench.evaluation.evaluate_network", lambda *args: note(args[-1], "evaluation"))
    moment: Moment | None = eval(os.environ["STOP"])
    if moment is None or moment.process != process:
        return
    calls: list[None] = []

    def stop(*args: Any, **kwargs: Any) -> None:
        calls.append(None)
        if len(calls) == moment.call:
            stay()

    wrap(moment.function, **{"after" if moment.after else "before": stop})


def wrap(
    function: str, before: Callable[..., None] = lambda *a, **k: None, after: Callable[..., None] = lambda *a, **k: None
) -> None:
    """Have something done around every call of a function that is named by module and name."""
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


def stay() -> None:
    """Give a sign and compute until this process is ended, or for minutes."""
    (paths.ROOT / "stopped" / str(os.getpid())).touch()
    matrix, end = torch.eye(300), time.monotonic() + 300
    while time.monotonic() < end:
        matrix = matrix @ matrix


def main(last: str, *seeds: str) -> None:
    import stopping  # the workers import this file by its name, not as __main__

    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests themselves run in the background
    training_cells.train_seed, evaluation_cells.evaluate_seed = stopping.train_seed, stopping.evaluate_seed
    stopping.watch("parent")
    training_cells.train_cell(*CELL, "smoke", [int(seed) for seed in seeds])
    if last == "evaluate":
        evaluation_cells.evaluate_cell(*CELL, "smoke", [int(seed) for seed in seeds])


if __name__ == "__main__":
    main(*sys.argv[1:])
