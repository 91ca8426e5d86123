"""A profile's parameters: frozen dataclasses built from its YAML file, the only home of numbers.

An unknown or missing key, a wrong type or a value out of range is an error that names file, key and value.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from smoot.checks import check_between
from workbench.config.paths import params_file
from workbench.config.run import (
    AdaptiveConfig,
    AttributionsConfig,
    DatasetConfig,
    EvaluationConfig,
    MethodConfig,
    ModelConfig,
    RobustnessConfig,
    RunConfig,
    TrainingConfig,
)
from workbench.config.schema import build, named

__all__ = [
    "AdaptiveConfig",
    "AttributionsConfig",
    "DatasetConfig",
    "EvaluationConfig",
    "Grid",
    "MethodConfig",
    "ModelConfig",
    "RobustnessConfig",
    "RunConfig",
    "TrainingConfig",
    "load_backbone",
    "load_dataset",
    "load_grid",
    "load_run",
    "load_runs",
    "read_profile",
]


@dataclass(frozen=True)
class Grid:
    """The runs of a profile: every method and seed on every setting.

    Attributes:
        profile: its name.
        datasets: in the order of tables and figures.
        settings: (data set, backbone) pairs; not every data set needs every backbone.
        methods, seeds: of every setting.
        workers: processes at the same time.
    """

    profile: str
    datasets: tuple[str, ...]
    settings: tuple[tuple[str, str], ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    workers: int

    def __post_init__(self) -> None:
        for axis in ("datasets", "settings", "methods", "seeds"):
            names = getattr(self, axis)
            if len(names) == 0 or len(set(names)) < len(names):
                raise ValueError(f"{axis} is {list(names)}: expected at least one, and none of them twice")
        if {dataset for dataset, _ in self.settings} != set(self.datasets):
            raise ValueError(f"datasets is {list(self.datasets)}: expected those of the settings, no more and no less")
        for seed in self.seeds:
            _check_seed(seed)
        check_between("workers", self.workers, 1, 1024)

    @property
    def backbones(self) -> tuple[str, ...]:
        """Each backbone once, in the order of the settings."""
        return tuple(dict.fromkeys(backbone for _, backbone in self.settings))

    def cells(self) -> Iterator[tuple[str, str, str]]:
        """(dataset, backbone, method) in the pipeline's order."""
        for dataset, backbone in self.settings:
            for method in self.methods:
                yield dataset, backbone, method


@dataclass(frozen=True)
class _Axes:
    """The block ``grid`` of a profile."""

    datasets: tuple[str, ...]
    settings: Mapping[str, Any]
    methods: tuple[str, ...]


@dataclass(frozen=True)
class _Pair:
    """One entry of ``grid.settings``; its name is ``DATASET-BACKBONE``, as the pipeline's stages are called."""

    dataset: str
    backbone: str


TOP = ("profile", "root", "here", "grid", "seeds", "workers", "datasets", "backbones", "methods", "training")
TOP_KEYS = (*TOP, "evaluation", "judge", "retraining", "claims", "study")


def load_run(dataset: str, backbone: str, method: str, seed: int, profile: str) -> RunConfig:
    """The full configuration of one run.

    Args:
        dataset, backbone, method: keys of the profile's blocks ``datasets``, ``backbones``, ``methods``.
        seed: decides the subset, the initialisation, the order of the data and every draw.
        profile: ``laptop``, ``paper``, ``smoke`` or another folder with a ``params.yaml``.

    Raises:
        ValueError: for an unknown name or key, a missing key, a wrong type or a value out of range.
    """
    file = params_file(profile)
    values = read_profile(profile)
    _check_seed(seed)
    where = f"{file.name}: methods.{method}"
    chosen: MethodConfig = build(MethodConfig, named(values, "methods", method, file), where)
    entry = named(values, "datasets", dataset, file) | dict(chosen.dataset)
    changed = values["training"] | dict(chosen.training) if chosen.training else values["training"]
    return RunConfig(
        profile=profile,
        seed=seed,
        dataset=build(
            DatasetConfig, entry, f"{where}.dataset" if chosen.dataset else f"{file.name}: datasets.{dataset}"
        ),
        backbone=load_backbone(backbone, profile),
        method=chosen,
        training=build(TrainingConfig, changed, f"{where}.training" if chosen.training else f"{file.name}: training"),
        evaluation=build(EvaluationConfig, values["evaluation"], f"{file.name}: evaluation"),
    )


