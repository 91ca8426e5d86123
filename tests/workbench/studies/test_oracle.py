from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
import pytest
from drawing import LOOKS, legend_texts, lines, unlabelled
from matplotlib.patches import Rectangle
from synthetic import SETTING, TITLES
from synthetic_studies import config_of, plan_of, runs_of

from workbench.reporting.metrics import Metric
from workbench.reporting.questions import Study
from workbench.results.statistics import compare
from workbench.studies import oracle
from workbench.studies.plans import scheduled_methods
from workbench.studies.runs import StudyRuns

GRID = {"i50_k20": (0.5, 0.2), "i50_k60": (0.5, 0.6), "i100_k20": (1.0, 0.2), "i100_k60": (1.0, 0.6)}
PLANS = {name: plan_of(*shares) for name, shares in GRID.items()}
PLAIN = np.array([0.80, 0.82, 0.84])
MIXED = np.array([0.03, -0.02, 0.01])
RISING = np.array([0.02, 0.03, 0.04])
ACCURACIES = {"i50_k20": PLAIN + 0.01, "i50_k60": PLAIN + RISING + 0.01, "i100_k20": PLAIN, "i100_k60": PLAIN - 0.01}
STUDY = Study("A study", ("oracle",), "plain", "A note.")
JUDGED = "Judge's gap, right answers, mean"
SECOND = f"Second {JUDGED.lower()}"


@pytest.fixture(scope="module")
def runs() -> StudyRuns:
    configs = {"plain": config_of("plain")} | PLANS | {"smoot": config_of("smoot")}
    return runs_of(STUDY, configs, {**ACCURACIES, "plain": PLAIN, "smoot": PLAIN + RISING})


def frame_of(values: Mapping[str, Iterable[float]], metric: str = "accuracy") -> pd.DataFrame:
    rows = [(name, seed, value) for name, found in values.items() for seed, value in enumerate(found)]
    return pd.DataFrame(rows, columns=["method", "seed", metric])


def test_the_grid_is_what_differs_in_the_two_shares_alone() -> None:
    others = {
        "plain": config_of("plain"),
        "random_mask": config_of("random_mask"),
        "signed": plan_of(0.5, 0.4, guidance__reduction="signed_mean"),
        "black": plan_of(0.5, 0.4, guidance__fill="constant"),
        "longer": plan_of(0.5, 0.4, training={"epochs": 25}),
        "less": plan_of(0.5, 0.4, dataset={"train_images": 500}),
        "labels": plan_of(0.5, 0.4, guidance__consistency="cross_entropy"),
        "smoot": config_of("smoot"),
    }
    assert oracle.read_grid(PLANS | others).to_dict("list") == {
        "method": list(GRID),
        "image_fraction": [0.5, 0.5, 1.0, 1.0],
        "mask_fraction": [0.2, 0.6, 0.2, 0.6],
    }


def test_a_schedule_may_be_fixed_beforehand_but_not_train_otherwise() -> None:
    longer = config_of("smoot", training={"epochs": 25})
    sequence = config_of("plain", schedule="sequence", sequence={"image_fractions": [0.0, 1.0]})
    assert scheduled_methods(PLANS | {"longer": longer, "ramp": sequence}) == ["ramp"]


def test_a_grid_with_holes_or_doubles_is_an_error_that_names_the_cell() -> None:
    with pytest.raises(ValueError, match=r"0\.6 of the pixels of 0\.5 of the images are \[\]: expected exactly one"):
        oracle.read_grid({name: config for name, config in PLANS.items() if name != "i50_k60"})
    with pytest.raises(ValueError, match=r"are \['i100_k60', 'again'\]: expected exactly one"):
        oracle.read_grid(PLANS | {"again": PLANS["i100_k60"]})
    with pytest.raises(ValueError, match=r"hold 1 constant plans of one kind: expected a grid"):
        oracle.read_grid({"one": PLANS["i50_k20"], "plain": config_of("plain")})


def test_the_oracle_is_the_best_mean_and_the_held_out_one_does_not_see_its_seed() -> None:
    wide = pd.DataFrame({"a": (0.5, 0.5, 0.5), "b": (0.9, 0.4, 0.4), "c": (0.1, 0.51, 0.52), "d": (0.0, 0.0, 0.0)})
    assert oracle.best_plan(wide) == "b"
    # without seed 0: 0.5, 0.4, 0.515; without 1: 0.5, 0.65, 0.31; without 2: 0.5, 0.65, 0.305
    assert oracle.held_out_plans(wide) == {0: "c", 1: "b", 2: "b"}
    assert oracle.held_out_plans(wide[:1]) == {}


