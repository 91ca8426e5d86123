"""The queue: others go on, what is lost comes again, needs come first, and what a later command finds."""

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from queued import Errand, full, one, slow
from working import ends

from workbench.runner import queue
from workbench.runner.local import Local
from workbench.runner.queue import Ended, Engine, Finished, Journal, OutOfSpace, Queue, Task, check_space


def tasks(errands: Mapping[str, Errand]) -> list[Task]:
    return [Task(name, lambda done, errand=errand: errand, digest="d") for name, errand in errands.items()]


def six_runs(
    engine: Engine, folder: Path, journal: Journal | None = None
) -> tuple[list[list[list[str]]], Ended, Ended]:
    """Six runs, one of which fails, one is killed once and one always: all starts, the failed one, the lost one."""
    errands = {f"work/{number}": Errand(number, folder) for number in range(6)}
    found = Queue(tasks(errands), engine, "grid x", folder, journal, tries=2)
    found.run()
    folders = {name: end.folder for name, end in found.done.items()}
    assert folders == {f"work/{number}": str(number**2) for number in (0, 1, 3, 5)}
    failed, lost = found.failed["work/2"], found.failed["work/4"]
    assert (failed.lost, failed.error, lost.lost) == (False, "ValueError: bad run 2", True)
    starts = [errand.starts for errand in errands.values()]
    assert [len(start) for start in starts] == [1, 1, 1, 2, 2, 1]
    return starts, failed, lost


class Stub:
    """An engine that ends every task at once, all that it was given at one look."""

    detached: bool | None = None

    def __init__(self, room: int = 100) -> None:
        self.room, self.going, self.order, self.attached = room, list[str](), list[str](), dict[str, str]()

    def submit(self, arguments: Mapping[str, Any]) -> dict[str, str]:
        self.going += arguments
        self.order += arguments
        return {name: f"job of {name}" for name in arguments}

    def attach(self, jobs: Mapping[str, str]) -> None:
        self.going += jobs
        self.attached |= jobs

    def look(self, seconds: float) -> tuple[set[str], list[Ended]]:
        ended, self.going = self.going, []
        return set(), [Ended(name, Finished(f"{name}!", 2.0)) for name in ended]

    def close(self, *, detach: bool) -> str:
        self.detached = detach
        return ""


def test_others_go_on_and_what_was_killed_comes_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = Local(one, tmp_path / "logs", gpus=("7", "9"), per_gpu=1)
    starts, failed, lost = six_runs(engine, tmp_path)
    assert failed.log and "queued.py" in failed.log.read_text()
    assert lost.error == "its process ended by signal SIGKILL: out of memory?"
    assert {gpu for start in starts for _, gpu, _ in start} == {"7", "9"}
    assert capsys.readouterr().out.splitlines()[-1] == "grid x: 0 waiting, 0 running, 4 done, 1 failed, 1 lost"


def test_ctrl_c_ends_the_tasks_of_this_machine(tmp_path: Path) -> None:
    errand = Errand(0, tmp_path)

    class Interrupting(Local):
        def look(self, seconds: float) -> tuple[set[str], list[Ended]]:
            if errand.starts:
                raise KeyboardInterrupt
            return super().look(seconds)

    with pytest.raises(KeyboardInterrupt):
        Queue(tasks({"work/0": errand}), Interrupting(slow, tmp_path), "grid x", tmp_path).run()
    assert ends(int(errand.starts[0][0]))


