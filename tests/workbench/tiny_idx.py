"""A set of nine images in a checkout of its own: tests touch neither the real data/raw nor a network."""

import gzip
import hashlib
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import yaml

from workbench.config import paths
from workbench.data.sources import LOCAL_FOLDER

IMAGES = {"train": 6, "t10k": 3}
SHAPE = (4, 5)

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


@dataclass(frozen=True)
class Checkout:
    """A temporary repository root that knows one set, ``tiny``, and a publisher in a folder."""

    root: Path
    publisher: Path

    @property
    def raw(self) -> Path:
        return self.root / "data" / "raw" / "tiny"

    @property
    def address(self) -> str:
        return f"file://{self.publisher}/{{file}}.gz"

    def describe(self, **changes: Any) -> None:
        """(Re)write the entry of ``tiny`` in datasets.yaml."""
        entry: dict[str, Any] = {
            "title": "Tiny",
            "kind": "idx",
            "licence": "none",
            "citation": "nobody",
            "num_classes": 3,
            "image_shape": [1, *SHAPE],
            "addresses": [self.address],
            "files": {name: {"bytes": len(data), "sha256": sha256(data)} for name, data in content().items()},
        }
        file = self.root / "data" / "datasets.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump({"tiny": entry | changes}, sort_keys=False))

    def derive(self, name: str = "stacked", **changes: Any) -> None:
        """Add the entry of a set made from ``tiny``, which has blocks unless told otherwise."""
        file = self.root / "data" / "datasets.yaml"
        entries = yaml.safe_load(file.read_text())
        entry: dict[str, Any] = {
            "title": "Stacked",
            "kind": "block",
            "source": "tiny",
            "seed": 5,
            "licence": "none",
            "citation": "nobody",
            "num_classes": 3,
            "image_shape": [1, 2 * SHAPE[0], SHAPE[1]],
        } | changes
        optional = ("source", "seed", "correlation")
        entries[name] = {key: value for key, value in entry.items() if value is not None or key not in optional}
        file.write_text(yaml.safe_dump(entries, sort_keys=False))

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
    checkout = Checkout(tmp_path / "checkout", write_files(tmp_path / "publisher", compress=True))
    checkout.describe()
    monkeypatch.setattr(paths, "ROOT", checkout.root)
    monkeypatch.setattr(paths, "RAW", checkout.raw.parent)
    monkeypatch.setattr(paths, "DATASETS_FILE", checkout.root / "data" / "datasets.yaml")
    monkeypatch.delenv(LOCAL_FOLDER, raising=False)
    return checkout


def packed(handler: BaseHTTPRequestHandler) -> bytes:
    """The compressed file that a request asks for."""
    return gzip.compress(content()[handler.path.strip("/").removesuffix(".gz")])


def send(handler: BaseHTTPRequestHandler, body: bytes, length: int | None = None) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)
    handler.wfile.flush()


def closed_address() -> str:
    """An address of this machine at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/{{file}}.gz"
