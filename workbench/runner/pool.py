"""One function over many tasks, in processes of one thread each, with progress and an end for every error.

Every task runs in a spawned process, also with one worker, so that results never depend on the number of
workers; what a process did before must not matter to the function. Ctrl-C ends the workers; when this
process dies in whatever way, they end by themselves.
"""

import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import textwrap
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Protocol, TypeVar

from workbench.runner.progress import Progress

Task = TypeVar("Task")
Result = TypeVar("Result")
SPAWN = multiprocessing.get_context("spawn")
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


class Report(Protocol):
    """How a function tells its progress: steps done of this task so far, and numbers to show."""

    def __call__(self, step: int, **numbers: float) -> None: ...


class WorkerDied(RuntimeError):
    """A worker process ended without a result: killed, out of memory, or crashed."""


class WorkerTraceback(Exception):
    """Where in the worker an error came from; the cause of the error that is raised here."""


def run_seeds(
    function: Callable[[Task, Report], Result],
    tasks: Sequence[Task],
    *,
    workers: int,
    describe: str,
    steps: int,
) -> list[Result]:
    """Calls ``function(task, report)`` for every task in worker processes.

    Args:
        function: a module-level function; ``report(step, **numbers)`` says how many steps are done.
        tasks: its arguments; they and the results must be picklable.
        workers: number of processes at the same time.
        describe: what is being done, for the progress and for errors.
        steps: steps of one task.

    Returns:
        The results in the order of the tasks.

    Raises:
        WorkerDied: if a worker ended without a result.
        ValueError: if ``workers`` or ``steps`` is below 1.
        Exception: whatever the function raised, with the worker's traceback as its cause.
    """
    for name, value in {"workers": workers, "steps": steps}.items():
        if value < 1:
            raise ValueError(f"{name} is {value}: expected at least 1")
    waiting = deque(range(len(tasks)))
    progress = Progress(describe, len(tasks), steps)
    crew: list[_Worker] = []
    results: dict[int, Result] = {}
    try:
        crew += [_Worker() for _ in range(min(workers, len(tasks)))]
        for worker in crew:
            worker.start()
            worker.begin(function, tasks[index := waiting.popleft()], index)
        while len(results) < len(tasks):
            for worker, (kind, content) in _messages(crew, f"{describe}, task %d of {len(tasks)} (%s)"):
                if kind == "step":
                    progress.show(worker.index, *content)
                    continue
                results[worker.index] = content
                progress.finish(worker.index)
                worker.rest()
                if waiting:
                    worker.begin(function, tasks[index := waiting.popleft()], index)
        for worker in crew:
            worker.dismiss()
    finally:
        progress.close()
        for worker in crew:
            worker.stop()
    return [results[index] for index in range(len(tasks))]


class _Worker:
    """The parent's side of one process: what it works on and the pipe to it."""

    def __init__(self) -> None:
        self.connection, self.theirs = SPAWN.Pipe()
        self.process: SpawnProcess = SPAWN.Process(target=_work, args=(self.theirs,))
        self.rest()

    def start(self) -> None:
        with _environment(ONE_THREAD):
            self.process.start()
        self.theirs.close()

    def begin(self, function: Callable[..., Any], task: Any, index: int) -> None:
        self.index, self.task, self.busy = index, textwrap.shorten(repr(task), 120), True
        work = pickle.dumps((function, task))
        with suppress(OSError):  # it is dead, and reading will say so
            self.connection.send_bytes(work)

    def rest(self) -> None:
        self.index, self.task, self.busy = -1, "", False

    def receive(self) -> tuple[str, Any]:
        """The next message; an error of the function, or the death of the process, is raised."""
        try:
            kind, content = self.connection.recv()
        except (EOFError, ConnectionError):
            self.process.join(10)
            code = self.process.exitcode
            name = f"by signal {signal.Signals(-code).name}" if code and code < 0 else f"with exit code {code}"
            hint = ": out of memory?" if code == -signal.SIGKILL else ""
            raise WorkerDied(f"its process ended {name}{hint}") from None
        if kind == "error":
            error, text = content
            raise error from WorkerTraceback(f"\n{text}")
        return kind, content

    def dismiss(self) -> None:
        """Let an idle process come to its own end."""
        self.connection.close()
        self.process.join(10)

    def stop(self) -> None:
        """End the process, whatever it does; nothing is left of it."""
        self.connection.close()
        self.theirs.close()
        if self.process.is_alive():
            self.process.terminate()
            self.process.join(5)
            self.process.kill()
        if self.process.pid is not None:
            self.process.join()
        self.process.close()


def _messages(crew: Sequence[_Worker], label: str) -> Iterator[tuple[_Worker, tuple[str, Any]]]:
    """What the busy workers sent; waits for it up to a second, and raises if one has died."""
    busy = [worker for worker in crew if worker.busy]
    ready = multiprocessing.connection.wait([worker.connection for worker in busy], timeout=1.0)
    for worker in busy:
        # A process may die without closing its pipe, if a child of its own still holds it.
        if worker.connection in ready or not worker.process.is_alive():
            try:
                message = worker.receive()
            except WorkerDied as error:
                raise WorkerDied(f"{label % (worker.index + 1, worker.task)}: {error}") from None
            except Exception as error:
                error.add_note(label % (worker.index + 1, worker.task))
                raise
            yield worker, message


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for a process that is started inside the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work(connection: Connection) -> None:
    """The life of a worker process: tasks in, messages out, until the parent closes the pipe or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process: the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            work = connection.recv_bytes()
        except EOFError:
            return
        try:
            function, task = pickle.loads(work)
            message = ("result", function(task, _Reporter(connection)))
            connection.send(message)
        except Exception as error:
            connection.send(("error", (_portable(error), traceback.format_exc())))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class _Reporter:
    """Sends progress, at most five times a second so that short steps cost nothing."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.last = connection, 0.0

    def __call__(self, step: int, **numbers: float) -> None:
        now = time.monotonic()
        if now - self.last > 0.2:
            self.last = now
            self.connection.send(("step", (step, {name: float(value) for name, value in numbers.items()})))


def _portable(error: Exception) -> Exception:
    """The error itself if it survives pickling, else one that carries its type's name and message."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
