"""Records of runs: written to and read from the tables of their setting.

The folder of a setting (data set × backbone) holds the tables listed in `tables` with all its runs, what the runs
share in ``config.json``, and ``samples.npz``. A *record* is all that evaluation says about one run. It stays the
same when the run is repeated on the same machine; times, memory and host are in ``provenance.csv``.

The functions that write replace the rows of the runs that they write and keep all others. `records_in` and
``EPOCH_TABLE.read`` read one folder: of a setting, or of the ledger (same files, one run). The functions that take a
``grid`` read a whole profile in the order of its grid, and no run outside it. They raise FileNotFoundError for a
missing file or run and name the command that makes it, ValueError for unknown or missing columns.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import pandas as pd

from workbench.config import files
from workbench.config.paths import ProfilePaths, SettingPaths, pipeline, required
from workbench.config.profile import Grid
from workbench.config.run import JudgeConfig, RetrainingConfig
from workbench.config.schema import check_keys
from workbench.results import shared, tables
from workbench.results.samples import Samples, samples_in
from workbench.results.shared import Facts
from workbench.results.tables import CURVES, RUN, SUMMARY, Table

T = TypeVar("T")
# {"fraction": [S], FILL: {name of CURVES: [S], ...}, ...}
Curves: TypeAlias = Mapping[str, Any]
# {} or {"layers": [L], ATTRIBUTION: {"spearman": [L], "ssim": [L]}, ...}
Sanity: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class RunRecord:
    """What one run gave.

    Attributes:
        profile, dataset, backbone, method: their names.
        seed: the seed that data order, initialisation and splits derive from.
        config: the full configuration as nested mappings; kept exactly, never rounded.
        metrics: flat numbers; fractions in [0, 1], losses in nats; NaN where a metric is undefined.
        curves: ``fraction`` (S,) and, for each fill, ``deletion``, ``insertion`` and ``random`` (S,) of the
            network itself and, with ``judge_`` before the name, of the judge on the network's maps of right answers;
            ``random`` is deletion by a random map.
        summary: the numbers `tables.SUMMARY` that sum up the training; see `summarised`.
        code: fingerprints of the code that made the record, by room.
        packages: versions by package name.
        data: SHA-256 of the data.
        attributions: metrics of each attribution by its name; empty where only the gradient was measured.
        sanity: ``layers`` (L,), the output's first, and for each attribution ``spearman`` and ``ssim`` (L,)
            between its maps before and after the layers up to this one are randomised; or empty.
    """

    profile: str
    dataset: str
    backbone: str
    method: str
    seed: int
    config: Mapping[str, Any]
    metrics: Mapping[str, float]
    curves: Curves
    summary: Mapping[str, float]
    code: Mapping[str, str]
    packages: Mapping[str, str]
    data: str
    attributions: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    sanity: Sanity = field(default_factory=dict)

    @property
    def keys(self) -> dict[str, Any]:
        """What identifies the record in a frame."""
        return {name: getattr(self, name) for name in ("dataset", "backbone", "method", "seed")}


def summarised(history: pd.DataFrame) -> dict[str, float]:
    """The numbers `tables.SUMMARY` of one training: validation accuracy is the best epoch's, which is kept.

    Args:
        history: one row per epoch, with the columns `tables.EPOCH_COLUMNS`.
    """
    best = int(history["validation_accuracy"].argmax())
    return {
        "epochs": len(history),
        "best_epoch": int(history["epoch"].iloc[best]),
        "validation_accuracy": float(history["validation_accuracy"].iloc[best]),
        "train_accuracy": float(history["accuracy"].iloc[-1]),
        "masked_share": float(history["masked_share"].mean()),
        "final_masked_share": float(history["masked_share"].iloc[-1]),
        "information_loss": float(history["information_loss"].iloc[-1]),
    }


# -- one folder


def write_records(records: Sequence[RunRecord], folder: Path, order: Sequence[str] = ()) -> None:
    """Write records of one setting: their rows of four tables, and what all runs of the setting share.

    Args:
        records: at least one, of one setting.
        folder: of the setting.
        order: of the methods, as in the grid.

    Raises:
        ValueError: if the records differ in what the runs of a setting share (or from those in the folder that
            stay), or have other metrics; names the file.
    """
    runs = pd.DataFrame([_run(record) | _rounded({**record.metrics, **record.summary}) for record in records])
    facts = [(record.method, Facts(record.config, record.code, record.packages, record.data)) for record in records]
    with tables.locked(folder):
        shared.update(facts, folder, kept=_methods_left(folder, runs))
        for table, rows in (
            (tables.CURVE_TABLE, lambda record: _series_rows(record.curves, tables.CURVE_TABLE, "fraction")),
            (tables.ATTRIBUTION_TABLE, _attribution_rows),
            (tables.SANITY_TABLE, lambda record: _series_rows(record.sanity, tables.SANITY_TABLE, "layers")),
        ):
            found = pd.DataFrame([_run(record) | _rounded(row) for record in records for row in rows(record)])
            empty = pd.DataFrame(columns=[name for name in table.columns if name != "*"])
            table.update(found if len(found) else empty, folder, order, replaced=runs)
        tables.RUN_TABLE.update(runs, folder, order)  # last, so that every run in it is in the others too


def records_in(folder: Path) -> list[RunRecord]:
    """The records of one setting, in the order of its table.

    Raises:
        FileNotFoundError: if a table is missing.
        ValueError: for a missing or unknown column or key, or a run without its curves; names the file.
    """
    runs = tables.RUN_TABLE.read(folder)
    facts = shared.read(folder)
    metrics = runs.columns.difference(list(tables.RUN_TABLE.columns), sort=False)
    curves, attributions, sanity = (
        dict(iter(table.read(folder).groupby(list(RUN))))
        for table in (tables.CURVE_TABLE, tables.ATTRIBUTION_TABLE, tables.SANITY_TABLE)
    )
    records = []
    for row in runs.to_dict("records"):
        method, seed = row["method"], row["seed"]
        for name, known in ((shared.NAME, method in facts), (tables.CURVE_TABLE.name, (method, seed) in curves)):
            if not known:
                raise ValueError(f"{folder / name} has no {method}, seed {seed}, which {tables.RUN_TABLE.name} has")
        found = facts[method]
        records.append(
            RunRecord(
                profile=found.config["profile"],
                dataset=found.config["dataset"]["name"],
                backbone=found.config["backbone"]["name"],
                method=method,
                seed=seed,
                config={**found.config, "seed": seed},
                metrics={name: row[name] for name in metrics},
                curves=_series(curves[method, seed], tables.CURVE_TABLE, "fraction", folder),
                summary={name: row[name] for name in SUMMARY},
                code=found.code,
                packages=found.packages,
                data=found.data,
                attributions=_attributions(attributions.get((method, seed))),
                sanity=_series(sanity.get((method, seed)), tables.SANITY_TABLE, "layers", folder),
            )
        )
    return records


def _methods_left(folder: Path, replaced: pd.DataFrame) -> list[str]:
    if not (folder / tables.RUN_TABLE.name).exists():
        return []
    runs = tables.RUN_TABLE.read(folder)
    return runs["method"][~tables.present(runs, replaced, RUN)].unique().tolist()


def _run(record: RunRecord) -> dict[str, Any]:
    return {"method": record.method, "seed": record.seed}


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    """Floats rounded as Python does: to the nearer decimal. NumPy's rounding differs near the middle of two."""
    return {key: round(float(value), files.DIGITS) if isinstance(value, float) else value for key, value in row.items()}


