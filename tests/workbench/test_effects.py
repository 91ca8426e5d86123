import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic import run_record
from test_charts import CELL

from smoot.guidance import Guidance
from smoot.scheduler import MaskPlan
from smoot.workbench import effects, results
from smoot.workbench.effects import BASELINE, FACTORS, Combination
from smoot.workbench.parameters import MethodConfig
from smoot.workbench.statistics import holm

SEEDS = (0, 1, 2)
CROSS = tuple(product(("magnitude", "signed", "random"), ("uniform", "mean"), ("detached", "through")))
STAR = (BASELINE, ("signed", "uniform", "detached"), ("magnitude", "mean", "detached"))
STAR += (("magnitude", "uniform", "through"),)


def config(combination: Combination, **guidance: Any) -> dict[str, Any]:
    """The configuration of a cell of the factorial, as a record holds it."""
    ranking, fill, target = combination
    chosen = {"fill": fill, "detach_target": target == "detached"} | guidance
    chosen |= {"reduction": "signed_mean"} if ranking == "signed" else {}
    plan = MaskPlan(ranking="saliency" if ranking in ("signed", "magnitude") else ranking)  # type: ignore[arg-type]
    return asdict(MethodConfig("_".join(combination), "constant", plan, Guidance(**chosen)))


def cell_records(config: dict[str, Any], seeds: Sequence[int] = SEEDS, **metrics: float) -> list[results.RunRecord]:
    """Records near those of improved SGT, with another method's configuration and name."""
    made = [run_record(replace(CELL, method="sgt_improved"), seed, **metrics) for seed in seeds]
    cell = replace(CELL, method=config["name"])
    return [replace(record, cell=cell, config=dict(record.config) | {"method": config}) for record in made]


def records_of(combinations: Sequence[Combination], seeds: Sequence[int] = SEEDS) -> list[results.RunRecord]:
    """Plain, an adaptive method, and a cell for each combination."""
    others = [run_record(replace(CELL, method=method), seed) for method in ("plain", "smoot") for seed in seeds]
    return others + [record for cell in combinations for record in cell_records(config(cell), seeds)]


def levels_of(combinations: Sequence[Combination]) -> pd.DataFrame:
    return pd.DataFrame([("_".join(cell), *cell) for cell in combinations], columns=["method", *FACTORS])


def frame_of(values: dict[Combination, Sequence[float]], metric: str = "accuracy") -> pd.DataFrame:
    """One row per cell and seed."""
    rows = [("_".join(cell), seed, value) for cell, own in values.items() for seed, value in enumerate(own)]
    return pd.DataFrame(rows, columns=["method", "seed", metric])


def test_levels_are_read_from_the_configurations_and_others_are_left_out() -> None:
    shuffled = records_of(CROSS[::-1])
    found = effects.factor_levels(shuffled)
    pd.testing.assert_frame_equal(found, levels_of(CROSS))  # baselines first, whatever the grid's order
    assert effects.design(found) == "cross"


def test_every_ranking_has_its_level() -> None:
    combinations = [(ranking, "uniform", "detached") for ranking in FACTORS["ranking"]]
    assert effects.factor_levels(records_of(combinations))["ranking"].tolist() == list(FACTORS["ranking"])


def test_one_factor_at_a_time_is_a_star() -> None:
    found = effects.factor_levels(records_of(STAR))
    assert len(found) == 4 and effects.design(found) == "star"


def test_a_missing_combination_is_named() -> None:
    with pytest.raises(ValueError, match=r"the factorial has no random, mean, through: expected every combination"):
        effects.factor_levels(records_of(CROSS[:-1]))


def test_a_combination_that_is_there_twice_is_named() -> None:
    twice = config(CROSS[0]) | {"name": "again"}
    with pytest.raises(ValueError, match="methods magnitude_uniform_detached, again are all magnitude, uniform"):
        effects.factor_levels([*records_of(CROSS), *cell_records(twice)])


def test_levels_without_their_baseline_are_an_error() -> None:
    combinations = [("random", "uniform", "detached"), ("signed", "uniform", "detached")]
    with pytest.raises(ValueError, match="ranking is one of random, signed: expected its baseline magnitude"):
        effects.factor_levels(records_of(combinations))


