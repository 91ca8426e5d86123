import json
from pathlib import Path

import pytest
from synthetic import Axes, lay_out, retraining, write_studies

from workbench.config import paths
from workbench.config.cells import Cell
from workbench.config.profile import Grid
from workbench.studies import index as studies

AXES = Axes(
    datasets=("mnist", "fashion_mnist"), backbones=("two_conv_small",), methods=("plain", "smoot"), seeds=(0, 4)
)
CELL = Cell("laptop", "mnist", "two_conv_small", "smoot")
LEVELS = (0.1, 0.3)  # of the laptop profile


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Grid:
    laid_out = lay_out(tmp_path, monkeypatch, AXES)
    write_studies(laid_out)
    return laid_out


def change(path: Path, **values: object) -> None:
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def test_one_judge_a_data_set_in_the_grids_order(grid: Grid) -> None:
    found = studies.read_judges(grid)
    assert found["dataset"].tolist() == ["mnist", "fashion_mnist"]
    assert list(found.columns) == list(studies.JUDGE)
    assert found["accuracy"].tolist() == [0.9, 0.89]


def test_retraining_in_long_form_and_of_the_listed_settings_only(grid: Grid) -> None:
    found = studies.read_retraining("laptop")
    assert found[["dataset", "method", "seed", "level"]].to_numpy().tolist() == [
        ["mnist", method, seed, level] for method in ("plain", "smoot") for seed in (0, 4) for level in LEVELS
    ]
    own = found[(found["method"] == "smoot") & (found["seed"] == 4)]
    written = retraining(CELL, 4, LEVELS)
    for name in ("top", "bottom", "diffroar"):
        assert own[name].tolist() == written[name], name


def test_without_settings_there_are_no_rows_and_no_files_are_needed(grid: Grid) -> None:
    params = paths.ROOT / "params.yaml"
    params.write_text(params.read_text().replace("  settings:\n  - mnist-two_conv_small", "  settings: []"))
    CELL.retraining_path(4).unlink()
    found = studies.read_retraining("laptop")
    assert found.empty and "diffroar" in found


def test_what_is_missing_is_named_with_the_command_that_makes_it(grid: Grid) -> None:
    judge = paths.ProfilePaths("laptop").judge / "mnist.json"
    judge.unlink()
    with pytest.raises(FileNotFoundError, match="`dvc repro judge` makes it") as error:
        studies.read_judges(grid)
    assert str(judge) in str(error.value)
    CELL.retraining_path(4).unlink()
    with pytest.raises(FileNotFoundError, match="`dvc repro retrain` makes it") as error:
        studies.read_retraining("laptop")
    assert str(CELL.retraining_path(4)) in str(error.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"schema": 2}, "schema is 2: expected 1; make the file again"),
        ({"accuracy": None}, "key accuracy is missing"),
        ({"extra": 1}, "unknown key extra"),
        ({"dataset": "digits"}, r"mnist\.json is the judge of digits: in the wrong place"),
    ],
)
def test_a_spoilt_judge_is_named(grid: Grid, values: dict[str, object], message: str) -> None:
    change(paths.ProfilePaths("laptop").judge / "mnist.json", **values)
    with pytest.raises(ValueError, match=message):
        studies.read_judges(grid)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"schema": 0}, "schema is 0"),
        ({"top": None}, "key top is missing"),
        ({"levels": [0.1, 0.5]}, r"levels is \[0\.1, 0\.5\]: expected \[0\.1, 0\.3\]; make the file again"),
        ({"bottom": [0.5]}, "bottom has 1 numbers: expected 2"),
    ],
)
def test_spoilt_retraining_is_named(grid: Grid, values: dict[str, object], message: str) -> None:
    path = CELL.retraining_path(4)
    change(path, **values)
    with pytest.raises(ValueError, match=message) as error:
        studies.read_retraining("laptop")
    assert str(path) in str(error.value)


def test_retraining_in_the_wrong_place_is_an_error(grid: Grid) -> None:
    path = CELL.retraining_path(4)
    path.write_bytes(CELL.retraining_path(0).read_bytes())
    with pytest.raises(ValueError, match="in the wrong place"):
        studies.read_retraining("laptop")