def test_a_full_disk_ends_everything_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    errands = {f"work/{number}": Errand(number, tmp_path) for number in range(2)}
    with pytest.raises(OutOfSpace, match=r"/weights: Disk quota exceeded: free some space or raise the quota"):
        Queue(tasks(errands), Local(full, tmp_path), "grid x", tmp_path).run()

    def no_room(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(queue.os, "fsync", no_room)
    with pytest.raises(OutOfSpace, match="the disk: No space left on device: free some space"):
        check_space(tmp_path)
    assert [file for file in tmp_path.iterdir() if file.name.startswith(".space")] == []


def test_what_is_needed_comes_first_and_what_needs_a_failed_task_never() -> None:
    given: list[dict[str, str]] = []

    def make(done: Mapping[str, Finished]) -> str:
        given.append({name: end.folder for name, end in done.items()})
        return ""

    class Failing(Stub):
        def look(self, seconds: float) -> tuple[set[str], list[Ended]]:
            running, ended = super().look(seconds)
            return running, [Ended(end.name, error="E: no") if end.name == "train/1" else end for end in ended]

    engine = Failing()
    after = [Task(f"evaluate/{n}", make, (f"train/{n}", "judge/0")) for n in range(2)]
    before = [Task(name, lambda done: None) for name in ("train/0", "train/1", "judge/0")]
    found = Queue([*before, *after], engine, "grid x", Path("/tmp"))
    found.run()
    assert engine.order == ["train/0", "train/1", "judge/0", "evaluate/0"]
    assert given == [{"train/0": "train/0!", "judge/0": "judge/0!"}]
    assert set(found.done) == {"train/0", "judge/0", "evaluate/0"} and set(found.failed) == {"train/1"}


def test_a_task_follows_what_it_needs_at_once() -> None:
    trained = [Task(f"train/{n}", lambda done: None) for n in range(3)]
    measured = [Task(f"evaluate/{n}", lambda done: None, (f"train/{n}",)) for n in range(3)]

    class OneByOne(Stub):
        def submit(self, arguments: Mapping[str, Any]) -> dict[str, str]:
            assert len(arguments) == 1
            return super().submit(arguments)

    engine = OneByOne(room=1)
    Queue([*trained, *measured], engine, "grid x", Path("/tmp")).run()
    assert engine.order == [f"{kind}/{n}" for n in range(3) for kind in ("train", "evaluate")]


def test_no_more_than_the_engine_has_room_for(tmp_path: Path) -> None:
    class Narrow(Stub):
        def submit(self, arguments: Mapping[str, Any]) -> dict[str, str]:
            assert len(arguments) <= 2
            return super().submit(arguments)

    found = Queue([Task(f"a/{n}", lambda done: None) for n in range(5)], Narrow(2), "x", tmp_path)
    found.run()
    assert len(found.done) == 5


def test_a_later_command_finds_what_is_finished_and_attaches_to_what_is_on_its_way(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    finished, gone, going, other = (Task(f"a/{name}", lambda done: None, digest="d") for name in "abcd")
    (tmp_path / "gone").mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "done").touch()
    journal.note(finished, job="1", tries=1)
    journal.note(finished, folder=str(tmp_path / "there"), seconds=3.0)
    journal.note(gone, folder=str(tmp_path / "gone"), seconds=3.0)
    journal.note(going, job="7_1", tries=1)
    journal.note(Task(other.name, other.make, digest="of other parameters"), job="8", tries=1)
    with journal.file.open("a") as lines:
        lines.write('{"name": "a/b", "dig')
    engine = Stub()
    found = Queue([finished, gone, going, other], engine, "x", tmp_path, journal)
    found.run()
    assert engine.attached == {"a/c": "7_1"} and engine.order == ["a/b", "a/d"]
    assert found.done["a/a"] == Finished(str(tmp_path / "there"), 3.0)
    assert found.done["a/c"].folder == "a/c!"


def test_a_command_that_is_interrupted_leaves_its_jobs_only_if_it_is_asked_to(tmp_path: Path) -> None:
    class Interrupted(Stub):
        def look(self, seconds: float) -> tuple[set[str], list[Ended]]:
            raise KeyboardInterrupt

    task = Task("a/0", lambda done: None, digest="d")
    for detach in (True, False):
        engine, journal = Interrupted(), Journal(tmp_path / f"{detach}.jsonl")
        with pytest.raises(KeyboardInterrupt):
            Queue([task], engine, "x", tmp_path, journal, detach=detach).run()
        assert engine.detached is detach
        assert journal.known()["a/0", "d"] == ({"job": "job of a/0", "tries": 1} if detach else {})


def test_the_time_left_is_the_mean_of_each_kind_for_as_many_as_run(capsys: pytest.CaptureFixture[str]) -> None:
    found = queue.Progress("x", queue.Counter({"train": 4, "evaluate": 5}))
    assert found.remaining(2) == ""
    for seconds in (100.0, 140.0):
        found.finish("train/0", seconds)
    found.finish("evaluate/0", 10.0)
    assert found.remaining(2) == ", about 2 min left"  # (2 · 120 + 4 · 10) / 2 s
    found.show(2, {"a": 1}, {}, last=False)
    assert capsys.readouterr().out == "x: 6 waiting, 2 running, 1 done, 0 failed, 0 lost, about 2 min left\n"


@pytest.mark.parametrize(("given", "name"), [({"per_gpu": 0}, "per_gpu"), ({"cores": 0}, "cores")])
def test_an_engine_without_a_place_is_refused(given: dict[str, int], name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0: expected at least 1"):
        Local(one, tmp_path, **given)
