from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from test_charts import unlabelled
from test_effect_tables import STUDY, histories_of, study_records
from test_effects import CROSS, STAR, frame_of, levels_of
from test_typesetting import ABOUT

from smoot.workbench import effect_charts, effects
from smoot.workbench.effects import Combination
from smoot.workbench.measures import Measure
from smoot.workbench.study import Study

MEASURES = {"accuracy": Measure("Accuracy", digits=2), "stability": Measure("Stability", "", 2)}


def drawn(combinations: Sequence[Combination], study: Study = STUDY) -> dict[str, tuple[str, Figure]]:
    records = study_records(combinations)
    found = effect_charts.draw(study, records, histories_of(records), ABOUT)
    return {name: (caption, figure) for name, caption, figure in found}


def bars(axes: Axes) -> list[tuple[float, float, float, bool]]:
    """Middle, low and high of each row, and whether its marker is filled."""
    found = []
    for bar in axes.containers:
        segment = bar.lines[2][0].get_segments()[0]
        filled = to_hex(bar.lines[0].get_markerfacecolor()) != "#ffffff"
        found.append((bar.lines[0].get_xdata()[0], segment[0, 0], segment[1, 0], filled))
    return found


def test_a_study_gets_what_it_asks_for() -> None:
    place = "fashion_mnist_resnet10_narrow"
    figures = drawn(CROSS)
    assert list(figures) == [f"effects_{place}", f"adversarial_{place}", f"comparison_{place}"]
    for caption, figure in figures.values():
        assert "Three seeds. " in caption and caption.endswith("500 of them, PGD on the first 400.")
        assert not list(unlabelled(figure))
    assert "Every combination was run" in figures[f"effects_{place}"][0]
    assert list(drawn(CROSS, replace(STUDY, exhibits=("sweep",)))) == []
    caption, _ = drawn(STAR, replace(STUDY, exhibits=("factorial",)))[f"effects_{place}"]
    assert "One factor was varied at a time" in caption


def test_effects_forest_has_a_row_per_level_and_fills_what_survives() -> None:
    found = pd.DataFrame(
        [
            ("accuracy", "ranking", "signed", "magnitude", -0.02, -0.03, -0.01, 0.04),
            ("accuracy", "fill", "worst_case", "uniform", 0.01, -0.01, 0.03, 0.06),
            ("stability", "fill", "worst_case", "uniform", 0.1, 0.05, 0.15, 0.01),
        ],
        columns=["metric", "factor", "level", "baseline", "difference", "low", "high", "p_holm"],
    )
    figure = effect_charts.effects_forest(found, MEASURES)
    accuracy, stability = figure.axes
    assert np.array(bars(accuracy)) == pytest.approx(np.array([(-2, -3, -1, True), (1, -1, 3, False)]))
    assert np.array(bars(stability)) == pytest.approx(np.array([(0.1, 0.05, 0.15, True)]))
    (only,) = stability.containers
    assert only.lines[0].get_ydata()[0] == 1  # in the second row, as its level
    names = [text.get_text() for text in accuracy.get_yticklabels()]
    assert names == ["Ranking: signed − magnitude", "Fill: worst case − uniform"]
    assert accuracy.get_ylim() == (1.5, -0.5)  # the first row on top
    assert [axes.get_xlabel() for axes in figure.axes] == ["Points ↑", "Difference ↑"]


def test_comparison_forest_shows_every_method_but_the_reference() -> None:
    gains = {"smoot": 0.02, "plain": 0.0, "sgt": -0.01}
    rows = [(name, seed, 0.8 + gain * (1 + seed / 10), 0.5) for name, gain in gains.items() for seed in range(3)]
    frame = pd.DataFrame(rows, columns=["method", "seed", "accuracy", "stability"])
    figure = effect_charts.comparison_forest(frame, ["smoot", "plain", "sgt"], "plain", MEASURES)
    accuracy, stability = figure.axes
    assert [text.get_text() for text in accuracy.get_yticklabels()] == ["SMOOT", "SGT"]
    half = 4.302652729911275 * 0.2 / np.sqrt(3)  # gains of 2, 2.2 and 2.4 points
    expected = [(2.2, 2.2 - half, 2.2 + half, True), (-1.1, -1.1 - half / 2, -1.1 + half / 2, True)]
    assert np.array(bars(accuracy)) == pytest.approx(np.array(expected))
    assert [bar[0] for bar in bars(stability)] == [0, 0]