def test_standings_pair_by_seed_and_share_what_is_gained_held_out() -> None:
    """Without the seed that favours it, the best plan is another one: the held-out gain is smaller."""
    plain, smoot = [0.0] * 4, [0.02, 0.03, 0.02, 0.03]
    values = {"i50_k20": [0.05, 0.06, 0.05, 0.06], "i50_k60": [0.3, 0.04, 0.03, 0.04], "i100_k20": plain}
    frame = frame_of(values | {"i100_k60": plain, "plain": plain, "smoot": smoot})
    found = oracle.standings(oracle.read_grid(PLANS), ["smoot"], frame, ["accuracy"], "plain")
    by_line = found.set_index(["kind", "method"])
    # without seed 0 the first plan is best, without another one the second: 0.05, 0.04, 0.03, 0.04
    expected = {("oracle", "i50_k60"): 0.1025, ("held_out", ""): 0.04, ("schedule", "smoot"): 0.025}
    expected |= {("cell", "i50_k20"): 0.055, ("reference", "plain"): 0.0}
    for line, gain in expected.items():
        assert by_line.loc[line, ["difference", "share"]].tolist() == pytest.approx([gain, gain / 0.04])
    by_hand = compare(smoot, plain)
    assert tuple(by_line.loc[("schedule", "smoot"), ["low", "high"]]) == pytest.approx((by_hand.low, by_hand.high))


def test_what_stands_beside_has_no_oracle() -> None:
    frame = frame_of({name: (0.1, 0.2, 0.4) for name in (*GRID, "plain")}).assign(gini=[*range(15)])
    found = oracle.standings(oracle.read_grid(PLANS), [], frame, ["accuracy"], "plain", ["gini"])
    assert set(found["of"]) == {"", "accuracy"} and set(found["metric"]) == {"accuracy", "gini"}
    beside = found[found["metric"] == "gini"]
    assert beside["share"].isna().all()
    assert beside.set_index("kind").loc["oracle", "difference"] == pytest.approx(-12)  # of the best in accuracy


def test_no_share_of_a_gain_that_may_be_none() -> None:
    values = {"i50_k20": PLAIN + MIXED, "i50_k60": PLAIN, "i100_k20": PLAIN, "i100_k60": PLAIN}
    frame = frame_of(values | {"plain": PLAIN, "smoot": PLAIN + 0.01})
    found = oracle.standings(oracle.read_grid(PLANS), ["smoot"], frame, ["accuracy"], "plain")
    assert found["share"].isna().all() and "held_out" in set(found["kind"])
    alone = oracle.standings(oracle.read_grid(PLANS), ["smoot"], frame[frame["seed"] == 0], ["accuracy"], "plain")
    assert alone["share"].isna().all() and "held_out" not in set(alone["kind"])


def test_costs_are_passes_of_one_training() -> None:
    configs = PLANS | {"plain": config_of("plain"), "smoot": config_of("smoot")}
    rows = [("smoot", seed, share) for seed in (0, 1) for share in (0.0, 0.5, 1.0)]
    histories = pd.DataFrame(rows, columns=["method", "seed", "image_fraction"])
    costs = oracle.training_costs(configs, histories, oracle.read_grid(configs))
    half, every = 5.5 / 3, 7 / 3  # of the images
    expected = {"i50_k20": half, "i50_k60": half, "i100_k20": every, "i100_k60": every}
    assert costs == pytest.approx(expected | {"smoot": (1 + half + every) / 3})


