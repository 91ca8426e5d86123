import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic import SETTING, history, run_record
from test_charts import CELL

from workbench.results.records import RunRecord, metrics_frame
from workbench.results.statistics import compare
from workbench.studies import oracle
from workbench.studies.oracle import Config

SEEDS = (0, 1, 2, 3, 4)
SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)
FRACTIONS = (0.1, 0.3, 0.5, 0.7, 0.9)
RISING, MIXED = np.array([0.02, 0.03, 0.04]), np.array([0.03, -0.02, 0.01])
SMALL = {"i50_k20": (0.5, 0.2), "i50_k60": (0.5, 0.6), "i100_k20": (1.0, 0.2), "i100_k60": (1.0, 0.6)}


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
    return dict(run_record(replace(CELL, method=method), 0).config["method"])


def plan_of(images: float, pixels: float, base: str = "sgt_improved", **values: Any) -> dict[str, Any]:
    return changed(config_of(base), plan__image_fraction=images, plan__mask_fraction=pixels, **values)


def grid_configs(cells: Mapping[str, tuple[float, float]]) -> dict[str, dict[str, Any]]:
    return {name: plan_of(*shares) for name, shares in cells.items()}


def records_of(
    configs: Mapping[str, Config],
    accuracy: Mapping[str, Iterable[float]] | None = None,
    gap: Mapping[str, Iterable[float]] | None = None,
) -> list[RunRecord]:
    """Records with these configurations; accuracy and the judge's gap seed by seed, where they are given."""
    found = []
    for method, config in configs.items():
        values = [accuracy[method] if accuracy else [], gap[method] if gap else []]
        for seed, (right, judged) in enumerate(zip(*values, strict=True) if accuracy and gap else [(0.8, 0.2)] * 5):
            record = run_record(replace(CELL, method="plain"), seed, accuracy=right, judge_gap_right_mean=judged)
            whole = dict(record.config) | {"method": changed(config, name=method)}
            found.append(replace(record, cell=replace(CELL, method=method), config=whole))
    return found


def whole_study() -> tuple[list[RunRecord], pd.DataFrame]:
    """A 5 x 5 grid, both SGT sweeps and adaptive methods with plausible numbers, and their histories."""
    draw = np.random.default_rng(3)
    cells = {f"i{100 * i:.0f}_k{100 * k:.0f}": (i, k) for i, k in product(SHARES, FRACTIONS)}
    configs: dict[str, dict[str, Any]] = {"plain": config_of("plain")} | grid_configs(cells)
    configs |= {f"sgt_k{100 * k:.0f}": changed(config_of("sgt"), plan__mask_fraction=k) for k in FRACTIONS}
    configs["smoot"] = config_of("smoot")
    configs |= {f"smoot_tau_{tau:g}": changed(config_of("smoot"), plan__mass=tau) for tau in (0.1, 0.3, 0.4)}
    configs |= {f"smoot_kmax_{k:g}": changed(config_of("smoot"), plan__max_fraction=k) for k in (0.5, 0.7)}
    level: dict[str, tuple[float, float]] = {"plain": (0.8197, 0.1)}
    for name, (images, pixels) in cells.items():
        strength = images * pixels
        level[name] = (0.8197 + 0.05 * strength - 0.07 * strength**2, 0.1 + 0.16 * math.sqrt(strength))
    level |= {f"sgt_k{100 * k:.0f}": (0.81 - 0.06 * k**2, 0.1 + 0.06 * k) for k in FRACTIONS}
    for number, name in enumerate(name for name in configs if name.startswith("smoot")):
        level[name] = (0.8285 - 0.0015 * number, 0.19 + 0.01 * number)
    shared = draw.normal(0, 0.004, len(SEEDS))
    accuracy = {name: level[name][0] + shared + draw.normal(0, 0.002, len(SEEDS)) for name in configs}
    gap = {name: level[name][1] + draw.normal(0, 0.008, len(SEEDS)) for name in configs}
    made = []
    for number, name in enumerate(configs):
        for seed in SEEDS:
            base = "smoot" if name.startswith("smoot") else "plain"
            own = history(replace(CELL, method=base), seed).assign(method=name, seed=seed)
            pixels = np.nan if base == "plain" else own["masked_pixels"] + 0.03 * (number - len(configs) + 4)
            made.append(own.assign(masked_pixels=pixels, dataset=CELL.dataset, backbone=CELL.backbone))
    return records_of(configs, accuracy, gap), pd.concat(made, ignore_index=True)


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
        "mass": plan_of(0.5, 0.4, plan__pixels="mass"),
        "smoot": config_of("smoot"),
    }
    cells = oracle.read_grid(configs)
    assert cells.to_dict("list") == {
        "method": list(SMALL),
        "image_fraction": [0.5, 0.5, 1.0, 1.0],
        "mask_fraction": [0.2, 0.6, 0.2, 0.6],
    }
    assert oracle.scheduled_methods(configs) == ["smoot"]


