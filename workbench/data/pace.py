"""A pace for downloads: who sends too slowly, or for too long, is given up.

A socket's timeout alone does not do: a publisher that sends a byte every two seconds never runs into it.
"""

import io
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.request import HTTPHandler, HTTPSHandler, Request, build_opener, install_opener

TIMEOUT = 10.0  # seconds for a connection, and between two parts of an answer
DEADLINE = 3 * 3600.0  # seconds for one answer
WINDOW = 60.0  # seconds over which the rate is measured
MIN_RATE = 4096  # bytes a second


class TooSlow(OSError):
    """An answer came at less than the minimum rate, or not before the deadline."""


class _Paced(io.RawIOBase):
    """A stream that looks at the clock whenever something arrives."""

    def __init__(self, stream: io.RawIOBase) -> None:
        self.stream = stream
        self.start = self.window = time.monotonic()
        self.arrived = 0  # in this window

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count = self.stream.readinto(buffer)
        now = time.monotonic()
        self.arrived += count or 0
        if now - self.start > DEADLINE:
            raise TooSlow(f"not finished after {DEADLINE:g} seconds")
        if now - self.window > WINDOW:
            if count and self.arrived < MIN_RATE * WINDOW:
                raise TooSlow(f"{self.arrived} bytes in {now - self.window:.0f} seconds: expected {MIN_RATE} a second")
            self.window, self.arrived = now, 0
        return int(count) if count is not None else None

    def close(self) -> None:
        self.stream.close()
        super().close()


class _PacedResponse(HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        self.fp = io.BufferedReader(_Paced(self.fp.detach()))


class _PacedConnection(HTTPConnection):
    response_class = _PacedResponse


class _PacedSecureConnection(HTTPSConnection):
    response_class = _PacedResponse


class _Handler(HTTPHandler):
    def http_open(self, request: Request) -> HTTPResponse:
        return self.do_open(_PacedConnection, request)


class _SecureHandler(HTTPSHandler):
    def https_open(self, request: Request) -> HTTPResponse:
        return self.do_open(_PacedSecureConnection, request)


@contextmanager
def keeping_pace() -> Iterator[None]:
    """Inside the block every download by ``urllib`` has a timeout, a deadline and a minimum rate."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    install_opener(build_opener(_Handler, _SecureHandler))
    try:
        yield
    finally:
        install_opener(None)  # so that the next download builds the usual one
        socket.setdefaulttimeout(before)
