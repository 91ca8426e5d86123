"""Where and at what cost a result was made: facts that differ from run to run and are never an input."""

import os
import platform
import resource
import subprocess
from typing import Any

import torch

from workbench.config import paths


def facts(key: str, *, seconds: float) -> dict[str, Any]:
    """What is known of the work that this process just did.

    Args:
        key: the ledger key of the work; equal keys mean equal results.
        seconds: wall time of the work in this process; less than the whole if it was taken up again.
    """
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
    """The processor's name where the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str | None:
    """The checked-out commit, or None outside a git checkout."""
    command = ["git", "-C", str(paths.ROOT), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
