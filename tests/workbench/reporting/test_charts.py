import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from drawing import LOOKS, legend_texts, solid, unlabelled
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from scipy import stats
from synthetic import Network, history, run_record

from workbench.reporting import charts
from workbench.reporting.charts import Differences
from workbench.results import records as results

SEEDS = (0, 1, 2)
NETWORK = Network("laptop", "fashion_mnist", "resnet10_narrow", "plain")
GAPS = {"gap_mean": "Mean fill", "gap_black": "Black fill", "judge_gap_mean": "Judge, mean fill"}


@pytest.fixture(scope="module")
def records() -> list[results.RunRecord]:
    return [run_record(replace(NETWORK, method=method), seed) for method in LOOKS for seed in SEEDS]


@pytest.fixture(scope="module")
def histories() -> pd.DataFrame:
    made = [
        history(replace(NETWORK, method=method), seed).assign(method=method, seed=seed)
        for method in LOOKS
        for seed in SEEDS
    ]
    return pd.concat(made, ignore_index=True)


def band(axes: Axes, place: int) -> np.ndarray:
    """The corners of the band drawn at a place."""
    return axes.collections[place].get_paths()[0].vertices


def test_curves_show_means_bands_and_controls(records: list[results.RunRecord]) -> None:
    figure = charts.perturbation_curves(results.curves_frame(records), LOOKS, ("mean", "black"))
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


def test_the_judges_curves_are_not_the_networks(records: list[results.RunRecord]) -> None:
    figure = charts.perturbation_curves(results.curves_frame(records), LOOKS, ("mean", "black"), judge=True)
    own = [np.array([record.curves["mean"][name] for record in records[:3]]).mean(0) * 100 for name in
           ("judge_deletion", "judge_random")]  # fmt: skip
    assert solid(figure.axes[0], "plain") == pytest.approx(own[0])
    assert figure.axes[0].lines[0].get_ydata() == pytest.approx(own[1])
    assert figure.axes[0].get_ylabel() == "Judge's accuracy (%)"
    assert not list(unlabelled(figure))


def test_one_seed_has_a_line_and_no_band_that_can_be_seen(records: list[results.RunRecord]) -> None:
    figure = charts.perturbation_curves(results.curves_frame(records[:1]), {"plain": LOOKS["plain"]}, ("mean",))
    own = np.array(records[0].curves["mean"]["deletion"]) * 100
    assert solid(figure.axes[0], "plain") == pytest.approx(own)
    assert all(not len(path.vertices) for path in figure.axes[0].collections[0].get_paths())


def test_the_schedule_shows_what_was_masked(histories: pd.DataFrame) -> None:
    figure = charts.training_schedule(histories, LOOKS)
    by_title = {axes.get_title(loc="left"): axes for axes in figure.axes}

    share = histories[histories["method"] == "smoot"].groupby("epoch")["masked_share"].mean()
    assert solid(by_title["Masked images"], "smoot") == pytest.approx(100 * share.to_numpy())
    assert solid(by_title["Masked images"], "plain") == pytest.approx(np.zeros(10))
    assert len(by_title) == 8
    for title, column, factor in (
        ("Information lost", "information_loss", 1),
        ("Answers changed", "flip_share", 100),
        ("Cross-entropy rise", "cross_entropy_rise", 1),
    ):
        lost = histories[histories["method"] == "sgt"].groupby("epoch")[column].mean()
        assert solid(by_title[title], "sgt") == pytest.approx(factor * lost.to_numpy()), title
        assert len(by_title[title].lines) == 2  # plain masks nothing
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
    by_title = {axes.get_title(loc="left"): axes for axes in charts.training_schedule(wild, LOOKS).axes}
    low, high = by_title["Accuracy"].get_ylim()
    assert -5 < low <= 0
    assert 100 <= high < 105


def test_equal_lines_mark_different_epochs(histories: pd.DataFrame) -> None:
    axes = charts.training_schedule(histories, LOOKS).axes[0]
    assert [line.get_markevery() for line in axes.lines] == [(0, 3), (1, 3), (2, 3)]


