"""The old places of results, one file per run: to be deleted as soon as no room reads or writes them any more.

`paths.SettingPaths` has the new ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from workbench.config import paths
from workbench.config.paths import GridLike, pipeline

__all__ = ["Cell", "GridLike", "grid_cells", "pipeline", "required"]


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
