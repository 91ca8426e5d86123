"""A queue's engine: this machine, in places on its GPUs or on its cores.

Every place has a worker process of one thread, which takes one task after another and ends with this process.
"""

import traceback
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from workbench.config import files
from workbench.runner.pool import Over, Worker, WorkerDied, hear
from workbench.runner.queue import Ended, Function, call


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
        self, function: Function, logs: Path, *, gpus: Sequence[str] = (), per_gpu: int = 1, cores: int = 1
    ) -> None:
        for name, value in {"per_gpu": per_gpu, "cores": cores}.items():
            if value < 1:
                raise ValueError(f"{name} is {value}: expected at least 1")
        seen: list[dict[str, str]] = [{"CUDA_VISIBLE_DEVICES": gpu} for _ in range(per_gpu) for gpu in gpus]
        self.function, self.logs = partial(call, function), logs
        self.workers = [Worker(environment) for environment in seen or [{}] * cores]
        self.busy: dict[Worker, str] = {}

    @property
    def room(self) -> int:
        return len(self.workers) - len(self.busy)

    def submit(self, arguments: Mapping[str, Any]) -> dict[str, str]:
        free = [worker for worker in self.workers if worker not in self.busy]
        for worker, (name, argument) in zip(free, arguments.items(), strict=False):
            self.busy[worker] = name
            worker.start(self.function, argument)
        return dict.fromkeys(arguments, "")

    def attach(self, jobs: Mapping[str, str]) -> None:
        """Nothing outlives a command here."""

    def look(self, seconds: float) -> tuple[set[str], list[Ended]]:
        ended = []
        for worker, told in hear(self.busy, seconds):
            if isinstance(told, Over):
                ended.append(self._ended(self.busy.pop(worker), told))
        return set(self.busy.values()), ended

    def _ended(self, name: str, told: Over) -> Ended:
        if told.error is None:
            return Ended(name, told.result)
        if isinstance(told.error, WorkerDied):
            return Ended(name, error=str(told.error), lost=True)
        log = files.write_text("".join(traceback.format_exception(told.error)), self.logs / f"{name}.txt")
        return Ended(name, error=f"{type(told.error).__name__}: {told.error}", log=log)

    def close(self, *, detach: bool) -> str:
        for worker in self.workers:
            worker.close()
        return ""