def test_the_oracles_beside_the_schedule(runs: StudyRuns) -> None:
    table = oracle.table(runs, TITLES)
    assert table.name == f"oracle_{SETTING.place}" and "nan" not in table.markdown
    shown, share = table.display.set_index("Method"), "Accuracy: of the held-out gain (%)"
    best, held_out = "Best plan for accuracy (50 % of images, 60 % of pixels)", "Best plan for accuracy (held out)"
    of_the_judge = "Best plan for judge's gap, right answers, mean"  # 1 minus the accuracy: the least accurate plan
    assert dict(zip(shown.index, zip(shown["Accuracy (%) ↑"], shown[share], strict=True), strict=True)) == {
        "Plain": ("82.00 ± 2.00", "–"),
        best: ("86.00 ± 3.00", "100"),
        held_out: ("86.00 ± 3.00", "100"),
        f"{of_the_judge} (100 % of images, 60 % of pixels)": ("81.00 ± 2.00", "−25"),
        f"{of_the_judge} (held out)": ("81.00 ± 2.00", "−25"),
        "SMOOT": ("85.00 ± 3.00", "75"),
    }
    assert shown.loc["Plain", "Accuracy: gain"] == "–"
    assert list(shown.columns)[3:5] == [f"{JUDGED} (points) ↑", f"{JUDGED}: gain"]
    assert list(shown.columns)[6:-1] == [f"{SECOND} (points) ↑", f"{SECOND}: gain"]
    search, cost = 2 * (5.5 + 7) / 3, "Cost (plain trainings) ↓"
    assert shown.loc[["Plain", best, held_out], cost].tolist() == ["1.0", f"{3 * search:.1f}", f"{2 * search:.1f}"]
    assert "one training of each of the 4 plans with every seed that chose it (all 3, held out 2)" in table.caption
    assert "4 constant plans that mask 50 or 100 % of the images and 20 or 60 % of their pixels" in table.caption
    assert table.caption.endswith(f"{runs.ending({'judge_gap_right_mean': Metric('')})} {SETTING.origin}")
    kinds = table.data.drop_duplicates(["kind", "of", "method"])["kind"].value_counts().to_dict()
    assert kinds == {"cell": 4, "schedule": 1, "oracle": 2, "held_out": 2, "reference": 1}
    assert (
        table.data.set_index(["kind", "metric", "method"]).loc[("cell", "accuracy", "i50_k60"), "mask_fraction"] == 0.6
    )


def test_no_share_in_the_table_where_the_oracle_may_gain_nothing(runs: StudyRuns) -> None:
    unsure = {method: PLAIN + (MIXED if method in GRID else 0) for method in runs.methods}
    shown = oracle.table(runs_of(STUDY, runs.methods, unsure), TITLES).display
    assert set(shown["Accuracy: of the held-out gain (%)"]) == {"–"}


def test_the_map_shows_every_mean_frames_the_best_and_draws_what_was_masked(runs: StudyRuns) -> None:
    chart = oracle.chart(runs, LOOKS)
    assert chart.name == f"oracle_{SETTING.place}" and SETTING.name in chart.caption
    accuracy, gap = chart.figure.axes
    at = {tuple(map(round, text.get_position())): text.get_text() for text in accuracy.texts}
    assert at == {(20, 50): "83.00", (60, 50): "86.00", (20, 100): "82.00", (60, 100): "81.00"}
    (frame,) = (patch for patch in accuracy.patches if isinstance(patch, Rectangle))
    assert frame.get_xy() == pytest.approx((40, 25)) and frame.get_width() == pytest.approx(40)  # around 60, 50
    assert accuracy.get_title(loc="left") == "Accuracy (%) ↑\nPlain: 82.00"
    assert gap.get_title(loc="left") == f"{JUDGED} (points) ↑\nPlain: 18.0"
    ((x, y),) = lines(accuracy, "smoot")
    smoot = runs.histories[runs.histories["method"] == "smoot"]
    own = 100 * smoot.groupby("epoch")[["masked_pixels", "masked_share"]].mean()
    assert x == pytest.approx(own["masked_pixels"].tolist()) and y == pytest.approx(own["masked_share"].tolist())
    assert lines(accuracy, "smoot", "None")[-1] == ([x[-1]], [y[-1]])
    assert legend_texts(chart.figure) == ["SMOOT"] and not list(unlabelled(chart.figure))


def test_only_compared_methods_are_drawn_on_the_map(runs: StudyRuns) -> None:
    study = Study("A study", ("oracle",), "plain", compared=("plain",))
    figure = oracle.chart(StudyRuns(study, runs.records, runs.histories, SETTING), LOOKS).figure
    assert not figure.legends and not figure.axes[0].lines


def test_a_grid_of_one_row_has_edges_too() -> None:
    plans = oracle.read_grid({f"k{k}": plan_of(1.0, k / 100) for k in (20, 40, 80)})
    frame = frame_of({"k20": (0.7, 0.8), "k40": (0.8, 0.9), "k80": (0.5, 0.5), "plain": (0.8, 0.8)})
    nothing = pd.DataFrame(columns=["method", "epoch", "masked_share", "masked_pixels"])
    figure = oracle.grid_map(plans, frame, nothing, {"accuracy": Metric("Accuracy", digits=2)}, "plain", LOOKS)
    (mesh,) = figure.axes[0].collections
    corners = mesh.get_coordinates()
    assert corners[0, :, 0].tolist() == pytest.approx([10, 30, 60, 100])
    assert corners[:, 0, 1].tolist() == pytest.approx([90, 110])
    assert [text.get_text() for text in figure.axes[0].texts] == ["75.00", "85.00", "50.00"]