@pytest.mark.parametrize(("panels", "columns", "shared"), [(1, 2, True), (3, 2, True), (3, 3, False)])
def test_a_forest_has_a_line_per_method_and_says_what_is_certain(panels: int, columns: int, shared: bool) -> None:
    rows = pd.DataFrame(
        {
            "method": ["smoot", "sgt"],
            "difference": [0.01, -0.02],
            "low": [0.002, -0.05],
            "high": [0.018, 0.01],
            "p_holm": [0.01, 0.2],
        }
    )
    asked = [Differences(f"panel {place}", "A" if shared else f"A {place}", rows, 100) for place in range(panels)]
    figure = charts.forest(asked, LOOKS, columns)

    assert len(figure.axes) == panels and not list(unlabelled(figure))
    first, last = figure.axes[0], figure.axes[-1]
    assert [text.get_text() for text in first.get_yticklabels()] == ["SGT", "SMOOT"]  # Plain has no difference
    smoot, sgt = (bar.lines for bar in first.containers)
    assert (smoot[0].get_xdata()[0], smoot[0].get_ydata()[0]) == pytest.approx((1, 1))
    assert smoot[2][0].get_segments()[0][:, 0] == pytest.approx([0.2, 1.8])
    assert (sgt[0].get_xdata()[0], sgt[0].get_ydata()[0]) == pytest.approx((-2, 0))
    assert to_hex(smoot[0].get_color()) == to_hex(smoot[0].get_markerfacecolor()) == LOOKS["smoot"].colour
    assert (to_hex(sgt[0].get_color()), sgt[0].get_markerfacecolor()) == (LOOKS["sgt"].colour, "white")
    assert first.get_ylim() == last.get_ylim() == (1.5, -0.5)
    assert last.get_xlabel() == asked[-1].axis and last.get_title(loc="left") == f"panel {panels - 1}"


def test_accuracy_against_gap_has_a_mark_per_seed_and_the_interval_of_the_mean(
    records: list[results.RunRecord],
) -> None:
    frame = results.metrics_frame(records)
    figure = charts.accuracy_faithfulness(frame, LOOKS, GAPS)
    left, right, judge = figure.axes
    own = 100 * frame[frame["method"] == "plain"][["accuracy", "gap_mean"]].to_numpy()

    assert np.asarray(left.collections[0].get_offsets()) == pytest.approx(own)
    mean = left.containers[0].lines[0]
    assert (mean.get_xdata()[0], mean.get_ydata()[0]) == pytest.approx(tuple(own.mean(0)))
    assert [axes.get_title(loc="left") for axes in (left, right, judge)] == list(GAPS.values())
    judged = 100 * frame[frame["method"] == "plain"][["accuracy", "judge_gap_mean"]].to_numpy()
    assert np.asarray(judge.collections[0].get_offsets()) == pytest.approx(judged)
    assert legend_texts(figure) == ["Plain", "SGT", "SMOOT"] and not list(unlabelled(figure))


def cascades(count: int) -> dict[str, dict[str, object]]:
    """The same cascade in several panels, its lines at different heights."""
    layers = ["fc", "a.layer.with.a.long.name", "conv1"]
    names = {"edges": [1.0, 1.0, 1.0], "gradient": [0.5, 0.1, math.nan], "random": [0.9, 0.8, -0.4]}
    found = {name: {"spearman": values, "ssim": [0.0, 0.0, 0.0]} for name, values in names.items()}
    return {f"cell {number}": {"layers": layers, **found} for number in range(count)}


@pytest.mark.parametrize("count", [1, 3])
def test_cascades_start_at_the_trained_network_and_go_layer_by_layer(count: int) -> None:
    figure = charts.sanity_cascades(cascades(count))
    assert len(figure.axes) == count
    axes = figure.axes[-1]
    lines = [line for line in axes.lines if len(line.get_xdata()) == 4]
    assert [list(line.get_ydata())[:3] for line in lines] == [[1, 0.5, 0.1], [1, 0.9, 0.8], [1, 1, 1]]
    assert len({to_hex(line.get_color()) for line in lines}) == 3
    ticks = [text.get_text() for text in axes.get_xticklabels()]
    assert ticks == ["trained", "fc", "…h.a.long.name", "conv1"]
    assert legend_texts(figure) == ["Gradient", "Random", "Edges"]
    assert axes.get_ylim()[0] < -0.4  # nothing is cut off
    assert axes.get_xlabel() == "Randomised from the output up to"
    assert not list(unlabelled(figure))


def test_an_attribution_looks_the_same_whatever_stands_beside_it() -> None:
    few = {name: value for name, value in cascades(1)["cell 0"].items() if name in ("layers", "edges")}
    (line,) = (line for line in charts.sanity_cascades({"x": few}).axes[0].lines if len(line.get_xdata()) == 4)
    assert line.get_color() == charts.sanity_cascades(cascades(1)).axes[0].lines[2].get_color()