def _series_rows(series: Curves | Sanity, table: Table, axis: str) -> Iterator[dict[str, Any]]:
    """The rows of curves or sanity in their table, whose columns are the run, the name, a point of the axis, values."""
    label, point, *values = table.columns[len(RUN) :]
    for name in sorted(set(series) - {axis}):
        for row in zip(series[axis], *(series[name][value] for value in values), strict=True):
            yield {label: name} | dict(zip((point, *values), row, strict=True))


def _series(rows: pd.DataFrame | None, table: Table, axis: str, folder: Path) -> dict[str, Any]:
    label, point, *values = table.columns[len(RUN) :]
    series: dict[str, Any] = {}
    for name, own in () if rows is None else rows.groupby(label):
        points = own[point].tolist()
        if points != series.setdefault(axis, points):
            method, seed = own[list(RUN)].iloc[0]
            raise ValueError(f"{folder / table.name}: {method}, seed {seed}: {label}s differ in their {point}s")
        series[str(name)] = {value: own[value].tolist() for value in values}
    return series


def _attribution_rows(record: RunRecord) -> Iterator[dict[str, Any]]:
    for name in sorted(record.attributions):
        yield {"attribution": name} | dict(record.attributions[name])


def _attributions(rows: pd.DataFrame | None) -> dict[Any, Any]:
    return {} if rows is None else rows.drop(columns=list(RUN)).set_index("attribution").to_dict("index")


# -- a whole grid


def load_records(grid: Grid) -> tuple[RunRecord, ...]:
    """All records of a grid, in the grid's order.

    Raises:
        ValueError: if a folder holds another setting, or other metrics than the first.
    """
    records: list[RunRecord] = []
    for setting in grid.setting_paths:
        path = required(setting.runs, setting.made_by("evaluate"))
        found = records_in(setting.folder)
        for record in found[:1]:
            if SettingPaths(record.profile, record.dataset, record.backbone) != setting:
                held = f"{record.profile}, {record.dataset}, {record.backbone}"
                raise ValueError(f"{setting.config} is of {held}: in the wrong place")
        by_run = {(record.method, record.seed): record for record in found}
        records += [_run_of(by_run, run, path, setting, "evaluate") for run in product(grid.methods, grid.seeds)]
        check_keys(records[-1].metrics, records[0].metrics, str(path), kind="column")
    return tuple(records)


