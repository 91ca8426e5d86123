"""Provenance: facts of this process and this machine."""

import builtins
import json
import os
import platform
import resource
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from workbench.config import paths
from workbench.runner import ledger


@pytest.fixture(autouse=True)
def unused_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)


def committed(folder: Path) -> str:
    """The one commit of a new repository."""
    name = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], [*name, "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", "-C", str(folder), *command], check=True)
    done = subprocess.run(["git", "-C", str(folder), "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_facts_of_work_on_the_processor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    commit = committed(tmp_path)
    facts = ledger.provenance("abc", seconds=1.23456)
    assert json.loads(json.dumps(facts)) == facts
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if platform.system() == "Darwin" else 2**10)
    assert 0.9 * memory < facts.pop("peak_memory_mb") <= memory + 0.1
    assert facts.pop("device")
    assert facts == {
        "key": "abc",
        "seconds": 1.23,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "commit": commit,
    }


def test_facts_of_work_on_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3 * 2**20 + 2**19)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    facts = ledger.provenance("abc", seconds=1.0)
    assert (facts["device"], facts["peak_memory_mb"]) == ("Some GPU", 3.5)


@pytest.mark.parametrize(("system", "megabytes"), [("Linux", 2048.0), ("Darwin", 2.0)])
def test_linux_counts_kib_and_macos_bytes(system: str, megabytes: float, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        ru_maxrss = 2**21

    monkeypatch.setattr(resource, "getrusage", lambda who: Usage)
    monkeypatch.setattr(platform, "system", lambda: system)
    assert ledger.provenance("abc", seconds=1.0)["peak_memory_mb"] == megabytes


def test_the_processor_is_named_by_linux_or_else_by_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = builtins.open
    listing = tmp_path / "cpuinfo"
    listing.write_text("processor\t: 0\nmodel name\t: Some CPU: 3 GHz\nprocessor\t: 1\nmodel name\t: Other\n")
    monkeypatch.setattr(platform, "processor", lambda: "by python")

    def redirected(file: Any, *arguments: Any, **named: Any) -> Any:
        return real(listing if file == "/proc/cpuinfo" else file, *arguments, **named)

    monkeypatch.setattr(builtins, "open", redirected)
    assert ledger.provenance("abc", seconds=1.0)["device"] == "Some CPU: 3 GHz"
    listing.write_text("processor\t: 0\n")
    assert ledger.provenance("abc", seconds=1.0)["device"] == "by python"
    listing.unlink()
    assert ledger.provenance("abc", seconds=1.0)["device"] == "by python"
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert ledger.provenance("abc", seconds=1.0)["device"] == platform.machine()


def test_outside_a_repository_there_is_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert ledger.provenance("abc", seconds=1.0)["commit"] is None
    monkeypatch.setenv("PATH", str(tmp_path))  # and without git
    assert ledger.provenance("abc", seconds=1.0)["commit"] is None
