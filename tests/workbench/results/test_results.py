import json
import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from synthetic import Axes, history, lay_out, run_record, samples, write_results

from workbench.config.cells import Cell
from workbench.config.profile import Grid
from workbench.results import records as results

CELL = Cell("laptop", "fashion_mnist", "resnet10_narrow", "smoot")


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Grid:
    return lay_out(tmp_path, monkeypatch, Axes(seeds=(3, 5)))


@pytest.fixture
def written(grid: Grid) -> Grid:
    write_results(grid)
    return grid


def change(path: Path, *keys: str, to: object) -> None:
    """Set a nested key of a record's file; ``...`` deletes it."""
    content = json.loads(path.read_text())
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    if to is ...:
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = to
    path.write_text(json.dumps(content))


def test_a_record_comes_back_as_it_was_written_but_rounded(grid: Grid) -> None:
    record = run_record(CELL, 3, accuracy=0.123456789, gini=math.nan)

    path = results.write_record(record)
    back = results.read_record(path)

    assert path == grid_root(grid) / "results/laptop/records/fashion_mnist/resnet10_narrow/smoot/3.json"
    assert (back.cell, back.seed, back.code, back.data) == (CELL, 3, record.code, record.data)
    assert back.metrics["accuracy"] == 0.123457
    assert math.isnan(back.metrics["gini"])
    assert back.curves["mean"]["deletion"] == [round(x, 6) for x in record.curves["mean"]["deletion"]]
    assert back.config["training"] == record.config["training"]


def test_attributions_and_cascades_come_back_with_nan_for_what_is_undefined(grid: Grid) -> None:
    record = run_record(CELL, 3)
    assert record.sanity["layers"] and record.attributions  # or this test would prove nothing
    undefined = {**record.sanity, "edges": {"spearman": [math.nan] * 6, "ssim": [1.0] * 6}}
    without = {**record.attributions, "edges": {"gini": math.nan}}
    back = results.read_record(results.write_record(replace(record, sanity=undefined, attributions=without)))
    assert back.sanity["layers"] == record.sanity["layers"]
    assert back.sanity["gradient"]["ssim"] == [round(x, 6) for x in record.sanity["gradient"]["ssim"]]
    assert all(math.isnan(x) for x in back.sanity["edges"]["spearman"])
    assert math.isnan(back.attributions["edges"]["gini"])

    bare = results.read_record(results.write_record(replace(record, sanity={}, attributions={})))
    assert (bare.sanity, bare.attributions) == ({}, {})


def test_attributions_in_long_form(written: Grid) -> None:
    records = results.load_records(written)
    frame = results.attributions_frame(records)
    assert set(zip(frame["method"], frame["seed"], strict=True)) == {("smoot", 3)}  # the one that is explained
    (record,) = (record for record in records if record.attributions)
    assert list(frame["attribution"]) == list(record.attributions)
    found = frame.set_index("attribution").loc["edges"]
    assert {name: found[name] for name in record.attributions["edges"]} == record.attributions["edges"]
    assert results.attributions_frame(records[:1]).empty


def grid_root(grid: Grid) -> Path:
    return Cell(grid.profile, "a", "b", "c").record_path(0).parents[6]


def test_configuration_is_kept_exactly(grid: Grid) -> None:
    record = run_record(CELL, 3)
    record = replace(record, config=record.config | {"rate": 1e-9})
    assert results.read_record(results.write_record(record)).config["rate"] == 1e-9


def test_the_file_has_sorted_keys_null_for_nan_and_the_same_bytes_each_time(grid: Grid) -> None:
    path = results.write_record(run_record(CELL, 3, gini=math.nan))
    first = path.read_bytes()
    content = json.loads(first)

    assert list(content) == sorted(content)
    assert list(content["metrics"]) == sorted(content["metrics"])
    assert content["metrics"]["gini"] is None
    assert content["cell"] == {
        "profile": "laptop",
        "dataset": "fashion_mnist",
        "backbone": "resnet10_narrow",
        "method": "smoot",
        "seed": 3,
    }
    assert first.startswith(b'{\n "attributions"')
    assert results.write_record(results.read_record(path)).read_bytes() == first


@pytest.mark.parametrize(
    ("keys", "to", "message"),
    [
        (["schema"], 1, "schema is 1: expected 2"),
        (["schema"], ..., "schema is None: expected 2"),
        (["data"], ..., "key data is missing"),
        (["extra"], 1, "unknown key extra: expected attributions, cell, code"),
        (["cell", "seed"], ..., r"key cell\.seed is missing"),
        (["cell", "fold"], 1, r"unknown key cell\.fold"),
        (["metrics", "accuracy"], "high", r"metrics\.accuracy is 'high': expected a number or null"),
        (["metrics", "accuracy"], True, r"metrics\.accuracy is True"),
        (["curves", "fraction"], [], r"curves\.fraction is missing or empty"),
        (["curves", "mean", "random"], ..., r"key curves\.mean\.random is missing"),
        (["curves", "mean", "random"], [1.0], r"curves\.mean\.random has 1 points: expected 11"),
        (["curves", "black", "judge_random"], ..., r"key curves\.black\.judge_random is missing"),
        (["attributions"], ..., "key attributions is missing"),
        (["attributions", "edges", "gini"], "x", r"attributions\.edges\.gini is 'x': expected a number or null"),
        (["sanity", "layers"], ["fc"], r"sanity\.\w+\.\w+ has 6 numbers: expected 1"),
        (["sanity", "layers"], ..., r"sanity\.\w+\.\w+ has 6 numbers: expected 0"),
        (["sanity", "edges", "ssim"], ..., r"key sanity\.edges\.ssim is missing"),
        (["sanity", "edges", "ssim"], [True] * 6, r"sanity\.edges\.ssim is True: expected a number"),
    ],
)
def test_a_spoilt_record_names_file_and_key(grid: Grid, keys: list[str], to: object, message: str) -> None:
    path = results.write_record(run_record(CELL, 3))
    change(path, *keys, to=to)
    with pytest.raises(ValueError, match=message) as error:
        results.read_record(path)
    assert str(path) in str(error.value)


