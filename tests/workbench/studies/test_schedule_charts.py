import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from synthetic import SETTING
from test_charts import unlabelled
from test_oracle import changed, config_of, grid_configs, small_frame, whole_study
from test_schedule_tables import GAP, MEASURED, RULE, STUDY, Made

from workbench.reporting import captions
from workbench.reporting.metrics import Metric
from workbench.reporting.questions import Study
from workbench.reporting.style import colours
from workbench.reporting.words import display_name
from workbench.results.records import metrics_frame
from workbench.results.statistics import mean_interval
from workbench.studies import choice, oracle, schedule_charts

ACCURACY = {"accuracy": Metric("Accuracy", digits=2)}


@pytest.fixture(scope="module")
def made() -> Made:
    return whole_study()


@pytest.fixture(scope="module")
def drawn(made: Made) -> dict[str, tuple[str, Figure]]:
    return {name: (caption, figure) for name, caption, figure in schedule_charts.draw(STUDY, *made, SETTING)}


def test_what_the_study_asks_for(made: Made, drawn: dict[str, tuple[str, Figure]]) -> None:
    kinds = ("oracle", "sweep", "choice", "conditions")
    assert list(drawn) == [f"{kind}_{SETTING.place}" for kind in kinds]
    for caption, figure in drawn.values():
        assert caption.endswith(f" A note. {captions.JUDGED} {SETTING.facts}; {MEASURED}") and SETTING.name in caption
        assert not list(unlabelled(figure))
    some = Study("A study", ("sweep",), "plain")
    assert [name for name, _, _ in schedule_charts.draw(some, *made, SETTING)] == [f"sweep_{SETTING.place}"]


def lines_of(axes: Axes, method: str, methods: list[str]) -> list[tuple[list[float], list[float]]]:
    colour = to_hex(colours(methods)[method])
    found = [line for line in axes.lines if to_hex(line.get_color()) == colour]
    return [(np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()) for line in found]


def test_the_map_shows_every_mean_frames_the_best_and_draws_where_methods_went(
    made: Made, drawn: dict[str, tuple[str, Figure]]
) -> None:
    records, histories = made
    accuracy, gap = drawn[f"oracle_{SETTING.place}"][1].axes
    frame = metrics_frame(records)
    means = 100 * frame.groupby("method")["accuracy"].mean()
    cells = oracle.read_grid(oracle.method_configs(records)).to_dict("records")
    at = {(round(text.get_position()[0]), round(text.get_position()[1])): text.get_text() for text in accuracy.texts}
    assert at == {
        (round(100 * c["mask_fraction"]), round(100 * c["image_fraction"])): f"{means[c['method']]:.2f}" for c in cells
    }
    best = max(cells, key=lambda cell: means[cell["method"]])
    (frame_of_best,) = (patch for patch in accuracy.patches if isinstance(patch, Rectangle))
    x, y = frame_of_best.get_xy()
    assert (x + 10, y + 10) == pytest.approx((100 * best["mask_fraction"], 100 * best["image_fraction"]))
    assert accuracy.get_title(loc="left") == f"Accuracy (%) ↑\nPlain: {means['plain']:.2f}"
    assert gap.get_title(loc="left").startswith(f"{GAP} (points) ↑")

    methods = [name for name in oracle.method_configs(records) if name.startswith("smoot")]
    shown = list(dict.fromkeys(oracle.trajectories(histories, methods)["method"]))
    path, _, end = lines_of(accuracy, "smoot", shown)
    own = 100 * histories[histories["method"] == "smoot"].groupby("epoch")[["masked_pixels", "masked_share"]].mean()
    assert path[0] == pytest.approx(own["masked_pixels"].tolist())
    assert path[1] == pytest.approx(own["masked_share"].tolist())
    assert end == ([pytest.approx(path[0][-1])], [pytest.approx(path[1][-1])])


def test_only_compared_methods_are_drawn_on_the_map(made: Made) -> None:
    study = Study("A study", ("oracle",), "plain", compared=("plain", "smoot"))
    ((_, _, figure),) = schedule_charts.draw(study, *made, SETTING)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["SMOOT"]
    nobody = Study("A study", ("oracle",), "plain", compared=("plain",))
    ((_, _, figure),) = schedule_charts.draw(nobody, *made, SETTING)
    assert not figure.legends and not figure.axes[0].lines


