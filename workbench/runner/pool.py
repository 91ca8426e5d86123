"""One function over many tasks, in processes of one thread each, with progress and an end for every error.

The standard library's process pool does the work. Every task runs in a spawned process, also with one worker, so
that results never depend on the number of workers. Added to it: one thread per process, progress, the name of the
task whose process died, and that no worker outlives an error, Ctrl-C or the death of this process.
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
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
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
    pool = Workers(min(workers, len(tasks)))
    try:
        futures = pool.submit(function, tasks)
        for index in _finished(futures, pool, progress):
            if error := futures[index].exception():
                error.add_note(names[index])
                raise error
        return [future.result() for future in futures]
    except BrokenProcessPool:
        raise WorkerDied(pool.death(names) or f"{describe}: a process did not start") from None
    finally:
        pool.close()
        progress.close()


def _finished(futures: Sequence["Future[Any]"], workers: "Workers", progress: "Progress") -> Iterator[int]:
    """The numbers of the tasks as they end, while progress is shown."""
    numbers = {future: index for index, future in enumerate(futures)}
    waiting = set(futures)
    while waiting:
        ended, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
        for index, step, shown in workers.reports():
            progress.show(index, step, shown)
        for future in ended:
            yield numbers[future]
            progress.finish(numbers[future])


class Workers:
    """The standard library's pool of processes, with a way for their progress and one to end them all at once.

    Args:
        count: how many.
        environment: variables of the processes, beside those that give them one thread.
    """

    def __init__(self, count: int, environment: Mapping[str, str] | None = None) -> None:
        self.environment = ONE_THREAD | dict(environment or {})
        self.messages = SPAWN.SimpleQueue()
        self.child_end, self.parent_end = SPAWN.Pipe(duplex=False)  # a worker ends when `parent_end` is closed
        self.pool = ProcessPoolExecutor(count, SPAWN, _start_worker, (self.messages, self.child_end))
        self.processes: list[BaseProcess] = []
        self.started: dict[int, int] = {}  # the task that each process began last

    def submit(self, function: Callable[[Task, Report], Result], tasks: Sequence[Task]) -> list["Future[Result]"]:
        """Start the processes and hand out the tasks."""
        others = multiprocessing.active_children()
        with _environment(self.environment), _ctrl_c_later():
            futures = [self.pool.submit(_call, function, index, task) for index, task in enumerate(tasks)]
        self.processes += [process for process in multiprocessing.active_children() if process not in others]
        return futures

    def reports(self) -> Iterator[tuple[int, int, dict[str, float]]]:
        """What the workers reported since the last call: task, steps done, numbers."""
        while not self.messages.empty():
            process, index, step, shown = self.messages.get()
            self.started[process] = index
            yield index, step, shown

    def death(self, names: Sequence[str]) -> str:
        """Which task's process died, and how; empty if it died before a task."""
        self.pool.shutdown()
        deque(self.reports(), maxlen=0)
        codes = {process.pid: process.exitcode for process in self.processes if process.pid in self.started}
        # After one death the pool itself ends the others by SIGTERM.
        dead = [pid for pid, code in codes.items() if code not in (0, None, -signal.SIGTERM)] or list(codes)
        if not dead:
            return ""
        code = codes[dead[0]]
        how = f"by signal {signal.Signals(-code).name}" if code and code < 0 else f"with exit code {code}"
        hint = ": out of memory?" if code == -signal.SIGKILL else ""
        return f"{names[self.started[dead[0]]]}: its process ended {how}{hint}"

    def close(self) -> None:
        """End all processes, whatever they are doing."""
        self.parent_end.close()
        self.pool.shutdown()  # it finds that a process has ended and terminates all others
        self.child_end.close()


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for the processes that are started inside the block."""
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


@contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """Ctrl-C comes after the block, and never to a process that is started inside and not prepared yet."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_messages: Any = None  # in a worker: the way to the parent


def _start_worker(messages: Any, child_end: Connection) -> None:
    """Prepare a worker process: it leaves Ctrl-C to the parent, and ends when the parent closes its end or dies."""
    global _messages  # noqa: PLW0603 -- what the pool's initialiser leaves for its tasks
    _messages = messages
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with, args=(child_end,), daemon=True).start()


def _end_with(child_end: Connection) -> None:
    try:
        child_end.recv_bytes()
    except (EOFError, OSError):
        os._exit(1)


def _call(function: Callable[..., Result], index: int, task: Any) -> Result:
    """One task in a worker process."""
    report = _Reporter(index)
    try:
        return function(task, report)
    except Exception as error:
        portable = _portable(error)
        if portable is error:
            raise
        raise portable from error


class _Reporter:
    """Tells the parent that a task has begun, then its progress, at most five times a second."""

    def __init__(self, index: int) -> None:
        self.index = index
        _messages.put((os.getpid(), index, 0, {}))
        self.last = time.monotonic()

    def __call__(self, step: int, **numbers: float) -> None:
        now = time.monotonic()
        if now - self.last > 0.2:
            self.last = now
            shown = {name: float(value) for name, value in numbers.items()}
            _messages.put((os.getpid(), self.index, step, shown))


def _portable(error: Exception) -> Exception:
    """The error itself if it survives pickling, else one that carries its type's name and message."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


class Progress:
    """One bar over all steps of all tasks if ``SMOOT_PROGRESS`` is 1, else a line per finished task; both with an ETA.

    Both go to standard output, where notebooks expect them.
    """

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
