import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from drawing import LOOKS, legend_texts, lines, unlabelled
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from synthetic import SETTING, Network, history, run_record

from workbench.reporting import captions
from workbench.reporting.charts import Chart
from workbench.reporting.cost import Config
from workbench.reporting.metrics import Metric
from workbench.reporting.questions import Study
from workbench.reporting.style import Look
from workbench.reporting.table import Table
from workbench.results.records import RunRecord, metrics_frame
from workbench.results.statistics import compare, mean_interval
from workbench.studies import number

NETWORK = Network("laptop", "fashion_mnist", "resnet10_narrow", "plain")
SEEDS = (0, 1, 2, 3, 4)
SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)
FRACTIONS = (0.1, 0.3, 0.5, 0.7, 0.9)
RISING, MIXED = np.array([0.02, 0.03, 0.04]), np.array([0.03, -0.02, 0.01])
SMALL = {"i50_k20": (0.5, 0.2), "i50_k60": (0.5, 0.6), "i100_k20": (1.0, 0.2), "i100_k60": (1.0, 0.6)}
GAP = "Judge's gap, right answers, mean"
ALL = LOOKS | {"sgt_improved": Look("SGT improved", "#029e73", "D")}
TITLES = {method: look.title for method, look in ALL.items()}
STUDY = Study("A study", ("oracle", "sweep"), "plain", "A note.")
ACCURACY = {"accuracy": Metric("Accuracy", digits=2)}
Made = tuple[list[RunRecord], pd.DataFrame]


def changed(config: Config, **values: Any) -> dict[str, Any]:
    """The same configuration with other values, ``block__key``."""
    found = copy.deepcopy(dict(config))
    for name, value in values.items():
        block, _, key = name.partition("__")
        if key:
            found[block] = dict(found[block]) | {key: value}
        else:
            found[block] = value
    return found


def config_of(method: str) -> dict[str, Any]:
    """A method of the laptop profile as records have it."""
    return dict(run_record(replace(NETWORK, method=method), 0).config["method"])


def plan_of(images: float, pixels: float, base: str = "sgt_improved", **values: Any) -> dict[str, Any]:
    return changed(config_of(base), plan__image_fraction=images, plan__mask_fraction=pixels, **values)


def grid_configs(plans: Mapping[str, tuple[float, float]]) -> dict[str, dict[str, Any]]:
    return {name: plan_of(*shares) for name, shares in plans.items()}


def records_of(configs: Mapping[str, Config], values: Mapping[str, Iterable[tuple[float, float]]]) -> list[RunRecord]:
    """Records with these configurations; accuracy and the judge's gap seed by seed."""
    found = []
    for method, config in configs.items():
        for seed, (accuracy, gap) in enumerate(values[method]):
            record = run_record(NETWORK, seed, accuracy=accuracy, judge_gap_right_mean=gap)
            whole = dict(record.config) | {"method": changed(config, name=method)}
            found.append(replace(record, method=method, config=whole))
    return found


@pytest.fixture(scope="module")
def made() -> Made:
    """A 5 x 5 grid, SGT at five fractions and SMOOT with plausible numbers, and their histories."""
    draw = np.random.default_rng(3)
    plans = {f"i{100 * i:.0f}_k{100 * k:.0f}": (i, k) for i, k in product(SHARES, FRACTIONS)}
    configs: dict[str, dict[str, Any]] = {"plain": config_of("plain")} | grid_configs(plans)
    configs |= {f"sgt_k{100 * k:.0f}": changed(config_of("sgt"), plan__mask_fraction=k) for k in FRACTIONS}
    configs["smoot"] = config_of("smoot")
    level = {"plain": (0.8197, 0.1), "smoot": (0.8285, 0.19)}
    for name, (images, pixels) in plans.items():
        strength = images * pixels
        level[name] = (0.8197 + 0.05 * strength - 0.07 * strength**2, 0.1 + 0.16 * math.sqrt(strength))
    level |= {f"sgt_k{100 * k:.0f}": (0.81 - 0.06 * k**2, 0.1 + 0.06 * k) for k in FRACTIONS}
    noise = {name: draw.normal(0, (0.002, 0.008), (len(SEEDS), 2)) for name in configs}
    histories = [
        history(replace(NETWORK, method="smoot" if name == "smoot" else "plain"), seed).assign(method=name, seed=seed)
        for name in configs
        for seed in SEEDS
    ]
    records = records_of(configs, {name: (np.array(level[name]) + noise[name]).tolist() for name in configs})
    return records, pd.concat(histories).assign(dataset=NETWORK.dataset, backbone=NETWORK.backbone)


