"""The cells of a profile's grid, and where each keeps its files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Protocol

from workbench.config import paths


class GridLike(Protocol):
    """What readers need to know of a grid: its axes, in the order of tables and figures."""

    @property
    def profile(self) -> str: ...
    @property
    def datasets(self) -> Sequence[str]: ...
    @property
    def settings(self) -> Sequence[tuple[str, str]]: ...
    @property
    def methods(self) -> Sequence[str]: ...
    @property
    def seeds(self) -> Sequence[int]: ...


@dataclass(frozen=True)
class Cell:
    """One cell of a profile's grid; its folders are ``DATASET/BACKBONE/METHOD``."""

    profile: str
    dataset: str
    backbone: str
    method: str

    @property
    def folder(self) -> Path:
        return Path(self.dataset, self.backbone, self.method)

    @property
    def samples_path(self) -> Path:
        return paths.ProfilePaths(self.profile).records / self.folder / "samples.npz"

    def weights_path(self, seed: int) -> Path:
        return paths.ProfilePaths(self.profile).weights / self.folder / f"{seed}.safetensors"

    def retraining_path(self, seed: int) -> Path:
        return paths.ProfilePaths(self.profile).retraining / self.folder / f"{seed}.json"

    def record_path(self, seed: int) -> Path:
        return paths.ProfilePaths(self.profile).records / self.folder / f"{seed}.json"

    def history_path(self, seed: int) -> Path:
        return paths.ProfilePaths(self.profile).history / self.folder / f"{seed}.csv"

    def provenance_path(self, seed: int) -> Path:
        return paths.ProfilePaths(self.profile).provenance / self.folder / f"{seed}.json"

    def made_by(self, stage: str) -> str:
        """The command that makes this cell's files of a stage (``train``, ``evaluate``)."""
        if self.profile == "smoke":
            return f"the {stage} notebook with profile=smoke, dataset={self.dataset}, method={self.method}"
        return f"`dvc repro {pipeline(self.profile)}{stage}@{self.dataset}-{self.backbone}`"


def pipeline(profile: str) -> str:
    """What stands before a stage's name in `dvc repro`: nothing for the default profile."""
    if profile == "laptop":
        return ""
    return f"{paths.params_file(profile).parent.relative_to(paths.ROOT).as_posix()}/dvc.yaml:"


def grid_cells(grid: GridLike) -> Iterator[Cell]:
    """The cells of a grid, setting by setting."""
    for (dataset, backbone), method in product(grid.settings, grid.methods):
        yield Cell(grid.profile, dataset, backbone, method)


def required(path: Path, cell: Cell, stage: str) -> Path:
    """The path, if the file is there.

    Raises:
        FileNotFoundError: names the file and the command that makes it.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: {cell.made_by(stage)} makes it")
    return path
