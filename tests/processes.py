"""What tests want to know of processes that they start and end."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

PATIENCE = 1200  # seconds that a busy machine may take for anything: only a hang takes longer
FOREVER = 3 * PATIENCE  # seconds that a process stays which a test ends


def printed(command: Sequence[str | Path], **options: Any) -> str:
    """What a command prints; it must end well."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE, **options)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def start(command: Sequence[str], **options: Any) -> "subprocess.Popen[Any]":
    """A process in a session of its own, which heeds Ctrl-C and its like even if the tests run under ``nohup``."""
    with _heeded(signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        return subprocess.Popen(command, start_new_session=True, **options)


@contextmanager
def _heeded(*signals: signal.Signals) -> Iterator[None]:
    """Signals have a handler: a process that is started meanwhile has the default action, as after any ``exec``."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in signals}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)


def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> bool:
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
