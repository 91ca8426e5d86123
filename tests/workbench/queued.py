"""Small tasks for the queue, which processes of their own import by name."""

import errno
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from processes import FOREVER

from workbench.runner import ledger
from workbench.runner.pool import Report
from workbench.runner.queue import Finished

STEPS = 24


@dataclass(frozen=True)
class Errand:
    """What a task is to do, and the folder in which it leaves a line for each time that it starts."""

    number: int
    folder: Path

    @property
    def starts(self) -> list[list[str]]:
        """Of each start: process, GPU, node."""
        file = self.folder / f"start-{self.number}"
        return [line.split("\t") for line in file.read_text().splitlines()] if file.exists() else []


def mark(errand: Errand) -> int:
    """Note a start; returns how many there were."""
    facts = (os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES", "-"), os.environ.get("SLURMD_NODENAME", "-"))
    with (errand.folder / f"start-{errand.number}").open("a") as file:
        file.write("\t".join(map(str, facts)) + "\n")
    return len(errand.starts)


def one(errand: Errand, report: Report) -> Finished:
    """Number 2 raises an error, 3 is killed the first time, 4 always; the others give their square."""
    start = mark(errand)
    if errand.number == 2:
        raise ValueError("bad run 2")
    if errand.number == 4 or (errand.number == 3 and start == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    report(1, loss=0.5)
    return Finished(str(errand.number**2), 0.5)


def full(errand: Errand, report: Report) -> Finished:
    """A disk without room."""
    raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), str(errand.folder / "weights"))


def slow(errand: Errand, report: Report) -> Finished:
    """Goes on longer than any test waits for its end."""
    mark(errand)
    time.sleep(FOREVER)
    return Finished("", FOREVER)


def resumable(errand: Errand, report: Report) -> Finished:
    """STEPS steps of half a second in an entry of the ledger, each kept; ``steps-NUMBER`` counts those that ran."""
    mark(errand)
    with ledger.claim("work", "some/setting", errand.number, "key") as entry:
        state = entry.folder / "state"
        done = len(state.read_text()) if state.exists() else 0
        for step in range(done, STEPS):
            time.sleep(0.5)
            with (errand.folder / f"steps-{errand.number}").open("a") as counter:
                counter.write("x")
            ledger.files.write_text("x" * (step + 1), state)
            report(step + 1)
        if not entry.finished:
            entry.finish()
        return Finished(str(entry.folder), STEPS / 2)
