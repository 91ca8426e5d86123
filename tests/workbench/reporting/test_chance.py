import math

import pandas as pd
import pytest
from synthetic import TITLES

from workbench.reporting.chance import controlled, located, source_of, with_controls


def runs(*methods: str) -> pd.DataFrame:
    """Two seeds per method; the n-th method's numbers are n larger."""
    rows = [
        {"method": method, "seed": seed, "accuracy": 0.5, "gini": 9.0, "grid_pointing": 0.4}
        | {"random_gini": place + seed / 10, "edges_gini": place + 0.5}
        for place, method in enumerate(methods)
        for seed in (0, 1)
    ]
    return pd.DataFrame(rows)


def shown(frame: pd.DataFrame, metric: str) -> dict[str, list[float]]:
    return {str(method): own[metric].tolist() for method, own in frame.groupby("method")}


def test_controls_stand_below_the_methods_with_the_numbers_of_plains_runs() -> None:
    methods = {name: TITLES[name] for name in ("smoot", "plain")}
    frame, titles = with_controls(runs("smoot", "plain"), methods)
    assert list(titles.items())[2:] == [("random", "Random map"), ("edges", "Edge filter")]
    gini = shown(frame, "gini")
    assert gini["random"] == pytest.approx([1.0, 1.1]) and gini["edges"] == [1.5, 1.5]
    assert gini["smoot"] == [9.0, 9.0]
    assert frame.loc[frame["method"] == "edges", "seed"].tolist() == [0, 1]
    assert shown(frame, "grid_pointing")["random"] == shown(frame, "grid_pointing")["edges"] == [0.25, 0.25]
    assert all(map(math.isnan, shown(frame, "accuracy")["random"]))  # a map answers nothing


def test_without_plain_the_first_method_stands_in() -> None:
    methods = {name: TITLES[name] for name in ("sgt", "smoot")}
    frame, _ = with_controls(runs("smoot", "sgt"), methods)
    assert shown(frame, "gini")["edges"] == [1.5, 1.5]
    assert source_of(methods).endswith("on the runs of SGT")
    assert source_of(TITLES).endswith("on the runs of Plain")


def test_every_metric_of_a_map_but_its_stability_has_a_control() -> None:
    places = "relevance_mass relevance_rank pointing_game gini"
    curves = "gap_black deletion_auc_black insertion_auc_black judge_gap_right_black second_judge_gap_right_black"
    assert controlled(["black"]) == [*places.split(), *curves.split()]
    assert len(controlled(["mean", "black"])) == 14


def test_nothing_is_located_in_data_sets_whose_region_is_most_of_the_image() -> None:
    """Decided by the mean of a data set, whatever single runs give."""
    columns = ["dataset", "random_relevance_mass", "edges_pointing_game", "relevance_rank", "gini"]
    small, large = ("small", 0.75), ("large", 0.74)
    rows = [(*small, 0.2, 0.3, 0.4), (*small, 0.2, 0.3, 0.4), (*large, 0.2, 0.3, 0.4), ("large", 0.77, 0.2, 0.3, 0.4)]
    frame = pd.DataFrame(rows, columns=columns)
    found = located(frame, frame)
    assert found[:2].equals(frame[:2]) and found["gini"].tolist() == [0.4] * 4
    assert found.loc[2:, columns[1:4]].isna().all(axis=None)
    others = pd.DataFrame({"dataset": ["large", "small"], "pointing_game": [0.5, 0.6]})
    assert located(others, frame)["pointing_game"].isna().tolist() == [True, False]
    assert located(others, frame.drop(columns="random_relevance_mass")).equals(others)
    assert located(pd.DataFrame(), frame).empty