def metrics_frame(records: Sequence[RunRecord]) -> pd.DataFrame:
    """One row per record: dataset, backbone, method, seed, then every metric."""
    return pd.DataFrame([record.keys | dict(record.metrics) for record in records])


def attributions_frame(records: Sequence[RunRecord]) -> pd.DataFrame:
    """One row per record and attribution: dataset, backbone, method, seed, attribution, then its metrics.

    Records without attributions have no rows; without any row the frame is empty.
    """
    return pd.DataFrame([record.keys | row for record in records for row in _attribution_rows(record)])


def curves_frame(records: Sequence[RunRecord]) -> pd.DataFrame:
    """Long form: dataset, backbone, method, seed, fill, curve, fraction, score."""
    rows = []
    for record in records:
        for fill, curve in product(sorted(set(record.curves) - {"fraction"}), CURVES):
            for fraction, score in zip(record.curves["fraction"], record.curves[fill][curve], strict=True):
                rows.append(record.keys | {"fill": fill, "curve": curve, "fraction": fraction, "score": score})
    return pd.DataFrame(rows)


def read_histories(grid: Grid) -> pd.DataFrame:
    """One row per epoch of every run of a grid: dataset, backbone, method, seed, then `tables.EPOCH_COLUMNS`."""
    return _of_grid(tables.EPOCH_TABLE, grid, grid.setting_paths, "train")


def read_retraining(grid: Grid, asked: RetrainingConfig) -> pd.DataFrame:
    """DiffROAR of every run of the retrained settings: dataset, backbone, method, seed, level, top, bottom, diffroar.

    Args:
        grid: of the profile.
        asked: its block ``retraining``; without settings, the frame has no rows.

    Raises:
        ValueError: for other levels than those asked for.
    """
    chosen = [setting for setting in grid.setting_paths if setting.name in asked.settings]
    found = _of_grid(tables.RETRAINING_TABLE, grid, chosen, "retrain")
    for (dataset, backbone, method, seed), rows in found.groupby(["dataset", "backbone", "method", "seed"]):
        if rows["level"].tolist() != list(asked.levels):
            path = SettingPaths(grid.profile, str(dataset), str(backbone)).retraining
            levels = f"{rows['level'].tolist()}: expected {list(asked.levels)}"
            raise ValueError(f"{path}: levels of {method}, seed {seed} are {levels}; retrain again")
    return found


def read_judges(grid: Grid, asked: JudgeConfig) -> pd.DataFrame:
    """One row per data set of a grid and judge of its profile's block ``judge``: the columns `tables.JUDGE`."""
    command = f"`dvc repro {pipeline(grid.profile)}judge`"
    path = required(ProfilePaths(grid.profile).judges, command)
    judges = tables.JUDGE_TABLE.read(path.parent).set_index(["dataset", "backbone"], drop=False)
    names = list(product(grid.datasets, asked.backbones))
    for dataset, backbone in names:
        if (dataset, backbone) not in judges.index:
            raise FileNotFoundError(f"{path} has no judge of {dataset} with {backbone}: {command} makes it")
    return judges.loc[names].reset_index(drop=True)


def read_samples(grid: Grid, dataset: str, backbone: str) -> dict[str, Samples]:
    """The samples of every method on one data set and backbone.

    Raises:
        ValueError: if the methods do not show the same images.
    """
    setting = SettingPaths(grid.profile, dataset, backbone)
    found = samples_in(required(setting.samples, setting.made_by("evaluate")).parent)
    for method in grid.methods:
        if method not in found:
            raise FileNotFoundError(f"{setting.samples} has no {method}: {setting.made_by('evaluate')} makes it")
        if not np.array_equal(found[method].images, found[grid.methods[0]].images):
            raise ValueError(f"{setting.samples}: {method} shows other images than {grid.methods[0]}")
    return {method: found[method] for method in grid.methods}


def _of_grid(table: Table, grid: Grid, settings: Sequence[SettingPaths], stage: str) -> pd.DataFrame:
    parts = []
    for setting in settings:
        path = required(setting.folder / table.name, setting.made_by(stage))
        by_run = dict(iter(table.read(setting.folder).groupby(list(RUN))))
        runs = [_run_of(by_run, run, path, setting, stage) for run in product(grid.methods, grid.seeds)]
        parts.append(pd.concat(runs).assign(dataset=setting.dataset, backbone=setting.backbone))
    columns = ["dataset", "backbone", *table.columns]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def _run_of(by_run: Mapping[Any, T], run: tuple[str, int], path: Path, setting: SettingPaths, stage: str) -> T:
    if run not in by_run:
        raise FileNotFoundError(f"{path} has no {run[0]}, seed {run[1]}: {setting.made_by(stage)} makes it")
    return by_run[run]
