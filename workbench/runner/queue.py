"""A queue of tasks on any engine: each as soon as what it needs is done, and the others go on when one fails.

The engine only starts processes and says how they ended; what is finished is known by the ledger. A task that raised
an error has failed. One whose process ended without a result (killed, out of memory, a node gone) is lost, and tried
again.
"""

import errno
import json
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, Protocol

TRIES = 3  # of a task that is lost
POLL = 0.5  # seconds between two looks at the engine
SHOWN = 5.0  # seconds between two lines of progress, unless something failed
SPACE = 1 << 16  # bytes that must find room before anything starts
FULL = (errno.ENOSPC, errno.EDQUOT)


class OutOfSpace(RuntimeError):
    """The disk or the quota is full."""


@dataclass(frozen=True)
class Finished:
    """What a task gives: where its result is, and the seconds of computing that it took."""

    folder: str
    seconds: float


@dataclass(frozen=True)
class Task:
    """Something to be done once.

    Attributes:
        name: ``STAGE/…``, no two alike.
        make: its argument, from what the tasks that it needs gave, by their names.
        needs: names of the tasks before it.
        digest: of all that decides its result; a journal knows it by name and digest.
    """

    name: str
    make: Callable[[Mapping[str, Finished]], Any]
    needs: tuple[str, ...] = ()
    digest: str = ""


@dataclass(frozen=True)
class Ended:
    """How one try of a task ended.

    Attributes:
        finished: what it gave; None if it failed or was lost.
        error: in one line.
        lost: it ended without a result.
        counts: whether a lost try counts; one that others took the place of does not.
        log: where to read on.
    """

    name: str
    finished: Finished | None = None
    error: str = ""
    lost: bool = False
    counts: bool = True
    log: Path | None = None


class Engine(Protocol):
    """Where tasks run."""

    @property
    def room(self) -> int:
        """How many more tasks it takes now."""

    def submit(self, arguments: Mapping[str, Any]) -> dict[str, str]:
        """Start tasks, by name; returns the name of each one's job, for a later command to attach to."""

    def attach(self, jobs: Mapping[str, str]) -> None:
        """Watch jobs that an earlier command started."""

    def look(self, seconds: float) -> tuple[set[str], list[Ended]]:
        """Wait that long at most; the tasks that run, and those that ended since the last look."""

    def close(self, *, detach: bool) -> str:
        """End what is left, or leave it to itself; says which, in a line."""


