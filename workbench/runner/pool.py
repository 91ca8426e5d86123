"""One function over many tasks, in processes of one thread each, with progress and an end for every error.

Every task runs in a spawned process, also with one worker, so that results never depend on the number of workers. No
worker outlives an error, Ctrl-C or the death of this process.
"""

import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import textwrap
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from typing import Any, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")
Report = Callable[..., None]  # called as report(step, **numbers): steps done of a task so far, and numbers to show
SPAWN = multiprocessing.get_context("spawn")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# The numbers before the bar, so that a narrow terminal cuts the bar and not them.
BAR = "{desc}: {percentage:3.0f}% {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}] {bar}"


class WorkerDied(RuntimeError):
    """A worker process ended without a result: killed, out of memory, or crashed."""


def run_tasks(
    function: Callable[[Task, Report], Result], tasks: Sequence[Task], *, workers: int, describe: str, steps: int
) -> list[Result]:
    """Calls ``function(task, report)`` for every task in worker processes.

    Args:
        function: a module-level function; ``report(step, **numbers)`` says how many steps are done. What its
            process did before must not matter to it.
        tasks: its arguments; they and the results must be picklable.
        workers: number of processes at the same time.
        describe: what is being done, for the progress and for errors.
        steps: steps of one task.

    Returns:
        The results in the order of the tasks.

    Raises:
        WorkerDied: if a worker ended without a result; names the task.
        ValueError: if ``workers`` or ``steps`` is below 1.
        Exception: whatever the function raised, with the worker's traceback as its cause.
    """
    for name, value in {"workers": workers, "steps": steps}.items():
        if value < 1:
            raise ValueError(f"{name} is {value}: expected at least 1")
    if not tasks:
        return []
    names = [f"{describe}, task {n} of {len(tasks)} ({textwrap.shorten(repr(t), 120)})" for n, t in enumerate(tasks, 1)]
    progress = Progress(describe, len(tasks), steps)
    crew, busy = [Worker() for _ in range(min(workers, len(tasks)))], dict[Worker, int]()
    waiting, results = deque(enumerate(tasks)), dict[int, Result]()
    try:
        while len(results) < len(tasks):
            for worker in crew:
                if waiting and worker not in busy:
                    busy[worker], task = waiting.popleft()
                    worker.start(function, task)
            for worker, told in hear(busy):
                if isinstance(told, Step):
                    progress.show(busy[worker], told.number, told.shown)
                else:
                    index = busy.pop(worker)
                    results[index] = _result_of(told, names[index])
                    progress.finish(index)
        return [results[index] for index in range(len(tasks))]
    finally:
        for worker in crew:
            worker.close()
        progress.close()


def _result_of(told: "Over", name: str) -> Any:
    if isinstance(told.error, WorkerDied):
        raise WorkerDied(f"{name}: {told.error}")
    if told.error:
        told.error.add_note(name)
        raise told.error
    return told.result


@dataclass(frozen=True)
class Step:
    """How far a worker is with its task, and numbers to show."""

    number: int
    shown: Mapping[str, float]


@dataclass(frozen=True)
class Over:
    """A worker's task has ended: with a result, or with an error and its traceback in the worker."""

    result: Any = None
    error: Exception | None = None
    trace: str = ""


