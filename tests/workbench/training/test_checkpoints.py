"""Checkpoints: what was written comes back; any damage, and any pickle that is not ours, counts as none."""

import hashlib
import io
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import fitted, run, same

from workbench.training import checkpoints

CPU = torch.device("cpu")
CONTENT: dict[str, Any] = {"network": {"weight": torch.arange(100.0)}, "history": [{"epoch": 1.0, "total": 0.5}]}


def sealed(content: bytes) -> bytes:
    """Any content with the digest that it must carry."""
    return hashlib.sha256(content).digest() + content


def pickled(content: Any) -> bytes:
    packed = io.BytesIO()
    torch.save(content, packed)
    return packed.getvalue()


class Attack:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    checkpoints.save(CONTENT, tmp_path / "checkpoint.pt")
    return tmp_path / "checkpoint.pt"


def test_what_was_written_comes_back(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = checkpoints.load(file, CPU)
    assert found is not None
    assert torch.equal(found["network"]["weight"], CONTENT["network"]["weight"])
    assert found["history"] == CONTENT["history"]
    assert checkpoints.load(file.with_name("none"), CPU) is None
    assert capsys.readouterr().err == ""


def test_one_that_cannot_be_written_whole_leaves_the_last_one(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, write = file.read_bytes(), Path.write_bytes

    def full_disk(place: Path, content: bytes) -> int:
        write(place, content[:50])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="no space left"):
        checkpoints.save(CONTENT, file)
    assert file.read_bytes() == before and list(file.parent.iterdir()) == [file]


def test_of_sixty_flipped_bits_sixty_are_seen(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, draws = file.read_bytes(), random.Random(0)
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[draws.randrange(len(whole))] ^= 1 << draws.randrange(8)
        file.write_bytes(damaged)
        assert checkpoints.load(file, CPU) is None
    assert capsys.readouterr().err.count(f"{file} is damaged: its content does not have the SHA-256") == 60


@pytest.mark.parametrize("length", [0, 31, 32, 33, 1000])
def test_a_file_that_was_cut_off_is_damaged(file: Path, length: int, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_bytes(file.read_bytes()[:length])
    assert checkpoints.load(file, CPU) is None
    assert "the training starts afresh" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda folder: pickled(Attack(folder)), "was not written by this program (Weights only load failed"),
        (lambda folder: pickle.dumps(Attack(folder)), "was not written by this program ("),
        (lambda folder: b"no pickle at all", "was not written by this program ("),
        (lambda folder: b"", "was not written by this program ("),
        (lambda folder: pickled([1, 2]), "holds a list: expected"),
    ],
    ids=["attack", "bare attack", "text", "empty", "list"],
)
def test_a_foreign_pickle_is_refused_and_does_nothing(
    make: Callable[[Path], bytes], told: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_bytes(sealed(make(tmp_path / "made")))
    assert checkpoints.load(file, CPU) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{file} {told}")
    assert not (tmp_path / "made").exists()


def test_a_training_with_a_damaged_checkpoint_ends_as_one_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = fitted(run("smoot"), tmp_path / "whole")
    damaged = bytearray((tmp_path / "whole").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "damaged").write_bytes(damaged)
    steps: list[int] = []
    again = fitted(run("smoot"), tmp_path / "damaged", lambda step, **_: steps.append(step))
    assert steps == [1, 2, 3]
    assert same(again.best, whole.best) and same(again.network.state_dict(), whole.network.state_dict())
    assert capsys.readouterr().err.count("is damaged") == 1