@pytest.fixture(scope="module")
def tables(made: Made) -> dict[str, Table]:
    return {table.name: table for table in number.tables(STUDY, *made, SETTING, TITLES)}


@pytest.fixture(scope="module")
def drawn(made: Made) -> dict[str, Chart]:
    return {chart.name: chart for chart in number.charts(STUDY, *made, SETTING, ALL)}


def small_frame(values: Mapping[str, Iterable[float]], metric: str = "accuracy") -> pd.DataFrame:
    rows = [(name, seed, value) for name, found in values.items() for seed, value in enumerate(found)]
    return pd.DataFrame(rows, columns=["method", "seed", metric])


def test_the_grid_is_what_differs_in_the_two_shares_alone() -> None:
    configs = grid_configs(SMALL) | {
        "plain": config_of("plain"),
        "random_mask": config_of("random_mask"),
        "signed": plan_of(0.5, 0.4, guidance__reduction="signed_mean"),
        "black": plan_of(0.5, 0.4, guidance__fill="constant"),
        "longer": plan_of(0.5, 0.4, training={"epochs": 25}),
        "less": plan_of(0.5, 0.4, dataset={"train_images": 500}),
        "labels": plan_of(0.5, 0.4, guidance__consistency="cross_entropy"),
        "smoot": config_of("smoot"),
    }
    plans = number.read_grid(configs)
    assert plans.to_dict("list") == {
        "method": list(SMALL),
        "image_fraction": [0.5, 0.5, 1.0, 1.0],
        "mask_fraction": [0.2, 0.6, 0.2, 0.6],
    }
    assert number.scheduled_methods(configs) == ["smoot"]


def test_a_schedule_may_be_fixed_beforehand_but_not_train_otherwise() -> None:
    longer = changed(config_of("smoot"), training={"epochs": 25})
    sequence = changed(config_of("plain"), schedule="sequence", sequence={"image_fractions": [0.0, 1.0]})
    assert number.scheduled_methods({"longer": longer, "ramp": sequence}) == ["ramp"]


def test_a_grid_with_holes_or_doubles_is_an_error_that_names_the_cell() -> None:
    configs = grid_configs(SMALL)
    with pytest.raises(ValueError, match=r"0\.6 of the pixels of 0\.5 of the images are \[\]: expected exactly one"):
        number.read_grid({name: config for name, config in configs.items() if name != "i50_k60"})
    with pytest.raises(ValueError, match=r"are \['i100_k60', 'again'\]: expected exactly one"):
        number.read_grid(configs | {"again": configs["i100_k60"]})
    with pytest.raises(ValueError, match=r"hold 1 constant plans of one kind: expected a grid"):
        number.read_grid({"one": configs["i50_k20"], "plain": config_of("plain")})


def test_the_oracle_is_the_best_mean_and_the_held_out_one_does_not_see_its_seed() -> None:
    values = {"i50_k20": (0.5, 0.5, 0.5), "i50_k60": (0.9, 0.4, 0.4), "i100_k20": (0.1, 0.51, 0.52)}
    frame = small_frame(values | {"i100_k60": (0.0, 0.0, 0.0), "plain": (2.0, 2.0, 2.0)})
    plans = number.read_grid(grid_configs(SMALL))
    found = number.find_oracle(plans, frame, "accuracy")
    assert found.method == "i50_k60"
    # without seed 0: 0.5, 0.4, 0.515; without 1: 0.5, 0.65, 0.31; without 2: 0.5, 0.65, 0.305
    assert found.held_out == {0: "i100_k20", 1: "i50_k60", 2: "i50_k60"}
    assert number.find_oracle(plans, frame[frame["seed"] == 0], "accuracy").held_out == {}
    means = number.plan_means(plans, frame, "accuracy")
    assert means.loc[0.5, 0.6] == pytest.approx(1.7 / 3) and means.loc[1.0, 0.2] == pytest.approx(1.13 / 3)


