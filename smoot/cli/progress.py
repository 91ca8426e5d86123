"""What is said on stderr while a command works."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """Lines and bars on stderr; bars only on a terminal, nothing at all if ``quiet``."""

    quiet: bool = False

    def say(self, text: str) -> None:
        """One line, above a bar that is being drawn."""
        if not self.quiet:
            tqdm.write(text, file=sys.stderr)

    def bar(self, items: Iterable[T], what: str, total: int) -> Iterator[T]:
        """The items, with a bar that shows how many are done and how long the rest takes."""
        hidden = self.quiet or not sys.stderr.isatty()
        yield from tqdm(items, desc=what, total=total, file=sys.stderr, leave=False, disable=hidden)