def test_a_schedule_may_be_fixed_beforehand_but_not_train_otherwise() -> None:
    longer = changed(config_of("smoot"), training={"epochs": 25})
    sequence = changed(config_of("plain"), schedule="sequence", sequence={"image_fractions": [0.0, 1.0]})
    assert oracle.scheduled_methods({"longer": longer, "ramp": sequence}) == ["ramp"]


def test_a_grid_with_holes_or_doubles_is_an_error_that_names_the_cell() -> None:
    configs = grid_configs(SMALL)
    with pytest.raises(ValueError, match=r"0\.6 of the pixels of 0\.5 of the images are \[\]: expected exactly one"):
        oracle.read_grid({name: config for name, config in configs.items() if name != "i50_k60"})
    with pytest.raises(ValueError, match=r"are \['i100_k60', 'again'\]: expected exactly one"):
        oracle.read_grid(configs | {"again": configs["i100_k60"]})
    with pytest.raises(ValueError, match=r"hold 1 constant plans of one kind: expected a grid"):
        oracle.read_grid({"one": configs["i50_k20"], "plain": config_of("plain")})


def test_the_oracle_is_the_best_mean_and_the_held_out_one_does_not_see_its_seed() -> None:
    values = {"i50_k20": (0.5, 0.5, 0.5), "i50_k60": (0.9, 0.4, 0.4), "i100_k20": (0.1, 0.51, 0.52)}
    frame = small_frame(values | {"i100_k60": (0.0, 0.0, 0.0), "plain": (2.0, 2.0, 2.0)})
    cells = oracle.read_grid(grid_configs(SMALL))
    found = oracle.find_oracle(cells, frame, "accuracy")
    assert found.method == "i50_k60"
    # without seed 0: 0.5, 0.4, 0.515; without 1: 0.5, 0.65, 0.31; without 2: 0.5, 0.65, 0.305
    assert found.held_out == {0: "i100_k20", 1: "i50_k60", 2: "i50_k60"}
    assert oracle.find_oracle(cells, frame[frame["seed"] == 0], "accuracy").held_out == {}
    means = oracle.cell_means(cells, frame, "accuracy")
    assert means.loc[0.5, 0.6] == pytest.approx(1.7 / 3) and means.loc[1.0, 0.2] == pytest.approx(1.13 / 3)


def test_standings_pair_by_seed_and_share_the_oracles_gain() -> None:
    plain = np.array([0.80, 0.82, 0.84])
    values = {"i50_k20": plain + 0.01, "i50_k60": plain + RISING + 0.01, "i100_k20": plain, "i100_k60": plain}
    frame = small_frame(values | {"plain": plain, "smoot": plain + RISING})
    cells = oracle.read_grid(grid_configs(SMALL))
    lines = oracle.standings(cells, ["smoot"], frame, ["accuracy"], "plain").set_index(["kind", "method"])
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
    cells = oracle.read_grid(grid_configs(SMALL))
    lines = oracle.standings(cells, ["smoot"], frame, ["accuracy"], "plain").set_index(["kind", "method"])
    # without seed 0 the first plan is best, without another one the second: 0.05, 0.04, 0.03, 0.04
    assert lines.loc[("oracle", "i50_k60"), "difference"] == pytest.approx(0.1025)
    assert lines.loc[("held_out", ""), "difference"] == pytest.approx(0.04)
    assert lines.loc[("schedule", "smoot"), "share"] == pytest.approx(0.025 / 0.04)
    assert lines.loc[("oracle", "i50_k60"), "share"] == pytest.approx(0.1025 / 0.04)


