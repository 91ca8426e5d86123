"""Files: whole or not at all, and the same content has the same bytes."""

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from workbench.config import files
from workbench.config.files import replacing

REPOSITORY = Path(__file__).parents[3]


def test_floats_are_rounded_and_zero_has_no_sign(tmp_path: Path) -> None:
    path = files.write_csv(pd.DataFrame({"x": [-1e-9, 0.1 + 0.2], "n": [1, 2]}), tmp_path / "x.csv")
    assert path.read_bytes() == b"x,n\n0.0,1\n0.3,2\n"


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float32(0.25), 0.25),
        (np.int64(3), 3),
        (True, True),
        (1.23456789, 1.234568),
        (-1e-9, 0.0),
        (math.nan, None),
        ((1, "a", None), [1, "a", None]),
        ({1: {"x": [0.5]}}, {"1": {"x": [0.5]}}),
    ],
)
def test_numbers_become_plain_json(value: Any, plain: Any) -> None:
    found = files.simplified(value, "x")
    assert repr(found) == repr(plain)  # of the same type, zero without a sign
    assert files.simplified({"a": 1.23456789}, "x", digits=None) == {"a": 1.23456789}


@pytest.mark.parametrize(
    ("value", "words"), [({"a": [math.inf]}, r"x\.a\[0\] is inf"), ({"a": object()}, r"x\.a is a object")]
)
def test_what_json_does_not_have_is_named(value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        files.simplified(value, "x")


def test_json_has_sorted_keys_and_one_line_end(tmp_path: Path) -> None:
    path = files.write_json({"b": "é", "a": [1]}, tmp_path / "x.json")
    assert path.read_bytes() == '{\n "a": [\n  1\n ],\n "b": "é"\n}\n'.encode()
    assert files.read_json(path) == {"b": "é", "a": [1]}


@pytest.mark.parametrize(
    ("content", "words"), [("[1]", r"x\.json holds a list: expected a mapping"), ("{", "is not JSON .* delete it")]
)
def test_json_must_be_a_mapping(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ValueError, match=words):
        files.read_json(tmp_path / "x.json")


def test_a_file_appears_when_the_block_has_succeeded(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "file.txt"
    with replacing(target) as temporary:
        temporary.write_text("whole")
        assert temporary.parent == target.parent  # the same disk
        assert not target.exists()
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(error: type[BaseException], tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(error), replacing(target) as temporary:
        temporary.write_text("half")
        assert target.read_text() == "old"
        raise error
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_block_that_writes_nothing_is_an_error_and_keeps_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("old")
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "file.txt"):
        pass
    assert (tmp_path / "file.txt").read_text() == "old"


def test_content_is_on_the_disk_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, synced = tmp_path / "file.txt", []
    target.write_text("old")

    def sync(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_ino, target.read_text()))

    monkeypatch.setattr(os, "fsync", sync)
    with replacing(target) as temporary:
        temporary.write_text("new")
        inode = temporary.stat().st_ino
    assert synced == [(inode, "old")]
    assert target.read_text() == "new" and target.stat().st_ino == inode


def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    code = (
        "import os, pathlib, signal, sys\n"
        "from workbench.config.files import replacing\n"
        "with replacing(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(target)], check=False, cwd=REPOSITORY)
    assert done.returncode == -9
    assert target.read_text() == "old"
    left = [file.name for file in tmp_path.iterdir() if file != target]
    assert len(left) == 1 and left[0].startswith(".file.txt.") and left[0].endswith(".tmp")  # `claim` removes those
