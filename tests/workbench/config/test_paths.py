"""Paths: nothing depends on the working directory, and files appear whole or not at all."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.config import paths
from workbench.config.paths import ProfilePaths, replacing

REPOSITORY = Path(__file__).parents[2]


def test_the_root_is_the_repository() -> None:
    assert paths.ROOT == REPOSITORY
    assert paths.DATASETS_FILE.is_file()
    expected = {
        paths.NOTEBOOKS: "notebooks",
        paths.RAW: "data/raw",
        paths.LEDGER: "scratch/ledger",
        paths.FAILED: "logs/failed",
        paths.BENCHMARKS: "results/benchmarks",
    }
    assert {path.relative_to(REPOSITORY).as_posix() for path in expected} == set(expected.values())


@pytest.mark.parametrize("given", [None, "", "absolute", "relative"])
def test_another_checkout_by_environment_variable_from_any_folder(
    given: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    if given is None:
        monkeypatch.delenv("SMOOT_ROOT", raising=False)
    else:
        root = {"": "", "absolute": str(tmp_path / "elsewhere"), "relative": "elsewhere"}[given]
        monkeypatch.setenv("SMOOT_ROOT", root)
    loaded = runpy.run_path(paths.__file__)
    expected = tmp_path / "elsewhere" if given else REPOSITORY
    assert (loaded["ROOT"], loaded["LEDGER"]) == (expected, expected / "scratch" / "ledger")


def test_the_profiles_are_laptop_smoke_and_every_folder_with_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    for name in ("zoo", "mine", "empty", "deep/er"):
        (tmp_path / name).mkdir(parents=True)
        if name != "empty":
            (tmp_path / name / "params.yaml").write_text("profile: x\n")
    assert paths.profiles() == {
        "laptop": tmp_path / "params.yaml",
        "smoke": tmp_path / "tests" / "smoke.yaml",
        "mine": tmp_path / "mine" / "params.yaml",
        "zoo": tmp_path / "zoo" / "params.yaml",
    }
    assert paths.params_file("mine") == tmp_path / "mine" / "params.yaml"


@pytest.mark.parametrize("name", ["paper2", "", "../paper", "Laptop"])
def test_an_unknown_profile_is_named_with_those_there_are(name: str) -> None:
    for call in (paths.params_file, ProfilePaths):
        with pytest.raises(ValueError, match="expected one of laptop, smoke, paper") as caught:
            call(name)
        assert f"unknown profile {name!r}" in str(caught.value)


PLACES = {
    "records": "results/PROFILE/records",
    "history": "results/PROFILE/history",
    "provenance": "results/provenance/PROFILE",
    "manifest": "data/manifest/PROFILE",
    "figures": "figures/PROFILE",
    "tables": "figures/PROFILE/tables",
    "plots": "figures/PROFILE/plots",
    "judge": "results/PROFILE/judge",
    "retraining": "results/PROFILE/retraining",
    "weights": "runs/PROFILE/weights",
    "judge_weights": "runs/PROFILE/judge",
    "notebooks": "runs/PROFILE/notebooks",
}


@pytest.mark.parametrize("profile", ["laptop", "paper"])
def test_a_profiles_places(profile: str) -> None:
    found = {name: getattr(ProfilePaths(profile), name) for name in PLACES}
    assert found == {name: REPOSITORY / place.replace("PROFILE", profile) for name, place in PLACES.items()}


def test_every_property_is_checked_here() -> None:
    assert {name for name, value in vars(ProfilePaths).items() if isinstance(value, property)} == set(PLACES)


def test_the_smoke_profile_writes_below_runs_smoke_only() -> None:
    found = {name: getattr(ProfilePaths("smoke"), name) for name in PLACES}
    assert all(path.is_relative_to(REPOSITORY / "runs" / "smoke") for path in found.values())
    assert len(set(found.values())) == len(PLACES)


# -- whole or not at all


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
        "import os, pathlib, runpy, signal, sys\n"
        "with runpy.run_path(sys.argv[1])['replacing'](pathlib.Path(sys.argv[2])) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, paths.__file__, str(target)], check=False)
    assert done.returncode == -9
    assert target.read_text() == "old"
    left = [file.name for file in tmp_path.iterdir() if file != target]
    assert len(left) == 1 and left[0].startswith(".file.txt.") and left[0].endswith(".tmp")  # `claim` removes those
