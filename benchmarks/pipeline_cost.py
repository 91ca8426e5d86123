"""Where the minutes of ``make repro`` go: what its commands need to start, and what they need for their work.

``python benchmarks/pipeline_cost.py`` writes results/benchmarks/pipeline_cost.csv (one line a stage) and
start_cost.csv (what single imports and starts cost) and prints both. It needs a finished ``dvc repro``.

Starting is measured with nothing to compute: the same processes, kernels, imports and workers as the stage's
command has, and in workers the data set as well; medians over rounds in which every start has its turn. The work
of training, judges, evaluation and retraining stands in results/provenance as the seconds of every run; their sum
is divided by the number of workers, as if no worker ever waited for the others. The other stages run here once,
in a copy of the parameters and results, and their work is what they take beyond their start.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline_stages import NOTEBOOK, Stage, crew, stages

from smoot.workbench import paths

HERE, PACKAGE = Path(__file__).resolve().parent, Path(paths.__file__).parents[2]
# What the commands read; data/raw is large and only linked.
COPIED = (
    *("params.yaml", "paper", "tests/smoke.yaml", "data/datasets.yaml", "data/manifest"),
    *("results", "figures", "notebooks", "README.md"),
)
IMPORTS = {  # part: what is imported before the clock starts, and what then
    "import torch": ("", "import torch"),
    "import smoot with its whole core, after torch": ("import torch", "from smoot import *"),
    "import timm, after torch": ("import torch", "import timm"),
    "import torchmetrics, after torch and timm": ("import torch, timm", "import torchmetrics"),
    "import papermill, as the notebook command does": (
        "from smoot.workbench.notebook import UNUSED, absent",
        "with absent(UNUSED): import papermill",
    ),
}


def copied(root: Path) -> None:
    """Put what the commands read into a folder of its own, and lines without numbers for this benchmark's tables."""
    for name in COPIED:
        source, target = paths.ROOT / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        elif source.exists():
            shutil.copyfile(source, target)
    if paths.RAW.exists():
        (root / "data" / "raw").symlink_to(paths.RAW)


def without_numbers(root: Path, wanted: Sequence[Stage], about: Mapping[str, Any]) -> None:
    """Tables that the stage ``tables`` wants to read before they can be measured."""
    from smoot.workbench import storage
    from smoot.workbench.pipeline_tables import STARTS, with_shares

    folder = root / "results" / "benchmarks"
    lines = [line(stage, 0.0, 0.0, about) for stage in wanted]
    storage.write_csv(with_shares(lines), folder / "pipeline_cost.csv")
    storage.write_csv(frame([dict.fromkeys(STARTS, 0)]), folder / "start_cost.csv")


def frame(lines: Sequence[Mapping[str, Any]]) -> Any:
    import pandas as pd

    return pd.DataFrame(lines)