def test_standings_pair_by_seed_and_share_the_oracles_gain() -> None:
    plain = np.array([0.80, 0.82, 0.84])
    values = {"i50_k20": plain + 0.01, "i50_k60": plain + RISING + 0.01, "i100_k20": plain, "i100_k60": plain}
    frame = small_frame(values | {"plain": plain, "smoot": plain + RISING})
    plans = number.read_grid(grid_configs(SMALL))
    lines = number.standings(plans, ["smoot"], frame, ["accuracy"], "plain").set_index(["kind", "method"])
    assert lines.loc[("oracle", "i50_k60"), "share"] == pytest.approx(1)
    assert lines.loc[("cell", "i50_k20"), "share"] == pytest.approx(0.25)
    smoot = lines.loc[("schedule", "smoot")]
    hand = compare((plain + RISING).tolist(), plain.tolist())
    assert (smoot["difference"], smoot["low"], smoot["high"]) == pytest.approx((0.03, hand.low, hand.high))
    assert smoot["share"] == pytest.approx(0.75)
    assert lines.loc[("held_out", ""), "difference"] == pytest.approx(0.04)
    assert lines.loc[("held_out", ""), "share"] == pytest.approx(1)
    assert lines.loc[("reference", "plain"), "difference"] == 0


def test_shares_are_of_what_is_gained_held_out() -> None:
    """Without the seed that favours it, the best plan is another one: the held-out gain is smaller."""
    plain = np.zeros(4)
    values = {"i50_k20": [0.05, 0.06, 0.05, 0.06], "i50_k60": [0.3, 0.04, 0.03, 0.04], "i100_k20": plain}
    frame = small_frame(values | {"i100_k60": plain, "plain": plain, "smoot": [0.02, 0.03, 0.02, 0.03]})
    plans = number.read_grid(grid_configs(SMALL))
    lines = number.standings(plans, ["smoot"], frame, ["accuracy"], "plain").set_index(["kind", "method"])
    # without seed 0 the first plan is best, without another one the second: 0.05, 0.04, 0.03, 0.04
    assert lines.loc[("oracle", "i50_k60"), "difference"] == pytest.approx(0.1025)
    assert lines.loc[("held_out", ""), "difference"] == pytest.approx(0.04)
    assert lines.loc[("schedule", "smoot"), "share"] == pytest.approx(0.025 / 0.04)
    assert lines.loc[("oracle", "i50_k60"), "share"] == pytest.approx(0.1025 / 0.04)


def test_what_stands_beside_has_no_oracle() -> None:
    frame = small_frame({name: (0.1, 0.2, 0.4) for name in (*SMALL, "plain")}).assign(gini=[*range(15)])
    lines = number.standings(number.read_grid(grid_configs(SMALL)), [], frame, ["accuracy"], "plain", ["gini"])
    assert set(lines["of"]) == {"", "accuracy"} and set(lines["metric"]) == {"accuracy", "gini"}
    beside = lines[lines["metric"] == "gini"]
    assert beside["share"].isna().all()
    assert beside.set_index("kind").loc["oracle", "difference"] == pytest.approx(-12)  # of the best in accuracy


def test_no_share_of_a_gain_that_may_be_none() -> None:
    plain = np.array([0.80, 0.82, 0.84])
    values = {"i50_k20": plain + MIXED, "i50_k60": plain, "i100_k20": plain, "i100_k60": plain}
    frame = small_frame(values | {"plain": plain, "smoot": plain + 0.01})
    lines = number.standings(number.read_grid(grid_configs(SMALL)), ["smoot"], frame, ["accuracy"], "plain")
    assert lines["share"].isna().all()
    alone = frame[frame["seed"] == 0]
    lines = number.standings(number.read_grid(grid_configs(SMALL)), ["smoot"], alone, ["accuracy"], "plain")
    assert lines["share"].isna().all() and "held_out" not in set(lines["kind"])


