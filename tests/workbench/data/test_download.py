"""Downloads: every source in its order, every way a source can fail, several processes at once."""

import gzip
import os
import signal
import socket
import subprocess
import sys
import tarfile
import tracemalloc
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import torch
from processes import FOREVER, PATIENCE, running, until
from tiny_idx import Checkout, Serve, cifar_archive, cifar_batches, content, md5, send, sha256, write_files
from torchvision import datasets

from workbench.config import paths
from workbench.data import download, pace
from workbench.data.catalogue import describe
from workbench.data.download import LOCAL_FOLDER, DataUnavailable
from workbench.data.sets import load

CODE = str(Path(download.__file__).parents[2])
LABELS = "train-labels-idx1-ubyte"
GOOD = content()[LABELS]
FLIPPED = GOOD[:-1] + bytes([GOOD[-1] ^ 1])
NPM = {"registry": "npm", "name": "tiny-data", "version": "1.2.6", "folder": "package/data"}
DEBIAN = {"registry": "debian", "name": "dataset-tiny", "folder": "usr/share/tiny-set-of-a-test"}


def get() -> str:
    return download.obtain(describe("tiny"))


def reasons() -> list[str]:
    """Why no source serves, one line per source."""
    with pytest.raises(DataUnavailable) as caught:
        get()
    return [line.removeprefix("  - ") for line in str(caught.value).splitlines() if line.startswith("  - ")]


