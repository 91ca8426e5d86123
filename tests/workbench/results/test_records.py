"""Records: one folder there and back, and a whole grid."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from itertools import product
from operator import methodcaller
from pathlib import Path
from pprint import pformat

import numpy as np
import pandas as pd
import pytest
from synthetic import Axes, Network, history, lay_out, run_record, samples, write_results

from workbench.config.paths import ProfilePaths, SettingPaths
from workbench.config.profile import Grid, load_judge, load_retraining
from workbench.results import records as results
from workbench.results import shared, tables
from workbench.results.samples import write_samples

SETTING = SettingPaths("laptop", "fashion_mnist", "resnet10_narrow")
NETWORK = Network("laptop", "fashion_mnist", "resnet10_narrow", "smoot")
METHODS = ("plain", "sgt", "smoot")


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Grid:
    return lay_out(tmp_path, monkeypatch, Axes(seeds=(3, 5)))


@pytest.fixture
def written(grid: Grid) -> Grid:
    write_results(grid)
    return grid


def assert_equal(found: results.RunRecord, expected: results.RunRecord) -> None:
    """But for floats, which come back with six decimals, and tuples, which come back as lists."""
    for name, value in asdict(expected).items():
        number = float if name == "config" else lambda text: round(float(text), 6)
        written = json.loads(json.dumps(value), parse_float=number)
        assert pformat(getattr(found, name)) == pformat(written), name  # as text: NaN is not equal to itself


def test_a_record_comes_back_as_it_was_written_but_rounded(grid: Grid) -> None:
    record = run_record(NETWORK, 3, accuracy=0.123456789, gini=math.nan)
    assert record.sanity["layers"] and record.attributions  # or this test would prove less
    undefined = {**record.sanity, "edges": {"spearman": [math.nan] * 6, "ssim": [1.0] * 6}}
    record = replace(record, sanity=undefined)
    results.write_records([record], SETTING.folder)
    (back,) = results.records_in(SETTING.folder)
    assert back.metrics["accuracy"] == 0.123457 and math.isnan(back.metrics["gini"])
    assert_equal(back, record)
    bare = replace(record, attributions={}, sanity={})
    results.write_records([bare], SETTING.folder)  # the same run: what it had goes
    assert_equal(results.records_in(SETTING.folder)[0], bare)


def test_floats_are_rounded_as_python_does_and_not_as_numpy_does(grid: Grid) -> None:
    odd = 5.2563525  # as a binary number not just between two decimals
    assert round(odd, 6) != np.round(odd, 6)
    results.write_records([run_record(NETWORK, 3, nll=odd)], SETTING.folder)
    assert results.records_in(SETTING.folder)[0].metrics["nll"] == round(odd, 6)


@pytest.mark.parametrize("portions", [[(3, 5)], [(5,), (3,)]])
def test_runs_may_be_written_in_portions_and_again(written: Grid, tmp_path: Path, portions: list[tuple[int]]) -> None:
    files = sorted(path for path in SETTING.folder.iterdir() if path.name != "epochs.csv")
    before = {path.name: path.read_bytes() for path in files}
    for seeds in portions:
        results.write_records([run_record(NETWORK, seed) for seed in seeds], SETTING.folder, METHODS)
    assert {path.name: path.read_bytes() for path in files} == before
    plain = run_record(replace(NETWORK, method="plain"), 5, accuracy=0.5)
    results.write_records([plain], SETTING.folder, METHODS)
    assert {path.name for path in files if path.read_bytes() != before[path.name]} == {"runs.csv"}
    lines = zip(before["runs.csv"].splitlines(), SETTING.runs.read_bytes().splitlines(), strict=True)
    assert [first.split(b",")[:2] for first, second in lines if first != second] == [[b"plain", b"5"]]


def test_runs_that_were_made_otherwise_do_not_mix(written: Grid) -> None:
    before = SETTING.runs.read_bytes()
    record = replace(run_record(NETWORK, 3), code={"smoot": "other"})
    with pytest.raises(ValueError, match=r"config\.json: smoot\.code\.smoot is 'other', but 'c+' in other runs"):
        results.write_records([record], SETTING.folder, METHODS)
    assert SETTING.runs.read_bytes() == before
    records = [replace(record, code={"smoot": "other"}) for record in results.load_records(written)]
    results.write_records(records, SETTING.folder, METHODS)
    assert results.load_records(written)[0].code == {"smoot": "other"}


def test_the_summary_of_a_training_is_that_of_its_best_epoch() -> None:
    epochs = history(NETWORK, 3)
    epochs["validation_accuracy"] = [0.1, 0.9, 0.9, *[0.5] * 7]
    found = results.summarised(epochs)
    assert tuple(found) == tables.SUMMARY
    assert (found["epochs"], found["best_epoch"], found["validation_accuracy"]) == (10, 2, 0.9)
    assert found["masked_share"] == pytest.approx(epochs["masked_share"].mean())
    assert found["final_masked_share"] == epochs["masked_share"].tolist()[-1]
    assert found["train_accuracy"] == epochs["accuracy"].tolist()[-1]


# -- a whole grid


def test_the_frame_has_one_row_per_record_in_the_grids_order(written: Grid) -> None:
    results.write_records([run_record(NETWORK, 99)], SETTING.folder, METHODS)  # not of the grid: not read
    records = results.load_records(written)
    frame = results.metrics_frame(records)
    assert frame[["method", "seed"]].to_numpy().tolist() == [[method, seed] for method in METHODS for seed in (3, 5)]
    assert list(frame.columns[:4]) == ["dataset", "backbone", "method", "seed"]
    for record in records:
        assert_equal(record, run_record(replace(NETWORK, method=record.method), record.seed))


def test_attributions_and_curves_in_long_form(written: Grid) -> None:
    records = results.load_records(written)
    frame = results.attributions_frame(records)
    assert set(zip(frame["method"], frame["seed"], strict=True)) == {("smoot", 3)}  # the one that is explained
    (record,) = (record for record in records if record.attributions)
    assert list(frame["attribution"]) == sorted(record.attributions)
    found = frame.set_index("attribution").loc["edges"]
    assert {name: found[name] for name in record.attributions["edges"]} == record.attributions["edges"]
    assert results.attributions_frame(records[:1]).empty

    frame = results.curves_frame(records)
    assert list(frame.columns) == ["dataset", "backbone", "method", "seed", "fill", "curve", "fraction", "score"]
    assert len(frame) == 3 * 2 * 2 * 6 * 11  # methods, seeds, fills, curves, points
    point = frame.query("method == 'sgt' and seed == 5 and fill == 'black' and curve == 'insertion'")
    expected = run_record(replace(NETWORK, method="sgt"), 5).curves["black"]["insertion"]
    assert point["fraction"].tolist() == [step / 10 for step in range(11)]
    assert point["score"].tolist() == [round(score, 6) for score in expected]


def test_histories_keep_undefined_values(written: Grid) -> None:
    frame = results.read_histories(written)
    assert len(frame) == 3 * 2 * 10
    plain = frame[frame["method"] == "plain"]
    assert plain["masked_pixels"].isna().all() and (plain["masked_share"] == 0).all()
    own = frame[(frame["method"] == "smoot") & (frame["seed"] == 5)]
    own = own.drop(columns=["dataset", "backbone", "method", "seed"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(own, history(NETWORK, 5).round(6))


def test_retraining_of_the_settings_asked_for(written: Grid) -> None:
    found = results.read_retraining(written, load_retraining("laptop"))
    assert list(found.columns) == ["dataset", "backbone", "method", "seed", "level", "top", "bottom", "diffroar"]
    assert len(found) == 3 * 2 * 2 and found["method"].unique().tolist() == list(METHODS)
    assert (found["diffroar"] - (found["top"] - found["bottom"])).abs().max() < 2e-6
    nothing = results.read_retraining(written, replace(load_retraining("laptop"), settings=()))
    assert nothing.empty and list(nothing.columns) == list(found.columns)
    with pytest.raises(ValueError, match=r"levels of plain, seed 3 are \[0\.1, 0\.3\]: expected \[0\.2\]; retrain"):
        results.read_retraining(written, replace(load_retraining("laptop"), levels=(0.2,)))


def test_judges_in_the_grids_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = lay_out(tmp_path, monkeypatch, Axes(datasets=("mnist", "fashion_mnist")))
    write_results(grid, pictures=False)
    found = results.read_judges(grid, load_judge("laptop"))
    accuracies = {"mnist": 0.9, "fashion_mnist": 0.89}  # of both judges
    judges = product(accuracies.items(), ("two_conv_small", "resnet10_strided"))
    expected = [[dataset, backbone, accuracy] for (dataset, accuracy), backbone in judges]
    assert found[["dataset", "backbone", "accuracy"]].to_numpy().tolist() == expected
    lines = ProfilePaths("laptop").judges.read_text().splitlines(keepends=True)
    ProfilePaths("laptop").judges.write_text("".join(lines[:-1]))
    with pytest.raises(FileNotFoundError, match=r"has no judge of fashion_mnist with two_conv_small: `dvc repro"):
        results.read_judges(grid, load_judge("laptop"))


def test_samples_of_all_methods_must_show_the_same_images(written: Grid) -> None:
    found = results.read_samples(written, "fashion_mnist", "resnet10_narrow")
    assert list(found) == ["plain", "sgt", "smoot"]
    other = samples(NETWORK)
    write_samples({"smoot": replace(other, images=other.images[::-1])}, SETTING.folder, METHODS)
    with pytest.raises(ValueError, match=r"samples\.npz: smoot shows other images than plain"):
        results.read_samples(written, "fashion_mnist", "resnet10_narrow")
    SETTING.samples.unlink()
    write_samples({"plain": samples(NETWORK)}, SETTING.folder)
    with pytest.raises(FileNotFoundError, match=r"samples\.npz has no sgt: `dvc repro evaluate@"):
        results.read_samples(written, "fashion_mnist", "resnet10_narrow")


READERS: dict[str, tuple[str, Callable[[Grid], object]]] = {
    "runs.csv": ("evaluate@fashion_mnist-resnet10_narrow", results.load_records),
    "epochs.csv": ("train@fashion_mnist-resnet10_narrow", results.read_histories),
    "retraining.csv": ("retrain", lambda grid: results.read_retraining(grid, load_retraining("laptop"))),
    "samples.npz": ("evaluate@", lambda grid: results.read_samples(grid, "fashion_mnist", "resnet10_narrow")),
    "../judges.csv": ("judge", lambda grid: results.read_judges(grid, load_judge("laptop"))),
}


@pytest.mark.parametrize("name", READERS)
def test_a_missing_run_or_file_is_named_with_the_command_that_makes_it(written: Grid, name: str) -> None:
    command, read = READERS[name]
    path = (SETTING.folder / name).resolve()
    if name in ("runs.csv", "epochs.csv", "retraining.csv"):
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if not line.startswith("sgt,5,")))
        with pytest.raises(FileNotFoundError, match=rf"{name} has no sgt, seed 5: `dvc repro {command}"):
            read(written)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"{path} is missing: `dvc repro {command}"):
        read(written)


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("curves.csv", methodcaller("replace", "judge_random", "other"), "unknown column 'other'"),
        ("curves.csv", methodcaller("replace", "sgt,5,", "sgt,7,"), "curves.csv has no sgt, seed 5, which runs.csv"),
        ("curves.csv", methodcaller("replace", "sgt,5,mean,0.3,", "sgt,5,mean,0.31,"), "fills differ in their frac"),
        ("sanity.csv", methodcaller("replace", "edges,fc", "edges,head"), "attributions differ in their layers"),
        ("runs.csv", methodcaller("replace", "best_epoch", "best"), "runs.csv: column 'best_epoch' is missing"),
        ("config.json", methodcaller("replace", '"sgt": {', '"other": {'), "config.json has no sgt, seed 3, which"),
        ("runs.csv", lambda text: text + text.splitlines(True)[-1], "the row of smoot, 5 stands there twice"),
        ("attributions.csv", lambda text: text + text.splitlines(True)[1], "stands there twice: make it again"),
        ("config.json", lambda text: text[:100], "is not JSON"),
        ("config.json", methodcaller("replace", '"training": {}', '"trained": {}'), "training is None: expected a map"),
        ("config.json", partial(re.sub, '"name": "fas.*?"', '"title": ""'), "dataset: key 'name' is missing"),
        ("config.json", partial(re.sub, r'(?s)"methods": .*?}\n }', '"methods": 3'), "methods is 3: ex"),
        ("config.json", methodcaller("replace", '"laptop"', '"paper"'), "is of paper, fashion_mnist, resnet10_n"),
    ],
)
def test_spoilt_files_are_named(written: Grid, name: str, spoil: Callable[[str], str], message: str) -> None:
    path = SETTING.folder / name
    before = path.read_text()
    path.write_text(spoil(before))
    assert path.read_text() != before
    with pytest.raises(ValueError, match=message) as error:
        results.load_records(written)
    assert str(path) in str(error.value)


def test_settings_with_other_metrics_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = lay_out(tmp_path, monkeypatch, Axes(datasets=("fashion_mnist", "mnist")))
    write_results(grid, pictures=False)
    folder = SettingPaths("laptop", "mnist", "resnet10_narrow").folder
    runs = tables.RUN_TABLE.read(folder).drop(columns="gini")
    (folder / "runs.csv").unlink()
    tables.RUN_TABLE.update(runs, folder, METHODS)
    with pytest.raises(ValueError, match=r"mnist-resnet10_narrow/runs\.csv: column 'gini' is missing"):
        results.load_records(grid)


def test_a_ledger_entry_holds_the_same_tables_with_one_run(written: Grid, tmp_path: Path) -> None:
    folder = tmp_path / "scratch" / "ledger" / "entry"
    record = run_record(NETWORK, 3)
    results.write_records([record], folder)
    (entry,) = results.records_in(folder)
    before = {path.name: path.read_bytes() for path in SETTING.folder.iterdir()}
    results.write_records([entry], SETTING.folder, METHODS)  # rounded once: the bytes are those of the record itself
    assert {path.name: path.read_bytes() for path in SETTING.folder.iterdir()} == before
    assert (folder / shared.NAME).exists() and np.isclose(entry.metrics["nll"], record.metrics["nll"], atol=1e-6)
