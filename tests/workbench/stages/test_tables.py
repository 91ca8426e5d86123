from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from synthetic import Axes, Network, lay_out, rewrite, run_record, write_results

from workbench.config import files, paths
from workbench.config.profile import Grid
from workbench.stages import tables

KINDS = ("accuracy", "faithfulness", "localisation", "comparisons")
AXES = Axes(datasets=("mnist", "fashion_mnist"), backbones=("two_conv_small",), seeds=(0, 1))


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Grid:
    grid = lay_out(tmp_path, monkeypatch, AXES)
    write_results(grid, pictures=False)
    return grid


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One data set, two methods and one seed: enough for what goes wrong."""
    axes = replace(AXES, datasets=("mnist",), methods=("plain", "smoot"), seeds=(0,))
    write_results(lay_out(tmp_path, monkeypatch, axes), pictures=False)


def test_all_tables_are_written_and_the_same_bytes_each_time(grid: Grid) -> None:
    written = tables.write_all("laptop")
    folder = paths.ROOT / "figures" / "laptop" / "tables"
    first = {file.name: file.read_bytes() for file in folder.iterdir()}

    names = ["headline", "summary", "claims_overview", "claims"]
    names += [f"{kind}_{place}_two_conv_small" for kind in KINDS for place in ("mnist", "fashion_mnist")]
    names += ["attributions", "sanity", "judges", "retraining", "masking", "cost"]
    assert list(written) == names
    for table in written.values():
        assert len(table.caption.split()) < 60 and all(len(piece.columns) <= 7 for piece in table.pieces), table.name
    assert set(first) == {f"{name}.{kind}" for name in names for kind in ("md", "csv")}
    tables.write_all("laptop")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == first


def test_numbers_and_captions_are_those_of_the_settings_own_runs(grid: Grid) -> None:
    built = tables.build_all("laptop")
    for dataset, images in (("mnist", "1,000"), ("fashion_mnist", "2,000")):
        table = built[f"accuracy_{dataset}_two_conv_small"]
        network = Network("laptop", dataset, "two_conv_small", "smoot")
        scores = [100 * run_record(network, seed).metrics["accuracy"] for seed in grid.seeds]
        found = table.data.set_index("method").loc["smoot", "accuracy_mean"]
        assert found == pytest.approx(sum(scores) / 2, abs=1e-4)
        assert f"{images} of 60,000 training images" in table.caption


@pytest.mark.usefixtures("small")
def test_what_is_missing_is_named() -> None:
    costs, manifest = paths.BENCHMARKS / "step_cost.csv", paths.ProfilePaths("laptop").manifest / "mnist.json"
    files.write_csv(pd.read_csv(costs).drop(columns="device"), costs)
    with pytest.raises(ValueError, match=r"step_cost\.csv: column 'device' is missing"):
        tables.build_all("laptop")
    for path, command in (costs, "make bench"), (manifest, "python -m workbench data manifest mnist --profile laptop"):
        path.unlink()
        with pytest.raises(FileNotFoundError, match=f"{path} is missing: `{command}` makes it"):
            tables.build_all("laptop")


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "other"}, r"with data sha-of-mnist, but .*mnist\.json describes other"),
        ({"region": ...}, r"key region is missing: `python -m workbench data manifest mnist"),
        ({"sha256": ...}, r"key sha256 is missing: `python -m workbench data manifest mnist"),
    ],
)
def test_a_manifest_that_does_not_fit_is_an_error(changes: dict[str, object], message: str) -> None:
    path = paths.ProfilePaths("laptop").manifest / "mnist.json"
    content = files.read_json(path) | changes
    files.write_json({key: value for key, value in content.items() if value is not ...}, path)
    with pytest.raises(ValueError, match=message):
        tables.build_all("laptop")


def test_a_shortcut_has_a_table_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    axes = replace(AXES, datasets=("mnist", "shortcut_mnist"))
    write_results(lay_out(tmp_path / "shortcut", monkeypatch, axes), pictures=False)
    built = tables.build_all("laptop")
    assert set(built["shortcut"].data["dataset"]) == {"shortcut_mnist"}
    network = Network("laptop", "shortcut_mnist", "two_conv_small", "sgt")
    chosen = [100 * run_record(network, seed).summary["validation_accuracy"] for seed in axes.seeds]
    found = built["shortcut"].data.set_index("method").loc["sgt", "validation_accuracy_mean"]
    assert found == pytest.approx(sum(chosen) / 2, abs=1e-4)
    assert "Relevance mass, shortcut (%) ↓" in built["localisation_shortcut_mnist_two_conv_small"].display


def test_what_no_run_was_asked_for_has_no_table(grid: Grid) -> None:
    rewrite(grid, lambda record: replace(record, attributions={}, sanity={}))
    params = paths.ROOT / "params.yaml"
    content = yaml.safe_load(params.read_text())
    content["retraining"]["settings"], content["claims"] = [], []
    params.write_text(yaml.safe_dump(content))
    assert not {"attributions", "sanity", "retraining", "claims", "shortcut"} & set(tables.build_all("laptop"))


def test_a_grid_of_one_method_has_tables_without_differences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_results(lay_out(tmp_path / "one", monkeypatch, Axes(methods=("plain",), seeds=(0,))), pictures=False)
    built = tables.write_all("laptop")
    shown = built["accuracy_fashion_mnist_resnet10_narrow"].display
    assert list(shown.columns)[-1] == "Accuracy under PGD (%) ↑" and "Minus Plain" not in shown
    assert not [name for name in built if name.startswith(("comparisons", "claims"))]
    assert built["masking"].display.empty