def test_a_panel_says_the_correlation_within_each_fill() -> None:
    figures = drawn(CROSS)
    _, accuracy, _ = figures["adversarial_fashion_mnist_resnet10_narrow"][1].axes
    over, within = accuracy.get_title(loc="left").split("\n")
    assert over.startswith("ρ = 0.") and within.replace("\N{NO-BREAK SPACE}", " ").startswith("uniform 0.")


def test_a_metric_that_a_run_lacks_is_an_error_here_too() -> None:
    records = study_records(STAR)
    records[0] = replace(records[0], metrics={**records[0].metrics, "relevance_mass": np.nan})
    with pytest.raises(ValueError, match="'relevance_mass' of method 'plain', seed 0, is missing"):
        list(effect_charts.draw(STUDY, records, histories_of(records), ABOUT))


def test_adversarial_figure_places_cells_at_their_means() -> None:
    values = dict(zip(STAR, ([0.5, 0.6], [0.2, 0.4], [0.7, 0.7], [0.5, 0.5]), strict=True))
    frame = frame_of(values).assign(first_order_change=[0.0, 0.1, -0.5, -0.3, 0.2, 0.2, 0.0, 0.0])
    plain = pd.DataFrame([("plain", 0, 0.4, np.nan), ("plain", 1, 0.5, np.nan)], columns=frame.columns)
    both = pd.concat([frame, plain.astype(frame.dtypes.to_dict())], ignore_index=True)
    levels = levels_of(STAR)
    figure = effect_charts.adversarial_figure(both, levels, "plain", {"accuracy": MEASURES["accuracy"]})
    (axes,) = figure.axes
    points = [(bar.lines[0].get_xdata()[0], bar.lines[0].get_ydata()[0]) for bar in axes.containers]
    assert np.array(points) == pytest.approx(np.array([(0.05, 55), (-0.4, 30), (0.2, 70), (0, 50)]))
    dotted = [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == ":"]
    assert dotted == pytest.approx([45])
    assert effects.correlation(both, levels, "accuracy") == pytest.approx(1)
    assert axes.get_title(loc="left") == "ρ = 1.00"  # of three cells with one fill nothing more
    assert axes.get_xscale() == "symlog"
    faces = [to_hex(bar.lines[0].get_markerfacecolor()) for bar in axes.containers]
    assert [face == "#ffffff" for face in faces] == [False, False, False, True]  # hollow: through
    assert len({bar.lines[0].get_marker() for bar in axes.containers}) == 2  # uniform and mean
    (box,) = figure.legends
    labels = [text.get_text() for text in box.get_texts() if text.get_text().strip()]
    assert labels == [
        "magnitude ranking",
        "signed ranking",
        "uniform fill",
        "mean fill",
        "detached target",
        "through target",
        "Plain",
    ]


def test_one_seed_has_points_without_intervals() -> None:
    records = [record for record in study_records(STAR) if record.seed == 0]
    figures = {name: figure for name, _, figure in effect_charts.draw(STUDY, records, histories_of(records), ABOUT)}
    forest = figures["effects_fashion_mnist_resnet10_narrow"]
    point = forest.axes[0].containers[0]
    assert point.lines[0].get_xdata()[0] == pytest.approx(-1)
    assert point.lines[2][0].get_segments()[0].size == 0
    assert to_hex(point.lines[0].get_markerfacecolor()) == "#ffffff"