def load_backbone(name: str, profile: str) -> ModelConfig:
    """One entry of a profile's block ``backbones``.

    Raises:
        ValueError: as :func:`load_run`.
    """
    file = params_file(profile)
    entry = named(read_profile(profile), "backbones", name, file)
    backbone: ModelConfig = build(ModelConfig, entry, f"{file.name}: backbones.{name}")
    return backbone


def load_dataset(name: str, profile: str) -> DatasetConfig:
    """One entry of a profile's block ``datasets``.

    Raises:
        ValueError: as :func:`load_run`.
    """
    file = params_file(profile)
    entry = named(read_profile(profile), "datasets", name, file)
    dataset: DatasetConfig = build(DatasetConfig, entry, f"{file.name}: datasets.{name}")
    return dataset


def load_runs(
    dataset: str, backbone: str, method: str | None, profile: str, seeds: Sequence[int] | None = None
) -> list[RunConfig]:
    """The runs of a cell, method by method and seed by seed.

    Args:
        dataset, backbone, method, profile: as for :func:`load_run`; every method of the profile if None.
        seeds: the profile's own seeds if None.

    Raises:
        ValueError: as :func:`load_run`; also for an empty list of seeds.
    """
    grid = load_grid(profile)
    if seeds is not None and not seeds:
        raise ValueError("seeds is []: expected at least one, or null for the profile's own")
    methods = grid.methods if method is None else (method,)
    runs = [load_run(dataset, backbone, name, seed, profile) for name in methods for seed in seeds or grid.seeds]
    known = ["/".join(cell) for cell in grid.cells()]
    for cell in runs[0].evaluation.attributions.cells:
        if cell not in known:
            file = params_file(profile).name
            raise ValueError(f"{file}: evaluation.attributions.cells holds {cell!r}: expected one of the grid's cells")
    return runs


def load_grid(profile: str) -> Grid:
    """The axes of a profile.

    Raises:
        ValueError: as :func:`load_run`; also for an axis that names something the file does not define.
    """
    file = params_file(profile)
    values = read_profile(profile)
    axes: _Axes = build(_Axes, values["grid"], f"{file.name}: grid")
    settings = tuple(_setting(name, entry, file) for name, entry in axes.settings.items())
    rest = {"profile": profile, "settings": settings, "seeds": values["seeds"], "workers": values["workers"]}
    grid: Grid = build(Grid, asdict(axes) | rest, f"{file.name}: grid")
    for block in ("datasets", "backbones", "methods"):
        for name in getattr(grid, block):
            named(values, block, name, file)
    return grid


def _setting(name: str, entry: Any, file: Path) -> tuple[str, str]:
    """Data set and backbone of one entry of ``grid.settings``."""
    pair: _Pair = build(_Pair, entry, f"{file.name}: grid.settings.{name}")
    if name != f"{pair.dataset}-{pair.backbone}":
        raise ValueError(f"{file.name}: grid.settings has the name {name!r}: expected {pair.dataset}-{pair.backbone}")
    return pair.dataset, pair.backbone


def read_profile(profile: str) -> Mapping[str, Any]:
    """The parameters of a profile as they stand in its file; its blocks are not checked here.

    Raises:
        ValueError: for an unknown profile, a file that is no YAML mapping, or an unknown or missing block.
    """
    file = params_file(profile)
    try:
        values = _parse(file, file.stat().st_mtime_ns)
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{file} holds {type(values).__name__}: expected a mapping of parameters")
    for key in values:
        if key not in TOP_KEYS:
            raise ValueError(f"{file.name}: unknown key {key!r}: expected {', '.join(TOP_KEYS)}")
    for key in TOP_KEYS:
        if key not in values:
            raise ValueError(f"{file.name}: key {key!r} is missing")
    if values["profile"] != profile:
        raise ValueError(f"{file} says profile {values['profile']!r}: expected {profile!r}")
    return values


@cache
def _parse(file: Path, modified: int) -> Any:
    """The file's content; read again when its time stamp changes."""
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def _check_seed(seed: int) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**31:
        raise ValueError(f"seed is {seed!r}: expected a whole number from 0 to {2**31 - 1}")
