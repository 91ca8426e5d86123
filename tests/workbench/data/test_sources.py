"""The resolver: every source in its order, every way a source can fail, several processes at once."""

import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from tiny_idx import Checkout, Serve, closed_address, content, packed, send, write_files

from workbench.config import paths
from workbench.data import sources
from workbench.data.catalogue import describe
from workbench.data.sources import LOCAL_FOLDER, DataUnavailable, FetchReport, obtain

CODE = str(Path(sources.__file__).parents[2])


def get() -> FetchReport:
    return obtain(describe("tiny"), paths.RAW)


def test_publisher_serves_and_data_raw_serves_the_next_time(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    assert get().source == checkout.address.replace("{file}", "*")
    checkout.assert_whole()
    checkout.describe(addresses=[])
    assert get().source == "data/raw/tiny"
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "tiny: 4 files verified in data/raw/tiny, served by data/raw/tiny"
    assert any(line.endswith("publisher/*.gz") for line in lines)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("inside", ["", "tiny"])
def test_local_folder_comes_first(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compress: bool, inside: str
) -> None:
    write_files(tmp_path / "mine" / inside, compress=compress)
    monkeypatch.setenv(LOCAL_FOLDER, str(tmp_path / "mine"))
    assert get().source == LOCAL_FOLDER
    assert get().source == LOCAL_FOLDER  # also when data/raw has them already
    checkout.assert_whole()


def test_files_dropped_into_data_raw_compressed_are_unpacked(checkout: Checkout) -> None:
    checkout.describe(addresses=[])
    write_files(checkout.raw, compress=True)
    assert get().source == "data/raw/tiny"
    assert {name: (checkout.raw / name).read_bytes() for name in content()} == content()


def test_an_address_that_failed_is_asked_no_more_and_the_mirror_serves(checkout: Checkout, serve: Serve) -> None:
    asked: list[str] = []

    def missing(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        handler.send_error(404)

    mirror = serve(lambda handler: send(handler, packed(handler)))
    checkout.describe(addresses=[closed_address(), serve(missing), mirror])
    report = get()
    assert report.source == mirror.replace("{file}", "*")
    assert len(asked) == 1
    refused, not_found = [failure for failure in report.failures if failure.startswith("http")]
    assert "Connection refused" in refused
    assert "HTTP Error 404" in not_found
    checkout.assert_whole()


def executable(path: Path, script: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


NPM = {"registry": "npm", "name": "tiny-data", "version": "1.2.6", "folder": "package/data"}
DEBIAN = {"registry": "debian", "name": "dataset-tiny", "folder": "usr/share/tiny-set-of-a-test"}


def test_npm_package(checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(tmp_path / "made.tgz", "w:gz") as archive:
        archive.add(write_files(tmp_path / "npm"), "package/data")
    executable(
        tmp_path / "bin" / "npm",
        f'[ "$1 $2" = "pack tiny-data@1.2.6" ] && /bin/cp {tmp_path}/made.tgz tiny-data-1.2.6.tgz',
    )
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    checkout.describe(addresses=[], packages=[NPM])
    assert get().source == "npm package tiny-data 1.2.6 (npm pack)"
    checkout.assert_whole()


def test_debian_package_with_package_lists_of_its_own(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path / "unpacked" / DEBIAN["folder"], compress=True)
    executable(
        tmp_path / "bin" / "apt-get",
        'case "$*" in *Dir::State::lists=*) ;; *) echo "E: Unable to locate" >&2; exit 100 ;; esac\n'
        'case "$*" in *" update") : > updated ;; *) [ -e updated ] && : > dataset-tiny_1_all.deb ;; esac',
    )
    executable(tmp_path / "bin" / "dpkg-deb", f'[ -e "$2" ] && /bin/cp -r {tmp_path}/unpacked/. "$3"')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    checkout.describe(addresses=[], packages=[DEBIAN])
    assert get().source == "Debian package dataset-tiny (apt-get download)"
    checkout.assert_whole()


def test_installed_debian_package_is_used_as_it_lies(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = write_files(tmp_path / "share", compress=True)
    monkeypatch.setenv("PATH", "")
    checkout.describe(addresses=[], packages=[DEBIAN | {"folder": str(installed).lstrip("/")}])
    assert get().source == "Debian package dataset-tiny (installed)"
    checkout.assert_whole()


def test_nothing_reachable_lists_every_source_and_the_way_out(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executable(tmp_path / "bin" / "npm", "echo first >&2; echo 'no such version' >&2; exit 3")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    address = closed_address()
    checkout.describe(addresses=[address, "http://smoot.invalid/{file}"], packages=[DEBIAN, NPM])
    with pytest.raises(DataUnavailable) as caught:
        get()
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("tiny: 4 of 4 files could not be had (train-images-idx3-ubyte, ")
    assert lines[1] == f"  - {LOCAL_FOLDER}: not set"
    assert lines[2] == "  - data/raw/tiny: holds none of the 4 files"
    assert lines[3].startswith(f"  - {address.replace('{file}', '*')}: train-images") and "refused" in lines[3]
    assert lines[4].startswith("  - http://smoot.invalid/*: train-images-idx3-ubyte: ")
    assert lines[5] == "  - Debian package dataset-tiny (installed): holds none of the 4 files"
    assert lines[6] == "  - Debian package dataset-tiny (apt-get download): apt-get is not installed"
    assert lines[7].endswith("tiny-data 1.2.6 (npm pack): npm failed (exit code 3): no such version")
    assert lines[8].startswith("What to do: ") and "FOLDER/tiny" in lines[8]
    assert lines[9].strip() == f"{LOCAL_FOLDER}=FOLDER python -m workbench.data.sets fetch tiny"
    assert not list(checkout.raw.iterdir())


def test_a_local_folder_that_is_none_is_named(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LOCAL_FOLDER, str(tmp_path / "nowhere"))
    assert get().failures[0] == f"{LOCAL_FOLDER}: {tmp_path}/nowhere is no folder"


def test_data_raw_that_cannot_be_made_is_named(checkout: Checkout) -> None:
    checkout.raw.parent.write_text("a file where a folder should be")
    with pytest.raises(DataUnavailable, match=r"tiny: cannot write to .*/data/raw/tiny .*may write to"):
        get()


def test_files_that_may_not_be_read_or_written_are_reasons(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open = Path.open

    def guarded(self: Path, mode: str = "r", *args: object, **options: object) -> object:
        if self.parent.name == "locked" or (self.parent == checkout.raw and mode == "wb"):
            raise PermissionError(13, "Permission denied", str(self))
        return real_open(self, mode, *args, **options)  # type: ignore[call-overload]

    monkeypatch.setenv(LOCAL_FOLDER, str(write_files(tmp_path / "locked")))
    monkeypatch.setattr(Path, "open", guarded)
    with pytest.raises(DataUnavailable) as caught:
        get()
    for line in str(caught.value).splitlines()[1:4:2]:
        assert "Permission denied" in line
    assert not list(checkout.raw.iterdir())


def start_fetch(checkout: Checkout) -> subprocess.Popen[str]:
    environment = os.environ | {"SMOOT_ROOT": str(checkout.root), "PYTHONPATH": CODE, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "workbench.data.sets", "fetch", "tiny"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_two_processes_at_once_ask_once(checkout: Checkout, serve: Serve) -> None:
    asked: list[str] = []

    def slow(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        time.sleep(0.3)
        send(handler, packed(handler))

    checkout.describe(addresses=[serve(slow)])
    running = [start_fetch(checkout) for _ in range(2)]
    said = [process.communicate(timeout=60)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert len(asked) == 4
    assert sorted("served by data/raw/tiny" in text for text in said) == [False, True]
    checkout.assert_whole()


def test_what_a_killed_process_left_is_cleared(checkout: Checkout, serve: Serve) -> None:
    asked, over = threading.Event(), threading.Event()

    def stalls(handler: BaseHTTPRequestHandler) -> None:
        send(handler, packed(handler)[:20], 5000)
        asked.set()
        over.wait(30)

    checkout.describe(addresses=[serve(stalls)])
    process = start_fetch(checkout)
    try:
        assert asked.wait(60)
        deadline = time.monotonic() + 10
        while not list(checkout.raw.glob(".*.tmp")) and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        over.set()
    assert [file.suffix for file in checkout.raw.iterdir()] == [".tmp"]
    checkout.describe()
    get()
    checkout.assert_whole()
