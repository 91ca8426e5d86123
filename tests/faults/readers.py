"""Readers of the workbench on files of their own, and what comes out of a file with a mistake in it."""

import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from synthetic import Axes, lay_out, write_results
from tiny_idx import content, make_checkout, sha256
from tiny_runs import own_checkout

from workbench.config import paths, profile
from workbench.config.profile import Grid, load_judge, load_retraining
from workbench.data import catalogue, sets
from workbench.results import records
from workbench.stages.check import check_profile

CLEAR = (ValueError, FileNotFoundError)


@dataclass(frozen=True)
class Reader:
    """What is read, and the files in one of which there is a mistake."""

    read: Callable[[], object]
    files: tuple[Path, ...]


def of_profile(tmp_path: Path, patch: pytest.MonkeyPatch) -> Reader:
    """A profile of one setting, with methods of every schedule."""
    root = own_checkout(tmp_path / "checkout", patch)
    file, registry = root / "tests" / "smoke.yaml", root / "methods.yaml"
    params, methods = yaml.safe_load(file.read_text()), yaml.safe_load(registry.read_text())
    names = ["digits-two_conv_small"]
    params["grid"] = {"datasets": ["digits"], "methods": ["plain", "smoot"]}
    params["grid"]["settings"] = {names[0]: {"dataset": "digits", "backbone": "two_conv_small"}}
    params["datasets"] = {"digits": params["datasets"]["digits"]}
    params["retraining"]["settings"] = names
    params["claims"] = [claim | {"settings": names} for claim in params["claims"] if claim["reference"] == "plain"][:3]
    params["study"] = {"title": "Which", "exhibits": ["comparison"], "reference": "plain", "compared": ["smoot"]}
    rest: dict[str, Any] = {"plan": {}, "guidance": {}}
    params["methods"] = {name: {"title": name, "schedule": name, name: block} | rest for name, block in BLOCKS.items()}
    params["grid"]["methods"] += BLOCKS
    write(file, params)
    write(registry, {name: methods[name] for name in ("plain", "sgt", "sgt_improved", "smoot")})
    return Reader(lambda: check_profile("smoke"), (file, registry))


BLOCKS: dict[str, dict[str, Any]] = {  # of the schedules beside plain's and SMOOT's
    "adaptive": {"decay": 0.95},
    "sequence": {"image_fractions": [0.5, 1.0]},
    "per_image": {"rule": "staircase", "settings": {"up": 0.1}, "bounds": [[0.0, 0.9]]},
}


def write(file: Path, content: dict[str, Any]) -> None:
    file.write_text(yaml.safe_dump(content, sort_keys=False))


def of_catalogue(tmp_path: Path, patch: pytest.MonkeyPatch) -> Reader:
    """One entry of each kind."""
    file = own_checkout(tmp_path / "checkout", patch) / "data" / "datasets.yaml"
    entries = yaml.safe_load(file.read_text())
    kinds = {entry["kind"]: name for name, entry in entries.items()}
    sources = {entries[name]["source"] for name in kinds.values() if "source" in entries[name]}
    write(file, {name: entries[name] for name in {*kinds.values(), *sources}})
    return Reader(lambda: [catalogue.describe(name) for name in catalogue.known()], (file,))


def results_of(tmp_path: Path, patch: pytest.MonkeyPatch) -> Grid:
    axes = Axes(datasets=("fashion_mnist",), backbones=("two_conv_small",), methods=("plain", "smoot"), seeds=(0, 1))
    grid: Grid = lay_out(tmp_path, patch, axes)
    write_results(grid)
    return grid


def of_records(tmp_path: Path, patch: pytest.MonkeyPatch) -> Reader:
    grid = results_of(tmp_path, patch)
    (setting,) = grid.setting_paths
    judge, retraining = load_judge("laptop"), load_retraining("laptop")

    def read() -> None:
        records.load_records(grid)
        records.read_retraining(grid, retraining)
        records.read_judges(grid, judge)
        records.read_samples(grid, setting.dataset, setting.backbone)

    files = [file for file in setting.folder.iterdir() if file.name not in ("epochs.csv", "provenance.csv")]
    return Reader(read, (*sorted(files), paths.ProfilePaths("laptop").judges))


def of_histories(tmp_path: Path, patch: pytest.MonkeyPatch) -> Reader:
    grid = results_of(tmp_path, patch)
    return Reader(lambda: records.read_histories(grid), (grid.setting_paths[0].epochs,))


def of_idx(tmp_path: Path, patch: pytest.MonkeyPatch) -> Reader:
    """Files whose digests are those of their entry: others are not read at all."""
    checkout = make_checkout(tmp_path, patch)
    files = [checkout.raw / name for name in content()]
    checkout.raw.mkdir(parents=True)

    def read() -> None:
        digests = {file.name: sha256(file.read_bytes()) for file in files}
        checkout.describe(files=digests, num_classes=None, image_shape=None)
        sets.load("tiny")

    for file in files:
        file.write_bytes(content()[file.name])
    return Reader(read, tuple(files))


READERS = {"profile": of_profile, "catalogue": of_catalogue, "records": of_records, "histories": of_histories}
READERS |= {"idx": of_idx}


def problem(error: Exception, file: Path) -> str:
    """What is wrong with an error, and where it came from; empty if it is clear."""
    message, *_, (frame, line) = str(error), *traceback.walk_tb(error.__traceback__)
    where = f"{Path(frame.f_code.co_filename).name}:{line}"
    if type(error) not in CLEAR:
        return f"{type(error).__name__} in {where}"
    if file.name not in message:
        return f"{where} does not name the file"
    return f"{where} says several lines" if len(message.splitlines()) > 1 else ""


@dataclass
class Trial:
    """What became of the inputs so far.

    Attributes:
        counts: of those that were refused and read.
        found: the first of each kind of unclear error.
        slowest: seconds.
    """

    folder: Path
    counts: Counter[str] = field(default_factory=Counter)
    found: dict[str, str] = field(default_factory=dict)
    slowest: float = 0.0

    def read(self, reader: Reader, file: Path) -> None:
        profile._parse.cache_clear()  # it goes by the time stamp, and files are written faster than that counts
        start = time.monotonic()
        try:
            reader.read()
            self.counts["read"] += 1
        except Exception as error:
            self.counts["refused"] += 1
            if (wrong := problem(error, file)) and wrong not in self.found:
                kept = self.folder / f"{len(self.found)}-{file.name}"
                kept.write_bytes(file.read_bytes())
                self.found[wrong] = f"{kept}: {wrong}: {str(error)[:300]!r}"
        self.slowest = max(self.slowest, time.monotonic() - start)

    def __str__(self) -> str:
        tried = f"{self.counts.total()} inputs: {self.counts['refused']} refused, {self.counts['read']} read"
        return f"{tried}; the slowest took {self.slowest:.2f} s; {len(self.found)} kinds of unclear errors"
