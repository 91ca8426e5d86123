"""A queue's engine: this machine, in places on its GPUs or on its cores.

Every place has a worker process of one thread, which takes one task after another and ends with this process.
"""

import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.config import files
from workbench.runner.pool import Report, Workers
from workbench.runner.queue import Ended, Finished, naming_full_disks


def call(task: "tuple[Callable[[Any, Report], Finished], Any]", report: Report) -> Finished:
    """Do a task in a worker process; a full disk is named."""
    function, argument = task
    with naming_full_disks():
        return function(argument, report)


@dataclass
class _Place:
    """Where one task at a time runs; its worker is started with the first."""

    environment: Mapping[str, str]
    workers: Workers | None = None
    name: str = ""
    future: "Future[Finished] | None" = None

    def start(self, name: str, function: Callable[[Any, Report], Finished], argument: Any) -> None:
        self.workers = self.workers or Workers(1, self.environment)
        self.name, (self.future,) = name, self.workers.submit(call, [(function, argument)])

    def end(self, logs: Path) -> Ended:
        """How its task ended; the place is free then."""
        assert self.future is not None and self.workers is not None
        error, future, name, self.future = self.future.exception(), self.future, self.name, None
        if error is None:
            return Ended(name, future.result())
        if isinstance(error, BrokenProcessPool):
            how = self.workers.death([name]) or f"{name}: its process did not start"
            self.close()
            return Ended(name, error=how.removeprefix(f"{name}: "), lost=True)
        log = files.write_text("".join(traceback.format_exception(error)), logs / f"{name}.txt")
        return Ended(name, error=f"{type(error).__name__}: {error}", log=log)

    def close(self) -> None:
        if self.workers is not None:
            self.workers.close()
        self.workers = self.future = None


class Local:
    """This machine.

    Args:
        function: of the module level; ``function(argument, report)`` does a task.
        logs: where the traceback of a task that failed is written, in a file of its name.
        gpus: their numbers, as ``CUDA_VISIBLE_DEVICES`` has them; a task sees one of them.
        per_gpu: tasks that share one.
        cores: tasks at the same time where there are no GPUs.

    Raises:
        ValueError: if there would be no place.
    """

    def __init__(
        self,
        function: Callable[[Any, Report], Finished],
        logs: Path,
        *,
        gpus: Sequence[str] = (),
        per_gpu: int = 1,
        cores: int = 1,
    ) -> None:
        for name, value in {"per_gpu": per_gpu, "cores": cores}.items():
            if value < 1:
                raise ValueError(f"{name} is {value}: expected at least 1")
        seen: list[dict[str, str]] = [{"CUDA_VISIBLE_DEVICES": gpu} for _ in range(per_gpu) for gpu in gpus]
        self.function, self.logs = function, logs
        self.places = [_Place(environment) for environment in seen or [{}] * cores]

    @property
    def room(self) -> int:
        return sum(place.future is None for place in self.places)

    def submit(self, arguments: Mapping[str, Any]) -> dict[str, str]:
        free = [place for place in self.places if place.future is None]
        for place, (name, argument) in zip(free, arguments.items(), strict=False):
            place.start(name, self.function, argument)
        return dict.fromkeys(arguments, "")

    def attach(self, jobs: Mapping[str, str]) -> None:
        """Nothing outlives a command here."""

    def look(self, seconds: float) -> tuple[set[str], list[Ended]]:
        busy = {place.future: place for place in self.places if place.future is not None}
        over = wait(busy, seconds, FIRST_COMPLETED).done
        for place in busy.values():
            if place.workers is not None:
                deque(place.workers.reports(), maxlen=0)  # so that none waits to be heard
        ended = [busy[future].end(self.logs) for future in busy if future in over]
        return {place.name for place in self.places if place.future is not None}, ended

    def close(self, *, detach: bool) -> str:
        for place in self.places:
            place.close()
        return ""
