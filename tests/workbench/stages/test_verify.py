"""Comparing results with committed ones: by their spread over seeds, through a repository of their own."""

import itertools
import math
import subprocess
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import synthetic

from workbench.__main__ import main
from workbench.config import paths
from workbench.config.profile import Grid
from workbench.results import records as results
from workbench.stages import verify


def runs(accuracy: dict[str, list[float]], **other: list[float]) -> pd.DataFrame:
    """Runs of one setting; accuracy (and other metrics) by method and seed."""
    found = {method: {"accuracy": values, **other} for method, values in accuracy.items()}
    made = [pd.DataFrame(metrics).assign(method=method) for method, metrics in found.items()]
    return pd.concat(made).rename_axis("seed").reset_index().assign(dataset="mnist", backbone="net")


# Means 0.8 and 0.9, standard deviations 0.02 and 0 over 4 seeds.
THEIRS = {"plain": [0.82, 0.80, 0.80, 0.78], "sgt": [0.9, 0.9, 0.9, 0.9]}
ERROR = math.sqrt((2 * 0.02**2 / 3) / 4 * 2)  # of the difference of two such means


def moved_by(plain: float = 0.0, sgt: float = 0.0) -> pd.DataFrame:
    shifts = {"plain": plain, "sgt": sgt}
    ours = {method: [value + shifts[method] for value in values] for method, values in THEIRS.items()}
    return verify.compare(runs(ours), runs(THEIRS))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_mean_may_move_by_four_standard_errors_and_no_further(sign: int) -> None:
    assert 4 * ERROR > 0.01
    for factor in (0, 0.5, 3.99):
        assert moved_by(plain=sign * factor * ERROR).empty
    moved = moved_by(plain=sign * 4.01 * ERROR)
    (row,) = moved.to_dict("records")
    assert (row["dataset"], row["backbone"], row["method"], row["metric"]) == ("mnist", "net", "plain", "accuracy")
    assert (row["committed"], row["ours"]) == pytest.approx((0.8, 0.8 + sign * 4.01 * ERROR))
    assert row["standard_errors"] == pytest.approx(4.01)


def test_without_any_spread_one_point_is_the_limit() -> None:
    assert moved_by(sgt=0.0099).empty and moved_by(sgt=-0.0099).empty
    moved = moved_by(sgt=0.0101)
    assert moved["method"].tolist() == ["sgt"]
    assert moved["standard_errors"].iloc[0] > 1e6


def test_a_single_seed_has_no_spread_of_its_own() -> None:
    one = {method: values[1:2] for method, values in THEIRS.items()}
    assert verify.compare(runs(one), runs(one)).empty
    error = ERROR / math.sqrt(2)  # of the four seeds alone
    for shift, count in ((3.9, 0), (4.1, 1)):
        ours = runs({"plain": [0.80 + shift * error], "sgt": [0.9]})
        assert len(verify.compare(ours, runs(THEIRS))) == count


def test_every_metric_of_every_method_is_compared() -> None:
    theirs, ours = runs(THEIRS, nll=[0.5, 0.6, 0.5, 0.6]), runs(THEIRS, nll=[1.5, 1.6, 1.5, 1.6])
    moved = verify.compare(ours, theirs)
    assert list(zip(moved["method"], moved["metric"], strict=True)) == [("plain", "nll"), ("sgt", "nll")]


def test_what_judges_say_of_controls_is_not_compared() -> None:
    """It moves with the one judge, by more than its spread over the seeds."""
    names = ("judge_gap", "second_judge_gap", "edges_gap", "edges_judge_gap", "random_second_judge_gap")
    kept = verify.comparable(runs(THEIRS, **{name: [0.1] * 4 for name in names})).columns
    assert [name for name in names if name in kept] == ["judge_gap", "second_judge_gap", "edges_gap"]


def test_an_undefined_metric_has_moved_if_it_was_defined() -> None:
    undefined, defined = runs(THEIRS, relevance=[math.nan] * 4), runs(THEIRS, relevance=[0.5] * 4)
    assert verify.compare(undefined, undefined).empty
    for ours, theirs in ((undefined, defined), (defined, undefined)):
        assert verify.compare(ours, theirs)["metric"].tolist() == ["relevance", "relevance"]
    some = runs(THEIRS, relevance=[0.5, math.nan, 0.5, 0.5])
    assert verify.compare(some, defined).empty