class Worker:
    """A process that does one task after another. It starts with the first one, and anew if it has died.

    Args:
        environment: variables of the process, beside those that give it one thread.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self.environment = ONE_THREAD | dict(environment or {})
        self.process: Any = None
        self.connection: Any = None

    def start(self, function: Callable[[Task, Report], Any], task: Task) -> None:
        """Hand out a task; `hear` tells what becomes of it."""
        if self.process is None:
            resource_tracker.ensure_running()  # started with the process, it would let Ctrl-C through
            with _environment(self.environment), _ctrl_c_later():
                self.connection, other_end = SPAWN.Pipe()
                process = SPAWN.Process(target=_work, args=(other_end,))
                process.start()
                other_end.close()
                self.process = process
        with suppress(OSError):  # the process is dead: the connection has ended
            self.connection.send((function, task))

    def receive(self) -> Step | Over:
        """What the process says next, or that it died."""
        try:
            told: Step | Over = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode
            self.close()
            how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
            hint = ": out of memory?" if code == -signal.SIGKILL else ""
            return Over(error=WorkerDied(f"its process ended {how}{hint}"))
        if isinstance(told, Over) and told.error:
            told.error.__cause__ = RuntimeError(f"in a worker process:\n{told.trace}")
        return told

    def close(self) -> None:
        """End the process, whatever it is doing."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.connection.close()
            self.process = None


def hear(workers: Iterable[Worker], seconds: float | None = None) -> Iterator[tuple[Worker, Step | Over]]:
    """What busy workers say next, each once; waits for it, that long at most."""
    by_connection = {worker.connection: worker for worker in workers}
    for ready in connection.wait(by_connection, seconds):
        yield by_connection[ready], by_connection[ready].receive()


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the processes that are started inside the block."""
    before = {name: os.environ[name] for name in values if name in os.environ}
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """Ctrl-C comes after the block, and never to a process that is started inside and not prepared yet."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(parent: "connection.Connection[Any, Any]") -> None:
    """A worker process: it leaves Ctrl-C to its parent, and ends with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError):  # the parent has closed its end
        while True:
            function, task = parent.recv()
            try:
                parent.send(Over(function(task, _Reporter(parent))))
            except Exception as error:
                parent.send(Over(error=_portable(error), trace=traceback.format_exc()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


class _Reporter:
    """Tells the parent the progress of a task, at most five times a second."""

    def __init__(self, parent: "connection.Connection[Any, Any]") -> None:
        self.parent, self.last = parent, time.monotonic()

    def __call__(self, step: int, **numbers: float) -> None:
        now = time.monotonic()
        if now - self.last > 0.2:
            self.last = now
            self.parent.send(Step(step, {name: float(value) for name, value in numbers.items()}))


def _portable(error: Exception) -> Exception:
    """The error itself if it survives pickling, else one that carries its type's name and message."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


class Progress:
    """One bar over all steps if ``SMOOT_PROGRESS`` is 1, else a line per finished task; both on standard output."""

    def __init__(self, describe: str, tasks: int, steps: int) -> None:
        self.describe, self.steps, self.done = describe, steps, [0] * tasks
        self.finished, self.start = 0, time.monotonic()
        self.bar: Any = None
        if os.environ.get("SMOOT_PROGRESS") == "1":
            from tqdm import tqdm

            # A terminal that says it has no columns or rows would hide the bar: tqdm must not ask it.
            size = {"ncols": shutil.get_terminal_size((100, 24)).columns, "nrows": 24}
            style = {"bar_format": BAR, "mininterval": 0.5}
            self.bar = tqdm(total=steps * tasks, desc=describe, file=sys.stdout, **size, **style)

    def show(self, task: int, step: int, numbers: Mapping[str, float]) -> None:
        """Note that ``step`` steps of a task are done."""
        step = min(step, self.steps)
        if self.bar is not None:
            if numbers:
                texts = {name: f"{value:.3g}" for name, value in numbers.items()}
                self.bar.set_postfix(texts, refresh=False)
            self.bar.update(step - self.done[task])
        self.done[task] = step

    def finish(self, task: int) -> None:
        """Note that a task is finished."""
        self.show(task, self.steps, {})
        self.finished += 1
        if self.bar is None:
            seconds = time.monotonic() - self.start
            left = seconds * (self.steps * len(self.done) / sum(self.done) - 1)
            count = f"{self.finished} of {len(self.done)}"
            print(f"{self.describe}: {count} after {seconds:.0f} s, {left:.0f} s left", flush=True)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self.bar is not None:
            self.bar.close()