def test_trajectories_are_means_over_seeds() -> None:
    rows = [("smoot", 1, 0, 0.0, math.nan), ("smoot", 1, 1, 0.0, math.nan), ("smoot", 2, 0, 0.4, 0.6)]
    rows += [("smoot", 2, 1, 0.6, 0.8), ("plain", 1, 0, 0.0, math.nan)]
    histories = pd.DataFrame(rows, columns=["method", "epoch", "seed", "masked_share", "masked_pixels"])
    path = number.trajectories(histories, ["smoot"])
    assert path.to_dict("list") == {
        "method": ["smoot"],
        "epoch": [2],
        "masked_share": [0.5],
        "masked_pixels": [pytest.approx(0.7)],
    }


def test_sweeps_are_what_masks_every_image_and_differs_in_the_fraction_alone() -> None:
    configs = {f"sgt_k{k}": changed(config_of("sgt"), plan__mask_fraction=k / 100) for k in (70, 30)}
    configs |= grid_configs(SMALL) | {"smoot": config_of("smoot"), "random_mask": config_of("random_mask")}
    assert number.read_sweeps(configs).to_dict("list") == {
        "family": ["sgt", "sgt", "sgt_improved", "sgt_improved"],
        "value": [0.3, 0.7, 0.2, 0.6],
        "method": ["sgt_k30", "sgt_k70", "i100_k20", "i100_k60"],
    }
    with pytest.raises(ValueError, match=r"\['i100_k20', 'again'\] are the same: expected one for each value"):
        number.read_sweeps(configs | {"again": configs["i100_k20"]})
    with pytest.raises(ValueError, match=r"no two of the methods \['plain', 'one'\] differ in the fraction of pixels"):
        number.read_sweeps({"plain": config_of("plain"), "one": configs["i100_k20"]})


def test_costs_are_passes_of_one_training() -> None:
    configs = grid_configs(SMALL) | {"plain": config_of("plain"), "smoot": config_of("smoot")}
    rows = [("smoot", seed, share) for seed in (0, 1) for share in (0.0, 0.5, 1.0)]
    histories = pd.DataFrame(rows, columns=["method", "seed", "image_fraction"])
    costs = number.training_costs(configs, histories, number.read_grid(configs))
    half, every = 5.5 / 3, 7 / 3  # of the images
    expected = {"i50_k20": half, "i50_k60": half, "i100_k20": every, "i100_k60": every}
    assert costs == pytest.approx(expected | {"smoot": (1 + half + every) / 3})


def test_what_the_study_asks_for(made: Made, tables: dict[str, Table], drawn: dict[str, Chart]) -> None:
    assert list(tables) == list(drawn) == [f"oracle_{SETTING.place}", f"sweep_{SETTING.place}"]
    end = f" A note. {captions.JUDGED} {SETTING.facts}; maps on the first 500 of them, PGD on the first 400."
    for table in tables.values():
        assert table.caption.endswith(f"{end} {SETTING.origin}") and "nan" not in table.markdown
    for chart in drawn.values():
        assert chart.caption.endswith(end) and SETTING.name in chart.caption
        assert not list(unlabelled(chart.figure))
    sweep, other = Study("A study", ("sweep",), "plain"), Study("A study", ("comparison",), "plain")
    assert [table.name for table in number.tables(sweep, *made, SETTING, TITLES)] == [f"sweep_{SETTING.place}"]
    assert [chart.name for chart in number.charts(sweep, *made, SETTING, ALL)] == [f"sweep_{SETTING.place}"]
    assert not [*number.tables(other, *made, SETTING, TITLES), *number.charts(other, *made, SETTING, ALL)]


