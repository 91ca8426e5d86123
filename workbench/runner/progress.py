"""Progress of many tasks of equally many steps: a bar on a terminal, else a line for each finished task."""

import os
import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any

# The numbers before the bar, so that a narrow terminal cuts the bar and not them.
FORMAT = "{desc}: {percentage:3.0f}% {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}] {bar}"


class Progress:
    """One bar over all steps of all tasks if ``SMOOT_PROGRESS`` is 1, else plain lines; both with an ETA.

    Both go to standard output, where notebooks expect them.
    """

    def __init__(self, describe: str, tasks: int, steps: int) -> None:
        self.describe, self.steps, self.done = describe, steps, [0] * tasks
        self.finished, self.start = 0, time.monotonic()
        self.bar: Any = None
        if os.environ.get("SMOOT_PROGRESS") == "1" and tasks:
            from tqdm import tqdm

            # A terminal that says it has no columns or rows would hide the bar: tqdm must not ask it.
            size = {"ncols": shutil.get_terminal_size((100, 24)).columns, "nrows": 24}
            style = {"bar_format": FORMAT, "mininterval": 0.5}
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
