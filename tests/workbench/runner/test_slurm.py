"""The queue on a real Slurm of two nodes: how runs end there, what Ctrl-C leaves, and what is refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import until
from queued import Errand, one, slow
from slurm import Cluster, needs_slurm, running_cluster
from test_queue import six_runs, tasks
from working import ends

from workbench.runner import slurm as engine
from workbench.runner.queue import Ended, Finished, Journal, Queue
from workbench.runner.slurm import Slurm, SlurmError, Wishes, answer

TESTS = Path(__file__).parents[2]
FOLDERS = (TESTS.parent, TESTS, TESTS / "workbench")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    root = tmp_path_factory.mktemp("slurm")
    with pytest.MonkeyPatch.context() as patch, running_cluster(root, patch, FOLDERS) as cluster:
        yield cluster


@needs_slurm
def test_six_runs_end_as_on_one_machine(cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slurm = Slurm(one, tmp_path / "jobs", title="six", wishes=Wishes(partition="main", minutes=5, at_once=2))
    slurm.probe()
    _, failed, lost = six_runs(slurm, tmp_path, Journal(tmp_path / "journal"))
    assert failed.log and "bad run 2" in failed.log.read_text()
    assert "without a result, state FAILED" in lost.error
    assert capsys.readouterr().out.splitlines()[-1] == "grid x: 0 waiting, 0 running, 4 done, 1 failed, 1 lost"


@needs_slurm
def test_ctrl_c_leaves_the_jobs_if_asked_to_and_the_next_command_takes_them_up_and_may_cancel_them(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    errand, journal = Errand(0, tmp_path), Journal(tmp_path / "journal")

    class Interrupted(Slurm):
        def look(self, seconds: float) -> tuple[set[str], list[Ended]]:
            running, ended = super().look(seconds)
            if running and errand.starts:
                raise KeyboardInterrupt
            return running, ended

    for detach, said in (True, "1 jobs go on; the same command takes them up again"), (False, "1 jobs cancelled"):
        slurm = Interrupted(slow, tmp_path / "jobs", title="ctrl-c", wishes=Wishes(minutes=45))
        with pytest.raises(KeyboardInterrupt):
            Queue(tasks({"work/0": errand}), slurm, "grid x", tmp_path, journal, detach=detach).run()
        assert said in capsys.readouterr().out
    assert len(errand.starts) == 1  # the second command started nothing
    assert ends(int(errand.starts[0][0]))


@needs_slurm
def test_what_slurm_cannot_run_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(SlurmError, match="no partition 'gpus': expected one of main, urgent, apart"):
        Slurm(one, tmp_path, title="x", wishes=Wishes(partition="gpus"))
    with pytest.raises(SlurmError, match=r"Slurm refused the jobs \(.*Invalid feature"):
        Slurm(one, tmp_path, title="x", wishes=Wishes(options={"constraint": "fast"})).probe()
    with pytest.raises(SlurmError, match="can never start: Slurm gives the reason PartitionTimeLimit: ask for less"):
        Slurm(one, tmp_path, title="long", wishes=Wishes(partition="main", minutes=90)).probe()
    cluster.ask("scontrol", "update", "NodeName=n2", "State=DRAIN", "Reason=test")
    try:
        wishes = Wishes(partition="apart", start_within=0.05)
        with pytest.raises(SlurmError, match=r"no job started within 0\.05 minutes: Slurm gives the reason"):
            Slurm(one, tmp_path, title="drained", wishes=wishes).probe()
    finally:
        cluster.ask("scontrol", "update", "NodeName=n2", "State=RESUME")
    assert until(lambda: not cluster.ask("squeue", "-h"))


def test_without_slurm_the_other_engine_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SlurmError, match=r"there is no Slurm here .*use --engine local"):
        Slurm(one, tmp_path, title="x", wishes=Wishes())


def test_a_slurm_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sbatch", "srun", "sinfo"):
        (tmp_path / name).write_text("#!/bin/sh\necho 'sinfo: error: no controller' >&2\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(SlurmError, match=r"Slurm does not answer \(sinfo: error: no controller\)"):
        Slurm(one, tmp_path, title="x", wishes=Wishes())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"minutes": 0}, "minutes is 0: expected more than 0"),
        ({"options": {"acount": "a"}}, "unknown Slurm option 'acount': expected one of account, "),
        ({"options": {"time": "5"}}, "unknown Slurm option 'time': expected one of account, "),
    ],
)
def test_wishes_that_there_are_not(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Wishes(**given)  # type: ignore[arg-type]


def test_what_the_probe_finds_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_check_slurm", lambda partition: None)
    slurm = Slurm.__new__(Slurm)
    slurm.folder = tmp_path
    (tmp_path / "probe").write_text("word")
    (tmp_path / "log").touch()
    slurm._judge(Ended("probe", Finished("word", 0.0)), "word")
    alone = answer(tmp_path, lambda *_, **__: None)  # nobody holds the lock
    assert alone == Finished("word", 1.0)
    for end, message in (
        (Ended("probe", alone), "the nodes do not see the locks of this machine"),
        (Ended("probe", Finished("other", 0.0)), "is not the same on this machine and on the nodes"),
        (Ended("probe", error="lost", log=tmp_path / "none"), "put the checkout on a file system that they share"),
        (Ended("probe", error="no torch", log=tmp_path / "log"), r"a job cannot run here \(no torch\): read "),
    ):
        with pytest.raises(SlurmError, match=message):
            slurm._judge(end, "word")
