"""Every path of the workbench, so that nothing depends on the working directory.

A *profile* is one set of parameters with its own results: ``laptop`` (``params.yaml``), ``smoke``
(``tests/smoke.yaml``, writes only below ``runs/smoke``) and any folder with a ``params.yaml`` of its
own, such as ``paper`` and those in ``studies``. Set ``SMOOT_ROOT`` to work on another checkout than the one that
holds this file.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(os.environ.get("SMOOT_ROOT") or Path(__file__).parents[2]).resolve()

NOTEBOOKS = ROOT / "notebooks"
RAW = ROOT / "data" / "raw"
DATASETS_FILE = ROOT / "data" / "datasets.yaml"
LEDGER = ROOT / "scratch" / "ledger"
FAILED = ROOT / "logs" / "failed"
BENCHMARKS = ROOT / "results" / "benchmarks"


def profiles() -> dict[str, Path]:
    """Profile names and their parameter files, in reading order."""
    named = {"laptop": ROOT / "params.yaml", "smoke": ROOT / "tests" / "smoke.yaml"}
    folders = [*sorted(ROOT.glob("*/params.yaml")), *sorted(ROOT.glob("studies/*/params.yaml"))]
    return named | {file.parent.name: file for file in folders}


def params_file(profile: str) -> Path:
    """The parameter file of a profile.

    Raises:
        ValueError: if no such profile exists.
    """
    known = profiles()
    if profile not in known:
        raise ValueError(
            f"unknown profile {profile!r}: expected one of {', '.join(known)} "
            "(a new profile is a folder with a params.yaml of its own)"
        )
    return known[profile]


@dataclass(frozen=True)
class ProfilePaths:
    """Where one profile reads and writes; ``cell`` folders are ``DATASET/BACKBONE/METHOD``."""

    profile: str

    def __post_init__(self) -> None:
        params_file(self.profile)

    def _folder(self, kind: str) -> Path:
        """``ROOT/KIND/PROFILE``, except for ``smoke``, which stays below ``runs/smoke``."""
        if self.profile == "smoke":
            return ROOT / "runs" / "smoke" / kind
        return ROOT / kind / self.profile

    @property
    def records(self) -> Path:
        return self._folder("results") / "records"

    @property
    def history(self) -> Path:
        return self._folder("results") / "history"

    @property
    def provenance(self) -> Path:
        return self._folder("results/provenance")

    @property
    def judge(self) -> Path:
        return self._folder("results") / "judge"

    @property
    def judge_weights(self) -> Path:
        return ROOT / "runs" / self.profile / "judge"

    @property
    def retraining(self) -> Path:
        return self._folder("results") / "retraining"

    @property
    def manifest(self) -> Path:
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

    @property
    def weights(self) -> Path:
        return ROOT / "runs" / self.profile / "weights"

    @property
    def notebooks(self) -> Path:
        return ROOT / "runs" / self.profile / "notebooks"


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary path beside ``target`` that takes its place only if the block succeeds.

    Readers see the old file or the whole new one, never a part; a failed block leaves nothing behind.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
