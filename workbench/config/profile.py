"""A profile's parameters: frozen dataclasses built from its YAML file and ``methods.yaml``, the only home of numbers.

All functions here raise ValueError, which names file, key and value, for an unknown name, an unknown or missing key, a
wrong type or a value out of range.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from smoot.checks import check_between
from workbench.config import paths
from workbench.config.files import read_yaml
from workbench.config.methods import MethodEntry, Methods
from workbench.config.paths import SettingPaths, params_file
from workbench.config.run import (
    DatasetConfig,
    EvaluationConfig,
    JudgeConfig,
    MethodConfig,
    ModelConfig,
    RetrainingConfig,
    RunConfig,
    TrainingConfig,
)
from workbench.config.schema import build, check_keys, check_name, nameless


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
        for name in (self.profile, *self.datasets, *self.methods, *(name for pair in self.settings for name in pair)):
            check_name(name, "a part of the grid")
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

    @property
    def setting_paths(self) -> tuple[SettingPaths, ...]:
        """Where each setting keeps its files, in the order of the settings."""
        return tuple(SettingPaths(self.profile, dataset, backbone) for dataset, backbone in self.settings)


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


OWN = (
    "profile",
    "repository",
    "folder",
    "shared",
    "grid",
    "seeds",
    "workers",
    "datasets",
    "methods",
    "regime",
    "claims",
    "study",
)
SHARED = ("backbones", "training", "evaluation", "judge", "retraining")  # in the file that `shared` names


def load_run(dataset: str, backbone: str, method: str, seed: int, profile: str) -> RunConfig:
    """The full configuration of one run.

    Args:
        dataset, backbone: keys of the profile's blocks ``datasets`` and ``backbones``.
        method: of ``methods.yaml`` or the profile's block ``methods``.
        seed: decides the images, the initialisation, the order of the data and every other draw.
        profile: ``laptop``, ``paper``, ``smoke`` or another folder with a ``params.yaml``.
    """
    values = read_profile(profile)
    _check_seed(seed)
    regime = values["regime"]
    if not isinstance(regime, dict):
        raise ValueError(f"{block_name(profile, 'regime')} is {regime!r}: expected a mapping of keys of training")
    chosen = load_method(method, profile)
    place = _methods(profile).where(method)
    images, training = dict(chosen.dataset), dict(chosen.training)
    of_images = f"{place}.dataset" if images else block_name(profile, f"datasets.{dataset}")
    parts: dict[str, Any] = {
        "dataset": build(DatasetConfig, _entry(profile, "datasets", dataset) | images, of_images),
        "backbone": load_backbone(backbone, profile),
        "training": build(
            TrainingConfig,
            values["training"] | regime | training if regime or training else values["training"],
            f"{place}.training" if training else block_name(profile, "regime" if regime else "training"),
        ),
        "evaluation": build(EvaluationConfig, values["evaluation"], block_name(profile, "evaluation")),
    }
    try:
        return RunConfig(profile=profile, seed=seed, method=chosen, **parts)
    except ValueError as error:
        raise ValueError(f"{of_images}: {error}") from None


def load_method(name: str, profile: str) -> MethodConfig:
    """One method of ``methods.yaml`` or of a profile's block ``methods``, with all that it inherits."""
    methods = _methods(profile)
    return build(MethodConfig, {"name": name} | methods.parameters(name), methods.where(name))


def method_entries(profile: str) -> dict[str, MethodEntry]:
    """How each method that a profile can name is shown: those of the registry first, then its own."""
    methods = _methods(profile)
    return {name: methods.entry(name) for name in methods.names}


def resolved_methods(profile: str) -> dict[str, dict[str, Any]]:
    """All parameters of each method of a profile's grid, defaults included; not how it is shown."""
    return {name: asdict(load_method(name, profile)) for name in load_grid(profile).methods}


def load_backbone(name: str, profile: str) -> ModelConfig:
    """One entry of a profile's block ``backbones``."""
    return build(ModelConfig, _entry(profile, "backbones", name), block_name(profile, f"backbones.{name}"))


def load_dataset(name: str, profile: str) -> DatasetConfig:
    """One entry of a profile's block ``datasets``."""
    return build(DatasetConfig, _entry(profile, "datasets", name), block_name(profile, f"datasets.{name}"))


def load_runs(
    dataset: str, backbone: str, method: str | None, profile: str, seeds: Sequence[int] | None = None
) -> list[RunConfig]:
    """The runs of a setting, method by method and seed by seed.

    Args:
        dataset, backbone, method, profile: as for :func:`load_run`; every method of the grid if None.
        seeds: at least one; the profile's own if None.
    """
    grid = load_grid(profile)
    if seeds is not None and not seeds:
        raise ValueError("seeds is []: expected at least one, or null for the profile's own")
    methods = grid.methods if method is None else (method,)
    runs = [load_run(dataset, backbone, name, seed, profile) for name in methods for seed in seeds or grid.seeds]
    known = [f"{'-'.join(setting)}/{name}" for setting in grid.settings for name in grid.methods]
    for network in runs[0].evaluation.attributions.networks:
        if network not in known:
            where = block_name(profile, "evaluation.attributions.networks")
            raise ValueError(f"{where} holds {network!r}: expected a setting and a method of the grid, as {known[0]}")
    return runs