def test_the_oracle_beside_the_schedule(made: Made, tables: dict[str, Table]) -> None:
    table = tables[f"oracle_{SETTING.place}"]
    means = 100 * metrics_frame(made[0]).groupby("method")["accuracy"].mean()
    best = means[[name for name in means.index if name.startswith("i")]].idxmax()
    images, pixels = best.removeprefix("i").split("_k")
    shown = table.display.set_index("Method")
    row = shown.loc[f"Best plan for accuracy ({images} % of images, {pixels} % of pixels)"]
    assert row["Accuracy (%) ↑"].startswith(f"{means[best]:.2f} ± ")
    held_out = table.data.set_index(["kind", "of", "metric"]).loc[("held_out", "accuracy", "accuracy"), "difference"]
    share = (means["smoot"] - means["plain"]) / held_out
    assert shown.loc["SMOOT", "Accuracy: of the held-out gain (%)"] == f"{100 * share:.0f}"
    assert shown.loc["Best plan for accuracy (held out)", "Accuracy: of the held-out gain (%)"] == "100"
    assert shown.loc["Plain", "Accuracy: gain"] == "–"
    assert list(shown.columns)[3:5] == [f"{GAP} (points) ↑", f"{GAP}: gain"]
    assert list(shown.columns)[6:-1] == ["Judge's gap, mean (points) ↑", "Judge's gap, mean: gain"]
    search = 5 * sum((4 + 3 * share) / 3 for share in SHARES)  # five plans mask each share of the images
    cost = "Cost (plain trainings) ↓"
    assert row[cost] == f"{5 * search:.1f}" and shown.loc["Plain", cost] == "1.0"  # of all five seeds
    assert shown.loc["Best plan for accuracy (held out)", cost] == f"{4 * search:.1f}"
    assert "one training of each of the 25 plans with every seed that chose it (all 5, held out 4)" in table.caption
    assert "25 constant plans that mask 20, 40, 60, 80 or 100 % of the images" in table.caption
    kinds = table.data.drop_duplicates(["kind", "of", "method"])["kind"].value_counts().to_dict()
    assert kinds == {"cell": 25, "schedule": 1, "oracle": 2, "held_out": 2, "reference": 1}
    by_keys = table.data.set_index(["kind", "metric", "method"])
    assert by_keys.loc[("cell", "accuracy", "i40_k70"), "mask_fraction"] == 0.7


def test_no_share_in_the_table_where_the_oracle_may_gain_nothing(made: Made) -> None:
    frame, plans = metrics_frame(made[0]), number.read_grid(number.method_configs(made[0]))
    lines = number.standings(plans, ["smoot"], frame, ["accuracy"], "plain").assign(share=math.nan)
    costs = dict.fromkeys([*plans["method"], "smoot"], 2.0)
    table = number.oracle_table(lines, plans, costs, ACCURACY, SETTING, TITLES, "End.")
    assert set(table.display["Accuracy: of the held-out gain (%)"]) == {"–"}
    assert "– where the interval of that gain is not above zero" in table.caption


def test_sweeps_say_their_range(made: Made, tables: dict[str, Table]) -> None:
    table = tables[f"sweep_{SETTING.place}"]
    means = 100 * metrics_frame(made[0]).groupby("method")["accuracy"].mean()
    own = means[[f"sgt_k{k}" for k in (10, 30, 50, 70, 90)]]
    assert table.display["Method"].tolist() == ["SGT as published", "SGT improved"]
    row = table.display.iloc[0]
    assert row["Values of k"] == "5 from 0.1 to 0.9"
    assert row["Accuracy (%) ↑"] == f"{own.min():.2f} to {own.max():.2f}"
    assert row["Accuracy: range (points) ↓"] == f"{own.max() - own.min():.2f}"
    assert row["Accuracy: best at k"] == "0.1"
    assert len(table.data) == 5 + 5
    assert table.data.set_index("method").loc["sgt_k30", "accuracy_mean"] == pytest.approx(means["sgt_k30"])