def test_half_a_record_is_an_error(grid: Grid) -> None:
    path = results.write_record(run_record(CELL, 3))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="is not JSON"):
        results.read_record(path)


def test_infinite_numbers_and_odd_types_are_refused_by_name(grid: Grid) -> None:
    with pytest.raises(ValueError, match=r"metrics\.nll is inf: expected a finite number"):
        results.write_record(run_record(CELL, 3, nll=math.inf))
    with pytest.raises(ValueError, match=r"metrics\.nll is a complex"):
        results.write_record(run_record(CELL, 3, nll=1j))
    assert not CELL.record_path(3).exists()


def test_the_frame_has_one_row_per_record_in_the_grids_order(written: Grid) -> None:
    frame = results.read_records(written)
    assert frame[["method", "seed"]].to_numpy().tolist() == [
        [method, seed] for method in ("plain", "sgt", "smoot") for seed in (3, 5)
    ]
    row = frame[(frame["method"] == "sgt") & (frame["seed"] == 5)].iloc[0]
    assert row["accuracy"] == round(run_record(replace(CELL, method="sgt"), 5).metrics["accuracy"], 6)


def test_a_stray_record_is_not_read(written: Grid) -> None:
    results.write_record(run_record(CELL, 99))
    assert set(results.read_records(written)["seed"]) == {3, 5}


@pytest.mark.parametrize(
    ("path", "read", "command"),
    [
        (CELL.record_path, results.read_records, "dvc repro evaluate@fashion_mnist-resnet10_narrow`"),
        (CELL.history_path, results.read_histories, "dvc repro train@fashion_mnist-resnet10_narrow`"),
    ],
)
def test_a_missing_file_is_named_with_the_command_that_makes_it(written: Grid, path, read, command: str) -> None:
    path(5).unlink()
    with pytest.raises(FileNotFoundError, match=command) as error:
        read(written)
    assert str(path(5)) in str(error.value)


def test_commands_differ_between_profiles() -> None:
    assert replace(CELL, profile="paper").made_by("train") == (
        "`dvc repro paper/dvc.yaml:train@fashion_mnist-resnet10_narrow`"
    )
    assert "profile=smoke" in replace(CELL, profile="smoke").made_by("train")


def test_a_record_in_the_wrong_place_is_an_error(written: Grid) -> None:
    CELL.record_path(3).write_bytes(CELL.record_path(5).read_bytes())
    with pytest.raises(ValueError, match="in the wrong place"):
        results.read_records(written)


def test_records_with_other_metrics_are_an_error(written: Grid) -> None:
    change(CELL.record_path(5), "metrics", "gini", to=...)
    with pytest.raises(ValueError, match=r"5\.json: key metrics\.gini is missing"):
        results.read_records(written)


def test_curves_in_long_form(written: Grid) -> None:
    frame = results.read_curves(written)
    assert list(frame.columns) == [
        "dataset", "backbone", "method", "seed", "fill", "curve", "fraction", "score",
    ]  # fmt: skip
    assert len(frame) == 3 * 2 * 2 * 6 * 11  # methods, seeds, fills, curves, points
    point = frame.query("method == 'sgt' and seed == 5 and fill == 'black' and curve == 'insertion'")
    expected = run_record(replace(CELL, method="sgt"), 5).curves["black"]["insertion"]
    assert point["fraction"].tolist() == [step / 10 for step in range(11)]
    assert point["score"].tolist() == [round(score, 6) for score in expected]


def test_histories_keep_undefined_values(written: Grid) -> None:
    frame = results.read_histories(written)
    assert len(frame) == 3 * 2 * 10
    plain = frame[frame["method"] == "plain"]
    assert plain["masked_pixels"].isna().all()
    assert (plain["masked_share"] == 0).all()
    own = frame[(frame["method"] == "smoot") & (frame["seed"] == 5)].drop(
        columns=["dataset", "backbone", "method", "seed"]
    )
    pd.testing.assert_frame_equal(own.reset_index(drop=True), history(CELL, 5).round(6))


def test_samples_of_all_methods_must_show_the_same_images(written: Grid) -> None:
    found = results.read_samples(written, "fashion_mnist", "resnet10_narrow")
    assert list(found) == ["plain", "sgt", "smoot"]

    other = samples(CELL)
    results.storage.write_samples(replace(other, images=other.images[::-1]), CELL.samples_path)
    with pytest.raises(ValueError, match="shows other images than those of plain"):
        results.read_samples(written, "fashion_mnist", "resnet10_narrow")

    CELL.samples_path.unlink()
    with pytest.raises(FileNotFoundError, match=r"samples\.npz is missing: `dvc repro evaluate@"):
        results.read_samples(written, "fashion_mnist", "resnet10_narrow")