def test_a_hidden_difference_between_cells_is_an_error() -> None:
    other = cell_records(config(CROSS[-1], kl_weight=2.0))
    with pytest.raises(ValueError, match=r"'random_mean_through' has guidance.kl_weight 2.0 and .* has 1.0"):
        effects.factor_levels([*records_of(CROSS[:-1]), *other])
    longer = config(CROSS[-1]) | {"training": {"epochs": 25}}
    with pytest.raises(ValueError, match=r"has training.epochs 25 and .* has None"):
        effects.factor_levels([*records_of(CROSS[:-1]), *cell_records(longer)])


def test_a_profile_without_cells_is_an_error() -> None:
    with pytest.raises(ValueError, match="methods are plain, smoot: expected some that mask every image"):
        effects.factor_levels(records_of([]))


def additive(seed: int, cell: Combination) -> float:
    """A world where effects add up: signed costs 1 + seed, random 0.5, through 2; nothing else matters."""
    ranking, _, target = cell
    return 50 + 10 * seed - {"signed": 1.0 + seed, "random": 0.5}.get(ranking, 0) - 2 * (target == "through")


def test_main_effects_of_an_additive_world() -> None:
    frame = frame_of({cell: [additive(seed, cell) for seed in SEEDS] for cell in CROSS})
    found = effects.main_effects(frame, levels_of(CROSS), ["accuracy"]).set_index(["factor", "level"])
    assert [level for _, level in found.index] == ["signed", "random", "mean", "through"]
    signed = found.loc[("ranking", "signed")]
    # differences of -1, -2, -3 by seed, each the mean over four pairs of cells
    assert (signed["difference"], signed["effect_size"], signed["pairs"]) == pytest.approx((-2, -2, 4))
    half = 4.302652729911275 / math.sqrt(3)
    assert (signed["low"], signed["high"]) == pytest.approx((-2 - half, -2 + half))
    assert signed["p_value"] == pytest.approx(stats.ttest_1samp([-1, -2, -3], 0).pvalue)
    assert found.loc[("fill", "mean"), "p_value"] == 1 and found.loc[("fill", "mean"), "difference"] == 0
    assert found.loc[("target", "through"), "pairs"] == 6
    assert found["p_holm"].tolist() == pytest.approx(holm(found["p_value"].tolist()))
    assert signed["p_holm"] == pytest.approx(2 * signed["p_value"])  # two of the four have p = 0


def test_main_effects_of_noise_are_means_by_hand() -> None:
    draw = np.random.default_rng(0)
    frame = frame_of({cell: draw.normal(size=5).tolist() for cell in CROSS}).sample(frac=1, random_state=0)
    found = effects.main_effects(frame, levels_of(CROSS), ["accuracy"]).set_index("level")
    joined = frame.merge(levels_of(CROSS), on="method")
    for factor, level in (("ranking", "random"), ("fill", "mean"), ("target", "through")):
        by_seed = joined.groupby([factor, "seed"])["accuracy"].mean().unstack(factor)
        difference = by_seed[level] - by_seed[FACTORS[factor][0]]
        expected = stats.ttest_1samp(difference, 0)
        assert found.loc[level, "difference"] == pytest.approx(difference.mean())
        assert found.loc[level, "p_value"] == pytest.approx(expected.pvalue)
        interval = expected.confidence_interval(0.95)
        assert (found.loc[level, "low"], found.loc[level, "high"]) == pytest.approx((interval.low, interval.high))


def test_effects_of_a_star_are_differences_from_its_centre() -> None:
    values = dict(zip(STAR, ([5.0, 6, 7], [6.0, 8, 10], [5.0, 6, 7], [4.0, 4, 4]), strict=True))
    found = effects.main_effects(frame_of(values), levels_of(STAR), ["accuracy"])
    assert found["difference"].tolist() == [2, 0, -2] and found["pairs"].tolist() == [1, 1, 1]
    assert effects.interactions(frame_of(values), levels_of(STAR), ["accuracy"]).empty


def test_interactions_are_differences_of_differences() -> None:
    """An extra 3 + seed where signed meets mean, on top of an additive world."""
    values = {
        cell: [additive(seed, cell) + (3 + seed) * (cell[:2] == ("signed", "mean")) for seed in SEEDS] for cell in CROSS
    }
    found = effects.interactions(frame_of(values), levels_of(CROSS), ["accuracy"]).set_index(["ranking", "fill"])
    assert found.index.tolist() == [("signed", "mean"), ("random", "mean")]
    both = found.loc[("signed", "mean")]
    assert (both["difference"], both["reference_mean"], both["mean"]) == pytest.approx((4, -2, 2))
    assert both["p_value"] == pytest.approx(stats.ttest_1samp([3, 4, 5], 0).pvalue)
    assert both["pairs"] == 2 and found.loc[("random", "mean"), "difference"] == pytest.approx(0)
    assert found["p_holm"].tolist() == pytest.approx(holm(found["p_value"].tolist()))


