"""A stage ends with the DVC that started it, so that nobody's old stage goes on beside a new one."""

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

PAUSE = 0.5  # seconds between two looks
GRACE = 30.0  # seconds to end properly after SIGTERM


def end_with_dvc() -> int | None:
    """Watch the nearest DVC among the processes that this one comes from, and end by SIGTERM when it is gone.

    Returns:
        Its process number; None if there is none: a command of one's own may outlive its terminal.
    """
    dvc = next((process for process in psutil.Process().parents() if _is_dvc(process)), None)
    if dvc is None:
        return None
    threading.Thread(target=_end_with, args=(dvc,), daemon=True).start()
    return int(dvc.pid)


def _is_dvc(process: psutil.Process) -> bool:
    """Whether a process is ``dvc …`` or ``python -m dvc …``."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return any(Path(word).name == "dvc" for word in words[:3])


def _end_with(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(PAUSE)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os.kill(os.getpid(), signal.SIGKILL)
