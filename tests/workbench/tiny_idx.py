"""A set of nine images in a checkout of its own: tests touch neither the real data/raw nor a network."""

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from workbench.config import paths
from workbench.data.download import LOCAL_FOLDER

IMAGES = {"train": 6, "t10k": 3}
SHAPE = (4, 5)
ENTRY = {"licence": "none", "citation": "nobody", "num_classes": 3}

Answer = Callable[[BaseHTTPRequestHandler], None]
Serve = Callable[[Answer], str]


def content() -> dict[str, bytes]:
    """The four files: pixels that count up, labels 0, 1, 2, 0, ..."""
    files = {}
    for part, count in IMAGES.items():
        pixels = bytes((7 * i + count) % 256 for i in range(count * SHAPE[0] * SHAPE[1]))
        files[f"{part}-images-idx3-ubyte"] = struct.pack(">4B3I", 0, 0, 8, 3, count, *SHAPE) + pixels
        files[f"{part}-labels-idx1-ubyte"] = struct.pack(">4BI", 0, 0, 8, 1, count) + bytes(i % 3 for i in range(count))
    return files


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


@dataclass(frozen=True)
class Checkout:
    """A temporary repository root that knows one set, ``tiny``, whose files lie compressed in a local folder."""

    root: Path
    local: Path

    @property
    def raw(self) -> Path:
        return self.root / "data" / "raw" / "tiny"

    def describe(self, **changes: Any) -> None:
        """(Re)write the entry of ``tiny`` in datasets.yaml; a key that is ``...`` is left out."""
        files = {name: sha256(data) for name, data in content().items()}
        own = {"title": "Tiny", "kind": "idx", "image_shape": [1, *SHAPE], "files": files}
        self._write("tiny", {}, ENTRY | own | changes)

    def derive(self, name: str = "stacked", **changes: Any) -> None:
        """Add the entry of a set made from ``tiny``, which has blocks unless told otherwise."""
        own = {"title": "Stacked", "kind": "block", "source": "tiny", "seed": 5}
        own["image_shape"] = [1, 2 * SHAPE[0], SHAPE[1]]
        self._write(name, yaml.safe_load(self._file.read_text()), ENTRY | own | changes)

    @property
    def _file(self) -> Path:
        return self.root / "data" / "datasets.yaml"

    def _write(self, name: str, others: dict[str, Any], entry: dict[str, Any]) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        kept = {key: value for key, value in entry.items() if value is not ...}
        self._file.write_text(yaml.safe_dump(others | {name: kept}, sort_keys=False))

    def assert_whole(self) -> None:
        """All four files are there, byte for byte, and nothing else is."""
        assert {file.name: file.read_bytes() for file in self.raw.iterdir()} == content()


def write_files(folder: Path, *, compress: bool = False, **changed: bytes) -> Path:
    """Write the four files, some of them with other bytes (``train_labels=...``)."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in content().items():
        key = "_".join(name.split("-")[:2])
        written = changed.get(key, data)
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(written))
        else:
            (folder / name).write_bytes(written)
    return folder


def make_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A fresh checkout that the workbench uses instead of the real one."""
    checkout = Checkout(tmp_path / "checkout", write_files(tmp_path / "local", compress=True))
    checkout.describe()
    monkeypatch.setattr(paths, "ROOT", checkout.root)
    monkeypatch.setattr(paths, "RAW", checkout.raw.parent)
    monkeypatch.setattr(paths, "DATASETS_FILE", checkout.root / "data" / "datasets.yaml")
    monkeypatch.setenv(LOCAL_FOLDER, str(checkout.local))
    return checkout


def cifar_batches() -> dict[str, bytes]:
    """Two training batches and a test batch of two images each, as CIFAR-10 is published for Python."""
    batches = {}
    for number, name in enumerate(("data_batch_1", "data_batch_2", "test_batch")):
        pixels = (np.arange(2 * 3072) * 7 + number).astype(np.uint8).reshape(2, 3072)
        batches[name] = pickle.dumps({"data": pixels, "labels": [number % 2, 1]})
    return batches | {"batches.meta": pickle.dumps({"label_names": ["ant", "bee"]})}


def cifar_archive(batches: dict[str, bytes]) -> bytes:
    """The batches in a tar.gz, as published."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, data in batches.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def send(handler: BaseHTTPRequestHandler, body: bytes, length: int | None = None) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)
    handler.wfile.flush()
