"""What ``data/datasets.yaml`` says of each data set, as frozen dataclasses; every key is checked."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal

import yaml

from smoot.checks import check_between
from workbench.config import paths

STORED = ("idx", "scikit_learn", "image_folder")
DERIVED = ("block", "shortcut")
KINDS = STORED + DERIVED
KINDS_OF_KEY: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("files", "addresses", "packages", "root"), STORED),
    **{"source": DERIVED, "seed": DERIVED, "correlation": ("shortcut",)},
}
Region = Literal["foreground", "block", "shortcut"]
REGIONS: Mapping[str, Region] = {"block": "block", "shortcut": "shortcut"}
REGISTRIES = ("debian", "npm")


@dataclass(frozen=True)
class StoredFile:
    """The size and SHA-256 of a file's uncompressed content."""

    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        if not isinstance(self.bytes, int) or self.bytes < 1:
            raise ValueError(f"bytes is {self.bytes!r}: expected a positive integer")
        if not re.fullmatch("[0-9a-f]{64}", str(self.sha256)):
            raise ValueError(f"sha256 is {self.sha256!r}: expected 64 hexadecimal digits")

    def __str__(self) -> str:
        return f"{self.bytes:,} bytes with SHA-256 {self.sha256}"


@dataclass(frozen=True)
class Package:
    """A package that carries the same bytes, and the folder in it that holds the files."""

    registry: str
    name: str
    folder: str
    version: str = ""

    def __post_init__(self) -> None:
        if self.registry not in REGISTRIES:
            raise ValueError(f"registry is {self.registry!r}: expected one of {', '.join(REGISTRIES)}")

    def __str__(self) -> str:
        registry = {"debian": "Debian", "npm": "npm"}[self.registry]
        return f"{registry} package {self.name} {self.version}".rstrip()


@dataclass(frozen=True)
class DataSet:
    """One entry of ``data/datasets.yaml``; ``None`` stands for "taken from the images".

    A derived set (kind ``block`` or ``shortcut``) is made from another set, its ``source``, with draws from its
    ``seed``; ``correlation`` is that of a shortcut with the label in the training part.
    """

    name: str
    title: str
    kind: str
    licence: str
    citation: str
    num_classes: int | None
    image_shape: tuple[int, int, int] | None
    files: Mapping[str, StoredFile] = field(default_factory=dict)
    addresses: tuple[str, ...] = ()
    packages: tuple[Package, ...] = ()
    root: str = ""
    source: str = ""
    seed: int | None = None
    correlation: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}: expected one of {', '.join(KINDS)}")
        if self.kind == "image_folder" and not self.root:
            raise ValueError("root is missing: an image_folder needs the folder that holds train/ and test/")
        if self.kind in ("idx", "scikit_learn") and not (self.files and self.num_classes and self.image_shape):
            raise ValueError(f"a set of kind {self.kind} needs files, num_classes and image_shape")
        for key, kinds in KINDS_OF_KEY.items():
            if getattr(self, key) not in (None, "", (), {}) and self.kind not in kinds:
                raise ValueError(f"{key} belongs to the kinds {', '.join(kinds)}: a set of kind {self.kind} has none")
        if self.derived:
            self._check_derivation()

    @property
    def derived(self) -> bool:
        """Whether the set is made from another one."""
        return self.kind in DERIVED

    @property
    def region(self) -> Region:
        """What the evidence in an image is: known exactly in a derived set, else its foreground."""
        return REGIONS.get(self.kind, "foreground")

    def _check_derivation(self) -> None:
        """Refuse what a set could not be made from, or not twice the same."""
        if not isinstance(self.source, str) or not self.source:
            raise ValueError(f"source is {self.source!r}: a set of kind {self.kind} needs the name of another set")
        if type(self.seed) is not int or self.seed < 0:
            raise ValueError(f"seed is {self.seed!r}: a set of kind {self.kind} needs a whole number from 0")
        if self.kind == "shortcut" and self.correlation is None:
            raise ValueError("correlation is missing: a set of kind shortcut needs a number in [0, 1]")
        check_between("correlation", self.correlation or 0.0)


def known() -> list[str]:
    """The names of all data sets, sorted."""
    return sorted(_entries())


def describe(name: str) -> DataSet:
    """The entry of a data set.

    Raises:
        ValueError: if there is no such set, or its entry has an unknown, missing or impossible key.
    """
    entries = _entries()
    if name not in entries:
        raise ValueError(f"unknown data set {name!r}: expected one of {', '.join(sorted(entries))}")
    try:
        dataset = _parse(name, entries[name])
        if dataset.derived:
            _check_source(dataset.source, entries)
        return dataset
    except ValueError as error:
        raise ValueError(f"{paths.DATASETS_FILE.name}, {name}: {error}") from None


def content_sha256(files: Mapping[str, StoredFile]) -> str:
    """One digest over a set's content: that of the lines ``SHA256  NAME``, sorted by name."""
    lines = (f"{files[name].sha256}  {name}\n" for name in sorted(files))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _entries() -> dict[str, Any]:
    """The YAML file as it is."""
    entries = yaml.safe_load(paths.DATASETS_FILE.read_text(encoding="utf-8"))
    if not isinstance(entries, dict):
        raise ValueError(f"{paths.DATASETS_FILE} holds no data sets: expected a mapping of names to entries")
    return entries


def _check_source(source: str, entries: Mapping[str, Any]) -> None:
    """Refuse a source that is no set, or a derived one itself."""
    stored = [name for name, entry in entries.items() if isinstance(entry, dict) and entry.get("kind") in STORED]
    if source not in stored:
        problem = "derived itself" if source in entries else "no data set"
        raise ValueError(f"source is {source!r}, which is {problem}: expected one of {', '.join(sorted(stored))}")


def _parse(name: str, entry: object) -> DataSet:
    """The checked entry."""
    values = _checked(entry, DataSet, given={"name"})
    shape = values["image_shape"]
    if shape is not None and not _is_shape(shape):
        raise ValueError(f"image_shape is {shape!r}: expected [channels, height, width]")
    values["image_shape"] = None if shape is None else tuple(shape)
    values["files"] = {
        file: StoredFile(**_checked(stored, StoredFile)) for file, stored in (values.get("files") or {}).items()
    }
    values["addresses"] = tuple(values.get("addresses") or ())
    values["packages"] = tuple(Package(**_checked(p, Package)) for p in values.get("packages") or ())
    return DataSet(name=name, **values)


def _is_shape(shape: object) -> bool:
    """Whether a value is three positive integers."""
    return isinstance(shape, list) and len(shape) == 3 and all(isinstance(n, int) and n > 0 for n in shape)


def _checked(entry: object, target: type, given: frozenset[str] | set[str] = frozenset()) -> dict[str, Any]:
    """A mapping with all keys that ``target`` needs and none that it does not have."""
    if not isinstance(entry, dict):
        raise ValueError(f"{entry!r} is no mapping")
    possible = {f.name: f for f in fields(target) if f.name not in given}
    needed = [n for n, f in possible.items() if f.default is MISSING and f.default_factory is MISSING]
    for key in [*entry, *needed]:
        if key not in possible:
            raise ValueError(f"unknown key {key!r}: expected one of {', '.join(possible)}")
        if key not in entry:
            raise ValueError(f"missing key {key!r}: needed are {', '.join(needed)}")
    return dict(entry)