def test_what_stands_beside_has_no_oracle() -> None:
    frame = small_frame({name: (0.1, 0.2, 0.4) for name in (*SMALL, "plain")}).assign(gini=[*range(15)])
    lines = oracle.standings(oracle.read_grid(grid_configs(SMALL)), [], frame, ["accuracy"], "plain", ["gini"])
    assert set(lines["of"]) == {"", "accuracy"} and set(lines["metric"]) == {"accuracy", "gini"}
    beside = lines[lines["metric"] == "gini"]
    assert beside["share"].isna().all()
    assert beside.set_index("kind").loc["oracle", "difference"] == pytest.approx(-12)  # of the best in accuracy


def test_a_missing_metric_is_named_with_its_run() -> None:
    frame = small_frame({"plain": (0.1, math.nan), "smoot": (math.nan, 0.2)})
    with pytest.raises(ValueError, match="'accuracy' of method 'plain', seed 1, is missing or undefined"):
        oracle.check_measured(frame, ["seed", "accuracy"])
    with pytest.raises(ValueError, match="'gini' of method 'plain', seed 0, is missing"):
        oracle.check_measured(frame, ["gini"])
    oracle.check_measured(frame.dropna(), ["accuracy"])


def test_no_share_of_a_gain_that_may_be_none() -> None:
    plain = np.array([0.80, 0.82, 0.84])
    values = {"i50_k20": plain + MIXED, "i50_k60": plain, "i100_k20": plain, "i100_k60": plain}
    frame = small_frame(values | {"plain": plain, "smoot": plain + 0.01})
    lines = oracle.standings(oracle.read_grid(grid_configs(SMALL)), ["smoot"], frame, ["accuracy"], "plain")
    assert lines["share"].isna().all()
    alone = frame[frame["seed"] == 0]
    lines = oracle.standings(oracle.read_grid(grid_configs(SMALL)), ["smoot"], alone, ["accuracy"], "plain")
    assert lines["share"].isna().all() and "held_out" not in set(lines["kind"])


def test_trajectories_are_means_over_seeds() -> None:
    rows = [("smoot", 1, 0, 0.0, math.nan), ("smoot", 1, 1, 0.0, math.nan), ("smoot", 2, 0, 0.4, 0.6)]
    rows += [("smoot", 2, 1, 0.6, 0.8), ("plain", 1, 0, 0.0, math.nan)]
    histories = pd.DataFrame(rows, columns=["method", "epoch", "seed", "masked_share", "masked_pixels"])
    path = oracle.trajectories(histories, ["smoot"])
    assert path.to_dict("list") == {
        "method": ["smoot"],
        "epoch": [2],
        "masked_share": [0.5],
        "masked_pixels": [pytest.approx(0.7)],
    }


def test_headline_holds_what_was_measured() -> None:
    records = records_of({"plain": config_of("plain")})
    assert list(oracle.headline(records, SETTING)) == ["accuracy", "judge_gap_right_mean"]
    lacking = [replace(records[0], metrics=dict(records[0].metrics) | {"judge_gap_right_mean": math.nan})]
    with pytest.raises(ValueError, match="'judge_gap_right_mean' of method 'plain', seed 0, is missing or undefined"):
        oracle.headline([*records, *lacking], SETTING)
    assert oracle.headline(records, SETTING)["judge_gap_right_mean"].factor == 100


def test_a_made_up_study_has_a_whole_grid() -> None:
    records, histories = whole_study()
    configs = oracle.method_configs(records)
    assert len(oracle.read_grid(configs)) == 25
    assert len(oracle.scheduled_methods(configs)) == 6
    assert len(metrics_frame(records)) == 5 * len(configs)
    assert set(histories["method"]) == set(configs)
