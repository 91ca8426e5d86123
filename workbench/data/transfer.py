"""Brings one file from a path or an address to its place, where it appears only when every byte is right.

Addresses are ``http://``, ``https://`` or ``file://``; whatever ends in ``.gz`` is unpacked on the way.
"""

import gzip
import hashlib
import http.client
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import IO, cast
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from workbench.config import paths
from workbench.data.catalogue import StoredFile

PATIENCE = 10.0  # seconds until an address must have answered, and between two parts of its answer


class SourceFailed(Exception):
    """A source could not serve a file, or not the right bytes."""


class FileAbsent(SourceFailed):
    """A source does not hold a file at all."""


def is_address(place: str) -> bool:
    """Whether a place is an address rather than a path."""
    return "://" in place


def take(places: list[str], expected: StoredFile, target: Path) -> None:
    """Bring a file to ``target`` from the first of the places that holds the right bytes.

    Raises:
        FileAbsent: if none of the places exists.
        SourceFailed: if one does, but none holds the right bytes; ``target`` is as it was before.
    """
    reasons = []
    for place in places:
        try:
            return _take_one(place, expected, target)
        except FileAbsent:
            continue
        except SourceFailed as error:
            reasons.append(f"{place.rpartition('/')[2]}: {error}")
    if not reasons:
        raise FileAbsent(target.name)
    raise SourceFailed("; ".join(reasons))


def verify(path: Path, expected: StoredFile) -> None:
    """Read a file as it lies there.

    Raises:
        OSError: if it cannot be read.
        SourceFailed: if its bytes are not the expected ones; the message names expected and found.
    """
    with path.open("rb") as stream:
        _copy_verified(stream, expected)


def _take_one(place: str, expected: StoredFile, target: Path) -> None:
    """Verify the place if it is the target already, else copy it there."""
    try:
        if place == str(target):
            return verify(target, expected)
        with _opened(place) as stream, paths.replacing(target) as temporary, temporary.open("wb") as sink:
            _copy_verified(stream, expected, sink)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileAbsent(place) from error
    except URLError as error:
        if isinstance(error, HTTPError):
            error.close()
        raise SourceFailed(str(error) if isinstance(error, HTTPError) else str(error.reason)) from error
    except (OSError, http.client.HTTPException) as error:
        raise SourceFailed(str(error) or type(error).__name__) from error


def _copy_verified(stream: BufferedIOBase, expected: StoredFile, sink: IO[bytes] | None = None) -> None:
    """Read a stream to its end, passing it on to ``sink``; it must hold exactly the expected bytes."""
    digest, size, end = hashlib.sha256(), 0, ""
    try:
        while size <= expected.bytes and (part := stream.read1(1 << 20)):
            digest.update(part)
            size += len(part)
            if sink is not None:
                sink.write(part)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        end = f" and then broken gzip data ({error})"
    if size > expected.bytes:
        raise SourceFailed(f"expected {expected}, found more: at least {size:,} bytes")
    if end or size != expected.bytes or digest.hexdigest() != expected.sha256:
        raise SourceFailed(f"expected {expected}, found {size:,} bytes with SHA-256 {digest.hexdigest()}{end}")


@contextmanager
def _opened(place: str) -> Iterator[BufferedIOBase]:
    """The uncompressed bytes of a path or an address."""
    with _answer(place) if is_address(place) else Path(place).open("rb") as stream:
        if not place.endswith(".gz"):
            yield stream
            return
        with gzip.GzipFile(fileobj=stream) as unpacked:
            yield unpacked


def _answer(address: str) -> BufferedIOBase:
    """What an address sends, or a ``TimeoutError``.

    A host name can stand for many machines, each of which may stay silent for the whole time-out: a thread of
    its own bounds name look-up, connection and first answer together.
    """
    answer: Future[BufferedIOBase] = Future()

    def ask() -> None:
        try:
            request = Request(address, headers={"User-Agent": "smoot"})
            response = cast(BufferedIOBase, urlopen(request, timeout=PATIENCE))
        except Exception as error:
            if not answer.cancelled():
                answer.set_exception(error)
            return
        try:
            answer.set_result(response)
        except InvalidStateError:  # nobody waits any more
            response.close()

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answer.result(timeout=1.2 * PATIENCE)
    except TimeoutError:
        answer.cancel()
        raise TimeoutError(f"no answer within {PATIENCE:g} seconds") from None
