import math

import pandas as pd
import pytest
from synthetic import TITLES

from workbench.reporting.chance import controlled, source_of, with_controls


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
