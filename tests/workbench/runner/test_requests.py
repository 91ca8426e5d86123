"""Requests: the latest of a run counts, and what was left behind writes nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from workbench.config import paths
from workbench.runner.requests import Request, Superseded, digest


@pytest.fixture(autouse=True)
def own_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    return tmp_path


def asked(profile: str = "p", **runs: str) -> Request:
    request = Request(profile, runs)
    request.register()
    return request


def test_a_later_request_of_one_of_the_runs_supersedes() -> None:
    old = asked(a="1", b="1")
    new = asked(b="2")
    with pytest.raises(Superseded, match=r"^b was asked for again with other"), old.in_turn():
        raise AssertionError("written")
    with new.in_turn():
        pass


def test_the_same_request_again_other_runs_and_other_profiles_do_not() -> None:
    first = asked(a="1")
    asked(a="1")
    asked(b="2")
    asked("q", a="2")
    with first.in_turn():
        pass
    asked(a="2")
    asked(a="1")  # back to what was asked before
    with first.in_turn():
        pass


def test_a_file_does_not_grow_with_the_settings() -> None:
    names = ("train/p/a/m/0", "train/p/a/m/1", "train/p/b/m/0", "evaluate/p/a/m/0", "judge/p/a/0")
    assert [len(runs) for runs in asked(**dict.fromkeys(names, "1")).files.values()] == [2, 1, 1, 1]


@pytest.mark.parametrize("damage", [lambda file: file.write_text("{half"), lambda file: file.unlink()])
def test_a_damaged_or_missing_file_holds_nobody_up(damage: Callable[[Path], object]) -> None:
    request = asked(a="1")
    (file,) = request.files
    damage(file)
    with request.in_turn():
        pass
    with asked(a="3").in_turn():
        pass


def test_a_digest_depends_on_every_fact_and_not_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": (1, 2)}, "x") == digest({"b": [1, 2], "a": 1}, "x")
    assert len({digest("x", "y"), digest("xy", ""), digest("x", "z"), digest("y", "x")}) == 4
