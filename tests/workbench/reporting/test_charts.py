import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from drawing import LOOKS, legend_texts, solid, unlabelled
from matplotlib.colors import to_hex
from scipy import stats
from synthetic import Network, history, run_record

from workbench.reporting import charts
from workbench.reporting.charts import Differences
from workbench.reporting.style import attribution_looks
from workbench.results import records as results

NETWORK = Network("laptop", "fashion_mnist", "resnet10_narrow", "plain")
GAPS = {"gap_mean": "Mean fill", "gap_black": "Black fill", "judge_gap_right_mean": "Judge, mean fill"}


@pytest.fixture(scope="module")
def records() -> list[results.RunRecord]:
    return [run_record(replace(NETWORK, method=method), seed) for method in LOOKS for seed in (0, 1, 2)]


@pytest.fixture(scope="module")
def histories(records: list[results.RunRecord]) -> pd.DataFrame:
    return pd.concat([history(record, record.seed).assign(**record.keys) for record in records], ignore_index=True)


@pytest.mark.parametrize("judge", [False, True])
def test_curves_show_means_bands_and_controls(records: list[results.RunRecord], judge: bool) -> None:
    def scores(method: str, fill: str, curve: str) -> np.ndarray:
        name = f"judge_{curve}" if judge else curve
        return 100 * np.array([record.curves[fill][name] for record in records if record.method == method])

    figure = charts.perturbation_curves(results.curves_frame(records), LOOKS, ("mean", "black"), judge=judge)
    deletion, _, insertion, insertion_black = figure.axes
    own = scores("plain", "mean", "deletion")
    assert solid(deletion, "plain") == pytest.approx(own.mean(0))
    assert solid(insertion_black, "smoot") == pytest.approx(scores("smoot", "black", "insertion").mean(0))
    half = stats.t.ppf(0.975, 2) * own.std(0, ddof=1) / np.sqrt(3)
    corners = deletion.collections[0].get_paths()[0].vertices
    assert corners[:, 1].max() == pytest.approx((own.mean(0) + half).max())
    assert corners[:, 1].min() == pytest.approx((own.mean(0) - half).min())

    control = scores("plain", "mean", "random").mean(0)
    dotted, mirrored = deletion.lines[0], insertion.lines[0]
    assert dotted.get_linestyle() == ":" and dotted.get_ydata() == pytest.approx(control)
    assert mirrored.get_xdata() == pytest.approx(100 - np.array(dotted.get_xdata()))
    assert mirrored.get_ydata() == pytest.approx(control)
    assert deletion.get_title(loc="left") == "Deletion, mean fill (lower is better)"
    assert insertion.get_title(loc="left") == "Insertion, mean fill (higher is better)"
    assert deletion.get_ylabel() == ("Judge's accuracy (%)" if judge else "Accuracy (%)")
    assert not list(unlabelled(figure))


def test_one_seed_has_a_line_and_no_band_that_can_be_seen(records: list[results.RunRecord]) -> None:
    figure = charts.perturbation_curves(results.curves_frame(records[:1]), {"plain": LOOKS["plain"]}, ("mean",))
    own = np.array(records[0].curves["mean"]["deletion"]) * 100
    assert solid(figure.axes[0], "plain") == pytest.approx(own)
    assert all(not len(path.vertices) for path in figure.axes[0].collections[0].get_paths())


