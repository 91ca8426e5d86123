"""Resumable work: finished jobs are found again, unfinished ones go on, two processes never share one.

An entry of the ledger is the folder ``scratch/ledger/STAGE/PLACE/SEED-KEY``; the key says what the result depends on
(parameters, code, torch, device type, threads, data), so an entry never goes stale. A worker process claims its entry
itself, so that the lock is held by the process that writes::

    with claim("train", "laptop/mnist-two_conv_small/sgt", seed, key) as entry:
        if not entry.finished:
            ...  # go on from what is in entry.folder; write files with files.replacing
            entry.finish()

``done`` holds the SHA-256 of every file, and a claim compares them: a finished entry of which a byte has changed, or a
file is missing or new, is said to be damaged and emptied. ``SMOOT_LEDGER=off`` empties a folder whenever it is
claimed. In both cases the work starts afresh.
"""

import hashlib
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from workbench.config import files, paths
from workbench.config.locks import waiting_for

DONE, CHECKPOINT = "done", "checkpoint.pt"


def entry_key(stage: str, config: Mapping[str, Any], code: str, *, device: str, threads: int, data: str = "") -> str:
    """A short name for everything that a result depends on, the installed torch and the processor's kind included.

    Args:
        stage: name of the stage.
        config: the parameters, as plain numbers, texts, lists and mappings.
        code: the fingerprint of the rooms that do the work.
        device: the device's type, not its number.
        threads: threads of one process; another number gives other weights.
        data: hashes of the data and of the files that the work starts from.
    """
    import torch

    facts = {"stage": stage, "config": config, "code": code, "device": device, "threads": threads, "data": data}
    # Another set of vector instructions gives other last digits, and so another network.
    facts |= {"torch": version("torch"), "instructions": torch.backends.cpu.get_cpu_capability()}
    text = json.dumps(facts, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Entry:
    """A claimed folder of the ledger."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """Where unfinished work may keep what it goes on from; removed when it is finished."""
        return self.folder / CHECKPOINT

    @property
    def finished(self) -> bool:
        """Whether the work in the folder is complete."""
        return (self.folder / DONE).exists()

    def finish(self) -> None:
        """Mark the work as complete, on disk, after all that was written before."""
        _sync_folder(self.folder)
        files.write_json(_digests(self.folder), self.folder / DONE)
        _sync_folder(self.folder)
        self.checkpoint.unlink(missing_ok=True)

    @property
    def damage(self) -> str:
        """What is wrong with finished work: the file that is not as ``done`` says; empty if all are."""
        try:
            expected = files.read_json(self.folder / DONE)
        except (OSError, ValueError):
            return f"{DONE} cannot be read"
        found = _digests(self.folder)
        for name in sorted({*found, *expected}):
            if name not in found:
                return f"{name} is missing"
            if found[name] != expected.get(name):
                return f"{name} does not have the SHA-256 that {DONE} holds"
        return ""


def _digests(folder: Path) -> dict[str, str]:
    results = [file for file in folder.iterdir() if file.name not in (DONE, CHECKPOINT)]
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "no file" for file in results
    }


@contextmanager
def claim(stage: str, place: str, seed: int, key: str) -> Iterator[Entry]:
    """The entry of one job, for this process alone; another claimant waits until the block ends.

    The lock goes with the process, however it ends. Parts of files that a killed process left are removed.

    Raises:
        ValueError: if stage or place lead out of the ledger, or ``SMOOT_LEDGER`` is neither on nor off.
    """
    mode = os.environ.get("SMOOT_LEDGER") or "on"
    if mode not in ("on", "off"):
        raise ValueError(f"SMOOT_LEDGER is {mode!r}: expected on or off")
    inside = Path(stage, place)
    if inside.is_absolute() or ".." in inside.parts:
        raise ValueError(f"{stage!r}, {place!r} lead out of the ledger: expected names as in PROFILE/SETTING/METHOD")
    folder = paths.LEDGER / inside / f"{seed}-{key}"
    with waiting_for(folder.with_name(f".{folder.name}.lock"), f"works on {folder.parent.name}/{folder.name}"):
        if mode == "off":
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)
        for part in folder.glob(".*.tmp"):
            part.unlink()
        entry = Entry(folder)
        if entry.finished and (damage := entry.damage):
            print(f"{folder} is damaged: {damage}: the work starts afresh", file=sys.stderr, flush=True)
            shutil.rmtree(folder)
            folder.mkdir()
        yield entry


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder safe against a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def provenance(key: str, *, seconds: float) -> dict[str, Any]:
    """Where and at what cost this process made a result: facts that differ from run to run and are never an input.

    Args:
        key: the ledger key of the work; equal keys mean equal results.
        seconds: wall time of the work in this process; less than the whole if it was taken up again.

    Returns:
        key, seconds, peak_memory_mb (MiB: of the accelerator if one was used, else resident), device, cores, system,
        python, commit (None outside a git checkout).
    """
    import torch

    cuda = torch.cuda.is_initialized()  # it was used, not only there
    peak = torch.cuda.max_memory_allocated() / 2**20 if cuda else _resident_mb()
    return {
        "key": key,
        "seconds": round(seconds, 2),
        "peak_memory_mb": round(peak, 1),
        "device": torch.cuda.get_device_name() if cuda else _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "commit": _commit(),
    }


def _resident_mb() -> float:
    """Peak resident memory of this process in MiB (Linux counts in KiB, macOS in bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if platform.system() == "Darwin" else peak / 2**10


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            facts = file.read()
    except OSError:
        facts = ""
    named = re.search(r"^model name\s*:(.*)", facts, re.MULTILINE)
    return named[1].strip() if named else platform.processor() or platform.machine()


def _commit() -> str | None:
    command = ["git", "-C", str(paths.ROOT), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