def test_a_grid_of_one_row_has_edges_too() -> None:
    configs = grid_configs({"k20": (1.0, 0.2), "k40": (1.0, 0.4), "k80": (1.0, 0.8)})
    frame = small_frame({"k20": (0.7, 0.8), "k40": (0.8, 0.9), "k80": (0.5, 0.5), "plain": (0.8, 0.8)})
    nothing = pd.DataFrame(columns=["method", "epoch", "masked_share", "masked_pixels"])
    figure = schedule_charts.oracle_map(oracle.read_grid(configs), frame, nothing, ACCURACY, "plain")
    (mesh,) = figure.axes[0].collections
    corners = mesh.get_coordinates()
    assert corners[0, :, 0].tolist() == pytest.approx([10, 30, 60, 100])
    assert corners[:, 0, 1].tolist() == pytest.approx([90, 110])
    assert [text.get_text() for text in figure.axes[0].texts] == ["75.00", "85.00", "50.00"]


def test_sweeps_share_their_scale_and_stand_beside_the_schedules(
    made: Made, drawn: dict[str, tuple[str, Figure]]
) -> None:
    records, histories = made
    axes = drawn[f"sweep_{SETTING.place}"][1].axes
    assert len(axes) == 6  # k, τ and kmax; two measures
    assert axes[0].get_ylim() == axes[2].get_ylim() == axes[4].get_ylim() != axes[1].get_ylim()
    means = 100 * metrics_frame(records).groupby("method")["accuracy"].mean()
    ((x, y),) = lines_of(axes[0], "sgt", ["sgt"])
    assert x == [0.1, 0.3, 0.5, 0.7, 0.9]
    assert y == pytest.approx([means[f"sgt_k{k}"] for k in (10, 30, 50, 70, 90)])
    interval, point = lines_of(axes[0], "smoot", ["smoot"])
    pixels = histories[histories["method"] == "smoot"]["masked_pixels"].mean()
    assert point == ([pytest.approx(pixels)], [pytest.approx(means["smoot"])])
    by_hand = mean_interval(100 * metrics_frame(records).query("method == 'smoot'")["accuracy"])
    assert interval[1] == pytest.approx([*by_hand[1:]])
    names = [text.get_text() for text in drawn[f"sweep_{SETTING.place}"][1].legends[0].get_texts()]
    assert names[:3] == ["SGT", "SGT improved", "SMOOT"] and len(names) == 8
    assert axes[2].get_xlabel() == "τ: masked share of the saliency"
    ((x, y),) = lines_of(axes[2], "smoot", ["smoot"])
    assert y == pytest.approx([means[name] for name in ("smoot_tau_0.1", "smoot", "smoot_tau_0.3", "smoot_tau_0.4")])


def test_a_constant_over_decades_has_a_logarithmic_axis_and_no_panel_for_what_was_not_swept() -> None:
    configs = {"smoot": config_of("smoot")} | {
        f"kappa_{budget:g}": changed(config_of("smoot"), adaptive__budget=budget) for budget in (0.03, 0.3, 1.0)
    }
    frame = small_frame({name: (0.8, 0.81) for name in configs})
    nothing = pd.DataFrame(columns=["method", "epoch", "masked_share", "masked_pixels"])
    figure = schedule_charts.sweep_lines(choice.sweeps(configs), frame, nothing, ACCURACY)
    (axes,) = figure.axes
    assert axes.get_xscale() == "log" and axes.get_xlabel() == "κ: budget of lost information"
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0.03", "0.1", "0.3", "1"]


def test_the_ranking_marks_the_choice_and_the_margin(made: Made, drawn: dict[str, tuple[str, Figure]]) -> None:
    accuracy, score = drawn[f"choice_{SETTING.place}"][1].axes
    frame = metrics_frame(made[0])
    chosen = choice.choose(frame, RULE)
    means = chosen.table.set_index("method")
    order = list(chosen.table.sort_values("score", ascending=False)["method"])
    assert [label.get_text() for label in accuracy.get_yticklabels()] == [display_name(method) for method in order]
    (margin,) = (line for line in accuracy.lines if line.get_linestyle() == "--")
    assert margin.get_xdata()[0] == pytest.approx(100 * chosen.table["accuracy"].max() - 0.3)
    for axes, column, factor in ((accuracy, "accuracy", 100), (score, "score", 1)):
        marks = [line for line in axes.lines if line.get_markersize() == 6]
        assert [mark.get_xdata()[0] for mark in marks] == pytest.approx(list(factor * means.loc[order, column]))
        assert [mark.get_markerfacecolor() != "white" for mark in marks] == [method == chosen.name for method in order]
    dots = {line.get_ydata()[0]: line.get_xdata() for line in accuracy.lines if line.get_markersize() == 2.6}
    for place, method in enumerate(order):
        assert dots[place] == pytest.approx(100 * frame.loc[frame["method"] == method, "accuracy"])
