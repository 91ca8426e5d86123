"""Worker processes: order, one thread, progress, and an end for every way to fail."""

import os
import signal
from pathlib import Path

import pytest
import working
from processes import PATIENCE

from workbench.runner.pool import WorkerDied, run_tasks


def test_results_keep_the_order_and_every_task_has_one_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    before = dict(os.environ)
    found = run_tasks(working.surroundings, [(n, tmp_path) for n in range(3)], workers=2, describe="train x", steps=2)
    assert [task for task, *_ in found] == [0, 1, 2]
    assert {threads for *_, threads, _ in found} == {1}
    assert {variable for *_, variable in found} == {"1"}
    processes = {process for _, process, *_ in found}
    assert len(processes) == 2
    assert os.getpid() not in processes
    assert not any(map(working.running, processes))
    assert dict(os.environ) == before
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" after ")[0] for line in lines] == [f"train x: {n} of 3" for n in (1, 2, 3)]
    assert lines[-1].endswith(" s, 0 s left")


def test_no_tasks_no_processes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_tasks(working.square, [], workers=2, describe="d", steps=1) == []
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("workers", "steps", "name"), [(0, 1, "workers"), (1, 0, "steps")])
def test_counts_below_one_are_refused(workers: int, steps: int, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0: expected at least 1"):
        run_tasks(working.square, [1], workers=workers, describe="d", steps=steps)


def test_the_bar_shows_what_is_done_of_all_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "1").touch()
    monkeypatch.setenv("SMOOT_PROGRESS", "1")
    monkeypatch.setenv("COLUMNS", "90")
    found = run_tasks(working.surroundings, [(n, tmp_path) for n in range(2)], workers=1, describe="train x", steps=2)
    assert len({process for _, process, *_ in found} - {os.getpid()}) == 1
    shown = capsys.readouterr()
    last = shown.out.split("\r")[-1].rstrip("\n")
    assert last.startswith("train x: 100%") and len(last) == 90
    assert all(part in last for part in ("4/4", "loss=", "accuracy=0.5"))
    assert shown.err == ""


def test_an_error_comes_back_with_its_traceback_and_ends_the_others(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="no such key in bad") as caught:
        run_tasks(working.fail, [tmp_path / "good", tmp_path / "bad"], workers=2, describe="train x", steps=1)
    assert "working.py" in str(caught.value.__cause__)
    assert caught.value.__notes__[0].startswith("train x, task 2 of 2 (")
    assert not working.running(int((tmp_path / "good").read_text()))


def test_an_error_that_does_not_pickle_keeps_its_name_and_message() -> None:
    with pytest.raises(RuntimeError, match="Unportable: this and that"):
        run_tasks(working.fail_unportably, [0], workers=1, describe="d", steps=1)


def test_a_killed_worker_is_named() -> None:
    with pytest.raises(WorkerDied, match=r"^train x, task 1 of 1 \(42\): .* by signal SIGKILL: out of memory\?"):
        run_tasks(working.kill_itself, [42], workers=1, describe="train x", steps=1)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(tmp_path: Path, number: signal.Signals) -> None:
    files = [tmp_path / "one", tmp_path / "two"]
    with working.process("stay", *files) as parent:
        workers = [int(working.await_file(file)) for file in files]
        assert all(map(working.running, workers))
        if number == signal.SIGINT:
            os.killpg(parent.pid, number)  # as Ctrl-C does: to every process of the terminal
        else:
            parent.send_signal(number)
        _, told = parent.communicate(timeout=PATIENCE)
    assert all(map(working.ends, workers))
    assert told.count("KeyboardInterrupt") == (number == signal.SIGINT)  # the parent's own
