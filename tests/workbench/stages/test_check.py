"""The look before the pipeline runs: every profile of the repository, hostile names, broken locks."""

from pathlib import Path

import pytest
import yaml

from workbench.__main__ import main
from workbench.config import paths
from workbench.stages import check
from workbench.stages.check import check_lock, check_profile


@pytest.mark.parametrize("profile", sorted(set(paths.profiles()) - {"smoke"}))
def test_every_profile_of_the_repository_is_in_order(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for its runs, which test_profile.py loads one by one."""
    monkeypatch.setattr(check, "load_runs", lambda *_: [])
    check_profile(profile)
    check_lock(paths.params_file(profile).with_name("dvc.lock"))


GOOD = "schema: '2.0'\nstages:\n  a:\n    cmd: x\n    deps:\n    - path: p\n      md5: 0\n"
BROKEN = {
    "empty": ("", "is empty"),
    "half written": (GOOD[:33], "has no command of stage a"),
    "cut in a list": (GOOD[: GOOD.index("    - path")], "lists no files under deps of stage a"),
    "edited": (GOOD.replace("'2.0'", "2"), "is no lock of DVC"),
    "text": ("hello\n", "is no lock of DVC"),
    "a conflict": ("<<<<<<< HEAD\n" + GOOD, "is not YAML: "),
    "bytes": ("\x00\x01", "is not YAML: "),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_lock_is_explained_with_the_way_out(name: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, told = BROKEN[name]
    (root / "tests" / "dvc.lock").write_text(content)
    assert main(["check", "--profile", "smoke"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: tests/dvc.lock {told}") and said.count("\n") == 1
    assert "take back the committed one with `git checkout tests/dvc.lock`; without one, delete it" in said


def test_a_whole_lock_and_none_are_in_order(root: Path) -> None:
    assert main(["check", "--profile", "smoke"]) == 0
    (root / "tests" / "dvc.lock").write_text(GOOD)
    assert main(["check", "--profile", "smoke"]) == 0


def test_a_hostile_name_is_refused_before_a_shell_sees_it(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = root / "tests" / "smoke.yaml"
    params = yaml.safe_load(file.read_text())
    params["grid"]["datasets"].append("; touch X")
    file.write_text(yaml.safe_dump(params))
    assert main(["check", "--profile", "smoke"]) == 2
    assert "has the name '; touch X': expected letters, digits and underscores only" in capsys.readouterr().err
