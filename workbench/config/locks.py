"""Locks between processes, in files that stay: a lock goes with its process, however that ends."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def waiting_for(lock_file: Path, what: str) -> Iterator[None]:
    """Hold a lock; where another process holds it, say what that one does, and wait.

    Args:
        lock_file: made if it is not there.
        what: the end of ``another process …: waiting``.
    """
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(lock_file)
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        print(f"another process {what}: waiting", file=sys.stderr, flush=True)
        held = lock.acquire(poll_interval=0.2)
    with held:
        yield