def test_the_schedule_shows_what_was_masked(histories: pd.DataFrame) -> None:
    figure = charts.training_schedule(histories, LOOKS)
    by_title = {axes.get_title(loc="left"): axes for axes in figure.axes}
    shown = {  # column, factor, a method, lines: those of methods that mask, or of validation and training
        "Masked images": ("masked_share", 100, "smoot", 3),
        "Their masked pixels": ("masked_pixels", 100, "smoot", 2),  # plain masks none: undefined, not zero
        "Information lost": ("information_loss", 1, "sgt", 2),
        "Answers changed": ("flip_share", 100, "sgt", 2),
        "Cross-entropy rise": ("cross_entropy_rise", 1, "sgt", 2),
        "Generalisation gap": ("gap", 100, "plain", 3),
        "Accuracy": ("validation_accuracy", 100, "sgt", 6),
        "Cross-entropy": ("validation_loss", 1, "sgt", 6),
    }
    assert list(by_title) == list(shown)
    gap = np.maximum(1 - histories["trained_loss"] / histories["validation_loss"], 0)
    histories = histories.assign(gap=gap)
    for title, (column, factor, method, lines) in shown.items():
        mean = histories[histories["method"] == method].groupby("epoch")[column].mean()
        assert solid(by_title[title], method) == pytest.approx(factor * mean.to_numpy()), title
        assert len(by_title[title].lines) == lines, title
    assert solid(by_title["Masked images"], "plain") == pytest.approx(np.zeros(10))
    marked = [line.get_markevery() for line in by_title["Masked images"].lines]
    assert marked == [(0, 3), (1, 3), (2, 3)]  # equal lines mark different epochs
    assert not list(unlabelled(figure))


def test_intervals_beyond_what_is_possible_do_not_stretch_the_axes(histories: pd.DataFrame) -> None:
    wild = histories.assign(validation_accuracy=np.where(histories["seed"] == 0, 0.01, 0.99))
    by_title = {axes.get_title(loc="left"): axes for axes in charts.training_schedule(wild, LOOKS).axes}
    low, high = by_title["Accuracy"].get_ylim()
    assert -5 < low <= 0
    assert 100 <= high < 105


@pytest.mark.parametrize(("panels", "columns", "shared"), [(1, 2, True), (3, 2, True), (3, 3, False)])
def test_a_forest_has_a_line_per_method_and_says_what_is_certain(panels: int, columns: int, shared: bool) -> None:
    found = [("smoot", 0.01, 0.002, 0.018, 0.01), ("sgt", -0.02, -0.05, 0.01, 0.2)]
    rows = pd.DataFrame(found, columns=["method", "difference", "low", "high", "p_holm"])
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


def test_accuracy_against_gap_has_a_mark_per_seed_and_its_mean(records: list[results.RunRecord]) -> None:
    frame = results.metrics_frame(records)
    figure = charts.accuracy_faithfulness(frame, LOOKS, GAPS)
    left, *_ = figure.axes
    own = 100 * frame[frame["method"] == "plain"][["accuracy", "gap_mean"]].to_numpy()

    assert np.asarray(left.collections[0].get_offsets()) == pytest.approx(own)
    mean = left.containers[0].lines[0]
    assert (mean.get_xdata()[0], mean.get_ydata()[0]) == pytest.approx(tuple(own.mean(0)))
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(GAPS.values())
    assert legend_texts(figure) == ["Plain", "SGT", "SMOOT", "random map"] and not list(unlabelled(figure))


@pytest.mark.parametrize("count", [1, 3])
def test_cascades_start_at_the_trained_network_and_go_layer_by_layer(count: int) -> None:
    names = {"edges": [1.0, 1.0, 1.0], "gradient": [0.5, 0.1, math.nan], "random": [0.9, 0.8, -0.4]}
    found = {name: {"spearman": values, "ssim": [0.0, 0.0, 0.0]} for name, values in names.items()}
    cascade = {"layers": ["fc", "a.layer.with.a.long.name", "conv1"], **found}
    figure = charts.sanity_cascades({f"cell {number}": cascade for number in range(count)})
    assert len(figure.axes) == count
    axes = figure.axes[-1]
    lines = [line for line in axes.lines if len(line.get_xdata()) == 4]
    assert [list(line.get_ydata())[:3] for line in lines] == [[1, 0.5, 0.1], [1, 0.9, 0.8], [1, 1, 1]]
    looks = attribution_looks(["gradient", "random", "edges"])  # the same whatever stands beside them: test_style.py
    assert [line.get_color() for line in lines] == [looks[name].colour for name in ("gradient", "random", "edges")]
    assert list(lines[0].get_xdata()) == [0, 1, 2, 3]  # layers are counted: their names are not for readers
    assert legend_texts(figure) == ["Gradient", "Random", "Edges"]
    assert axes.get_ylim()[0] < -0.4  # nothing is cut off
    assert axes.get_xlabel() == "Layers randomised, from the output on"
    assert not list(unlabelled(figure))
