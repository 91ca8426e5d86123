"""The pace of downloads: a drip and an endless answer are given up, and a good one is not touched."""

import socket
import time
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

import pytest
from processes import PATIENCE
from tiny_idx import Serve, send

from workbench.data import pace


def drip(handler: BaseHTTPRequestHandler) -> None:
    """A byte now and then, for a minute; before each a head that promises more."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    for _ in range(1200):
        try:
            handler.wfile.write(b"x")
            handler.wfile.flush()
        except OSError:
            return
        time.sleep(0.05)


def drip_head(handler: BaseHTTPRequestHandler) -> None:
    """A status line that never ends."""
    for _ in range(1200):
        try:
            handler.wfile.write(b"H")
            handler.wfile.flush()
        except OSError:
            return
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the publisher, a thread of this process, may rest long between two bytes."""
    monkeypatch.setattr(pace, "TIMEOUT", float(PATIENCE))


def got(address: str) -> bytes:
    with pace.keeping_pace(), urllib.request.urlopen(address) as answer:
        return bytes(answer.read(1 << 20))


def test_a_good_answer_arrives_whole_and_nothing_stays_changed(serve: Serve) -> None:
    body = bytes(range(256)) * 1000
    assert got(serve(lambda handler: send(handler, body))) == body
    assert socket.getdefaulttimeout() is None
    assert urllib.request._opener is None  # type: ignore[attr-defined]


@pytest.mark.parametrize("answer", [drip, drip_head])
def test_a_drip_is_given_up(
    answer: Callable[[BaseHTTPRequestHandler], None], serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "WINDOW", 0.3)
    with pytest.raises(pace.TooSlow, match=r"bytes in \d+ seconds: expected 4096 a second"):
        got(serve(answer))


def test_an_answer_that_goes_on_after_the_deadline_is_given_up(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "DEADLINE", 0.3)
    with pytest.raises(pace.TooSlow, match=r"not finished after 0\.3 seconds"):
        got(serve(drip))
