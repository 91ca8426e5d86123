"""Run records: one JSON file per seed, and the frames that tables and figures are drawn from.

A record holds what was asked (cell, configuration), what came out (metrics, curves, a summary of the
training history) and what it depends on (code, packages, data). Nothing in it changes when the same run
is repeated on the same machine; times, memory and host belong to the provenance file. Frames loop over a
grid and never list folders, so that a missing record is an error and a stray one is not read.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from workbench.config import files
from workbench.config.cells import Cell, grid_cells, required
from workbench.config.paths import GridLike

SCHEMA = 2
CURVES = ("deletion", "insertion", "random", "judge_deletion", "judge_insertion", "judge_random")
CASCADES = ("spearman", "ssim")
# {"fraction": [S], FILL: {name of CURVES: [S], ...}, ...}
Curves: TypeAlias = Mapping[str, Any]
# {} or {"layers": [L], ATTRIBUTION: {"spearman": [L], "ssim": [L]}, ...}
Sanity: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class RunRecord:
    """What one seed of one cell gave.

    Attributes:
        cell: profile, dataset, backbone and method.
        seed: the seed that data order, initialisation and splits derive from.
        config: the full configuration as nested mappings; kept exactly, never rounded.
        metrics: flat numbers; fractions in [0, 1], losses in nats; NaN where a metric is undefined.
        curves: ``fraction`` (S,) and, for each fill, ``deletion``, ``insertion`` and ``random`` (S,) of the
            network itself and, with ``judge_`` before the name, of the judge on the network's maps.
        history: flat numbers that sum up the training.
        code: SHA-256 of the source files that made the record.
        packages: versions by package name.
        data: SHA-256 of the data.
        attributions: metrics of each attribution by its name; empty where only the gradient was measured.
        sanity: ``layers`` (L,), the output's first, and for each attribution ``spearman`` and ``ssim`` (L,)
            between its maps before and after the layers up to this one are randomised; or empty.
    """

    cell: Cell
    seed: int
    config: Mapping[str, Any]
    metrics: Mapping[str, float]
    curves: Curves
    history: Mapping[str, float]
    code: str
    packages: Mapping[str, str]
    data: str
    attributions: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    sanity: Sanity = field(default_factory=dict)

    @property
    def keys(self) -> dict[str, Any]:
        """What identifies the record in a frame."""
        cell = self.cell
        return {
            "dataset": cell.dataset,
            "backbone": cell.backbone,
            "method": cell.method,
            "seed": self.seed,
        }

    @property
    def fills(self) -> tuple[str, ...]:
        """The fills that its curves were measured with, in alphabetical order."""
        return tuple(sorted(set(self.curves) - {"fraction"}))

    def as_dict(self) -> dict[str, Any]:
        """The record as it is written: plain types, numbers rounded, ``None`` for NaN."""
        names = ("metrics", "curves", "history", "attributions", "sanity")
        numbers = {name: getattr(self, name) for name in names}
        return {
            "schema": SCHEMA,
            "cell": asdict(self.cell) | {"seed": int(self.seed)},
            "config": files.simplified(self.config, "config", digits=None),
            "code": self.code,
            "packages": dict(self.packages),
            "data": self.data,
        } | {key: files.simplified(value, key) for key, value in numbers.items()}


def write_record(record: RunRecord, path: Path | None = None) -> Path:
    """Write a record to its own place, or to ``path``; the same record gives the same bytes."""
    return files.write_json(record.as_dict(), path or record.cell.record_path(record.seed))


def read_record(path: Path) -> RunRecord:
    """Read a record.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it has another schema, or unknown or missing keys; names file and key.
    """
    content = files.read_json(path)
    schema = content.pop("schema", None)
    if schema != SCHEMA:
        raise ValueError(f"{path}: schema is {schema!r}: expected {SCHEMA}; make the record again")
    files.check_keys(content, {entry.name for entry in fields(RunRecord)} - {"seed"}, path)
    files.check_keys(content["cell"], {entry.name for entry in fields(Cell)} | {"seed"}, path, "cell.")
    seed = content["cell"].pop("seed")
    for part in ("metrics", "history"):
        content[part] = _numbers(content[part], path, part)
    measured = content["attributions"].items()
    content["attributions"] = {name: _numbers(metrics, path, f"attributions.{name}") for name, metrics in measured}
    _check_curves(content["curves"], path)
    content["sanity"] = _cascades(content["sanity"], path)
    return RunRecord(**content | {"cell": Cell(**content["cell"]), "seed": seed})


def _numbers(content: Mapping[str, Any], path: Path, where: str) -> dict[str, float]:
    return {key: _number(value, path, f"{where}.{key}") for key, value in content.items()}


def _number(value: Any, path: Path, where: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{path}: {where} is {value!r}: expected a number or null")
    return value


def _check_curves(curves: Curves, path: Path) -> None:
    points = len(curves.get("fraction", ()))
    if not points:
        raise ValueError(f"{path}: key curves.fraction is missing or empty")
    for fill in sorted(set(curves) - {"fraction"}):
        files.check_keys(curves[fill], set(CURVES), path, f"curves.{fill}.")
        for name in CURVES:
            if len(curves[fill][name]) != points:
                found = len(curves[fill][name])
                raise ValueError(f"{path}: curves.{fill}.{name} has {found} points: expected {points}")


def _cascades(sanity: Sanity, path: Path) -> dict[str, Any]:
    """The sanity part with NaN for null, if every cascade has one number a layer."""
    layers = sanity.get("layers", [])
    read: dict[str, Any] = {"layers": layers} if sanity else {}
    for name in sorted(set(sanity) - {"layers"}):
        files.check_keys(sanity[name], set(CASCADES), path, f"sanity.{name}.")
        for key, values in sanity[name].items():
            where = f"sanity.{name}.{key}"
            if len(values) != len(layers):
                raise ValueError(f"{path}: {where} has {len(values)} numbers: expected {len(layers)}")
            read.setdefault(name, {})[key] = [_number(value, path, where) for value in values]
    return read


def load_records(grid: GridLike) -> tuple[RunRecord, ...]:
    """All records of a grid, in the grid's order.

    Raises:
        FileNotFoundError: if one is missing; names it and the command that makes it.
        ValueError: if one is not what its place says, or has other metrics than the first.
    """
    records: list[RunRecord] = []
    for cell, seed in product(grid_cells(grid), grid.seeds):
        path = required(cell.record_path(seed), cell, "evaluate")
        record = read_record(path)
        if (record.cell, record.seed) != (cell, seed):
            raise ValueError(f"{path} is the record of {record.cell}, seed {record.seed}: in the wrong place")
        if records:
            files.check_keys(record.metrics, set(records[0].metrics), path, "metrics.")
        records.append(record)
    return tuple(records)


def metrics_frame(records: Sequence[RunRecord]) -> pd.DataFrame:
    """One row per record: dataset, backbone, method, seed, then every metric."""
    return pd.DataFrame([record.keys | dict(record.metrics) for record in records])


def attributions_frame(records: Sequence[RunRecord]) -> pd.DataFrame:
    """One row per record and attribution: dataset, backbone, method, seed, attribution, then its metrics.

    Records without attributions have no rows; without any row the frame is empty.
    """
    return pd.DataFrame(
        [
            record.keys | {"attribution": name} | dict(metrics)
            for record in records
            for name, metrics in record.attributions.items()
        ]
    )


def curves_frame(records: Sequence[RunRecord]) -> pd.DataFrame:
    """Long form: dataset, backbone, method, seed, fill, curve, fraction, score."""
    rows = []
    for record in records:
        for fill, curve in product(record.fills, CURVES):
            points = zip(record.curves["fraction"], record.curves[fill][curve], strict=True)
            for fraction, score in points:
                rows.append(record.keys | {"fill": fill, "curve": curve, "fraction": fraction, "score": score})
    return pd.DataFrame(rows)


def read_records(grid: GridLike) -> pd.DataFrame:
    """`metrics_frame` of all records of a grid."""
    return metrics_frame(load_records(grid))


def read_curves(grid: GridLike) -> pd.DataFrame:
    """`curves_frame` of all records of a grid."""
    return curves_frame(load_records(grid))


def read_histories(grid: GridLike) -> pd.DataFrame:
    """One row per epoch of every run of a grid: dataset, backbone, method, seed, then the history's columns.

    Raises:
        FileNotFoundError: if one is missing; names it and the command that makes it.
    """
    frames = []
    for cell, seed in product(grid_cells(grid), grid.seeds):
        history = files.read_history(required(cell.history_path(seed), cell, "train"))
        history.insert(0, "dataset", cell.dataset)
        history.insert(1, "backbone", cell.backbone)
        history.insert(2, "method", cell.method)
        history.insert(3, "seed", seed)
        frames.append(history)
    return pd.concat(frames, ignore_index=True)


def read_samples(grid: GridLike, dataset: str, backbone: str) -> dict[str, files.Samples]:
    """The samples of every method on one data set and backbone.

    Raises:
        FileNotFoundError: if one is missing; names it and the command that makes it.
        ValueError: if the methods do not show the same images.
    """
    samples: dict[str, files.Samples] = {}
    for method in grid.methods:
        cell = Cell(grid.profile, dataset, backbone, method)
        path = required(cell.samples_path, cell, "evaluate")
        samples[method] = files.read_samples(path)
        if not np.array_equal(samples[method].images, samples[grid.methods[0]].images):
            raise ValueError(f"{path} shows other images than those of {grid.methods[0]}")
    return samples
