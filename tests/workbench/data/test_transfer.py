"""Bytes on their way: every kind of damage is named, silence is given up, and nothing half-written stays."""

import gzip
import socket
import threading
import time
from pathlib import Path

import pytest
from tiny_idx import Checkout, Serve, content, packed, send, sha256, write_files

from workbench.config import paths
from workbench.data import transfer
from workbench.data.catalogue import describe
from workbench.data.sources import LOCAL_FOLDER, DataUnavailable, FetchReport, obtain

LABELS = "train-labels-idx1-ubyte"
GOOD = content()[LABELS]
FLIPPED = GOOD[:-1] + bytes([GOOD[-1] ^ 1])


def get() -> FetchReport:
    return obtain(describe("tiny"), paths.RAW)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    ("bad", "found"),
    [
        pytest.param(FLIPPED, f"found 14 bytes with SHA-256 {sha256(FLIPPED)}", id="corrupted byte"),
        pytest.param(GOOD[:-4], f"found 10 bytes with SHA-256 {sha256(GOOD[:-4])}", id="truncated"),
        pytest.param(GOOD + b"x", "found more: at least 15 bytes", id="too long"),
        pytest.param(content()["t10k-labels-idx1-ubyte"], "found 11 bytes", id="wrong file"),
        pytest.param(b"", "found 0 bytes", id="empty"),
    ],
)
def test_wrong_bytes_are_named_and_the_next_source_is_asked(
    checkout: Checkout,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bad: bytes,
    found: str,
    compress: bool,
) -> None:
    write_files(tmp_path / "mine", compress=compress, train_labels=bad)
    write_files(checkout.raw, train_labels=bad)
    monkeypatch.setenv(LOCAL_FOLDER, str(tmp_path / "mine"))
    report = get()
    served = dict(report.served)
    assert served.pop(LABELS) == checkout.address.replace("{file}", "*")
    assert set(served.values()) == {LOCAL_FOLDER}
    for source, failure in zip((LOCAL_FOLDER, "data/raw/tiny"), report.failures, strict=True):
        assert failure.startswith(f"{source}: {LABELS}")
        assert f"expected 14 bytes with SHA-256 {sha256(GOOD)}, {found}" in failure
    checkout.assert_whole()


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (gzip.compress(GOOD)[:-12], "broken gzip data (Compressed file ended"),
        (gzip.compress(GOOD)[:-8] + b"\0" * 8, "broken gzip data (CRC check failed"),
        (b"<html>not here</html>", "broken gzip data (Not a gzipped file"),
    ],
)
def test_broken_compression_is_a_reason_and_leaves_nothing(checkout: Checkout, bad: bytes, told: str) -> None:
    (checkout.publisher / f"{LABELS}.gz").write_bytes(bad)
    with pytest.raises(DataUnavailable) as caught:
        get()
    assert told in str(caught.value)
    assert f"{LABELS}.gz: expected 14 bytes with SHA-256 {sha256(GOOD)}, found" in str(caught.value)
    assert [file.name for file in checkout.raw.iterdir()] == ["train-images-idx3-ubyte"]


def test_what_is_far_too_long_is_not_read_to_its_end(checkout: Checkout) -> None:
    (checkout.publisher / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(1 << 22)))
    with pytest.raises(DataUnavailable, match="found more: at least") as caught:
        get()
    assert "4,194,304" not in str(caught.value)
    assert not list(checkout.raw.iterdir())


def test_an_answer_cut_short_is_named(checkout: Checkout, serve: Serve) -> None:
    checkout.describe(addresses=[serve(lambda handler: send(handler, packed(handler)[:-9], 5000))])
    with pytest.raises(DataUnavailable, match=r"train-images-idx3-ubyte\.gz: expected 136 bytes .* broken gzip"):
        get()
    assert not list(checkout.raw.iterdir())


def test_a_silent_address_is_given_up(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_address = f"http://127.0.0.1:{silent.getsockname()[1]}/{{file}}.gz"
        checkout.describe(addresses=[silent_address, checkout.address])
        start = time.monotonic()
        report = get()
    assert time.monotonic() - start < 2
    assert report.failures[-1].endswith("no answer within 0.2 seconds")
    checkout.assert_whole()


def test_name_look_up_counts_as_waiting_and_a_late_answer_is_closed(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = (checkout.publisher / f"{LABELS}.gz").open("rb")
    given_up = threading.Event()

    def slow_urlopen(request: object, timeout: float) -> object:
        given_up.wait(5)
        return late

    monkeypatch.setattr(transfer, "PATIENCE", 0.1)
    monkeypatch.setattr(transfer, "urlopen", slow_urlopen)
    with pytest.raises(DataUnavailable, match=r"no answer within 0\.1 seconds"):
        get()
    given_up.set()
    deadline = time.monotonic() + 5
    while not late.closed and time.monotonic() < deadline:
        time.sleep(0.01)
    assert late.closed