@pytest.mark.parametrize(
    "other",
    [
        runs({"plain": THEIRS["plain"]}),
        runs(THEIRS | {"smoot": THEIRS["sgt"]}),
        runs(THEIRS, nll=[0.1] * 4),
        runs({"plain": THEIRS["plain"], "sgt_improved": THEIRS["sgt"]}),
    ],
    ids=["a method less", "a method more", "a metric more", "another method"],
)
def test_other_methods_or_metrics_cannot_be_compared(other: pd.DataFrame) -> None:
    for ours, theirs in itertools.permutations([other, runs(THEIRS)]):
        with pytest.raises(ValueError, match="hold other settings, methods or metrics: compare"):
            verify.compare(ours, theirs)


# -- through git


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True)


AXES = synthetic.Axes(methods=("plain", "sgt"))


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Grid:
    """A repository with the results of two methods and three seeds committed, and nothing else."""
    root = tmp_path / "repository"
    grid = synthetic.lay_out(root, monkeypatch, AXES)
    write(grid)
    git(root, "init", "-q")
    (root / ".gitignore").write_text("/scratch/\n")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    return grid


def write(grid: Grid, **metrics: float) -> None:
    """The records of the grid, with some metrics of sgt as given."""
    synthetic.rewrite(
        grid, lambda record: replace(record, metrics=record.metrics | metrics) if record.method == "sgt" else record
    )


def test_committed_results_are_those_of_the_revision_and_not_of_the_folder(grid: Grid) -> None:
    committed = results.metrics_frame(results.load_records(grid))
    write(grid, accuracy=0.5)
    pd.testing.assert_frame_equal(verify.committed_metrics("laptop", "HEAD"), committed)
    git(paths.ROOT, "commit", "-aqm", "second")
    assert set(verify.committed_metrics("laptop", "HEAD").query("method == 'sgt'")["accuracy"]) == {0.5}
    pd.testing.assert_frame_equal(verify.committed_metrics("laptop", "HEAD~1"), committed)


def test_a_revision_that_does_not_exist_or_has_no_results_is_named(grid: Grid) -> None:
    (paths.ROOT / "paper").mkdir()
    (paths.ROOT / "paper" / "params.yaml").write_text((paths.ROOT / "params.yaml").read_text())
    for profile, revision in ("laptop", "no-such-branch"), ("laptop", "HEAD~7"), ("paper", "HEAD"):
        with pytest.raises(ValueError, match=f"no results of '{profile}' at '{revision}': "):
            verify.committed_metrics(profile, revision)
    for setting in grid.setting_paths:
        setting.runs.unlink()
    git(paths.ROOT, "commit", "-aqm", "second")
    with pytest.raises(ValueError, match=r"no tables of 'laptop' at 'HEAD': expected .* results/laptop/\*/runs.csv"):
        verify.committed_metrics("laptop", "HEAD")


def test_the_command_names_what_moved(grid: Grid, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify"]) == 0
    metrics = sum(not verify.JUDGED_CONTROL.match(name) for name in results.load_records(grid)[0].metrics)
    told = capsys.readouterr().out
    assert told.startswith(f"{metrics} metrics of 2 methods in 1 settings, laptop against HEAD: all means within 4")
    write(grid, accuracy=0.5)
    assert main(["verify", "--profile", "laptop", "--revision", "HEAD"]) == 1
    told = capsys.readouterr().out
    assert "1 moved further than their spread over seeds explains" in told
    (line,) = [line for line in told.splitlines() if "accuracy" in line]
    assert line.split()[:4] == ["fashion_mnist", "resnet10_narrow", "sgt", "accuracy"]
    assert "0.5" in line.split()
    git(paths.ROOT, "commit", "-aqm", "second")
    assert main(["verify"]) == 0 and main(["verify", "--revision", "HEAD~1"]) == 1


def test_a_run_that_is_missing_here_is_named(grid: Grid, capsys: pytest.CaptureFixture[str]) -> None:
    (setting,) = grid.setting_paths
    lines = setting.runs.read_text().splitlines(keepends=True)
    setting.runs.write_text("".join(lines[:-1]))
    assert main(["verify"]) == 2
    assert "runs.csv has no sgt, seed 2: `dvc repro evaluate@" in capsys.readouterr().err
