"""The pipeline's benchmark knows every stage, divides its time, and runs; nothing about time is asserted."""

import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from smoot.workbench import paths, pipeline_tables
from smoot.workbench.config import load_grid
from smoot.workbench.costs import read_benchmark

ROOT = Path(__file__).parents[1]
ABOUT = {"profile": "laptop", "workers": 2, "device": "2 × Some CPU"}


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark as a module; it is a script outside the package, beside what it imports."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return import_module("pipeline_cost")


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with made-up results, the notebooks of this one and the provenance of two runs."""
    monkeypatch.syspath_prepend(ROOT / "tests" / "workbench")
    synthetic = import_module("synthetic")
    grid = synthetic.lay_out(tmp_path, monkeypatch, synthetic.Axes(methods=("plain", "smoot"), seeds=(0, 1)))
    synthetic.write_results(grid, pictures=False)
    monkeypatch.setattr(paths, "RAW", tmp_path / "nothing")
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    folder = paths.ProfilePaths("laptop").provenance / "mnist"
    folder.mkdir(parents=True)
    for seed, train in ((0, 3.0), (1, 5.5)):
        facts = {"train": {"seconds": train}, "evaluate": {"seconds": 1.25}}
        (folder / f"{seed}.json").write_text(json.dumps(facts))
    return tmp_path


def test_every_stage_of_the_pipeline_is_measured(benchmark: ModuleType) -> None:
    grid = load_grid("laptop")
    known = benchmark.stages(grid, {"resnet10_narrow"})
    assert [stage.name for stage in known] == list(pipeline_tables.STAGES)
    piped = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert set(piped) | {"dvc", "notebooks", "readme"} == {stage.name for stage in known}
    counts = {stage.name: stage.count for stage in known}
    assert counts["train"] == counts["evaluate"] == len(grid.settings)
    assert counts["data"] == 1 + len(grid.datasets)


def test_commands_are_those_of_the_pipeline(benchmark: ModuleType) -> None:
    piped = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    known = {stage.name: stage for stage in benchmark.stages(load_grid("laptop"), ())}
    for name, stage in known.items():
        asked = piped.get(name, {})
        words = asked.get("do", asked).get("cmd", "").split()
        assert stage.kernel == ("run" in words or name == "notebooks"), name
        assert bool(stage.commands) == (name not in ("dvc", "train", "judge", "evaluate", "retrain"))
        if stage.commands and words:
            assert words[1:4] == list(stage.commands[-1][:3]), name


def test_only_workers_whose_backbone_needs_it_import_timm(benchmark: ModuleType) -> None:
    grid = load_grid("laptop")
    train = {stage.name: stage for stage in benchmark.stages(grid, {"resnet10_narrow"})}["train"]
    asked = {"'timm'" in codes[0]: count for count, codes in train.starts}
    assert asked == {True: sum("resnet" in backbone for _, backbone in grid.settings), False: train.count - asked[True]}
    without = {stage.name: stage for stage in benchmark.stages(grid, ())}["train"]
    assert [count for count, _ in without.starts] == [len(grid.settings)]


def test_seconds_are_divided_into_start_and_work(
    benchmark: ModuleType, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starts take 1, 5, 3 seconds in turn (median 3), whole commands 10."""
    turns: dict[str, list[float]] = {}

    def output(command: Sequence[str], root: Path) -> tuple[float, str]:
        code = command[-1]
        return (turns.setdefault(code, [3.0, 5.0, 1.0]).pop(), "") if code.startswith("start") else (10.0, "")

    monkeypatch.setattr(benchmark, "output", output)
    wanted = [
        benchmark.Stage("train", ((2, ("start a",)), (1, ("start b",)))),
        benchmark.Stage("report", ((2, ("start c",)),), commands=(("x",), ("y",))),
        benchmark.Stage("readme", ((9, ("start d",)),), commands=(("x",),)),
    ]
    lines = benchmark.measure(wanted, results, 3, ABOUT)
    found = {line["stage"]: (line["commands"], line["fixed_seconds"], line["work_seconds"]) for line in lines}
    assert found == {"train": (3, 9.0, 8.5 / 2), "report": (2, 6.0, 14.0), "readme": (9, 27.0, 0.0)}


def test_runs_are_summed_by_stage_and_must_be_there(benchmark: ModuleType, results: Path) -> None:
    assert benchmark.run_seconds("laptop") == {"train": 8.5, "evaluate": 2.5}
    for file in paths.ProfilePaths("laptop").provenance.rglob("*.json"):
        file.unlink()
    with pytest.raises(FileNotFoundError, match="holds no run: `dvc repro` makes them"):
        benchmark.run_seconds("laptop")


def test_a_command_that_fails_is_told_with_its_reason(benchmark: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(
        RuntimeError, match=r"^`python -c 1/0` failed; is `dvc repro` finished\?\n[\s\S]*ZeroDivisionError"
    ):
        benchmark.output(["-c", "1/0"], tmp_path)
    assert benchmark.output(["-c", "import os; print(os.environ['SMOOT_ROOT'])"], tmp_path)[1] == f"{tmp_path}\n"


def test_workers_prepare_and_an_error_there_ends_the_command(benchmark: ModuleType, tmp_path: Path) -> None:
    assert benchmark.output(["-c", benchmark.crew(2, ["colorsys"])], tmp_path)[1].startswith("start: 1 of 2")
    with pytest.raises(RuntimeError, match="No module named 'no_such_module'"):
        benchmark.output(["-c", benchmark.crew(1, ["no_such_module"])], tmp_path)


def test_the_benchmark_runs_and_its_tables_are_read(
    benchmark: ModuleType, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "IMPORTS", {"import colorsys": ("import json", "import colorsys")})
    for name in ("pipeline_cost", "start_cost"):
        (paths.BENCHMARKS / f"{name}.csv").unlink()
    benchmark.main(["--rounds", "1", "--stages", "tables"])
    stages = read_benchmark("pipeline_cost", pipeline_tables.PIPELINE)
    starts = read_benchmark("start_cost", pipeline_tables.STARTS)
    assert stages[["stage", "commands", "profile"]].to_numpy().tolist() == [["tables", 1, "laptop"]]
    assert stages["share"].item() == 1.0
    assert set(starts["part"]) == {
        "python",
        "a notebook without code, with its command",
        "import colorsys",
        "2 workers without work",
    }
    assert starts["seconds"].notna().all()
    assert not stages.isna().any(axis=None)
    made: dict[str, Any] = json.loads((paths.BENCHMARKS / "pipeline_cost.provenance.json").read_text())
    assert made["key"] == "pipeline_cost" and made["seconds"] > 0
    assert "pipeline_cost.csv" in capsys.readouterr().out
    assert pipeline_tables.pipeline_table(stages).data["stage"].tolist() == ["tables", "all"]
