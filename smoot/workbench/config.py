"""Parameters: frozen dataclasses built from a profile's YAML file, the only home of numbers.

An unknown or missing key, a wrong type or a value out of range is an error that names file, key and value.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from smoot.checks import check_between
from smoot.objective import Guidance
from smoot.scheduler import AdaptiveSchedule, Images, MaskPlan
from smoot.workbench.paths import params_file


@dataclass(frozen=True)
class DatasetConfig:
    """Which part of a data set is used, and how its pixels in [0, 1] are standardised."""

    name: str
    validation_images: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train_images: int | None = None
    foreground_threshold: float = 0.1

    def __post_init__(self) -> None:
        check_between("validation_images", self.validation_images, 1, float("inf"))
        if self.train_images is not None:
            check_between("train_images", self.train_images, 2, float("inf"))
        check_between("foreground_threshold", self.foreground_threshold)
        if not all(value > 0 for value in self.std):
            raise ValueError(f"std is {list(self.std)}: expected numbers above 0, one a channel")


@dataclass(frozen=True)
class ModelConfig:
    """A backbone: ``two_conv``, ``two_conv_small`` or any timm name with its options."""

    name: str
    architecture: str
    stem: Literal["small", "original"] = "original"
    pretrained: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AdaptiveConfig:
    """The adaptive schedule's own constants; see :class:`smoot.scheduler.AdaptiveSchedule`."""

    images: Images = "competence"
    budget: float = 0.1
    scale_mass: bool = False
    decay: float = 0.95

    def __post_init__(self) -> None:
        AdaptiveSchedule(**asdict(self))  # it knows what is allowed


@dataclass(frozen=True)
class MethodConfig:
    """A training method: a schedule and what is not scheduled."""

    name: str
    schedule: Literal["constant", "adaptive"]
    plan: MaskPlan
    guidance: Guidance
    adaptive: AdaptiveConfig | None = None

    def __post_init__(self) -> None:
        if (self.adaptive is not None) != (self.schedule == "adaptive"):
            raise ValueError(
                f"schedule is {self.schedule!r}: the block 'adaptive' belongs to 'adaptive', and only to it"
            )


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained; the same for every method."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    warmup_epochs: int = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    channels_last: bool = False
    compile: bool = False
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        check_between("epochs", self.epochs, 1, float("inf"))
        check_between("batch_size", self.batch_size, 2, float("inf"))
        check_between("warmup_epochs", self.warmup_epochs, 0, self.epochs - 1)
        for name in ("learning_rate", "weight_decay", "clip_norm"):
            if getattr(self, name) is not None:
                check_between(name, getattr(self, name), 0.0, float("inf"))


@dataclass(frozen=True)
class EvaluationConfig:
    """How a trained network and its saliency are measured."""

    batch_size: int
    noise_std: float
    curve_images: int
    curve_steps: int
    fills: tuple[Literal["mean", "black", "noise"], ...]
    ece_bins: int = 15

    def __post_init__(self) -> None:
        check_between("noise_std", self.noise_std, 0.0, float("inf"))
        for name in ("batch_size", "curve_images", "curve_steps", "ece_bins"):
            check_between(name, getattr(self, name), 1, float("inf"))
        if not self.fills:
            raise ValueError("fills is empty: name at least one of mean, black, noise")


