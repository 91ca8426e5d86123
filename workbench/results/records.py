"""Records of runs: written to and read from the tables of their setting.

The folder of a setting (data set × backbone) holds the tables listed in `tables` with all its runs, what the runs
share in ``config.json``, and ``samples.npz``. A *record* is all that evaluation says about one run. It stays the
same when the run is repeated on the same machine; times, memory and host are in ``provenance.csv``.

Writing, from a stage or into a folder of the ledger (same files, one run)::

    tables.EPOCH_TABLE.update(history.assign(method=..., seed=...), folder, order=grid.methods)      # train
    records.write_records(evaluated, folder, order=grid.methods)                                      # evaluate
    samples.write_samples({method: shown}, folder, order=grid.methods)
    tables.RETRAINING_TABLE.update(rows, folder, order=grid.methods)                                  # retrain
    tables.JUDGE_TABLE.update(rows, profile_folder, order=grid.datasets)                              # judge
    tables.keep_provenance(tables.PROVENANCE_TABLE, [{"method": ..., "seed": ..., "stage": "train", **facts}],
                           folder, order=grid.methods)

Each replaces the rows of the runs that it writes and keeps all others. `records_in` and ``EPOCH_TABLE.read`` read
one folder. The functions that take a ``grid`` read a whole profile in the order of its grid; a missing run is an
error, and a run outside the grid is not read.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import pandas as pd

from workbench.config import files
from workbench.config.paths import GridLike, ProfilePaths, SettingPaths, grid_settings, pipeline, required
from workbench.config.run import RetrainingConfig
from workbench.results import shared, tables
from workbench.results.samples import Samples, samples_in
from workbench.results.shared import Facts
from workbench.results.tables import CASCADES, CURVES, RUN, SUMMARY, Table

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
            network itself and, with ``judge_`` before the name, of the judge on the network's maps.
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

    @property
    def fills(self) -> tuple[str, ...]:
        """The fills that its curves were measured with, in alphabetical order."""
        return tuple(sorted(set(self.curves) - {"fraction"}))


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
            (tables.CURVE_TABLE, _curve_rows),
            (tables.ATTRIBUTION_TABLE, _attribution_rows),
            (tables.SANITY_TABLE, _sanity_rows),
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
    metrics = [str(name) for name in runs.columns if name not in tables.RUN_TABLE.columns]
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
        config = facts[method].config
        records.append(
            RunRecord(
                profile=config["profile"],
                dataset=config["dataset"]["name"],
                backbone=config["backbone"]["name"],
                method=method,
                seed=seed,
                config={**config, "seed": seed},
                metrics={name: row[name] for name in metrics},
                curves=_curves(curves[method, seed], folder),
                summary={name: row[name] for name in SUMMARY},
                code=facts[method].code,
                packages=facts[method].packages,
                data=facts[method].data,
                attributions=_attributions(attributions.get((method, seed))),
                sanity=_sanity(sanity.get((method, seed)), folder),
            )
        )
    return records


def _methods_left(folder: Path, replaced: pd.DataFrame) -> list[str]:
    """The methods of the runs that stay in a folder when some are replaced."""
    if not (folder / tables.RUN_TABLE.name).exists():
        return []
    runs = tables.RUN_TABLE.read(folder)
    return runs["method"][~tables.present(runs, replaced, RUN)].unique().tolist()


def _run(record: RunRecord) -> dict[str, Any]:
    return {"method": record.method, "seed": record.seed}


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    """Floats rounded as Python does: to the nearer decimal. NumPy's rounding differs near the middle of two."""
    return {key: round(float(value), files.DIGITS) if isinstance(value, float) else value for key, value in row.items()}


def _curve_rows(record: RunRecord) -> Iterator[dict[str, Any]]:
    for fill in record.fills:
        points = zip(record.curves["fraction"], *(record.curves[fill][name] for name in CURVES), strict=True)
        for fraction, *scores in points:
            yield {"fill": fill, "fraction": fraction} | dict(zip(CURVES, scores, strict=True))


def _curves(rows: pd.DataFrame, folder: Path) -> Curves:
    curves: dict[str, Any] = {}
    for fill, points in rows.groupby("fill"):
        fractions = points["fraction"].tolist()
        if fractions != curves.setdefault("fraction", fractions):
            method, seed = points[list(RUN)].iloc[0]
            raise ValueError(f"{folder / 'curves.csv'}: {method}, seed {seed}: fills differ in their fractions")
        curves[str(fill)] = {name: points[name].tolist() for name in CURVES}
    return curves


def _attribution_rows(record: RunRecord) -> Iterator[dict[str, Any]]:
    for name in sorted(record.attributions):
        yield {"attribution": name} | dict(record.attributions[name])


def _attributions(rows: pd.DataFrame | None) -> dict[str, dict[str, float]]:
    if rows is None:
        return {}
    measured = rows.drop(columns=list(RUN)).set_index("attribution").to_dict("index")
    return {str(name): {str(key): value for key, value in metrics.items()} for name, metrics in measured.items()}


def _sanity_rows(record: RunRecord) -> Iterator[dict[str, Any]]:
    for name in sorted(set(record.sanity) - {"layers"}):
        cascade = record.sanity[name]
        for layer, *values in zip(record.sanity["layers"], *(cascade[key] for key in CASCADES), strict=True):
            yield {"attribution": name, "layer": layer} | dict(zip(CASCADES, values, strict=True))