def test_the_map_shows_every_mean_frames_the_best_and_draws_what_was_masked(
    made: Made, drawn: dict[str, Chart]
) -> None:
    records, histories = made
    accuracy, gap = drawn[f"oracle_{SETTING.place}"].figure.axes
    means = 100 * metrics_frame(records).groupby("method")["accuracy"].mean()
    plans = number.read_grid(number.method_configs(records)).to_dict("records")
    at = {tuple(map(round, text.get_position())): text.get_text() for text in accuracy.texts}
    assert at == {
        (round(100 * plan["mask_fraction"]), round(100 * plan["image_fraction"])): f"{means[plan['method']]:.2f}"
        for plan in plans
    }
    best = max(plans, key=lambda plan: means[plan["method"]])
    (frame,) = (patch for patch in accuracy.patches if isinstance(patch, Rectangle))
    x, y = frame.get_xy()
    assert (x + 10, y + 10) == pytest.approx((100 * best["mask_fraction"], 100 * best["image_fraction"]))
    assert accuracy.get_title(loc="left") == f"Accuracy (%) ↑\nPlain: {means['plain']:.2f}"
    assert gap.get_title(loc="left").startswith(f"{GAP} (points) ↑")

    ((x, y),) = lines(accuracy, "smoot")
    own = 100 * histories[histories["method"] == "smoot"].groupby("epoch")[["masked_pixels", "masked_share"]].mean()
    assert x == pytest.approx(own["masked_pixels"].tolist()) and y == pytest.approx(own["masked_share"].tolist())
    assert lines(accuracy, "smoot", "None")[-1] == ([x[-1]], [y[-1]])


def test_only_compared_methods_are_drawn_on_the_map(made: Made) -> None:
    def map_of(*compared: str) -> Figure:
        study = Study("A study", ("oracle",), "plain", compared=compared)
        (chart,) = number.charts(study, *made, SETTING, ALL)
        return chart.figure

    assert legend_texts(map_of("plain", "smoot")) == ["SMOOT"]
    assert not map_of("plain").legends and not map_of("plain").axes[0].lines


def test_a_grid_of_one_row_has_edges_too() -> None:
    configs = grid_configs({"k20": (1.0, 0.2), "k40": (1.0, 0.4), "k80": (1.0, 0.8)})
    frame = small_frame({"k20": (0.7, 0.8), "k40": (0.8, 0.9), "k80": (0.5, 0.5), "plain": (0.8, 0.8)})
    nothing = pd.DataFrame(columns=["method", "epoch", "masked_share", "masked_pixels"])
    figure = number.oracle_map(number.read_grid(configs), frame, nothing, ACCURACY, "plain", ALL)
    (mesh,) = figure.axes[0].collections
    corners = mesh.get_coordinates()
    assert corners[0, :, 0].tolist() == pytest.approx([10, 30, 60, 100])
    assert corners[:, 0, 1].tolist() == pytest.approx([90, 110])
    assert [text.get_text() for text in figure.axes[0].texts] == ["75.00", "85.00", "50.00"]


def test_the_schedule_stands_beside_the_sweeps_with_its_interval(made: Made, drawn: dict[str, Chart]) -> None:
    records, histories = made
    figure = drawn[f"sweep_{SETTING.place}"].figure
    axes, _ = figure.axes
    frame = 100 * metrics_frame(records).set_index(["method", "seed"])[["accuracy"]]
    ((x, y),) = lines(axes, "sgt")
    assert x == list(FRACTIONS)
    assert y == pytest.approx([frame.loc[f"sgt_k{100 * k:.0f}", "accuracy"].mean() for k in FRACTIONS])
    pixels = histories[histories["method"] == "smoot"].groupby("epoch")["masked_pixels"].mean().mean()
    mean, low, high = map(float, mean_interval(frame.loc["smoot", "accuracy"].to_numpy()))
    whiskers, mark = lines(axes, "smoot")
    assert whiskers == (pytest.approx([pixels, pixels]), pytest.approx([low, high]))
    assert mark == (pytest.approx([pixels]), pytest.approx([mean]))
    assert legend_texts(figure) == ["SGT as published", "SGT improved", "SMOOT"]
