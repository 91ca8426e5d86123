"""Checks of error messages, for the tables of bad input."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """A call that must fail, its exact error type, and words that the message must hold."""

    name: str
    call: Callable[[], Any]
    words: tuple[str, ...]
    error: type[Exception] = ValueError


def assert_clear(error: BaseException, kind: type[Exception], words: tuple[str, ...]) -> None:
    """One line of exactly this type, with every word, and no other error above it in the traceback."""
    message = str(error)
    assert type(error) is kind, message
    assert [word for word in words if word not in message] == [], message
    assert len(message.splitlines()) == 1
    assert error.__context__ is None or error.__suppress_context__
