"""A grid on a real Slurm: nodes and jobs that go, a file system that is not shared, and records as on one machine."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from processes import start, until
from queued import STEPS, Errand, one, resumable
from slurm import Cluster, needs_slurm, running_cluster
from stopping import Checkout

from workbench.config import paths
from workbench.runner.queue import Journal, Queue, Task
from workbench.runner.slurm import Slurm, SlurmError, Wishes

pytestmark = [pytest.mark.faults, needs_slurm]
SOURCES = Path(__file__).parents[2]
FOLDERS = (SOURCES, SOURCES / "tests", SOURCES / "tests" / "workbench")


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("slurm"), monkeypatch, FOLDERS) as cluster:
        yield cluster


@pytest.mark.parametrize("interrupt", ["preempted", "out of time", "node lost"])
def test_an_interrupted_run_goes_on_from_its_entry_in_the_ledger(
    interrupt: str, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of some seconds is interrupted by a kind of accident once it has done some steps."""
    monkeypatch.setenv("SMOOT_ROOT", str(tmp_path))
    monkeypatch.setattr(paths, "LEDGER", tmp_path / "scratch" / "ledger")
    errand, steps = Errand(0, tmp_path), tmp_path / "steps-0"

    class Watched(Slurm):
        interrupted = False

        def look(self, seconds: float):  # type: ignore[no-untyped-def]
            if not self.interrupted and steps.exists() and len(steps.read_text()) >= 2:
                self.interrupted = True
                if interrupt == "preempted":
                    urgent = ("-p", "urgent", "-N", "2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1")
                    cluster.ask("sbatch", *urgent)
                elif interrupt == "out of time":
                    (job,) = (watched.job.job_id for watched in self.live.values())
                    cluster.ask("scancel", "--signal", "USR2", job)
                else:
                    cluster.kill_node(errand.starts[0][2])
            return super().look(seconds)

    slurm = Watched(resumable, tmp_path / "jobs", title=interrupt.replace(" ", "-"), wishes=Wishes("main", minutes=5))
    task = Task("work/0", lambda done: errand, digest="d")
    found = Queue([task], slurm, "grid x", tmp_path, Journal(tmp_path / "journal"))
    found.run()
    assert slurm.interrupted
    assert Path(found.done["work/0"].folder, "state").read_text() == "x" * STEPS
    first, second = errand.starts
    assert first[0] != second[0]
    assert STEPS <= len(steps.read_text()) <= STEPS + 1  # at most the step in hand was done again
    if interrupt == "node lost":
        assert first[2] != second[2]


def test_a_folder_that_the_nodes_do_not_share_is_refused(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = tmp_path_factory.mktemp("not-shared")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this user cannot give a node a file system of its own (unshare --mount)")
    with running_cluster(tmp_path_factory.mktemp("slurm"), monkeypatch, FOLDERS, hidden=hidden):
        slurm = Slurm(one, hidden / "jobs", title="x", wishes=Wishes(partition="apart", minutes=5))
        with pytest.raises(SlurmError, match="is not the same on this machine and on the nodes"):
            slurm.probe()


def checkout(root: Path) -> Path:
    """A root of its own with a smoke profile of one setting."""
    file = Checkout.new(root).root / "tests" / "smoke.yaml"
    params = yaml.safe_load(file.read_text())
    setting = {"digits-two_conv_small": {"dataset": "digits", "backbone": "two_conv_small"}}
    params["grid"] = {"datasets": ["digits"], "settings": setting, "methods": ["plain", "smoot"]}
    params |= {"datasets": {"digits": params["datasets"]["digits"]}, "claims": []}
    params["training"]["epochs"] = 2
    params["retraining"]["settings"] = []
    file.write_text(yaml.safe_dump(params))
    return root


def grid(root: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "workbench", "grid", "--profile", "smoke", *options]


def records(root: Path) -> dict[str, bytes]:
    """Weights and tables, but for the provenance, which tells of times."""
    found = [file for file in sorted((root / "runs").rglob("*")) if file.is_file() and "provenance" not in file.name]
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in found}


def entries(root: Path) -> set[str]:
    """The finished entries of the ledger; their names hold the keys by which a pipeline finds them."""
    ledger = root / "scratch" / "ledger"
    return {file.relative_to(ledger).as_posix() for file in ledger.rglob("done")}


def test_records_are_those_of_one_machine_although_the_command_was_killed(cluster: Cluster, tmp_path: Path) -> None:
    roots = {engine: checkout(tmp_path / engine) for engine in ("local", "slurm")}
    given = {engine: os.environ | {"SMOOT_ROOT": str(root)} for engine, root in roots.items()}
    done = subprocess.run(grid(roots["local"]), env=given["local"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    command = grid(roots["slurm"], "--engine", "slurm", "--minutes", "10", "--at-once", "3")
    first = start(command, env=given["slurm"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        finished = roots["slurm"] / "scratch" / "ledger"
        assert until(lambda: list(finished.rglob("done")) or first.poll() is not None, 900)
    finally:
        first.kill()  # no signal that could be heard: its jobs go on
        first.wait()
    time.sleep(1)
    done = subprocess.run(command, env=given["slurm"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 waiting, 0 running, 10 done, 0 failed, 0 lost" in done.stdout
    assert records(roots["slurm"]) == records(roots["local"]) != {}
    assert entries(roots["slurm"]) == entries(roots["local"])
    again = subprocess.run(command, env=given["slurm"], capture_output=True, text=True, check=False)
    assert again.returncode == 0 and "10 done" in again.stdout
