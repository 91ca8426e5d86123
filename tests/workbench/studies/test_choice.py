"""The selection rule over regimes, on numbers made by hand."""

import numpy as np
import pandas as pd
import pytest

from workbench.studies.choice import MEASURES, Regime, choose, compared, standard_scores

SEEDS = 8


def regime(name: str, accuracy: dict[str, float], saliency: dict[str, float], noise: float = 0.0) -> Regime:
    """Methods that differ from plain training by so much in accuracy and in every measure of saliency."""
    draws = np.random.default_rng(len(name))
    rows = []
    for seed in range(SEEDS):
        for method in ("plain", *accuracy):
            row = {"method": method, "seed": seed, "accuracy": 0.8 + 0.01 * seed + accuracy.get(method, 0.0)}
            row |= {
                measure: 0.1 + saliency.get(method, 0.0) + noise * draws.normal() * (method != "plain")
                for measure in MEASURES
            }
            rows.append(row)
    costs = {method: 1.0 + 0.1 * place for place, method in enumerate(("plain", *accuracy))}
    return Regime(name, pd.DataFrame(rows), costs)


def test_scores_by_hand() -> None:
    first = regime("a", {"gap": 0.0, "first_order": 0.0, "other": 0.0}, {"gap": 0.1, "first_order": 0.2, "other": 0.3})
    second = regime("b", {"gap": 0.0, "first_order": 0.0}, {"gap": 0.3, "first_order": 0.1})
    scores = standard_scores([first, second], ["gap", "first_order"])
    apart = np.std([0.3, 0.1], ddof=1)
    assert scores == pytest.approx([(0.1 / 0.1 + 0.3 / apart) / 2, (0.2 / 0.1 + 0.1 / apart) / 2])


def test_who_loses_accuracy_in_one_regime_is_out() -> None:
    names = ("gap", "first_order", "per_image_loss")
    saliency = {"gap": 0.1, "first_order": 0.3, "per_image_loss": 0.2}
    regimes = [
        regime("a", dict.fromkeys(names, 0.01), saliency),
        regime("b", {"gap": -0.003, "first_order": -0.004, "per_image_loss": 0.0}, saliency),
    ]
    found = choose(regimes).set_index("method")
    assert found["accurate"].to_dict() == {"per_image_loss": True, "gap": True, "first_order": False}
    worst = found["worst_accuracy"].to_dict()
    assert worst == pytest.approx({"gap": -0.003, "first_order": -0.004, "per_image_loss": 0})
    assert found.index[found["chosen"]].tolist() == ["per_image_loss"]
    assert np.isnan(found.loc["first_order", "behind"]) and found.loc["gap", "behind_se"] == pytest.approx(0, abs=1e-12)


def test_where_nobody_is_accurate_the_best_sets_the_limit() -> None:
    lost = {"gap": -0.01, "first_order": -0.0105, "per_image_loss": -0.02}
    found = choose([regime("a", lost, {"gap": 0.1, "first_order": 0.3, "per_image_loss": 0.5})]).set_index("method")
    assert found["accurate"].to_dict() == {"first_order": True, "gap": True, "per_image_loss": False}


def test_of_equally_good_ones_the_cheapest_is_taken() -> None:
    names = {"gap": 0.0, "first_order": 0.0, "per_image_loss": 0.0}
    close = regime("close", names, {"gap": 0.300, "first_order": 0.301, "per_image_loss": 0.0}, noise=0.05)
    found = choose([close]).set_index("method")
    assert found.loc["gap", "cost"] < found.loc["first_order", "cost"]
    assert found.index[found["chosen"]].tolist() == ["gap"]
    assert found.loc["per_image_loss", "behind"] > found.loc["per_image_loss", "behind_se"] > 0


def standardised(differences: pd.DataFrame) -> pd.DataFrame:
    """In standard deviations of the means of all methods but plain training."""
    return differences / differences.drop(columns="plain").mean().std(ddof=1)


def test_the_standard_error_is_that_of_a_mean_over_seeds() -> None:
    names = {"gap": 0.0, "first_order": 0.0}
    one = regime("a", names, {"gap": 0.5, "first_order": 0.0}, noise=0.1)
    scaled = [standardised(one.differences(measure)) for measure in MEASURES]
    each = sum(found["gap"] - found["first_order"] for found in scaled) / len(MEASURES)
    expected = each.std(ddof=0) / np.sqrt(SEEDS)
    assert choose([one]).set_index("method").loc["first_order", "behind_se"] == pytest.approx(expected, rel=0.03)


def test_the_chosen_one_against_others_by_hand() -> None:
    """In the score of the rule, with the standard error of a mean over seeds; plain training's score is 0."""
    one = regime("a", {"gap": 0.0, "ramp": -0.02}, {"gap": 0.5, "ramp": 0.2}, noise=0.1)
    scaled = [standardised(one.differences(measure)) for measure in MEASURES]
    each = sum(scaled) / len(MEASURES)
    found = compared([one], "gap", ["plain", "ramp"]).set_index("method")
    assert found["worst_accuracy"].to_dict() == pytest.approx({"plain": 0.0, "ramp": -0.02})
    apart = {"plain": each["gap"], "ramp": each["gap"] - each["ramp"]}
    assert found["score"].to_dict() == pytest.approx({"plain": 0.0, "ramp": each["ramp"].mean()})
    assert found["ahead"].to_dict() == pytest.approx({name: own.mean() for name, own in apart.items()})
    expected = {name: own.std(ddof=0) / np.sqrt(SEEDS) for name, own in apart.items()}
    assert found["ahead_se"].to_dict() == pytest.approx(expected, rel=0.03)


def test_a_study_without_candidates_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no candidate was trained in all of \['a'\]"):
        choose([regime("a", {"other": 0.0}, {"other": 0.1})])
