"""The grid: what it plans, that its records are the pipeline's, and what it says of runs that did not get done."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_runs import in_this_process, own_checkout, silent

from workbench.__main__ import main
from workbench.config import paths
from workbench.runner import pool
from workbench.runner.queue import Ended, Queue, Task
from workbench.stages import grid, runs
from workbench.stages.grid import Unfinished, run_grid, tasks_of, works
from workbench.training.guided import TrainingDiverged

SETTING = ("digits", "two_conv_small")
NAME = "smoke/digits-two_conv_small"


class Here:
    """An engine that does every task in this process."""

    room = 1

    def __init__(self, refused: str = "") -> None:
        self.refused, self.given, self.order = refused, dict[str, Any](), list[str]()

    def submit(self, arguments: Mapping[str, Any]) -> dict[str, str]:
        self.given = dict(arguments)
        self.order += arguments
        return dict.fromkeys(arguments, "")

    def attach(self, jobs: Mapping[str, str]) -> None:
        """Nothing to attach to."""

    def look(self, seconds: float) -> tuple[set[str], list[Ended]]:
        ((name, job),) = self.given.items()
        if name == self.refused:
            return set(), [Ended(name, error="TrainingDiverged: the loss is nan", log=Path("/log"))]
        return set(), [Ended(name, grid.finish(job, silent))]

    def close(self, *, detach: bool) -> str:
        return ""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(pool, "run_tasks", in_this_process)
    return one_setting(own_checkout(tmp_path / "checkout", monkeypatch))


def one_setting(root: Path) -> Path:
    """One data set, two settings, two methods and one seed."""
    file = root / "tests" / "smoke.yaml"
    params = yaml.safe_load(file.read_text())
    names = ("two_conv_small", "resnet10_narrow")
    settings = {f"digits-{name}": {"dataset": "digits", "backbone": name} for name in names}
    params["grid"] = {"datasets": ["digits"], "settings": settings, "methods": ["plain", "smoot"]}
    params |= {"seeds": [0], "claims": [], "datasets": {"digits": params["datasets"]["digits"]}}
    params["retraining"] |= {"settings": ["digits-two_conv_small"], "train_images": 60, "epochs": 1}
    params["evaluation"]["attributions"]["networks"] = []
    file.write_text(yaml.safe_dump(params))
    return root


def longer_judges(root: Path) -> None:
    file = root / "tests" / "smoke.yaml"
    params = yaml.safe_load(file.read_text())
    params["judge"]["epochs"] += 1
    file.write_text(yaml.safe_dump(params))


def on(engine: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    def queue(profile: str, given: argparse.Namespace, tasks: list[Task], folder: Path) -> Queue:
        return Queue(tasks, engine, f"grid {profile}", folder)

    monkeypatch.setattr(grid, "_queue", queue)


def contents(root: Path) -> dict[str, bytes]:
    found = [file for file in sorted((root / "runs").rglob("*")) if file.is_file() and "provenance" not in file.name]
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in found}


def test_the_plan_has_every_job_of_the_profile_after_those_it_needs() -> None:
    found = works("smoke")
    kinds = [name.split("/")[0] for name in found]
    assert [kinds.count(kind) for kind in ("judge", "train", "evaluate", "retrain")] == [2, 4, 4, 2]
    assert set(found[f"evaluate/{NAME}/smoot/0"].needs) == {
        f"train/{NAME}/smoot/0",
        *(name for name in found if name.startswith("judge/")),
    }
    order = list(found)
    assert all(order.index(need) < order.index(name) for name, work in found.items() for need in work.needs)


def test_the_plan_goes_setting_by_setting_and_seed_by_seed(root: Path) -> None:
    file = root / "tests" / "smoke.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"seeds": [0, 1]}))
    trained = [name.split("/")[2:] for name in works("smoke") if name.startswith("train/")]
    settings = list(dict.fromkeys(setting for setting, *_ in trained))
    assert trained == [[at, method, seed] for at in settings for seed in "01" for method in ("plain", "smoot")]


def test_a_digest_covers_what_the_needed_networks_are_made_by(root: Path) -> None:
    before = {task.name: task.digest for task in tasks_of(works("smoke"))}
    longer_judges(root)
    after = {task.name: task.digest for task in tasks_of(works("smoke"))}
    changed = {name.split("/")[0] for name in before if before[name] != after[name]}
    assert changed == {"judge", "evaluate"}


def test_records_are_those_of_the_pipeline_to_the_byte(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on(Here(), monkeypatch)
    run_grid("smoke")
    shown = capsys.readouterr().out
    assert "smoke, setting 1 of 2: digits, resnet10_narrow\n  plain: accuracy " in shown
    found = contents(root)
    with pytest.MonkeyPatch.context() as patch:
        other = one_setting(own_checkout(tmp_path / "other", patch))
        runs.train_judges("smoke")
        for backbone in ("two_conv_small", "resnet10_narrow"):
            runs.train("digits", backbone, None, "smoke")
            runs.evaluate("digits", backbone, None, "smoke")
            runs.retrain("digits", backbone, "smoke")
        assert found == contents(other) != {}


def test_a_run_that_fails_is_named_and_other_settings_are_whole(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on(Here(refused=f"train/{NAME}/smoot/0"), monkeypatch)
    with pytest.raises(Unfinished) as caught:
        run_grid("smoke")
    assert str(caught.value).splitlines() == [
        "9 of 12 jobs of smoke are finished, and the same command goes on with the rest:",
        f"  train/{NAME}/smoot/0 failed: TrainingDiverged: the loss is nan (log: /log)",
        "  2 that need one of these were not started",
    ]
    assert (root / "runs/smoke/results/digits-resnet10_narrow/runs.csv").exists()
    assert not (root / "runs/smoke/results/digits-two_conv_small").exists()
    assert TrainingDiverged.__name__ in str(caught.value)


def test_parameters_that_changed_meanwhile_are_not_mixed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = works("smoke")
    longer_judges(root)
    with pytest.raises(ValueError, match="parameters, code or data changed while the grid ran"):
        grid.assemble("smoke", found, dict.fromkeys(found))  # type: ignore[arg-type]


def test_runs_on_several_gpus_get_groups_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 5)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert grid._gpus(1) == ["0", "1", "2", "3", "4"]
    assert grid._gpus(2) == ["0,1", "2,3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b,7,5,6")
    assert grid._gpus(5) == ["GPU-a,GPU-b,7,5,6"]
    with pytest.raises(ValueError, match=r"training.devices is 6: expected at most 5, the GPUs of this machine"):
        grid._gpus(6)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert grid._gpus(6) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--on-interrupt", "detach"], "--on-interrupt is 'detach': expected cancel"),
        (["--cores", "0"], "cores is 0: expected at least 1"),
        (["--engine", "slurm", "--slurm", "account"], "--slurm is 'account': expected KEY=VALUE"),
    ],
)
def test_wrong_options_are_one_line(given: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["grid", "--profile", "smoke", *given]) == 2
    assert message in capsys.readouterr().err
    assert not (paths.LEDGER).exists()
