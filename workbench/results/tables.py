"""Tables of results: CSV files in which an update replaces the rows of some runs and keeps all others.

Floats have six decimals and undefined values are empty. The same rows give the same bytes, whether they were
written at once or in portions. An update holds a lock, so that several processes can write into one folder; the
lock file lies in ``scratch/locks``.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from filelock import BaseFileLock, FileLock

from workbench.config import paths
from workbench.config.files import DIGITS, write_csv
from workbench.config.schema import check_keys

RUN = ("method", "seed")
TEXT = (  # columns of text; all others hold numbers
    *("dataset", "backbone", "method", "attribution", "layer", "fill"),
    *("stage", "key", "device", "system", "python", "commit"),
)


@dataclass(frozen=True)
class Table:
    """One kind of table.

    Attributes:
        name: of the file.
        columns: in the file's order; ``*`` stands for any number of metrics, in alphabetical order.
        keys: the columns that say which rows belong together and are replaced together.
        points: the columns that tell these rows apart.
    """

    name: str
    columns: tuple[str, ...]
    keys: tuple[str, ...] = RUN
    points: tuple[str, ...] = ()

    def read(self, folder: Path) -> pd.DataFrame:
        """The table in a folder, all of it.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: for a missing or unknown column, text in a column of numbers, or a row twice; names the file.
        """
        path = folder / self.name
        try:
            frame = pd.read_csv(path, dtype=dict.fromkeys(TEXT, str))
        except (ValueError, OverflowError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{path} is not a table ({reason}): delete it and make it again") from None
        self._check(frame, path)
        return frame.round(DIGITS)  # pandas may read a number that is one bit off

    def update(
        self, rows: pd.DataFrame, folder: Path, order: Sequence[str] = (), *, replaced: pd.DataFrame | None = None
    ) -> Path:
        """Write rows; the rows of other runs (other ``keys``) that the file already has stay.

        Args:
            rows: with the columns of the table. Rows with the same keys keep their order.
            folder: of the file.
            order: of the values of the first key; values that are not listed come last, in alphabetical order.
            replaced: the keys whose rows are removed first; those of ``rows`` if None.

        Raises:
            ValueError: for missing or unknown columns, or an infinite number; names the file.
        """
        path = folder / self.name
        self._check(rows, path)
        rows = rows.astype(dict.fromkeys(set(rows.columns) - set(self.columns), float))
        with locked(folder):
            known = self.read(folder) if path.exists() else rows[:0]
            others = known[~present(known, rows if replaced is None else replaced, self.keys)]
            if len(others) and len(rows):
                check_keys(rows.columns, known.columns, str(path), kind="column")
                rows = pd.concat([others, rows], ignore_index=True)
            elif len(others):
                rows = others
            columns = self._columns(rows)
            places = {value: place for place, value in enumerate(order)}
            ranks = rows[self.keys[0]].map(lambda value: places.get(value, len(places)))
            rows = rows.assign(rank=ranks).sort_values(["rank", *self.keys], kind="stable")
            return write_csv(rows[columns], path)

    def _columns(self, frame: pd.DataFrame) -> list[str]:
        metrics = sorted(set(frame.columns) - set(self.columns))
        return [name for column in self.columns for name in (metrics if column == "*" else [column])]

    def _check(self, frame: pd.DataFrame, path: Path) -> None:
        check_keys(frame.columns, self._columns(frame), str(path), kind="column")
        for name in frame.columns.difference(list(TEXT)) if len(frame) else ():
            if frame[name].dtype == bool or not pd.api.types.is_numeric_dtype(frame[name]):
                raise ValueError(f"{path}: column {name} holds {_no_number(frame[name])}: expected numbers")
            if np.isinf(frame[name]).any():
                raise ValueError(f"{path}: column {name} holds an infinite number: expected finite ones, or NaN")
        names = [*self.keys, *self.points]
        for row in frame[frame.duplicated(names)][names].itertuples(index=False):
            raise ValueError(f"{path}: the row of {', '.join(map(str, row))} stands there twice: make it again")


def _no_number(column: "pd.Series[Any]") -> str:
    try:
        numbers = pd.to_numeric(column, errors="coerce")
    except OverflowError:
        return "a whole number with too many digits"
    wrong = column[numbers.isna() & column.notna()]
    return f"{wrong.iloc[0]!r:.80}" if len(wrong) else f"values of type {column.dtype}"


EPOCH_COLUMNS = (
    *("epoch", "total", "classification", "consistency", "accuracy", "validation_accuracy", "validation_loss"),
    *("trained_accuracy", "trained_loss", "competence", "image_fraction", "masked_share", "masked_pixels"),
    *("information_loss", "flip_share", "cross_entropy_rise", "first_order_change", "number_mean", "number_largest"),
)
SUMMARY = (
    *("epochs", "best_epoch", "validation_accuracy", "train_accuracy"),
    *("masked_share", "final_masked_share", "information_loss"),
)
CURVES = ("deletion", "insertion", "random", "judge_deletion", "judge_insertion", "judge_random")
CASCADES = ("spearman", "ssim")
LEVELS = ("level", "top", "bottom", "diffroar")
FACTS = ("key", "seconds", "peak_memory_mb", "device", "cores", "system", "python", "commit")
JUDGE = ("dataset", "backbone", "train_images", "epochs", "seed", "accuracy", "validation_accuracy")

RUN_TABLE = Table("runs.csv", (*RUN, "*", *SUMMARY))
EPOCH_TABLE = Table("epochs.csv", (*RUN, *EPOCH_COLUMNS), points=("epoch",))
CURVE_TABLE = Table("curves.csv", (*RUN, "fill", "fraction", *CURVES), points=("fill", "fraction"))
ATTRIBUTION_TABLE = Table("attributions.csv", (*RUN, "attribution", "*"), points=("attribution",))
SANITY_TABLE = Table("sanity.csv", (*RUN, "attribution", "layer", *CASCADES), points=("attribution", "layer"))
RETRAINING_TABLE = Table("retraining.csv", (*RUN, *LEVELS), points=("level",))
PROVENANCE_TABLE = Table("provenance.csv", (*RUN, "stage", *FACTS), keys=(*RUN, "stage"))
JUDGE_TABLE = Table("judges.csv", JUDGE, keys=("dataset", "backbone"))
JUDGE_PROVENANCE_TABLE = Table("provenance.csv", ("dataset", "backbone", *FACTS), keys=("dataset", "backbone"))


def keep_provenance(table: Table, facts: Sequence[Mapping[str, Any]], folder: Path, order: Sequence[str] = ()) -> None:
    """Note where and at what cost results were made.

    Times differ from one computation to the next: a row stays as long as its ``key``, which names all that the
    result depends on, stays the same.

    Args:
        table: `PROVENANCE_TABLE` or `JUDGE_PROVENANCE_TABLE`.
        facts: its rows.
        folder: of the table.
        order: of the methods or data sets.
    """
    rows = pd.DataFrame(facts, columns=list(table.columns))
    with locked(folder):
        if (folder / table.name).exists():
            rows = rows[~present(rows, table.read(folder), [*table.keys, "key"])]
        if len(rows):
            table.update(rows, folder, order)


def locked(folder: Path) -> BaseFileLock:
    """The lock of a folder of results, for a ``with`` statement; the same process may enter it again inside."""
    name = os.path.relpath(folder, paths.ROOT).replace(os.sep, "-")
    place = paths.ROOT / "scratch" / "locks" / f"{name}.lock"
    place.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(place, is_singleton=True)


def present(frame: pd.DataFrame, other: pd.DataFrame, keys: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Whether the other frame has a row with the same keys, for every row."""
    own, others = (pd.MultiIndex.from_frame(rows[list(keys)].astype(object)) for rows in (frame, other))
    return own.isin(others)
