"""Temporary folders that go with their process, however it ends: what a killed one left, the next one removes."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from workbench.config import paths


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is removed after the block; those of processes that are gone are removed before it.

    Beside each folder lies a lock, which its process takes before it makes the folder and holds as long as it lives.
    """
    parent = paths.ROOT / "scratch" / "temporary"
    parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(parent)
    descriptor, name = tempfile.mkstemp(prefix=f"{os.getpid()}-", suffix=".lock", dir=parent)
    os.close(descriptor)
    lock, folder = Path(name), Path(name).with_suffix("")
    with FileLock(lock):
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)


def _remove_abandoned(parent: Path) -> None:
    """Remove the folders whose lock nobody holds."""
    for folder in parent.iterdir():
        if folder.is_dir():
            lock = folder.with_name(f"{folder.name}.lock")
            with suppress(Timeout, OSError), FileLock(lock, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
                lock.unlink(missing_ok=True)
