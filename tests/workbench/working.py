"""Work that the tests of ledger and workers give to processes of their own, which import it by name."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from processes import FOREVER, PATIENCE, running, start, until

from workbench.runner import ledger
from workbench.runner.pool import Report, run_tasks

STEPS = 6


class Unportable(Exception):
    """Pickles, but cannot be made again from its pickle."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


def surroundings(task: tuple[int, Path], report: Report) -> tuple[int, int, int, str]:
    """The task's number, the process, torch's threads and OMP_NUM_THREADS; later tasks take less time.

    The first task waits for the second, if its file has not been there from the start: so it has another process.
    """
    import torch

    number, folder = task
    (folder / str(number)).touch()
    assert number > 0 or until((folder / "1").exists)
    for step in range(1, 3):
        time.sleep(0.3 / (number + 1))
        report(step, loss=1 / step, accuracy=0.5)
    return number, os.getpid(), torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]


def square(task: int, report: Report) -> int:
    return task * task


def fail(task: Path, report: Report) -> None:
    """The task "bad" fails when the other one has started; that one would go on for minutes."""
    if task.name == "bad":
        await_file(task.with_name("good"))
        raise KeyError(f"no such key in {task.name}")
    task.write_text(str(os.getpid()))
    time.sleep(FOREVER)


def fail_unportably(task: int, report: Report) -> None:
    raise Unportable("this", "that")


def kill_itself(task: int, report: Report) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stay(task: Path, report: Report) -> None:
    task.write_text(str(os.getpid()))
    time.sleep(FOREVER)


def resumable(task: Path, report: Report) -> str:
    """STEPS steps of 0.1 s with a checkpoint after each; ``task`` counts the steps that really ran."""
    with ledger.claim("work", "some/setting", 0, "key") as entry:
        state = entry.folder / "state"
        if not entry.finished:
            for _ in range(len(state.read_text()) if state.exists() else 0, STEPS):
                with task.open("a") as counter:
                    counter.write("x")
                time.sleep(0.1)
                done = state.read_text() if state.exists() else ""
                with ledger.files.replacing(state) as temporary:
                    temporary.write_text(done + "abcdef"[len(done)])
                report(len(done) + 1)
            entry.finish()
        return state.read_text()


def await_file(file: Path, length: int = 1) -> str:
    """The file's content, once it is that long."""
    assert until(lambda: file.exists() and len(file.read_text()) >= length), f"no {file} after {PATIENCE} s"
    return file.read_text()


def ends(pid: int) -> bool:
    """Whether the process ends soon."""
    return until(lambda: not running(pid))


def claim(sign: Path, seconds: str, end: str) -> None:
    """Claim an entry, say so in a file, work for some seconds, finish, print whether it was finished before."""
    with ledger.claim("train", "a/b", 0, "k") as entry:
        found = entry.finished
        if not found:
            with (entry.folder / "work").open("a") as file:
                file.write("x")
            sign.write_text("claimed")
            time.sleep(float(seconds))
            entry.finish()
    print(found)
    if end == "killed":
        os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def started(command: Sequence[object], **options: Any) -> "Iterator[subprocess.Popen[str]]":
    """A process in a session of its own, with its outputs as pipes; nothing of it outlives the block."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    words = [str(word) for word in command]
    with start(words, text=True, **pipes, **options) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def with_tests() -> dict[str, str]:
    """The environment of a process that imports the repository and the helpers of the tests."""
    folders = [*Path(__file__).parents[:3], *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))}


def process(function: str, *arguments: object) -> "AbstractContextManager[subprocess.Popen[str]]":
    """A process that claims an entry, or runs a function of this file over tasks."""
    return started([sys.executable, __file__, function, *arguments], env=with_tests())


def main(name: str, *texts: str) -> None:
    import working  # the workers import this file by its name, not as __main__

    if name == "claim":
        claim(Path(texts[0]), *texts[1:])
    else:
        tasks = [Path(text) for text in texts]
        print(run_tasks(getattr(working, name), tasks, workers=2, describe="d", steps=STEPS))


if __name__ == "__main__":
    main(*sys.argv[1:])
