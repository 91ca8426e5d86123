import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic import history, samples

from workbench.config import files
from workbench.config.cells import Cell

CELL = Cell("laptop", "fashion_mnist", "resnet10_narrow", "smoot")
ARRAYS = ("images", "labels", "predictions", "saliency", "gradient_edges", "gradient_counts")


def test_samples_come_back_and_have_the_same_bytes_seconds_later(tmp_path: Path) -> None:
    made = samples(CELL)
    path = files.write_samples(made, tmp_path / "a" / "samples.npz")
    first = path.read_bytes()
    time.sleep(2.1)  # a zip's time stamps count in steps of two seconds

    assert files.write_samples(made, path).read_bytes() == first
    back = files.read_samples(path)
    for name in ARRAYS:
        assert np.array_equal(getattr(back, name), getattr(made, name)), name
        assert getattr(back, name).dtype == getattr(made, name).dtype, name
    assert [file.name for file in path.parent.iterdir()] == ["samples.npz"]


def test_samples_with_other_arrays_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "samples.npz"
    np.savez(path, images=np.zeros(3))
    with pytest.raises(ValueError, match=r"samples\.npz: key array attribution_names is missing"):
        files.read_samples(path)


@pytest.mark.parametrize("name", ["labels", "predictions", "saliency", "gradient_edges"])
def test_samples_must_fit_each_other(name: str) -> None:
    made = samples(CELL)
    with pytest.raises(ValueError, match=f"{name} has shape"):
        replace(made, **{name: getattr(made, name)[:-1]})


def test_saliency_must_be_magnitudes() -> None:
    made = samples(CELL)
    with pytest.raises(ValueError, match="saliency has negative or undefined values"):
        replace(made, saliency=-made.saliency)


def test_history_has_rounded_values_and_unix_line_ends(tmp_path: Path) -> None:
    path = files.write_history(history(CELL, 0), tmp_path / "0.csv")
    raw = path.read_bytes()
    lines = raw.decode().split("\n")

    assert b"\r" not in raw
    assert lines[0] == ",".join(files.HISTORY_COLUMNS)
    assert len(lines) == 1 + 10 + 1
    assert lines[1].startswith("1,")
    assert max(len(number.partition(".")[2]) for number in lines[1].split(",")) == 6
    assert files.write_history(files.read_history(path), path).read_bytes() == raw


def test_negative_zero_is_written_as_zero(tmp_path: Path) -> None:
    path = files.write_csv(pd.DataFrame({"x": [-1e-9, 0.1 + 0.2]}), tmp_path / "x.csv")
    assert path.read_text() == "x\n0.0\n0.3\n"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda frame: frame.drop(columns="competence"), r"h\.csv: key column competence is missing"),
        (lambda frame: frame.assign(speed=1.0), r"h\.csv: unknown key column speed"),
    ],
)
def test_history_with_other_columns_is_an_error(tmp_path: Path, spoil, message: str) -> None:
    path = tmp_path / "h.csv"
    with pytest.raises(ValueError, match=message):
        files.write_history(spoil(history(CELL, 0)), path)
    spoil(history(CELL, 0)).to_csv(path, index=False)
    with pytest.raises(ValueError, match=message):
        files.read_history(path)


def test_provenance_keeps_what_the_other_stage_said(tmp_path: Path) -> None:
    path = tmp_path / "0.json"
    files.update_provenance(path, "train", {"seconds": 12.5, "host": "a"})
    files.update_provenance(path, "evaluate", {"seconds": np.float32(0.25)})
    files.update_provenance(path, "train", {"seconds": 13})
    assert json.loads(path.read_text()) == {"evaluate": {"seconds": 0.25}, "train": {"seconds": 13}}


def test_provenance_of_the_same_run_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "0.json"
    files.keep_provenance(path, "train", {"key": "a", "seconds": 1})
    files.keep_provenance(path, "train", {"key": "a", "seconds": 2})
    assert files.read_json(path)["train"]["seconds"] == 1
    files.keep_provenance(path, "train", {"key": "b", "seconds": 3})
    assert files.read_json(path)["train"]["seconds"] == 3


def test_json_must_be_a_mapping(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text("[1]")
    with pytest.raises(ValueError, match=r"list\.json holds a list: expected a mapping"):
        files.read_json(path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = files.write_json({"a": 1}, tmp_path / "x.json")
    with pytest.raises(ValueError):
        files.write_json({"a": float("nan")}, path)
    assert path.read_text() == '{\n "a": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]
