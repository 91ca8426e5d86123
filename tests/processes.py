"""What tests want to know of processes that they start and end."""

import subprocess
import time
from collections.abc import Callable
from typing import Any

import psutil


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


def crew(process: "subprocess.Popen[Any]") -> list[int]:
    """The process and all that came from it."""
    return [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
