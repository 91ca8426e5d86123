from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from scipy import stats
from synthetic import history, run_record

from smoot.workbench import charts, results
from smoot.workbench.cells import Cell
from smoot.workbench.style import colours

METHODS = ("plain", "sgt", "smoot")
SEEDS = (0, 1, 2)
CELL = Cell("laptop", "fashion_mnist", "resnet10_narrow", "plain")


@pytest.fixture(scope="module")
def records() -> list[results.RunRecord]:
    return [run_record(replace(CELL, method=method), seed) for method in METHODS for seed in SEEDS]


@pytest.fixture(scope="module")
def histories() -> pd.DataFrame:
    made = [
        history(replace(CELL, method=method), seed).assign(method=method, seed=seed)
        for method in METHODS
        for seed in SEEDS
    ]
    return pd.concat(made, ignore_index=True)


def unlabelled(figure: Figure) -> Iterator[str]:
    """Axes without a label of their own nor one from the axes below (x) or left (y) that they share."""
    for axes in figure.axes:
        spec = axes.get_subplotspec()
        if spec is None:
            continue
        same = [other for other in figure.axes if (place := other.get_subplotspec()) is not None and place]
        column = [o for o in same if o.get_subplotspec().colspan == spec.colspan]
        row = [o for o in same if o.get_subplotspec().rowspan == spec.rowspan]
        if not (axes.get_xlabel() or any(o.get_xlabel() for o in column)):
            yield f"x of {axes.get_title(loc='left')}"
        if not (axes.get_ylabel() or any(o.get_ylabel() for o in row)):
            yield f"y of {axes.get_title(loc='left')}"


def solid(axes: Axes, method: str) -> np.ndarray:
    """The y values of a method's line with markers."""
    (line,) = (
        line
        for line in axes.lines
        if to_hex(line.get_color()) == to_hex(colours(METHODS)[method]) and line.get_linestyle() == "-"
    )
    return np.asarray(line.get_ydata())


def band(axes: Axes, place: int) -> np.ndarray:
    """The corners of the band drawn at a place."""
    return axes.collections[place].get_paths()[0].vertices


def test_curves_show_means_bands_and_controls(records: list[results.RunRecord]) -> None:
    figure = charts.perturbation_curves(results.curves_frame(records), METHODS, ("mean", "black"))
    deletion_mean, deletion_black, insertion_mean, _ = figure.axes
    own = np.array([record.curves["mean"]["deletion"] for record in records[:3]]) * 100

    assert solid(deletion_mean, "plain") == pytest.approx(own.mean(0))
    half = stats.t.ppf(0.975, 2) * own.std(0, ddof=1) / np.sqrt(3)
    corners = band(deletion_mean, 0)
    assert corners[:, 1].max() == pytest.approx((own.mean(0) + half).max())
    assert corners[:, 1].min() == pytest.approx((own.mean(0) - half).min())
    black = np.array([record.curves["black"]["insertion"] for record in records[6:]]) * 100
    assert solid(figure.axes[3], "smoot") == pytest.approx(black.mean(0))

    control = np.array([record.curves["mean"]["random"] for record in records[:3]]).mean(0) * 100
    dotted = deletion_mean.lines[0]
    assert dotted.get_linestyle() == ":"
    assert dotted.get_ydata() == pytest.approx(control)
    mirrored = insertion_mean.lines[0]
    assert mirrored.get_xdata() == pytest.approx(100 - np.array(dotted.get_xdata()))
    assert mirrored.get_ydata() == pytest.approx(control)

    assert "lower is better" in deletion_black.get_title(loc="left")
    assert "higher is better" in insertion_mean.get_title(loc="left")
    assert not list(unlabelled(figure))


def test_one_seed_has_a_line_and_no_band_that_can_be_seen(records: list[results.RunRecord]) -> None:
    figure = charts.perturbation_curves(results.curves_frame(records[:1]), ("plain",), ("mean",))
    own = np.array(records[0].curves["mean"]["deletion"]) * 100
    assert solid(figure.axes[0], "plain") == pytest.approx(own)
    assert all(not len(path.vertices) for path in figure.axes[0].collections[0].get_paths())


