"""Tables: what an update replaces, keeps and refuses; order and bytes."""

import math
import multiprocessing
from pathlib import Path

import pandas as pd
import pytest

from workbench.config import paths
from workbench.results import tables
from workbench.results.tables import LEVELS, PROVENANCE_TABLE, RETRAINING_TABLE, RUN_TABLE, SUMMARY

METHODS = ("sgt", "plain")  # not in alphabetical order
FACTS = {"peak_memory_mb": 900.0, "device": "CPU", "cores": 2, "system": "Linux", "python": "3.11", "commit": None}
HEAD = "method,seed,level,top,bottom,diffroar\n"


def levels(method: str, seed: int, top: float = 0.5) -> pd.DataFrame:
    """Two rows of one run, the higher level first."""
    rows = [(method, seed, level, top, 0.25, top - 0.25) for level in (0.3, 0.1)]
    return pd.DataFrame(rows, columns=["method", "seed", *LEVELS])


def runs(method: str, seed: int, **metrics: float) -> pd.DataFrame:
    return pd.DataFrame([{"method": method, "seed": seed} | metrics | dict.fromkeys(SUMMARY, 1)])


def test_an_update_replaces_the_rows_of_its_runs_and_keeps_all_others(root: Path) -> None:
    RETRAINING_TABLE.update(pd.concat([levels("plain", 10), levels("plain", 2), levels("sgt", 2)]), root, METHODS)
    RETRAINING_TABLE.update(levels("plain", 2, top=0.75), root, METHODS)
    expected = pd.concat([levels("sgt", 2), levels("plain", 2, top=0.75), levels("plain", 10)], ignore_index=True)
    pd.testing.assert_frame_equal(RETRAINING_TABLE.read(root), expected)


def test_the_same_rows_give_the_same_bytes_in_whatever_portions(root: Path) -> None:
    parts = [levels(method, seed, top=1 / 3) for method in ("other", "plain", "sgt") for seed in (11, 0, 3)]
    once = RETRAINING_TABLE.update(pd.concat(parts), root / "once", METHODS).read_bytes()
    for part in parts[::-1]:
        RETRAINING_TABLE.update(part, root / "often", METHODS)
    assert (root / "often" / "retraining.csv").read_bytes() == once
    assert once.startswith(HEAD.encode() + b"sgt,0,0.3,0.333333,0.25,0.083333\n")
    assert b"\r" not in once and once.splitlines()[-1].startswith(b"other,11")  # what is in no order comes last


def test_metrics_stand_in_alphabetical_order_between_the_run_and_its_summary(root: Path) -> None:
    RUN_TABLE.update(runs("plain", 0, nll=0.5, accuracy=1), root)
    RUN_TABLE.update(runs("plain", 1, accuracy=math.nan, nll=-0.0), root)
    lines = (root / "runs.csv").read_text().splitlines()
    assert lines[0] == "method,seed,accuracy,nll," + ",".join(SUMMARY)
    assert lines[1].startswith("plain,0,1.0,0.5,1,") and lines[2].startswith("plain,1,,0.0,1,")
    assert math.isnan(RUN_TABLE.read(root)["accuracy"][1])
    with pytest.raises(ValueError, match=r"runs\.csv: unknown column 'gini': expected method, seed, accuracy, nll"):
        RUN_TABLE.update(runs("plain", 2, nll=0.5, accuracy=1, gini=0.5), root)  # other metrics do not mix


def test_what_is_read_is_the_nearest_number_whatever_the_parser(root: Path) -> None:
    numbers = [k / 1e6 for k in range(1, 1_000_000, 6007)]
    RETRAINING_TABLE.update(pd.concat([levels("plain", seed, top=x) for seed, x in enumerate(numbers)]), root)
    assert RETRAINING_TABLE.read(root)["top"][::2].tolist() == numbers


def test_runs_that_have_no_rows_any_more_lose_those_they_had(root: Path) -> None:
    table = tables.ATTRIBUTION_TABLE
    first = pd.DataFrame([{"method": name, "seed": 0, "attribution": "edges", "gini": 0.5} for name in METHODS])
    table.update(first, root)
    table.update(first[:0], root, replaced=first[first["method"] == "plain"])
    assert table.read(root)["method"].tolist() == ["sgt"]
    table.update(first[:0], root, replaced=first)
    assert table.read(root).empty
    table.update(first.rename(columns={"gini": "stability"}), root)  # nothing is left that has other metrics
    assert list(table.read(root).columns) == ["method", "seed", "attribution", "stability"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (levels("plain", 1).drop(columns="top"), r"retraining\.csv: column 'top' is missing"),
        (levels("plain", 1).assign(more=1), r"retraining\.csv: unknown column 'more': expected method, seed"),
        (levels("plain", 1).assign(top="high"), r"retraining\.csv: column top holds 'high': expected numbers"),
        (levels("plain", 1).assign(top=True), r"column top holds values of type bool: expected numbers"),
        (levels("plain", 1).assign(top=math.inf), r"retraining\.csv: column top holds an infinite number"),
    ],
)
def test_bad_rows_are_refused_by_file_and_column(root: Path, rows: pd.DataFrame, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RETRAINING_TABLE.update(rows, root)
    assert not (root / "retraining.csv").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a table"),
        ("method,seed,level,top,bottom\n", "column 'diffroar' is missing"),
        (HEAD + "plain,1,0.1,x,0,0\n", "column top holds 'x': expected numbers"),
        (HEAD + 'plain,1,"0.1,0,0,0\n', "is not a table"),
        (HEAD + f"plain,1,0.1,{'9' * 400},0,0\n", "top holds a whole number with too"),
        (HEAD + 2 * "plain,1,0.1,0,0,0\n", "row of plain, 1, 0.1 stands there twi"),
        ("method,seed,level\n\xff\0", "column 'top' is missing"),
    ],
)
def test_a_spoilt_file_is_named(root: Path, text: str, message: str) -> None:
    (root / "retraining.csv").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        RETRAINING_TABLE.read(root)
    assert str(root / "retraining.csv") in str(error.value)


def test_provenance_stays_until_the_key_changes(root: Path) -> None:
    def note(seconds: float, key: str = "0123", stage: str = "train") -> None:
        rows = [FACTS | {"method": "plain", "seed": 3, "stage": stage, "seconds": seconds, "key": key}]
        tables.keep_provenance(PROVENANCE_TABLE, rows, root)

    note(1.5)
    note(9.0)
    note(4.0, stage="evaluate")
    found = PROVENANCE_TABLE.read(root)
    assert found[["stage", "seconds", "key"]].to_numpy().tolist() == [["evaluate", 4.0, "0123"], ["train", 1.5, "0123"]]
    assert found["commit"].isna().all()  # no git checkout
    note(9.0, key="0456")  # text, though it looks like a number
    assert PROVENANCE_TABLE.read(root)[["seconds", "key"]].to_numpy().tolist() == [[4.0, "0123"], [9.0, "0456"]]


def test_processes_that_update_one_table_do_not_lose_rows(root: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.starmap(update_alone, [(root, seed) for seed in range(12)])
    assert RETRAINING_TABLE.read(root)["seed"][::2].tolist() == list(range(12))
    assert sorted(path.name for path in root.iterdir()) == ["retraining.csv", "scratch"]


def update_alone(root: Path, seed: int) -> None:
    paths.ROOT = root
    RETRAINING_TABLE.update(levels("plain", seed), root)