@pytest.fixture
def no_local(checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A checkout without a local folder, and without package clients but those of `client`."""
    monkeypatch.delenv(LOCAL_FOLDER)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return checkout


# -- files on this machine


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("inside", ["", "tiny"])
def test_a_local_folder_serves_and_data_raw_the_next_time(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compress: bool, inside: str
) -> None:
    write_files(tmp_path / "mine" / inside, compress=compress)
    monkeypatch.setenv(LOCAL_FOLDER, str(tmp_path / "mine"))
    assert get() == f"tiny: 4 files verified in data/raw/tiny, served by {LOCAL_FOLDER}"
    assert get() == "tiny: 4 files verified in data/raw/tiny, served by data/raw/tiny"
    checkout.assert_whole()


def test_files_dropped_into_data_raw_compressed_are_unpacked(no_local: Checkout) -> None:
    write_files(no_local.raw, compress=True)
    assert get().endswith(f"served by data/raw/tiny (tried before: {LOCAL_FOLDER}: not set)")
    assert {name: (no_local.raw / name).read_bytes() for name in content()} == content()


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    "bad",
    [FLIPPED, GOOD[:-4], GOOD + b"x", content()["t10k-labels-idx1-ubyte"], b""],
    ids=["corrupted byte", "truncated", "too long", "wrong file", "empty"],
)
def test_wrong_bytes_are_named_and_the_next_source_is_asked(checkout: Checkout, bad: bytes, compress: bool) -> None:
    write_files(checkout.local, compress=True, train_labels=bad)
    write_files(checkout.raw, compress=compress, train_labels=bad)
    good = write_files(checkout.root / "share", compress=True)
    checkout.describe(packages=[DEBIAN | {"folder": str(good).lstrip("/")}])
    report = get()
    assert f"served by {LOCAL_FOLDER} + Debian package dataset-tiny (installed) (tried before: " in report
    reason = f"expected sha256:{sha256(GOOD)}, found {sha256(bad)} in {len(bad)} bytes"
    assert f"{LOCAL_FOLDER}: {LABELS}.gz: {reason}; data/raw/tiny: {LABELS}" in report
    assert report.count(reason) == 2
    assert {name: (checkout.raw / name).read_bytes() for name in content()} == content()


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (gzip.compress(GOOD, mtime=0)[:-12], "Compressed file ended"),
        (gzip.compress(GOOD, mtime=0)[:-8] + b"\0" * 8, "CRC check failed"),
        (b"<html>not here</html>", "Not a gzipped file"),
    ],
)
def test_broken_compression_is_a_reason_and_leaves_nothing(checkout: Checkout, bad: bytes, told: str) -> None:
    (checkout.local / f"{LABELS}.gz").write_bytes(bad)
    assert f"{LOCAL_FOLDER}: {LABELS}.gz: {told}" in reasons()[0]
    assert {file.name for file in checkout.raw.iterdir()} == set(content()) - {LABELS}


def test_what_unpacks_to_very_much_takes_little_memory_and_leaves_nothing(checkout: Checkout) -> None:
    with gzip.open(checkout.local / f"{LABELS}.gz", "wb") as bomb:
        for _ in range(64):
            bomb.write(bytes(1 << 20))
    tracemalloc.start()
    try:
        told = reasons()[0]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert f"in {64 << 20:,} bytes" in told
    assert peak < 16 << 20
    assert {file.name for file in checkout.raw.iterdir()} == set(content()) - {LABELS}


def test_a_local_folder_that_is_none_is_named(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOCAL_FOLDER, "/nowhere/at/all")
    assert reasons() == [f"{LOCAL_FOLDER}: /nowhere/at/all is no folder", "data/raw/tiny: no file of the set"]


def test_data_raw_that_cannot_be_made_is_named(checkout: Checkout) -> None:
    checkout.raw.parent.write_text("a file where a folder should be")
    with pytest.raises(DataUnavailable, match=r"tiny: cannot write to .*/data/raw/tiny .*may write to"):
        get()


def test_files_that_may_not_be_written_are_reasons(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    real_open = Path.open

    def guarded(self: Path, mode: str = "r", *args: object, **options: object) -> object:
        if self.parent == checkout.raw and mode == "wb":
            raise PermissionError(13, "Permission denied", str(self))
        return real_open(self, mode, *args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", guarded)
    assert "Permission denied" in reasons()[0]
    assert not list(checkout.raw.iterdir())


# -- torchvision, with a publisher on this machine


def publish(monkeypatch: pytest.MonkeyPatch, *mirrors: str) -> None:
    """Let torchvision take ``tiny`` for MNIST."""
    known = [(f"{name}.gz", md5(gzip.compress(data, mtime=0))) for name, data in content().items()]
    monkeypatch.setattr(datasets.MNIST, "resources", known)
    monkeypatch.setattr(datasets.MNIST, "mirrors", list(mirrors))


def packed(handler: BaseHTTPRequestHandler) -> bytes:
    """The compressed file that a request asks for."""
    return gzip.compress(content()[handler.path.strip("/").removesuffix(".gz")], mtime=0)


def closed_address() -> str:
    """An address of this machine at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


def test_torchvision_downloads_from_a_mirror_when_others_fail(
    no_local: Checkout, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_short = serve(lambda handler: send(handler, packed(handler)[:-9], 5000))
    publish(monkeypatch, closed_address(), cut_short, serve(lambda handler: send(handler, packed(handler))))
    no_local.describe(torchvision="MNIST")
    assert "served by torchvision.datasets.MNIST (tried before: " in get()
    no_local.assert_whole()


def test_what_torchvision_accepts_must_have_our_sha256_too(
    no_local: Checkout, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, serve(lambda handler: send(handler, packed(handler))))
    digests = {name: sha256(data) for name, data in content().items()}
    no_local.describe(torchvision="MNIST", files=digests | {LABELS: "0" * 64})
    assert reasons()[2].startswith(f"torchvision.datasets.MNIST: {LABELS}: expected sha256:{'0' * 64}, found ")
    assert not (no_local.raw / LABELS).exists()


def test_a_silent_publisher_is_given_up(no_local: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        publish(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}/")
        no_local.describe(torchvision="MNIST")
        assert reasons()[2] == "torchvision.datasets.MNIST: timed out"
    assert socket.getdefaulttimeout() is None


@pytest.fixture
def cifar(no_local: Checkout, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A set of six images that torchvision takes for CIFAR-10; its batches."""
    batches = cifar_batches()
    listed = [[name, md5(data)] for name, data in batches.items()]
    monkeypatch.setattr(datasets.CIFAR10, "train_list", listed[:2])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", listed[2:3])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {"filename": listed[3][0], "key": "label_names", "md5": listed[3][1]})
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(cifar_archive(batches)))
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{closed_address()}cifar-10-python.tar.gz")
    no_local.describe(kind="cifar", torchvision="CIFAR10", files=..., num_classes=2, image_shape=[3, 32, 32])
    return batches


def test_cifar_from_torchvision(cifar: dict[str, bytes], serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = cifar_archive(cifar)
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(archive))
    monkeypatch.setattr(datasets.CIFAR10, "url", serve(lambda handler: send(handler, archive)) + "archive.tar.gz")
    data = load("tiny")
    assert (data.train_images.shape, data.test_images.shape) == ((4, 3, 32, 32), (2, 3, 32, 32))
    assert (data.train_labels.tolist(), data.test_labels.tolist()) == ([0, 1, 1, 1], [0, 1])
    assert data.train_images.is_contiguous()
    pixels = (torch.arange(2 * 3072) * 7 + 1) % 256  # of the second batch: channels, rows, columns
    assert torch.equal(data.train_images[2:].flatten(), pixels / 255)
    lines = "".join(f"{sha256(cifar[name])}  {name}\n" for name in ("data_batch_1", "data_batch_2", "test_batch"))
    assert data.sha256 == sha256(lines.encode())


@pytest.mark.parametrize("packed_up", [True, False])
@pytest.mark.parametrize("place", ["tiny", ""])
def test_cifar_from_a_local_folder(
    cifar: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed_up: bool, place: str
) -> None:
    folder = tmp_path / "mine" / place
    (folder / "cifar-10-batches-py").mkdir(parents=True)
    if packed_up:
        (folder / "cifar-10-python.tar.gz").write_bytes(cifar_archive(cifar))
    else:
        for name, data in cifar.items():
            (folder / "cifar-10-batches-py" / name).write_bytes(data)
    monkeypatch.setenv(LOCAL_FOLDER, str(tmp_path / "mine"))
    assert get() == f"tiny: 4 files verified in data/raw/tiny, served by {LOCAL_FOLDER}"
    batch = paths.RAW / "tiny" / "cifar-10-batches-py" / "test_batch"
    batch.write_bytes(b"broken")
    assert load("tiny").test_labels.tolist() == [0, 1]
    assert batch.read_bytes() == cifar["test_batch"]


def test_cifar_that_nobody_has_or_only_broken(cifar: dict[str, bytes], checkout: Checkout) -> None:
    checkout.raw.mkdir(parents=True)
    (checkout.raw / "cifar-10-python.tar.gz").write_bytes(b"<html>not here</html>")
    with pytest.raises(DataUnavailable, match=r"get them \(cifar-10-python\.tar\.gz\) on a machine with") as caught:
        get()
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("tiny: 4 files could not be had (cifar-10-batches-py/data_batch_1, ")
    assert lines[2].startswith("  - data/raw/tiny: cifar-10-python.tar.gz: broken archive")
    assert lines[3].startswith("  - torchvision.datasets.CIFAR10: ") and "Connection refused" in lines[3]


# -- packages


def client(tmp_path: Path, name: str, script: str) -> None:
    """A package client that runs a shell script."""
    (tmp_path / "bin").mkdir(exist_ok=True)
    (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "bin" / name).chmod(0o755)


def pack(tmp_path: Path) -> str:
    """The shell command that leaves the package as `npm pack` does."""
    with tarfile.open(tmp_path / "made.tgz", "w:gz") as archive:
        archive.add(write_files(tmp_path / "npm"), "package/data")
    return f"/bin/cp '{tmp_path}/made.tgz' tiny-data-1.2.6.tgz"


def test_npm_package(no_local: Checkout, tmp_path: Path) -> None:
    client(tmp_path, "npm", f'[ "$1 $2" = "pack tiny-data@1.2.6" ] && {pack(tmp_path)}')
    no_local.describe(packages=[NPM])
    assert "served by npm package tiny-data 1.2.6 (npm pack)" in get()
    no_local.assert_whole()


@pytest.mark.parametrize("name", ["../../outside", "/outside"])
def test_a_package_with_a_file_outside_its_folder_is_refused(no_local: Checkout, tmp_path: Path, name: str) -> None:
    name = f"{tmp_path}{name}" if name.startswith("/") else name
    with tarfile.open(tmp_path / "made.tgz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo(name))
    client(tmp_path, "npm", f"/bin/cp '{tmp_path}/made.tgz' tiny-data-1.2.6.tgz")
    no_local.describe(packages=[NPM])
    assert f"broken archive ({name!r} lies outside)" in reasons()[-1]
    assert not list(tmp_path.rglob("outside"))


def test_debian_package_with_package_lists_of_its_own(no_local: Checkout, tmp_path: Path) -> None:
    write_files(tmp_path / "unpacked" / DEBIAN["folder"], compress=True)
    client(
        tmp_path,
        "apt-get",
        'case "$*" in *Dir::State::lists=*) ;; *) echo "E: Unable to locate" >&2; exit 100 ;; esac\n'
        'case "$*" in *" update") : > updated ;; *) [ -e updated ] && : > dataset-tiny_1_all.deb ;; esac',
    )
    client(tmp_path, "dpkg-deb", f'[ -e "$2" ] && /bin/cp -r "{tmp_path}/unpacked/." "$3"')
    no_local.describe(packages=[DEBIAN])
    assert "served by Debian package dataset-tiny (apt-get download)" in get()
    no_local.assert_whole()


def test_nothing_reachable_lists_every_source_and_the_way_out(
    no_local: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client(tmp_path, "npm", "echo first >&2; echo 'no such version' >&2; exit 3")
    publish(monkeypatch, closed_address(), "http://smoot.invalid/")
    no_local.describe(torchvision="MNIST", packages=[DEBIAN, NPM])
    with pytest.raises(DataUnavailable) as caught:
        get()
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("tiny: 4 files could not be had (train-images-idx3-ubyte, ")
    assert lines[1:3] == [f"  - {LOCAL_FOLDER}: not set", "  - data/raw/tiny: no file of the set"]
    assert lines[3].startswith("  - torchvision.datasets.MNIST: ")
    assert "Connection refused" in lines[3] and "http://smoot.invalid/" in lines[3]
    assert lines[4:7] == [
        "  - Debian package dataset-tiny (installed): no file of the set",
        "  - Debian package dataset-tiny (apt-get download): apt-get is not installed",
        "  - npm package tiny-data 1.2.6 (npm pack): npm failed (exit code 3): no such version",
    ]
    assert lines[7].startswith("What to do: ") and "FOLDER/tiny" in lines[7]
    assert lines[8].strip() == f"{LOCAL_FOLDER}=FOLDER python -m workbench data fetch tiny"
    assert not list(no_local.raw.iterdir())


# -- several processes


def start_fetch(checkout: Checkout, before: str = "") -> subprocess.Popen[str]:
    """Fetch in a process of its own, after some code."""
    environment = os.environ | {"SMOOT_ROOT": str(checkout.root), "PYTHONPATH": CODE, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", f"{before}\nfrom workbench.data.commands import main\nmain(['fetch', 'tiny'])"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_of_two_processes_at_once_one_asks_and_the_other_is_told_that_it_waits(
    no_local: Checkout, tmp_path: Path
) -> None:
    wait = f"while [ ! -e '{tmp_path}/told' ]; do /bin/sleep 0.1; done"
    client(tmp_path, "npm", f"echo asked >> '{tmp_path}/asked'; {wait}; {pack(tmp_path)}")
    no_local.describe(packages=[NPM])
    first = start_fetch(no_local)
    assert until(lambda: (tmp_path / "asked").exists() or first.poll() is not None)
    assert (tmp_path / "asked").exists()
    second = start_fetch(no_local)
    assert second.stdout is not None
    told = second.stdout.readline()
    (tmp_path / "told").touch()
    assert told == "another process fetches tiny: waiting\n"
    said = [process.communicate(timeout=PATIENCE)[0] for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0], said
    assert ["served by data/raw/tiny" in text for text in said] == [False, True]
    assert (tmp_path / "asked").read_text() == "asked\n"
    no_local.assert_whole()


def test_a_client_that_takes_too_long_ends_with_all_that_it_started(
    no_local: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client(tmp_path, "npm", f"/bin/sleep {FOREVER} & echo $! > '{tmp_path}/pid'; wait")
    no_local.describe(packages=[NPM])
    for seconds in (0.5, 5, 50, 500):  # a busy machine may take long to come to the `echo`
        monkeypatch.setattr(download, "PACKAGE_TIMEOUT", seconds)
        assert f"npm package tiny-data 1.2.6 (npm pack): npm took more than {seconds} seconds" in reasons()
        if (tmp_path / "pid").exists() and (started := (tmp_path / "pid").read_text()):
            break
    assert until(lambda: not running(int(started)))


def test_what_a_killed_process_left_is_cleared(checkout: Checkout) -> None:
    stalls = (
        "import shutil, time\n"
        "def stall(source, sink):\n"
        f"    sink.write(source.read(20)), sink.flush(), print('half', flush=True), time.sleep({FOREVER})\n"
        "shutil.copyfileobj = stall"
    )
    process = start_fetch(checkout, stalls)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    assert [file.suffix for file in checkout.raw.iterdir()] == [".tmp"]
    get()
    checkout.assert_whole()