@dataclass(frozen=True)
class RunConfig:
    """One training run and its evaluation."""

    profile: str
    seed: int
    dataset: DatasetConfig
    backbone: ModelConfig
    method: MethodConfig
    training: TrainingConfig
    evaluation: EvaluationConfig

    @property
    def cell(self) -> str:
        """``DATASET/BACKBONE/METHOD``."""
        return f"{self.dataset.name}/{self.backbone.name}/{self.method.name}"

    def stream(self, purpose: str, epoch: int = 0) -> int:
        """The seed of one random stream: a function of (seed, epoch, purpose) and of nothing else.

        So methods share data order and initialisation, and a run that is taken up again needs no saved state.
        """
        digest = hashlib.sha256(f"{self.seed}/{epoch}/{purpose}".encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1

    def as_dict(self) -> dict[str, Any]:
        """Everything, as plain numbers, strings, lists and dicts."""
        return asdict(self)


@dataclass(frozen=True)
class Grid:
    """The runs of a profile: every combination of its axes."""

    profile: str
    datasets: tuple[str, ...]
    backbones: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    workers: int

    def __post_init__(self) -> None:
        for axis in ("datasets", "backbones", "methods", "seeds"):
            names = getattr(self, axis)
            if len(names) == 0 or len(set(names)) < len(names):
                raise ValueError(f"{axis} is {list(names)}: expected at least one, and none of them twice")
        for seed in self.seeds:
            _check_seed(seed)
        check_between("workers", self.workers, 1, 1024)

    def cells(self) -> Iterator[tuple[str, str, str]]:
        """(dataset, backbone, method) in the pipeline's order."""
        for dataset in self.datasets:
            for backbone in self.backbones:
                for method in self.methods:
                    yield dataset, backbone, method


@dataclass(frozen=True)
class _Axes:
    """The block ``grid`` of a profile."""

    datasets: tuple[str, ...]
    backbones: tuple[str, ...]
    methods: tuple[str, ...]


TOP = ("profile", "root", "here", "grid", "seeds", "workers", "datasets", "backbones", "methods", "training")
TOP_KEYS = (*TOP, "evaluation")
IN_YAML = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
IN_YAML |= {tuple: "a list", Mapping: "a mapping"}


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
    values = _read(file, profile)
    _check_seed(seed)
    blocks = {"datasets": dataset, "backbones": backbone, "methods": method}
    parts = {block: _named(values, block, name, file) for block, name in blocks.items()}
    return RunConfig(
        profile=profile,
        seed=seed,
        dataset=_build(DatasetConfig, parts["datasets"], f"{file.name}: datasets.{dataset}"),
        backbone=_build(ModelConfig, parts["backbones"], f"{file.name}: backbones.{backbone}"),
        method=_build(MethodConfig, parts["methods"], f"{file.name}: methods.{method}"),
        training=_build(TrainingConfig, values["training"], f"{file.name}: training"),
        evaluation=_build(EvaluationConfig, values["evaluation"], f"{file.name}: evaluation"),
    )


def load_grid(profile: str) -> Grid:
    """The axes of a profile.

    Raises:
        ValueError: as :func:`load_run`; also for an axis that names something the file does not define.
    """
    file = params_file(profile)
    values = _read(file, profile)
    axes: _Axes = _build(_Axes, values["grid"], f"{file.name}: grid")
    rest = {"profile": profile, "seeds": values["seeds"], "workers": values["workers"]}
    grid: Grid = _build(Grid, asdict(axes) | rest, f"{file.name}: grid")
    for block in ("datasets", "backbones", "methods"):
        for name in getattr(grid, block):
            _named(values, block, name, file)
    return grid


def _read(file: Path, profile: str) -> Mapping[str, Any]:
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


def _named(values: Mapping[str, Any], block: str, name: str, file: Path) -> dict[str, Any]:
    """The entry of a block with its own name added."""
    entries = values[block]
    if not isinstance(entries, dict):
        raise ValueError(f"{file.name}: {block} is {entries!r}: expected a mapping from names to their keys")
    if not isinstance(name, str) or name not in entries:
        raise ValueError(f"unknown {block.removesuffix('s')} {name!r}: {file.name} defines {', '.join(entries)}")
    entry = entries[name]
    if not isinstance(entry, dict):
        raise ValueError(f"{file.name}: {block}.{name} is {entry!r}: expected a mapping of keys")
    if "name" in entry:
        raise ValueError(f"{file.name}: {block}.{name}: unknown key 'name': its name is {name!r}")
    return {"name": name, **entry}


def _check_seed(seed: int) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**31:
        raise ValueError(f"seed is {seed!r}: expected a whole number from 0 to {2**31 - 1}")


def _build(kind: type[Any], values: Any, where: str) -> Any:
    """A dataclass from a mapping, checked key by key."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} is {values!r}: expected a mapping with {', '.join(f.name for f in fields(kind))}")
    known = {entry.name: entry for entry in fields(kind)}
    for key in values:
        if key not in known:
            raise ValueError(f"{where}: unknown key {key!r}: expected {', '.join(known)}")
    for name, entry in known.items():
        if name not in values and entry.default is MISSING and entry.default_factory is MISSING:
            raise ValueError(f"{where}: key {name!r} is missing")
    hints = get_type_hints(kind)
    built = {key: _convert(hints[key], value, f"{where}.{key}") for key, value in values.items()}
    try:
        return kind(**built)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _convert(hint: Any, value: Any, where: str) -> Any:
    """``value`` as the type hint says, or a clear error."""
    origin, args = get_origin(hint), get_args(hint)
    if is_dataclass(hint) and isinstance(hint, type):
        return _build(hint, value, where)
    if origin in (Union, UnionType):
        return None if value is None and NoneType in args else _convert(args[0], value, where)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_convert(args[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    literal = origin is Literal and value in args and type(value) is type(args[0])
    plain = hint in (int, str, bool) and type(value) is hint
    mapping = args == (str, Any) and isinstance(value, dict)
    if literal or plain or mapping:
        return value
    expected = " or ".join(map(repr, args)) if origin is Literal else IN_YAML.get(origin or hint, str(hint))
    raise ValueError(f"{where} is {value!r}: expected {expected}")
