"""What the bookkeeping of many runs costs, and how it grows: ledger, queue, journal and requests, with stub runs.

``python benchmarks/bookkeeping.py`` prints, for 1,000, 3,000 and 10,000 runs, the milliseconds per run and the seconds
in all of

- ``ledger``: claim an entry, write two small files, finish it: fsync included;
- ``found``: claim a finished entry, which compares every file with its SHA-256;
- ``queue``: take every run through the queue and its journal, on an engine that ends it at once;
- ``taken_up``: the same command again, which finds all of them in the journal;
- ``requests``: register the runs of every setting, 30 each, and look again before they are written.

``exponent`` is the slope of log time against log number: 1 is linear. Nothing is kept: all is written below
``--folder`` and removed. On a shared file system this is the test of its metadata server.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
from growth import exponent

from workbench.config import files, paths
from workbench.runner import ledger
from workbench.runner.queue import Ended, Finished, Journal, Queue, Task
from workbench.runner.requests import Request

NUMBERS = (1000, 3000, 10000)
PER_SETTING = 30


class AtOnce:
    """An engine on which every task is finished when it is looked at."""

    def __init__(self, folders: Mapping[str, Path], room: int = 1000) -> None:
        self.folders, self.room, self.live = folders, room, list[str]()

    def submit(self, arguments: Mapping[str, Any]) -> dict[str, str]:
        self.live += arguments
        return {name: f"1_{number}" for number, name in enumerate(arguments)}

    def attach(self, jobs: Mapping[str, str]) -> None:
        self.live += jobs

    def look(self, seconds: float) -> tuple[set[str], list[Ended]]:
        ended = [Ended(name, Finished(str(self.folders[name]), 1.0)) for name in self.live]
        self.live = []
        return set(), ended

    def close(self, *, detach: bool) -> str:
        return ""


def place(number: int) -> tuple[str, int]:
    """The folder of a stub run in the ledger, and its seed."""
    setting, seed = divmod(number, PER_SETTING)
    return f"stub/setting{setting}/method", seed


def entries(number: int) -> dict[str, Path]:
    """Finish stub runs; the folder of each by its name."""
    found = {}
    for run in range(number):
        where, seed = place(run)
        with ledger.claim("train", where, seed, "0123456789abcdef") as entry:
            files.write_text("w" * 1000, entry.folder / "weights.safetensors")
            files.write_json({"seconds": 1.0}, entry.folder / "provenance.json")
            entry.finish()
        found[f"train/{where}/{seed}"] = entry.folder
    return found


def found_again(number: int) -> None:
    """Claim runs that are finished."""
    for run in range(number):
        where, seed = place(run)
        with ledger.claim("train", where, seed, "0123456789abcdef") as entry:
            assert entry.finished


def queued(folders: Mapping[str, Path], root: Path) -> None:
    """All runs through a queue with a journal."""
    tasks = [Task(name, lambda done: None, digest="0123456789abcdef" * 4) for name in folders]
    queue = Queue(tasks, AtOnce(folders), "stub", root, Journal(root / "journal.jsonl"))
    with redirect_stdout(StringIO()):
        queue.run()
    assert len(queue.done) == len(folders)


def requested(folders: Mapping[str, Path]) -> None:
    """What a stage does for each setting before it works and before it writes."""
    names = list(folders)
    for start in range(0, len(names), PER_SETTING):
        request = Request("stub", {name: "0123456789abcdef" * 4 for name in names[start : start + PER_SETTING]})
        request.register()
        with request.in_turn():
            pass


def measure(number: int, root: Path) -> dict[str, float]:
    """Seconds of every part for so many runs, below a folder of their own."""
    paths.ROOT, paths.LEDGER = root, root / "scratch" / "ledger"
    took: dict[str, float] = {}
    folders: dict[str, Path] = {}
    parts: dict[str, Callable[[], Any]] = {
        "ledger": lambda: folders.update(entries(number)),
        "found": lambda: found_again(number),
        "queue": lambda: queued(folders, root),
        "taken_up": lambda: queued(folders, root),
        "requests": lambda: requested(folders),
    }
    for name, part in parts.items():
        start = time.perf_counter()
        part()
        took[name] = time.perf_counter() - start
    return took


def main(given: Sequence[str] | None = None) -> pd.DataFrame:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--folder", type=Path, help="on the file system in question (default: the system's temporary one)"
    )
    parser.add_argument("--runs", type=int, nargs="+", default=NUMBERS)
    asked = parser.parse_args(given)
    lines = []
    for number in asked.runs:
        root = Path(tempfile.mkdtemp(prefix="bookkeeping-", dir=asked.folder))
        try:
            lines.append(measure(number, root))
            print(number, {name: round(seconds, 2) for name, seconds in lines[-1].items()}, flush=True)
        finally:
            shutil.rmtree(root)
    frame = pd.DataFrame(lines, index=pd.Index(asked.runs, name="runs"))
    print("seconds in all\n", frame.round(2).to_string())
    print("milliseconds per run\n", (1000 * frame.div(frame.index, axis=0)).round(3).to_string())
    slopes = {name: round(exponent(asked.runs, frame[name].tolist()), 2) for name in frame}
    print("exponent\n", pd.DataFrame([slopes]).to_string(index=False))
    return frame


if __name__ == "__main__":
    main()
