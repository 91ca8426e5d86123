"""Ctrl-C in a stage that no notebook runs: one word and exit code 130, nothing half-written, and it can go on."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import pytest
import working
import yaml
from processes import PATIENCE, crew, running, until
from stopping import Checkout
from tiny_runs import fresh, run

from workbench.training.networks import save_weights

SETTING = ("digits", "two_conv_small")
COMMANDS = {"judge": ("judge",), "retrain": ("retrain", *SETTING)}
MADE = {"judge": "judges.csv", "retrain": f"{'-'.join(SETTING)}/retraining.csv"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout of one setting and method whose network is there, as if it were trained."""
    root = Checkout.new(tmp_path / "root").root
    file = root / "tests" / "smoke.yaml"
    params = yaml.safe_load(file.read_text())
    settings = {"-".join(SETTING): dict(zip(("dataset", "backbone"), SETTING, strict=True))}
    params |= {"grid": {"datasets": ["digits"], "settings": settings, "methods": ["plain"]}, "claims": [], "seeds": [0]}
    params["retraining"] |= {"train_images": 64, "test_images": 32, "epochs": 1, "levels": [0.5]}
    file.write_text(yaml.safe_dump(params))
    save_weights(
        fresh(run()).network.state_dict(), root / "runs/smoke/weights" / "-".join(SETTING) / "plain/0.safetensors"
    )
    return root


def stage(root: Path, name: str) -> "AbstractContextManager[subprocess.Popen[str]]":
    command = [sys.executable, "-m", "workbench", *COMMANDS[name], "--profile", "smoke"]
    return working.started(command, env=working.with_tests() | {"SMOOT_ROOT": str(root), "OMP_NUM_THREADS": "1"})


def imports_torch(root: Path, process: psutil.Process) -> bool:
    return any("libtorch" in part.path for part in process.memory_maps())


def starts_workers(root: Path, process: psutil.Process) -> bool:
    return any("spawn_main" in " ".join(child.cmdline()) for child in process.children(recursive=True))


def works(root: Path, process: psutil.Process) -> bool:
    return any((root / "scratch" / "ledger").rglob(".*.lock"))


MOMENTS = {"judge": (imports_torch, starts_workers, works), "retrain": (works,)}


@pytest.mark.parametrize(("name", "moment"), [(name, moment) for name, all in MOMENTS.items() for moment in all])
def test_ctrl_c_ends_a_stage_in_order(name: str, moment: Callable[[Path, psutil.Process], bool], root: Path) -> None:
    with stage(root, name) as process:
        watched = psutil.Process(process.pid)
        assert until(lambda: process.poll() is not None or moment(root, watched))
        assert process.poll() is None
        members = crew(process)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of it
        out, told = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, told) == (130, "", "interrupted\n")
    assert until(lambda: not any(map(running, members)))
    assert [file for file in root.rglob("*") if file.suffix in (".tmp", ".csv") or file.name == "done"] == []
    if moment is works:
        with stage(root, name) as again:
            _, told = again.communicate(timeout=PATIENCE)
        assert again.returncode == 0, told
        assert (root / "runs/smoke/results" / MADE[name]).is_file()
        assert not list(root.rglob("*.tmp"))