def output(command: Sequence[str], root: Path) -> tuple[float, str]:
    """Seconds of a Python command in the copy, and what it printed.

    Raises:
        RuntimeError: if it fails; with the end of what it said.
    """
    before = os.environ.get("PYTHONPATH")
    folders = os.pathsep.join(filter(None, [str(PACKAGE), str(HERE), before]))
    environment = os.environ | {"PYTHONPATH": folders, "SMOOT_ROOT": str(root), "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    took = time.perf_counter() - start
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise RuntimeError(
            f"`python {textwrap.shorten(' '.join(command), 200)}` failed; is `dvc repro` finished?\n{said}"
        )
    return took, done.stdout


def start_commands(stage: Stage, root: Path) -> list[tuple[int, list[str]]]:
    """Commands that start as those of the stage do and then end, each with how many there are of its kind."""
    if not stage.kernel:
        return [(count, ["-c", code]) for count, (code,) in stage.starts]
    commands = []
    for way, (count, codes) in enumerate(stage.starts):
        files = [root / f"start_{stage.name}_{way}_{number}.ipynb" for number in range(len(codes))]
        for file, code in zip(files, codes, strict=True):
            write_notebook(file, code)
        commands.append((count, [*NOTEBOOK, "refresh", *map(str, files)]))
    return commands


def write_notebook(file: Path, code: str) -> None:
    from nbformat.v4 import new_code_cell, new_notebook

    from smoot.workbench import notebook

    cell = new_code_cell(code)  # type: ignore[no-untyped-call]
    notebook.write(new_notebook(cells=[cell]), file)  # type: ignore[no-untyped-call]


def clocked(before: str, code: str) -> str:
    """A program that prints the seconds of a part of itself."""
    return f"{before}\nimport time\nstart = time.perf_counter()\n{code}\nprint()\nprint(time.perf_counter() - start)"


def measure_starts(root: Path, rounds: int, workers: int) -> list[dict[str, Any]]:
    """Median seconds of each part of a start."""
    write_notebook(root / "empty.ipynb", "")
    empty = [*NOTEBOOK, "run", "empty.ipynb", "ran/empty.ipynb"]
    programs = {part: clocked(*codes) for part, codes in IMPORTS.items()}
    programs[f"{workers} workers without work"] = clocked("", crew(workers))
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        found.setdefault("python", []).append(output(["-c", "pass"], root)[0])
        found.setdefault("a notebook without code, with its command", []).append(output(empty, root)[0])
        for part, program in programs.items():
            found.setdefault(part, []).append(float(output(["-c", program], root)[1].split()[-1]))
    return [{"part": part, "seconds": statistics.median(took)} for part, took in found.items()]


def run_seconds(profile: str) -> dict[str, float]:
    """Seconds of all runs of a profile by stage, from their provenance.

    Raises:
        FileNotFoundError: if there are none.
    """
    from smoot.workbench import storage

    folder = paths.ProfilePaths(profile).provenance
    sums: dict[str, float] = {}
    for file in sorted(folder.rglob("*.json")):
        for stage, facts in storage.read_json(file).items():
            sums[stage] = sums.get(stage, 0.0) + facts["seconds"]
    if not sums:
        raise FileNotFoundError(f"{folder} holds no run: `dvc repro` makes them")
    return sums


def measure(wanted: Sequence[Stage], root: Path, rounds: int, about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The lines of the stages: starts in turns, then every command once in the pipeline's order."""
    ran = run_seconds(about["profile"])
    commands = {stage.name: start_commands(stage, root) for stage in wanted}
    starts: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, ways in commands.items():
            starts[name].append(sum(count * output(command, root)[0] for count, command in ways))
    lines = []
    for stage in wanted:
        start = statistics.median(starts[stage.name])
        taken = sum(output(command, root)[0] for command in stage.commands)
        work = max(0.0, taken - start) if stage.commands else ran.get(stage.name, 0.0) / about["workers"]
        lines.append(line(stage, start, work, about))
        print(f"{stage.name}: {start:.1f} s to start, {work:.1f} s of work", flush=True)
    return lines


def line(stage: Stage, start: float, work: float, about: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {"stage": stage.name, "commands": stage.count, "fixed_seconds": start, "work_seconds": work}
    return {**numbers, **about}


def main(given: Sequence[str] | None = None) -> None:
    """Measures, prints and writes."""
    from smoot.workbench import provenance, storage
    from smoot.workbench.config import load_backbone, load_grid
    from smoot.workbench.models import TWO_CONV
    from smoot.workbench.pipeline_tables import STAGES, with_shares

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--rounds", type=int, default=3, help="measured turns of each start")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), help="only these")
    arguments = parser.parse_args(given)
    begun = time.perf_counter()
    grid = load_grid(arguments.profile)
    machine = provenance.facts("pipeline_cost", seconds=0.0)
    about = {"profile": grid.profile, "workers": grid.workers, "device": f"{machine['cores']} × {machine['device']}"}
    needing = {name for name in grid.backbones if load_backbone(name, grid.profile).architecture not in TWO_CONV}
    wanted = [stage for stage in stages(grid, needing) if stage.name in arguments.stages]
    with tempfile.TemporaryDirectory(prefix="smoot-pipeline-") as folder:
        root = Path(folder).resolve()
        copied(root)
        without_numbers(root, wanted, about)
        starts = frame(measure_starts(root, arguments.rounds, grid.workers)).round(3)
        lines = with_shares(measure(wanted, root, arguments.rounds, about)).round(4)
    for name, measured in {"start_cost": starts, "pipeline_cost": lines}.items():
        storage.write_csv(measured, paths.BENCHMARKS / f"{name}.csv")
        print(measured.to_string(index=False))
    made = machine | {"seconds": round(time.perf_counter() - begun, 2)}
    storage.write_json(made, paths.BENCHMARKS / "pipeline_cost.provenance.json")
    print(f"written to {(paths.BENCHMARKS / 'pipeline_cost.csv').relative_to(paths.ROOT)} and start_cost.csv beside it")


if __name__ == "__main__":
    try:
        main()
    except (FileNotFoundError, RuntimeError) as error:
        sys.exit(str(error))
