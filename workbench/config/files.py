"""How results are stored: JSON, CSV and npz files, whole or not at all, same content same bytes."""

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

DIGITS = 6  # decimals of every stored float


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


def write_text(text: str, path: Path) -> Path:
    """Write text, whole or not at all, with the same line ends on every system."""
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode())
    return path


def simplified(value: Any, where: str, digits: int | None = DIGITS) -> Any:
    """Plain JSON types: floats rounded to ``digits`` decimals (``None``: exact), NaN as ``None``.

    Raises:
        ValueError: for an infinite number or a type that JSON does not have; ``where`` names it.
    """
    if isinstance(value, Mapping):
        return {str(key): simplified(item, f"{where}.{key}", digits) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [simplified(item, f"{where}[{index}]", digits) for index, item in enumerate(value)]
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        number = float(value)
        if math.isinf(number):
            raise ValueError(f"{where} is {number}: expected a finite number, or NaN for an undefined one")
        if math.isnan(number):
            return None
        return number if digits is None else round(number, digits) + 0.0  # + 0.0: no negative zero
    raise ValueError(f"{where} is a {type(value).__name__}: expected a number, text, list or mapping")


def check_keys(content: Mapping[str, Any], expected: set[str], path: Path, where: str = "") -> None:
    """Refuse a mapping with other keys than expected; ``where`` is its place in the file.

    Raises:
        ValueError: names the file and the first missing or unknown key.
    """
    for key in sorted(expected - set(content)):
        raise ValueError(f"{path}: key {where}{key} is missing")
    for key in sorted(set(content) - expected):
        raise ValueError(f"{path}: unknown key {where}{key}: expected {', '.join(sorted(expected))}")


def write_json(content: Mapping[str, Any], path: Path) -> Path:
    """Write plain JSON with sorted keys."""
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
    return write_text(text, path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON mapping.

    Raises:
        ValueError: if the file holds anything else.
    """
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): delete it and make it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}: expected a mapping")
    return content


def write_csv(frame: pd.DataFrame, path: Path) -> Path:
    """Write a frame without its index, floats rounded, the same line ends on every system."""
    floats = {str(column): frame[column].round(DIGITS) + 0.0 for column in frame.select_dtypes("float")}
    with replacing(path) as temporary:
        frame.assign(**floats).to_csv(temporary, index=False, lineterminator="\n")
    return path


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file so that ``target`` is never half of it."""
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


# -- The old stores, one file per run: to be deleted with `cells`.

HISTORY_COLUMNS = (
    "epoch",
    "total",
    "classification",
    "consistency",
    "accuracy",
    "validation_accuracy",
    "validation_loss",
    "competence",
    "image_fraction",
    "masked_share",
    "masked_pixels",
    "information_loss",
    "flip_share",
    "cross_entropy_rise",
    "first_order_change",
)


def write_history(history: pd.DataFrame, path: Path) -> Path:
    """Write the epochs of one training, one row each; the columns are `HISTORY_COLUMNS`."""
    check_keys(dict.fromkeys(history.columns), set(HISTORY_COLUMNS), path, "column ")
    return write_csv(history[list(HISTORY_COLUMNS)], path)


def read_history(path: Path) -> pd.DataFrame:
    """Read the epochs of one training; NaN where nothing was masked.

    Raises:
        ValueError: for unknown or missing columns.
    """
    history = pd.read_csv(path)
    check_keys(dict.fromkeys(history.columns), set(HISTORY_COLUMNS), path, "column ")
    return history


def update_provenance(path: Path, stage: str, facts: Mapping[str, Any]) -> Path:
    """Set what one stage (``train``, ``evaluate``) has to say of a run's times, host and origin."""
    content = read_json(path) if path.exists() else {}
    return write_json(content | {stage: simplified(facts, stage)}, path)


def keep_provenance(path: Path, stage: str, facts: Mapping[str, Any]) -> None:
    """`update_provenance`, unless the file already tells of a run with the same ``key``.

    Times differ at every run; the provenance that is kept is that of the run which first made the result.
    """
    known = read_json(path).get(stage, {}) if path.exists() else {}
    if known.get("key") != facts["key"]:
        update_provenance(path, stage, facts)


@dataclass(frozen=True)
class Samples:
    """The pictures behind the saliency figures, of one model.

    Attributes:
        images: (K, C, H, W) float32 in [0, 1].
        labels: (K,) true classes.
        predictions: (K,) predicted classes.
        saliency: (K, H, W) float32, not negative.
        gradient_edges: (E + 1,) bin edges of log10 |input gradient|.
        gradient_counts: (E,) numbers of pixels.
        attribution_names: (A,) text, the attribution methods that are shown beside the saliency; none by default.
        attributions: (A, K, H, W) float32, not negative, their maps.
    """

    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    predictions: npt.NDArray[np.int64]
    saliency: npt.NDArray[np.float32]
    gradient_edges: npt.NDArray[np.float64]
    gradient_counts: npt.NDArray[np.int64]
    attribution_names: npt.NDArray[np.str_] = field(default_factory=lambda: np.zeros(0, np.str_))
    attributions: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0, 0, 0), np.float32))

    def __post_init__(self) -> None:
        count, height, width = self.images.shape[0], *self.images.shape[2:]
        bins, methods = self.gradient_counts.shape[0], self.attribution_names.size
        expected = {
            "labels": (count,),
            "predictions": (count,),
            "saliency": (count, height, width),
            "gradient_edges": (bins + 1,),
            "attribution_names": (methods,),
            "attributions": (methods, count, height, width) if methods else (0, *self.attributions.shape[1:]),
        }
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} has shape {getattr(self, name).shape}: expected {shape}")
        for name in ("saliency", "attributions"):
            if not (getattr(self, name) >= 0).all():
                raise ValueError(f"{name} has negative or undefined values: expected magnitudes")


def write_samples(samples: Samples, path: Path) -> Path:
    """Write the samples of one cell, compressed."""
    content = {field.name: getattr(samples, field.name) for field in fields(samples)}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **content)
    return path


def read_samples(path: Path) -> Samples:
    """Read the samples of one cell.

    Raises:
        ValueError: for unknown or missing arrays.
    """
    with np.load(path, allow_pickle=False) as content:
        check_keys(content, {field.name for field in fields(Samples)}, path, "array ")
        return Samples(**content)
