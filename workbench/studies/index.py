"""Reads what is measured beside the runs: the judge of each data set, and networks retrained on kept pixels."""

from collections.abc import Mapping
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.config import files, paths
from workbench.config.cells import Cell
from workbench.config.paths import GridLike, pipeline
from workbench.config.profile import load_grid, load_retraining

SCHEMA = 1
JUDGE = ("dataset", "backbone", "train_images", "epochs", "seed", "accuracy", "validation_accuracy")
RETRAINING = ("top", "bottom", "diffroar")


def read_judges(grid: GridLike) -> pd.DataFrame:
    """One row per data set of a grid: the columns `JUDGE`.

    Raises:
        FileNotFoundError: if one is missing; names it and the command that makes it.
        ValueError: for another schema, unknown or missing keys, or a file in the wrong place.
    """
    rows = []
    for dataset in grid.datasets:
        path = paths.ProfilePaths(grid.profile).judge / f"{dataset}.json"
        content = _read(path, grid.profile, "judge", {*JUDGE, "config"})
        if content["dataset"] != dataset:
            raise ValueError(f"{path} is the judge of {content['dataset']}: in the wrong place")
        rows.append({name: content[name] for name in JUDGE})
    return pd.DataFrame(rows, columns=list(JUDGE))


def read_retraining(profile: str) -> pd.DataFrame:
    """DiffROAR in long form: dataset, backbone, method, seed, level, then the columns `RETRAINING`.

    One row for each method and seed of the profile's grid on each setting of its block ``retraining``, and for
    each level; without rows if that block names no setting.

    Raises:
        FileNotFoundError: if a file is missing; names it and the command that makes it.
        ValueError: for another schema, unknown or missing keys, a file in the wrong place, or numbers
            that do not match the levels.
    """
    grid, asked = load_grid(profile), load_retraining(profile)
    settings = [pair for pair in grid.settings if "-".join(pair) in asked.settings]
    rows: list[dict[str, Any]] = []
    for (dataset, backbone), method, seed in product(settings, grid.methods, grid.seeds):
        cell = Cell(profile, dataset, backbone, method)
        path = cell.retraining_path(seed)
        content = _read(path, profile, "retrain", {"cell", "levels", *RETRAINING})
        if content["cell"] != asdict(cell) | {"seed": seed}:
            raise ValueError(f"{path} is of {content['cell']}: in the wrong place")
        _check_levels(content, asked.levels, path)
        keys = {"dataset": dataset, "backbone": backbone, "method": method, "seed": seed}
        for place, level in enumerate(content["levels"]):
            rows.append(keys | {"level": level} | {name: content[name][place] for name in RETRAINING})
    return pd.DataFrame(rows, columns=["dataset", "backbone", "method", "seed", "level", *RETRAINING])


def _read(path: Path, profile: str, stage: str, keys: set[str]) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: `dvc repro {pipeline(profile)}{stage}` makes it")
    content = files.read_json(path)
    schema = content.pop("schema", None)
    if schema != SCHEMA:
        raise ValueError(f"{path}: schema is {schema!r}: expected {SCHEMA}; make the file again")
    files.check_keys(content, keys, path)
    return content


def _check_levels(content: Mapping[str, Any], levels: tuple[float, ...], path: Path) -> None:
    if tuple(content["levels"]) != levels:
        raise ValueError(f"{path}: levels is {content['levels']}: expected {list(levels)}; make the file again")
    for name in RETRAINING:
        if len(content[name]) != len(levels):
            raise ValueError(f"{path}: {name} has {len(content[name])} numbers: expected {len(levels)}")