def load_grid(profile: str) -> Grid:
    """The axes of a profile; all that they name is defined in its files."""
    values, where = read_profile(profile), block_name(profile, "grid")
    axes = build(_Axes, values["grid"], where)
    settings = tuple(_setting(name, entry, f"{where}.settings") for name, entry in axes.settings.items())
    rest = {"profile": profile, "settings": settings, "seeds": values["seeds"], "workers": values["workers"]}
    grid = build(Grid, asdict(axes) | rest, where)
    for block in ("datasets", "backbones"):
        for name in getattr(grid, block):
            _entry(profile, block, name)
    methods = _methods(profile)
    for name in (*grid.methods, *methods.own):
        methods.parameters(name)
    return grid


def load_judge(profile: str) -> JudgeConfig:
    """The block ``judge`` of a profile."""
    where = block_name(profile, "judge")
    judge = build(JudgeConfig, read_profile(profile)["judge"], where)
    for backbone in judge.backbones:
        _check_backbone(backbone, profile, where)
    return judge


def load_retraining(profile: str) -> RetrainingConfig:
    """The block ``retraining`` of a profile; its settings are of the grid."""
    where = block_name(profile, "retraining")
    retraining = build(RetrainingConfig, read_profile(profile)["retraining"], where)
    _check_backbone(retraining.backbone, profile, where)
    check_settings(retraining.settings, load_grid(profile), where)
    return retraining


def check_settings(names: Sequence[str], grid: Grid, where: str) -> None:
    """Refuse names ``DATASET-BACKBONE`` that a grid does not have; ``where`` is their place in the file."""
    known = ["-".join(setting) for setting in grid.settings]
    for name in names:
        if name not in known:
            raise ValueError(f"{where}: unknown setting {name!r}: expected {', '.join(known)}")


def block_name(profile: str, block: str) -> str:
    """How errors call a block: ``studies/number/params.yaml: grid``, from the repository's root."""
    file = params_file(profile)
    if block.partition(".")[0] in SHARED:
        file = paths.ROOT / _read(file)["shared"]
    return f"{_relative(file)}: {block}"


def _relative(file: Path) -> str:
    return file.relative_to(paths.ROOT).as_posix()


def _methods(profile: str) -> Methods:
    """The registry and the profile's own variants."""
    file = paths.methods_file()
    return Methods(_read(file), read_profile(profile)["methods"], _relative(file), block_name(profile, "methods"))


def _entry(profile: str, block: str, name: str) -> dict[str, Any]:
    """One entry of the block ``datasets`` or ``backbones``, with its own name added."""
    entries, where = read_profile(profile)[block], block_name(profile, block)
    if not isinstance(entries, dict):
        raise ValueError(f"{where} is {entries!r}: expected a mapping from names to their keys")
    for known in entries:
        check_name(known, f"{where}: an entry")
    if not isinstance(name, str) or name not in entries:
        raise ValueError(f"{where}: unknown {block.removesuffix('s')} {name!r}: expected {', '.join(entries)}")
    return {"name": name, **nameless(entries[name], name, f"{where}.{name}")}


def _check_backbone(name: str, profile: str, where: str) -> None:
    known = read_profile(profile)["backbones"]
    if name not in known:
        raise ValueError(f"{where}: unknown backbone {name!r}: expected {', '.join(known)}")


def _setting(name: str, entry: Any, where: str) -> tuple[str, str]:
    """Data set and backbone of one entry of ``grid.settings``."""
    _check_setting(str(name).split("-"), where)
    pair = build(_Pair, entry, f"{where}.{name}")
    _check_setting((pair.dataset, pair.backbone), where)
    if name != f"{pair.dataset}-{pair.backbone}":
        raise ValueError(f"{where} has the name {name!r}: expected {pair.dataset}-{pair.backbone}")
    return pair.dataset, pair.backbone


def _check_setting(parts: Sequence[str], where: str) -> None:
    for part in parts:
        check_name(part, f"{where}: a part of a setting")


def read_profile(profile: str) -> Mapping[str, Any]:
    """The parameters of a profile as they stand in its file and the one it shares; blocks are not checked here."""
    file = params_file(profile)
    values = _read(file)
    place = values.get("shared", _relative(file))
    shared = paths.ROOT / str(place)
    if not _is_file(shared) or not shared.resolve().is_relative_to(paths.ROOT.resolve()):
        raise ValueError(f"{_relative(file)}: shared is {place!r}: expected the path of a file in the repository")
    if shared == file:
        check_keys(values, (*OWN, *SHARED), _relative(file))
    else:
        check_keys(values, OWN, _relative(file))
        check_keys(_read(shared), SHARED, _relative(shared))
        values = values | _read(shared)
    if values["profile"] != profile:
        raise ValueError(f"{file} says profile {values['profile']!r}: expected {profile!r}")
    return values


def _is_file(path: Path) -> bool:
    """Whether there is a file; of a name that no file can have, there is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def _read(file: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping."""
    values = _parse(file, file.stat().st_mtime_ns if file.exists() else 0)
    if not isinstance(values, dict):
        raise ValueError(f"{file} holds {type(values).__name__}: expected a mapping of parameters")
    return values


@cache
def _parse(file: Path, modified: int) -> Any:
    """The file's content; read again when its time stamp changes."""
    return read_yaml(file)


def _check_seed(seed: int) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**31:
        raise ValueError(f"seed is {seed!r}: expected a whole number from 0 to {2**31 - 1}")
