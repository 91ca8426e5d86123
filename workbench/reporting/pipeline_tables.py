"""The tables of the pipeline's own time: where the minutes of ``make repro`` go, and what a start costs."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from workbench.reporting.table import Row, table
from workbench.reporting.words import Table, fixed

# Stages in the order in which `make repro` comes to them, as a reader calls them.
STAGES = {
    "dvc": "Pipeline manager",
    "code": "Code of the notebooks",
    "data": "Data sets",
    "train": "Training",
    "judge": "Judges",
    "evaluate": "Evaluation",
    "retrain": "Retraining",
    "tables": "Tables",
    "figures": "Figures",
    "report": "Report",
    "notebooks": "Report notebooks",
    "readme": "README",
}
PIPELINE = ("profile", "stage", "commands", "fixed_seconds", "work_seconds", "share", "workers", "device")
STARTS = ("part", "seconds")
DECIMALS = 1


def with_shares(lines: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    """Lines of stages with each one's share of the whole time; all zero where nothing took any.

    Args:
        lines: the columns `PIPELINE` without ``share``, seconds not negative.
    """
    frame = pd.DataFrame(lines)
    seconds = frame["fixed_seconds"] + frame["work_seconds"]
    whole = seconds.sum()
    return frame.assign(share=seconds / whole if whole > 0 else 0.0)[list(PIPELINE)]


def pipeline_table(measured: pd.DataFrame) -> Table:
    """Seconds of each stage, those of starting apart from those of the work, with a line for all of them.

    Args:
        measured: the columns `PIPELINE`, one line a stage.

    Raises:
        ValueError: for a stage that has no title in `STAGES`.
    """
    if unknown := sorted(set(measured["stage"]) - set(STAGES)):
        raise ValueError(f"unknown stages {unknown} in pipeline_cost.csv: expected {', '.join(STAGES)}")
    sums = ["commands", "fixed_seconds", "work_seconds", "share"]
    whole = {"stage": "all"} | measured[sums].sum().to_dict()
    rows = [_line(line) for line in [*measured.to_dict("records"), whole]]
    about = measured.iloc[0]
    caption = (
        f"Seconds of the profile {about['profile']} on {about['device']}, {about['workers']} workers; nothing was "
        "made before, and the data sets are downloaded. Starting: processes, notebook kernels, imports and reading "
        "the data set, measured with nothing to compute. Work: for training, judges, evaluation and retraining the "
        f"seconds of every run as `results/provenance/{about['profile']}` has them, divided by the workers; else what "
        "a command takes beyond its start. Source: `results/benchmarks/pipeline_cost.csv`, written by `make bench`."
    )
    return table("pipeline", "Where the minutes of `make repro` go", caption, rows)


def _line(line: Mapping[Any, Any]) -> Row:
    """Numbers and text of one stage; ``all`` is the sum of the stages."""
    numbers = {key: line[key] for key in ("stage", "commands", "fixed_seconds", "work_seconds", "share")}
    return numbers, {
        "Stage": STAGES.get(line["stage"], "All"),
        "Commands": fixed(line["commands"], 0),
        "Starting (s) ↓": fixed(line["fixed_seconds"], DECIMALS),
        "Work (s) ↓": fixed(line["work_seconds"], DECIMALS),
        "Share of the time (%)": fixed(100 * line["share"], DECIMALS),
    }


def starts_table(measured: pd.DataFrame) -> Table:
    """What each part of a start costs by itself.

    Args:
        measured: the columns `STARTS`, one line a part.
    """
    rows: list[Row] = [
        ({key: line[key] for key in STARTS}, {"Part": str(line["part"]), "Seconds ↓": fixed(line["seconds"])})
        for line in measured.to_dict("records")
    ]
    caption = (
        "Median wall-clock seconds of a new process with a warm file cache. An import is measured beyond what its "
        "line says is imported before it. Source: `results/benchmarks/start_cost.csv`, written by `make bench`."
    )
    return table("starts", "What a start costs", caption, rows)