def test_the_schedule_shows_what_was_masked(histories: pd.DataFrame) -> None:
    figure = charts.training_schedule(histories, METHODS)
    by_title = {axes.get_title(loc="left"): axes for axes in figure.axes}

    share = histories[histories["method"] == "smoot"].groupby("epoch")["masked_share"].mean()
    assert solid(by_title["Masked images"], "smoot") == pytest.approx(100 * share.to_numpy())
    assert solid(by_title["Masked images"], "plain") == pytest.approx(np.zeros(10))
    assert len(by_title["Masked pixels"].lines) == 2  # plain masks none: undefined, not zero
    assert len(by_title["Competence"].lines) == 1
    assert len(by_title["Accuracy"].lines) == 2 * 3  # validation and training
    validation = histories[histories["method"] == "sgt"].groupby("epoch")["validation_accuracy"].mean()
    assert solid(by_title["Accuracy"], "sgt") == pytest.approx(100 * validation.to_numpy())
    loss = histories[histories["method"] == "sgt"].groupby("epoch")["validation_loss"].mean()
    assert solid(by_title["Loss"], "sgt") == pytest.approx(loss.to_numpy())
    assert not list(unlabelled(figure))


def test_intervals_beyond_what_is_possible_do_not_stretch_the_axes(histories: pd.DataFrame) -> None:
    wild = histories.assign(validation_accuracy=np.where(histories["seed"] == 0, 0.01, 0.99))
    by_title = {axes.get_title(loc="left"): axes for axes in charts.training_schedule(wild, METHODS).axes}
    low, high = by_title["Accuracy"].get_ylim()
    assert -5 < low <= 0
    assert 100 <= high < 105


def test_equal_lines_mark_different_epochs(histories: pd.DataFrame) -> None:
    axes = charts.training_schedule(histories, METHODS).axes[0]
    assert [line.get_markevery() for line in axes.lines] == [(0, 3), (1, 3), (2, 3)]


def test_scatter_has_a_dot_per_seed_and_the_interval_of_the_mean(records: list[results.RunRecord]) -> None:
    frame = results.metrics_frame(records)
    figure = charts.accuracy_faithfulness(frame, METHODS, ("mean", "black"))
    left, right = figure.axes
    own = 100 * frame[frame["method"] == "plain"][["accuracy", "gap_mean"]].to_numpy()

    dots = left.collections[0].get_offsets()
    assert np.asarray(dots) == pytest.approx(own)
    mean = left.containers[0].lines[0]
    assert (mean.get_xdata()[0], mean.get_ydata()[0]) == pytest.approx(tuple(own.mean(0)))
    assert (left.get_title(loc="left"), right.get_title(loc="left")) == ("Mean fill", "Black fill")
    assert not list(unlabelled(figure))


@pytest.mark.parametrize("panels", [1, 3])
def test_forest(panels: int) -> None:
    frame = pd.DataFrame(
        {"method": ["sgt", "smoot"], "difference": [-0.02, 0.01], "low": [-0.03, 0.002], "high": [-0.01, 0.018]}
    )
    figure = charts.difference_forest({f"cell {number}": frame for number in range(panels)}, "plain")

    assert len(figure.axes) == panels
    axes = figure.axes[0]
    bars = axes.containers
    assert [bar.lines[0].get_xdata()[0] for bar in bars] == pytest.approx([-2, 1])
    segment = bars[1].lines[2][0].get_segments()[0]
    assert segment[:, 0] == pytest.approx([0.2, 1.8])
    assert [text.get_text() for text in axes.get_yticklabels()] == ["SGT", "SMOOT"]
    assert figure.axes[-1].get_xlabel() == "Accuracy minus Plain (points)"
    assert not list(unlabelled(figure))


def test_every_method_looks_the_same_in_every_figure(records: list[results.RunRecord]) -> None:
    few = charts.method_handles(("smoot",))
    many = charts.method_handles(METHODS)
    assert few[0].get_color() == many[2].get_color()
    assert len({handle.get_color() for handle in many}) == len({handle.get_marker() for handle in many}) == 3
    assert [handle.get_label() for handle in many] == ["Plain", "SGT", "SMOOT"]