class Journal:
    """What became of tasks, a line of JSON each, so that a later command takes up where this one was.

    The last line of a task counts; one that was cut off counts for nothing.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def note(self, task: Task, **facts: Any) -> None:
        """Append what became of a task: ``job`` and ``tries``, or ``folder`` and ``seconds``, or nothing."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with naming_full_disks(), self.file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"name": task.name, "digest": task.digest, **facts}) + "\n")

    def known(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The facts of every task by its name and digest."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for line in self.file.read_text("utf-8", "replace").splitlines() if self.file.exists() else ():
            try:
                facts = json.loads(line)
                found[facts.pop("name"), facts.pop("digest")] = facts
            except (ValueError, LookupError, TypeError, AttributeError):
                continue
        return found


@dataclass
class Queue:
    """Tasks on their way through an engine.

    Attributes:
        describe: what is done, for the progress.
        folder: a place of its own, in which nothing is kept; that it can be written is checked.
        journal: of an engine whose jobs outlive the command.
        detach: whether Ctrl-C leaves the jobs to themselves.
        tries: how often a task that is lost is started.
        done, failed: the tasks that ended.
    """

    tasks: Sequence[Task]
    engine: Engine
    describe: str
    folder: Path
    journal: Journal | None = None
    detach: bool = False
    tries: int = TRIES
    done: dict[str, Finished] = field(default_factory=dict)
    failed: dict[str, Ended] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._by_name = {task.name: task for task in self.tasks}
        self._order = TopologicalSorter({task.name: task.needs for task in self.tasks})
        self._order.prepare()
        self._ready: deque[str] = deque()
        self._live: dict[str, Task] = {}
        self._tried: Counter[str] = Counter()
        self._progress = Progress(self.describe, Counter(_kind(task.name) for task in self.tasks))

    def run(self) -> None:
        """Run all tasks but those that need one that failed; :attr:`done` and :attr:`failed` say how they ended.

        Raises:
            OutOfSpace: if the disk or the quota is full; nothing goes on then.
        """
        check_space(self.folder)
        self._take_up()
        detach = self.detach
        try:
            while self._submit():
                running, ended = self.engine.look(POLL)
                for end in ended:
                    self._note(end)
                self._progress.show(len(running), self.done, self.failed)
        except Exception:
            detach = False
            raise
        finally:
            self._close(detach)
            self._progress.show(0, self.done, self.failed, last=True)

    def _close(self, detach: bool) -> None:
        if left := self.engine.close(detach=detach):
            print(left, flush=True)
        if self.journal and not detach:
            for task in self._live.values():
                self.journal.note(task)

    def _take_up(self) -> None:
        """What the journal knows of these tasks: finished, or on its way."""
        known = self.journal.known() if self.journal else {}
        jobs = {}
        for task in self.tasks:
            facts = known.get((task.name, task.digest), {})
            if not all(need in self.done for need in task.needs):
                continue
            if "folder" in facts and Path(facts["folder"], "done").exists():
                self.done[task.name] = Finished(**facts)
                self._progress.finish(task.name, facts["seconds"])
            elif "job" in facts:
                jobs[task.name], self._tried[task.name] = facts["job"], facts["tries"]
                self._live[task.name] = task
        self.engine.attach(jobs)

    def _submit(self) -> bool:
        """Start what can be started; whether anything is on its way."""
        ready: list[str] = []
        while fresh := self._order.get_ready():
            found = [name for name in fresh if name in self.done]
            self._order.done(*found)
            ready += [name for name in fresh if name not in self.done and name not in self._live]
            if not found:
                break
        self._ready.extendleft(reversed(ready))
        names = [self._ready.popleft() for _ in range(min(self.engine.room, len(self._ready)))]
        if names:
            jobs = self.engine.submit({name: self._by_name[name].make(self.done) for name in names})
            for name in names:
                self._live[name] = self._by_name[name]
                self._tried[name] += 1
                if self.journal:
                    self.journal.note(self._by_name[name], job=jobs[name], tries=self._tried[name])
        return bool(self._live)

    def _note(self, end: Ended) -> None:
        task = self._live.pop(end.name)
        if end.finished:
            self.done[end.name] = end.finished
            self._order.done(end.name)
            self._progress.finish(end.name, end.finished.seconds)
        elif f"{OutOfSpace.__name__}: " in end.error:
            raise OutOfSpace(end.error.partition(f"{OutOfSpace.__name__}: ")[2])
        elif end.lost:
            check_space(self.folder)  # a full disk takes results and logs alike
            self._tried[end.name] -= not end.counts
            if self._tried[end.name] < self.tries:
                self._ready.append(end.name)
            else:
                self._fail(end)
        else:
            self._fail(end)
        if self.journal:
            self.journal.note(task, **(asdict(end.finished) if end.finished else {}))

    def _fail(self, end: Ended) -> None:
        self.failed[end.name] = end
        self._progress.finish(end.name, None)


class Progress:
    """A line of numbers when they change: waiting, running, done, failed, lost, and an estimate of the time left.

    The estimate takes the mean computing time of the finished tasks of each kind, for as many at a time as run now.
    """

    def __init__(self, describe: str, kinds: Counter[str]) -> None:
        self.describe, self.total, self.left = describe, kinds.total(), kinds
        self.took: Counter[str] = Counter()
        self.seconds: dict[str, float] = {}
        self.printed, self.line, self.bad = 0.0, "", 0

    def finish(self, name: str, seconds: float | None) -> None:
        """Note what a task took; None of one that failed."""
        self.left[_kind(name)] -= 1
        if seconds is not None:
            self.took[_kind(name)] += 1
            self.seconds[_kind(name)] = self.seconds.get(_kind(name), 0.0) + seconds

    def show(
        self, running: int, done: Mapping[str, object], failed: Mapping[str, Ended], *, last: bool = False
    ) -> None:
        """Print the numbers if they changed, at once if something failed."""
        lost = sum(end.lost for end in failed.values())
        counts = {"running": running, "done": len(done), "failed": len(failed) - lost, "lost": lost}
        counts = {"waiting": self.total - sum(counts.values()), **counts}
        line = f"{self.describe}: " + ", ".join(f"{count} {what}" for what, count in counts.items())
        soon = last or len(failed) > self.bad or time.monotonic() - self.printed > SHOWN
        if line != self.line and soon:
            print(line + ("" if last else self.remaining(running)), flush=True)
            self.line, self.printed, self.bad = line, time.monotonic(), len(failed)

    def remaining(self, running: int) -> str:
        """The estimate, as the end of a line; empty before the first task is finished."""
        if not self.seconds or not running:
            return ""
        means = {kind: seconds / self.took[kind] for kind, seconds in self.seconds.items()}
        usual = sum(means.values()) / len(means)
        left = sum(count * means.get(kind, usual) for kind, count in self.left.items()) / running
        return f", about {left:.0f} s left" if left < 120 else f", about {left / 60:.0f} min left"


def check_space(folder: Path) -> None:
    """Write and remove a small file.

    Raises:
        OutOfSpace: if there is no room for it.
    """
    with naming_full_disks():
        folder.mkdir(parents=True, exist_ok=True)
        trial = folder / f".space.{os.getpid()}.tmp"
        try:
            with trial.open("wb") as file:
                file.write(b"\0" * SPACE)
                os.fsync(file.fileno())
        finally:
            trial.unlink(missing_ok=True)


@contextmanager
def naming_full_disks() -> Iterator[None]:
    """Turn the system's error for a full disk or quota into one that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise OutOfSpace(
            f"{error.filename or 'the disk'}: {error.strerror}: free some space or raise the quota, then give the same "
            "command again; what is finished is kept"
        ) from None


def _kind(name: str) -> str:
    return name.partition("/")[0]
