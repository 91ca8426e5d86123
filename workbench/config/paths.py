"""Every path of the workbench, so that nothing depends on the working directory.

A *profile* is one set of parameters with its own results: ``laptop`` (``params.yaml``), ``smoke``
(``tests/smoke.yaml``, writes only below ``runs/smoke``) and any folder with a ``params.yaml`` of its
own, such as ``paper`` and those in ``studies``. A *setting* is a data set with a backbone, ``DATASET-BACKBONE``.

Set ``SMOOT_ROOT`` to work on another checkout than the one that holds this file.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from workbench.config.schema import NAME

ROOT = Path(os.environ.get("SMOOT_ROOT") or Path(__file__).parents[2]).resolve()

DEFAULT = "laptop"  # the profile that `make repro` makes

RAW = ROOT / "data" / "raw"
DATASETS_FILE = ROOT / "data" / "datasets.yaml"
LEDGER = ROOT / "scratch" / "ledger"
FAILED = ROOT / "logs" / "failed"
BENCHMARKS = ROOT / "results" / "benchmarks"
FINGERPRINTS = ROOT / "fingerprints"


def profiles() -> dict[str, Path]:
    """Profile names and their parameter files, in reading order."""
    named = {DEFAULT: ROOT / "params.yaml", "smoke": ROOT / "tests" / "smoke.yaml"}
    folders = [*sorted(ROOT.glob("*/params.yaml")), *sorted(ROOT.glob("studies/*/params.yaml"))]
    return named | {file.parent.name: file for file in folders}


def methods_file() -> Path:
    """The registry of the methods that all profiles share."""
    return ROOT / "methods.yaml"


def params_file(profile: str) -> Path:
    """The parameter file of a profile.

    Raises:
        ValueError: if no such profile exists.
    """
    known = {name: file for name, file in profiles().items() if NAME.fullmatch(name)}
    if profile not in known:
        raise ValueError(
            f"unknown profile {profile!r}: expected one of {', '.join(known)} "
            "(a new profile is a folder with a params.yaml of its own)"
        )
    return known[profile]


def pipeline(profile: str) -> str:
    """The prefix of a profile's stage names in ``dvc repro``: none for the default profile."""
    if profile == DEFAULT:
        return ""
    return f"{params_file(profile).parent.relative_to(ROOT).as_posix()}/dvc.yaml:"


@dataclass(frozen=True)
class ProfilePaths:
    """Where one profile reads and writes."""

    profile: str

    def __post_init__(self) -> None:
        params_file(self.profile)

    def _folder(self, kind: str) -> Path:
        """``ROOT/KIND/PROFILE``, except for ``smoke``, which stays below ``runs/smoke``."""
        if self.profile == "smoke":
            return ROOT / "runs" / "smoke" / kind
        return ROOT / kind / self.profile

    @property
    def results(self) -> Path:
        """A folder per setting, and the tables of the whole profile."""
        return self._folder("results")

    @property
    def judges(self) -> Path:
        """One row per data set and backbone: its judges."""
        return self.results / "judges.csv"

    @property
    def methods(self) -> Path:
        """The resolved parameters of the grid's methods."""
        return self.results / "methods.json"

    @property
    def weights(self) -> Path:
        """A folder per setting."""
        return ROOT / "runs" / self.profile / "weights"

    def judge_weights(self, dataset: str, backbone: str) -> Path:
        """The weights of one judge."""
        return ROOT / "runs" / self.profile / "judge" / f"{dataset}-{backbone}.safetensors"

    @property
    def manifest(self) -> Path:
        """One file per data set: its size and the SHA-256 of its content."""
        return self._folder("data/manifest")

    @property
    def figures(self) -> Path:
        return self._folder("figures")

    @property
    def tables(self) -> Path:
        return self.figures / "tables"

    @property
    def plots(self) -> Path:
        return self.figures / "plots"


@dataclass(frozen=True)
class SettingPaths:
    """Where the runs of one setting, of one profile, keep their results and weights."""

    profile: str
    dataset: str
    backbone: str

    @property
    def name(self) -> str:
        """``DATASET-BACKBONE``, as in parameters and stages."""
        return f"{self.dataset}-{self.backbone}"

    @property
    def folder(self) -> Path:
        """Where the tables of the setting are."""
        return ProfilePaths(self.profile).results / self.name

    @property
    def runs(self) -> Path:
        """One row per run: its metrics."""
        return self.folder / "runs.csv"

    @property
    def epochs(self) -> Path:
        """One row per run and epoch: the history of the training."""
        return self.folder / "epochs.csv"

    @property
    def retraining(self) -> Path:
        """One row per run and share of pixels: DiffROAR."""
        return self.folder / "retraining.csv"

    @property
    def samples(self) -> Path:
        """Some images and maps per method."""
        return self.folder / "samples.npz"

    @property
    def config(self) -> Path:
        """What all runs of the setting have in common."""
        return self.folder / "config.json"

    def weights(self, method: str, seed: int) -> Path:
        """The weights of one run."""
        return ProfilePaths(self.profile).weights / self.name / method / f"{seed}.safetensors"

    def made_by(self, stage: str) -> str:
        """The command that makes this setting's files of a stage (``train``, ``evaluate``, ``retrain``)."""
        if self.profile == "smoke":
            return f"the {stage} notebook with profile=smoke, dataset={self.dataset}, backbone={self.backbone}"
        return f"`dvc repro {pipeline(self.profile)}{stage}@{self.name}`"


def required(path: Path, made_by: str) -> Path:
    """The path, if the file is there; ``made_by`` says what makes it, as :meth:`SettingPaths.made_by` does.

    Raises:
        FileNotFoundError: names the file and what makes it.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: {made_by} makes it")
    return path
