"""The command line: every command in the help, one line per error, and nothing imported that is not needed."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from tiny_runs import own_checkout

from workbench import __main__ as command_line
from workbench.__main__ import COMMANDS, main
from workbench.config import paths
from workbench.config.profile import resolved_methods
from workbench.runner import fingerprints
from workbench.runner.pool import WorkerDied


def failing(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """`judge` ends with that error."""

    def fail(arguments: Sequence[str]) -> int:
        raise error

    monkeypatch.setattr(command_line, "judge", fail)


def test_the_help_names_every_command_and_each_has_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    shown = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"  {name:10} {command.does}\n" in shown
        with pytest.raises(SystemExit, match="0"):
            main([name, "--help"])
        assert capsys.readouterr().out.startswith(f"usage: python -m workbench {name} ")


@pytest.mark.parametrize("given", [[], ["trian"], ["judge", "--profle", "laptop"], ["retrain", "mnist"]])
def test_a_wrong_argument_ends_with_two(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(given)
    assert "usage: python -m workbench" in capsys.readouterr().err


@pytest.mark.parametrize("given", [["methods"], ["judge"], ["retrain", "mnist", "two_conv_small"], ["grid"]])
def test_an_unknown_profile_is_one_line(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*given, "--profile", "big"]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    assert shown.err.startswith("error: unknown profile 'big': expected one of laptop, smoke,")


def test_torchrun_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    failing(AssertionError("it ran"), monkeypatch)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["judge"]) == 2
    assert capsys.readouterr().err.startswith("error: WORLD_SIZE is 2, as torchrun sets it: expected one process,")


def test_our_own_errors_are_one_line_and_mistakes_in_the_code_show_where(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(WorkerDied("task 1 was killed"), monkeypatch)
    assert main(["judge"]) == 1
    assert capsys.readouterr().err == "error: task 1 was killed\n"
    failing(KeyboardInterrupt(), monkeypatch)
    assert main(["judge"]) == 130
    assert capsys.readouterr().err == "interrupted\n"
    failing(RuntimeError("shapes differ"), monkeypatch)
    with pytest.raises(RuntimeError, match="shapes differ"):
        main(["judge"])


def test_methods_are_written_with_all_their_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_checkout(tmp_path / "checkout", monkeypatch)
    assert main(["methods", "--profile", "smoke"]) == 0
    written = json.loads(paths.ProfilePaths("smoke").methods.read_text())
    assert written == json.loads(json.dumps(resolved_methods("smoke")))
    assert written["sgt"]["guidance"]["score"] == "log_prob"


def test_fingerprints_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "FINGERPRINTS", tmp_path / "fingerprints")
    assert main(["code"]) == 0
    written = {file.stem for file in (tmp_path / "fingerprints").iterdir()}
    assert written == {*fingerprints.rooms(), *fingerprints.NOTEBOOKS}