def _sanity(rows: pd.DataFrame | None, folder: Path) -> Sanity:
    sanity: dict[str, Any] = {}
    if rows is None:
        return sanity
    for name, cascade in rows.groupby("attribution"):
        layers = cascade["layer"].tolist()
        if layers != sanity.setdefault("layers", layers):
            method, seed = cascade[list(RUN)].iloc[0]
            raise ValueError(f"{folder / 'sanity.csv'}: {method}, seed {seed}: attributions differ in their layers")
        sanity[str(name)] = {key: cascade[key].tolist() for key in CASCADES}
    return sanity


# -- a whole grid


def load_records(grid: GridLike) -> tuple[RunRecord, ...]:
    """All records of a grid, in the grid's order.

    Raises:
        FileNotFoundError: if one is missing; names it and the command that makes it.
        ValueError: if a folder holds another setting, or other metrics than the first.
    """
    records: list[RunRecord] = []
    for setting in grid_settings(grid):
        path = required(setting.runs, setting.made_by("evaluate"))
        found = records_in(setting.folder)
        for record in found[:1]:
            if SettingPaths(record.profile, record.dataset, record.backbone) != setting:
                held = f"{record.profile}, {record.dataset}, {record.backbone}"
                raise ValueError(f"{setting.config} is of {held}: in the wrong place")
        by_run = {(record.method, record.seed): record for record in found}
        records += [_run_of(by_run, run, path, setting, "evaluate") for run in product(grid.methods, grid.seeds)]
        files.check_keys(records[-1].metrics, set(records[0].metrics), path, "column ")
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
        for fill, curve in product(record.fills, CURVES):
            points = zip(record.curves["fraction"], record.curves[fill][curve], strict=True)
            for fraction, score in points:
                rows.append(record.keys | {"fill": fill, "curve": curve, "fraction": fraction, "score": score})
    return pd.DataFrame(rows)


def read_histories(grid: GridLike) -> pd.DataFrame:
    """One row per epoch of every run of a grid: dataset, backbone, method, seed, then `tables.EPOCH_COLUMNS`.

    Raises:
        FileNotFoundError: if one is missing; names it and the command that makes it.
        ValueError: for unknown or missing columns.
    """
    return _of_grid(tables.EPOCH_TABLE, grid, grid_settings(grid), "train")


def read_retraining(grid: GridLike, asked: RetrainingConfig) -> pd.DataFrame:
    """DiffROAR of every run of the retrained settings: dataset, backbone, method, seed, level, top, bottom, diffroar.

    Args:
        grid: of the profile.
        asked: its block ``retraining``; without settings, the frame has no rows.

    Raises:
        FileNotFoundError: if one is missing; names it and the command that makes it.
        ValueError: for unknown or missing columns, or other levels than those asked for.
    """
    chosen = [setting for setting in grid_settings(grid) if setting.name in asked.settings]
    found = _of_grid(tables.RETRAINING_TABLE, grid, chosen, "retrain")
    for (dataset, backbone, method, seed), rows in found.groupby(["dataset", "backbone", "method", "seed"]):
        if rows["level"].tolist() != list(asked.levels):
            path = SettingPaths(grid.profile, str(dataset), str(backbone)).retraining
            levels = f"{rows['level'].tolist()}: expected {list(asked.levels)}"
            raise ValueError(f"{path}: levels of {method}, seed {seed} are {levels}; retrain again")
    return found


def read_judges(grid: GridLike) -> pd.DataFrame:
    """One row per data set of a grid: the columns `tables.JUDGE`.

    Raises:
        FileNotFoundError: if one is missing; names it and the command that makes it.
        ValueError: for unknown or missing columns.
    """
    command = f"`dvc repro {pipeline(grid.profile)}judge`"
    path = required(ProfilePaths(grid.profile).judges, command)
    judges = tables.JUDGE_TABLE.read(path.parent).set_index("dataset", drop=False)
    for dataset in grid.datasets:
        if dataset not in judges.index:
            raise FileNotFoundError(f"{path} has no judge of {dataset}: {command} makes it")
    return judges.loc[list(grid.datasets)].reset_index(drop=True)


def read_samples(grid: GridLike, dataset: str, backbone: str) -> dict[str, Samples]:
    """The samples of every method on one data set and backbone.

    Raises:
        FileNotFoundError: if one is missing; names it and the command that makes it.
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


def _of_grid(table: Table, grid: GridLike, settings: Iterable[SettingPaths], stage: str) -> pd.DataFrame:
    """The rows of a grid's runs on some settings, in the grid's order."""
    parts = []
    for setting in settings:
        path = required(setting.folder / table.name, setting.made_by(stage))
        by_run = dict(iter(table.read(setting.folder).groupby(list(RUN))))
        runs = [_run_of(by_run, run, path, setting, stage) for run in product(grid.methods, grid.seeds)]
        part = pd.concat(runs)
        part.insert(0, "dataset", setting.dataset)
        part.insert(1, "backbone", setting.backbone)
        parts.append(part)
    empty = pd.DataFrame(columns=["dataset", "backbone", *table.columns])
    return pd.concat(parts, ignore_index=True) if parts else empty


def _run_of(by_run: Mapping[Any, T], run: tuple[str, int], path: Path, setting: SettingPaths, stage: str) -> T:
    if run not in by_run:
        raise FileNotFoundError(f"{path} has no {run[0]}, seed {run[1]}: {setting.made_by(stage)} makes it")
    return by_run[run]
