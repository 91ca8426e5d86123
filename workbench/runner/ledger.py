"""Resumable work: finished seeds are found again, unfinished ones go on, two processes never share one.

An entry of the ledger is the folder ``scratch/ledger/STAGE/CELL/SEED-KEY``; the key says what the result
depends on (configuration, source code, torch, device type, threads), so an entry never goes stale. A work
function claims its entry inside the worker process, so that the lock is held by the process that writes::

    with claim("train", "mnist/two_conv_small/sgt", seed, key) as entry:
        if not entry.finished:
            ...  # go on from what is in entry.folder; write files with files.replacing
            entry.finish()

``SMOOT_LEDGER=off`` empties a folder when it is claimed: the work starts afresh.
"""

import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

from workbench.config import files, paths
from workbench.runner.closure import code_hash, source_files
from workbench.runner.pool import run_seeds

__all__ = ["Entry", "claim", "code_hash", "entry_key", "run_seeds", "source_files"]


def entry_key(stage: str, config: Mapping[str, Any], code: str, *, device: str, threads: int, extra: str = "") -> str:
    """A short name for everything that a result depends on, the installed torch included.

    Args:
        stage: name of the stage.
        config: the parameters, as plain numbers, texts, lists and mappings.
        code: :func:`code_hash` of the modules that do the work.
        device: the device's type, not its number.
        threads: threads of one process; another number gives other weights.
        extra: anything else, such as the hash of the data.
    """
    facts = {"stage": stage, "config": config, "code": code, "device": device, "threads": threads}
    text = json.dumps(facts | {"extra": extra, "torch": version("torch")}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Entry:
    """A claimed folder of the ledger."""

    folder: Path

    @property
    def finished(self) -> bool:
        """Whether the work in the folder is complete."""
        return (self.folder / "done").exists()

    def finish(self) -> None:
        """Mark the work as complete, on disk, after all that was written before."""
        _sync_folder(self.folder)
        with files.replacing(self.folder / "done") as temporary:
            temporary.write_text("")
        _sync_folder(self.folder)


@contextmanager
def claim(stage: str, cell: str, seed: int, key: str) -> Iterator[Entry]:
    """The entry of one seed, for this process alone; another claimant waits until the block ends.

    The lock goes with the process, however it ends, so nothing has to be cleaned up after a crash. Parts
    of files that a killed process left are removed.

    Raises:
        ValueError: if stage or cell lead out of the ledger, or ``SMOOT_LEDGER`` is neither on nor off.
    """
    mode = os.environ.get("SMOOT_LEDGER") or "on"
    if mode not in ("on", "off"):
        raise ValueError(f"SMOOT_LEDGER is {mode!r}: expected on or off")
    place = Path(stage, cell)
    if place.is_absolute() or ".." in place.parts:
        raise ValueError(f"{stage!r}, {cell!r} lead out of the ledger: expected names as in DATASET/BACKBONE")
    folder = paths.LEDGER / place / f"{seed}-{key}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock(folder.with_name(f".{folder.name}.lock"))
    with lock:
        if mode == "off":
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)
        for part in folder.glob(".*.tmp"):
            part.unlink()
        yield Entry(folder)


def _lock(file: Path) -> TextIO:
    """The opened lock file, locked; closing it, or the end of the process, releases the lock."""
    while True:
        lock = file.open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another process works on {file.parent.name}/{file.stem[1:]}: waiting", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        # `make clean` may have removed the file meanwhile: then the lock is on a file that nobody else opens.
        if file.exists() and os.path.samestat(file.stat(), os.fstat(lock.fileno())):
            return lock
        lock.close()


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder safe against a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