def test_a_metric_that_a_run_of_a_cell_lacks_is_an_error() -> None:
    frame = frame_of({cell: [0.5, 0.6] for cell in STAR})
    outside = pd.DataFrame([("plain", 0, math.nan)], columns=frame.columns)
    assert len(effects.main_effects(pd.concat([frame, outside]), levels_of(STAR), ["accuracy"])) == 3
    frame.loc[5, "accuracy"] = math.nan
    with pytest.raises(ValueError, match="'accuracy' of method 'magnitude_mean_detached', seed 1, is missing"):
        effects.main_effects(frame, levels_of(STAR), ["accuracy"])
    with pytest.raises(ValueError, match="'gini' of method 'magnitude_uniform_detached', seed 0, is missing"):
        effects.interactions(frame, levels_of(STAR), ["gini"])


def test_a_lacking_seed_is_an_error() -> None:
    frame = frame_of({cell: [0.5, 0.6] for cell in STAR}).iloc[:-1]
    with pytest.raises(ValueError, match=r"cannot pair accuracy: .* \['magnitude_uniform_through'\] lack some"):
        effects.main_effects(frame, levels_of(STAR), ["accuracy"])


def test_first_order_change_is_the_median_over_epochs_of_each_run() -> None:
    frame, levels = frame_of({STAR[0]: [0.5, 0.6], STAR[1]: [0.7, 0.8]}), levels_of(STAR[:2])
    frame = pd.concat([frame, pd.DataFrame([("plain", 0, 0.4)], columns=frame.columns)], ignore_index=True)
    runs = product(frame["method"].unique(), (0, 1), (1, 2, 60))
    histories = pd.DataFrame(runs, columns=["method", "seed", "epoch"])
    histories["first_order_change"] = 10 * histories["seed"] + histories["epoch"]
    histories.loc[histories["method"] == "plain", "first_order_change"] = math.nan
    found = effects.with_change(frame, histories, levels)["first_order_change"].tolist()
    assert found == pytest.approx([2, 12, 2, 12, math.nan], nan_ok=True)
    with pytest.raises(ValueError, match="no column 'first_order_change': train the runs again"):
        effects.with_change(frame, histories.drop(columns="first_order_change"), levels)
    histories.loc[(histories["method"] == "signed_uniform_detached") & (histories["seed"] == 1), "method"] = "plain"
    with pytest.raises(
        ValueError, match="'first_order_change' of method 'signed_uniform_detached', seed 1, is missing"
    ):
        effects.with_change(frame, histories, levels)


def test_correlation_over_the_cells_means() -> None:
    draw = np.random.default_rng(1)
    frame = frame_of({cell: draw.normal(size=3).tolist() for cell in CROSS})
    frame["first_order_change"] = draw.normal(size=len(frame))
    outside = pd.DataFrame([("plain", 0, 9.0, 9.0)], columns=frame.columns)
    found = effects.correlation(pd.concat([frame, outside]), levels_of(CROSS), "accuracy")
    ranks = frame.groupby("method")[["accuracy", "first_order_change"]].mean().rank()
    assert found == pytest.approx(np.corrcoef(ranks.to_numpy().T)[0, 1])
    within = effects.fill_correlations(pd.concat([frame, outside]), levels_of(CROSS), "accuracy")
    assert list(within) == ["uniform", "mean"]
    for fill, rho in within.items():
        assert rho == pytest.approx(np.corrcoef(ranks[ranks.index.str.contains(fill)].rank().to_numpy().T)[0, 1])
    assert list(effects.fill_correlations(frame, levels_of(STAR), "accuracy")) == ["uniform"]  # one cell of mean


@pytest.mark.parametrize("cells", [2, 4])
def test_correlation_of_too_little_is_undefined(cells: int) -> None:
    frame = frame_of({cell: [float(place)] for place, cell in enumerate(STAR[:cells])}).assign(first_order_change=1.0)
    assert math.isnan(effects.correlation(frame, levels_of(STAR), "accuracy"))
