import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic import history, step_costs
from test_effects import CROSS, SEEDS, STAR, levels_of, records_of
from test_typesetting import ABOUT

from smoot.workbench import costs, effect_tables, effects, results
from smoot.workbench.effects import Combination
from smoot.workbench.measures import Measure
from smoot.workbench.statistics import holm
from smoot.workbench.study import Study
from smoot.workbench.typesetting import Table, fixed

STUDY = Study("What matters", ("factorial", "comparison"), "plain", note="Three seeds.", compared=("plain", "smoot"))


@pytest.fixture(autouse=True)
def measured_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "read_costs", step_costs)


def study_records(combinations: Sequence[Combination]) -> list[results.RunRecord]:
    """Accuracy of a cell: 0.5 + seed / 100, less (1 + seed) / 100 if signed; the judge's gap on all alike."""
    moved = []
    for record in records_of(combinations):
        loss = (1 + record.seed) / 100 if record.cell.method.startswith("signed") else 0.0
        metrics = {"accuracy": 0.5 + record.seed / 100 - loss, "judge_gap_right_mean": 0.25, "gap_mean": 0.1}
        moved.append(replace(record, metrics={**record.metrics, **metrics}))
    return moved


def histories_of(records: Sequence[results.RunRecord]) -> pd.DataFrame:
    """Three epochs; a signed mask lowers the answer by 0.2, 0.1 and 0 nats, the others raise it by a cell's own."""
    frames = []
    for place, record in enumerate(records):
        own = history(record.cell, record.seed, epochs=3).assign(**record.keys)
        signed = record.cell.method.startswith("signed")
        change = [-0.2, -0.1, 0.0] if signed else np.full(3, 0.01 * (place // len(SEEDS)))
        frames.append(own.assign(first_order_change=math.nan if record.cell.method == "plain" else change))
    return pd.concat(frames, ignore_index=True)


def built(combinations: Sequence[Combination], study: Study = STUDY) -> dict[str, Table]:
    records = study_records(combinations)
    histories = histories_of(records)
    elsewhere = histories.assign(backbone="two_conv_small", first_order_change=9.0, masked_share=0.123)
    both = pd.concat([elsewhere, histories], ignore_index=True)
    return {table.name: table for table in effect_tables.build(study, records, both, ABOUT)}


@pytest.fixture(scope="module")
def tables() -> dict[str, Table]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs, "read_costs", step_costs)
        return built(CROSS)


def test_a_study_gets_what_it_asks_for(tables: dict[str, Table]) -> None:
    place = "fashion_mnist_resnet10_narrow"
    assert list(tables) == [f"factorial_{place}", f"effects_{place}", f"comparison_{place}"]
    assert list(built(CROSS, replace(STUDY, exhibits=("comparison",)))) == [f"comparison_{place}"]
    assert built(CROSS, replace(STUDY, exhibits=("sweep",))) == {}
    for table in tables.values():
        assert "Three seeds. Judge's gap, right answers: on each method's own right answers" in table.caption
        assert f"{ABOUT.facts}; maps on the first 500 of them, PGD on the first 400. Source:" in table.caption
        assert ABOUT.source in table.caption


def frame_mean(method: str) -> float:
    frame = results.metrics_frame(study_records(CROSS))
    return float(frame.loc[frame["method"] == method, "accuracy"].mean())


def test_the_factorial_as_shown(tables: dict[str, Table]) -> None:
    table = tables["factorial_fashion_mnist_resnet10_narrow"]
    shown = table.display.set_index("Method")
    assert shown.index.tolist() == ["Plain", *(", ".join(cell) for cell in CROSS)]
    assert shown.loc["signed, mean, through", "First-order change (nats)"] == "−0.100 ± 0.000"
    assert shown.loc["signed, mean, through", "Accuracy (%) ↑"] == "49.00 ± 0.00"
    assert shown.loc["random, uniform, detached", "Accuracy (%) ↑"] == "51.00 ± 1.00"
    assert shown.loc["Plain", "First-order change (nats)"] == "–" == shown.loc["Plain", "Accuracy (minus Plain)"]
    against = 100 * (frame_mean("signed_mean_through") - frame_mean("plain"))
    assert table.data.set_index("method").loc["signed_mean_through", "accuracy_difference"] == pytest.approx(against)
    assert shown.loc["signed, mean, through", "Accuracy (minus Plain)"].startswith(fixed(against, 2, sign=True))
    judged = [column for column in shown if column.startswith("Judge")]
    assert judged == ["Judge's gap, right answers, mean (points) ↑", "Judge's gap, mean (points) ↑"]
    assert "Accuracy under PGD (%) ↑" in shown
    signed = table.data.set_index("method").loc["signed_mean_through"]
    assert signed[list(effects.FACTORS)].tolist() == ["signed", "mean", "through"]
    assert signed["accuracy_mean"] == pytest.approx(49) and signed["first_order_change_mean"] == pytest.approx(-0.1)


def test_the_caption_says_what_the_change_goes_with(tables: dict[str, Table]) -> None:
    """Signed cells have the lowest change and the lowest accuracy; all others are equally accurate."""
    caption = tables["factorial_fashion_mnist_resnet10_narrow"].caption
    records = study_records(CROSS)
    frame = effects.with_change(results.metrics_frame(records), histories_of(records), levels_of(CROSS))
    means = frame[frame["method"].isin(levels_of(CROSS)["method"])].groupby("method").mean(numeric_only=True)
    parts = [means, *(means[means.index.str.contains(fill)] for fill in ("uniform", "mean"))]
    both, uniform, mean = (
        fixed(stats.spearmanr(part["first_order_change"], part["accuracy"]).statistic) for part in parts
    )
    assert f"; accuracy {both} (uniform {uniform}, mean {mean}); relevance mass " in caption
    assert "over the 12 cells' means, in brackets within each fill of three or more: accuracy under PGD –" in caption
    assert "p =" not in caption and "of the label's log-probability" in caption and "by construction" in caption


def test_effects_as_shown_and_marked(tables: dict[str, Table]) -> None:
    table = tables["effects_fashion_mnist_resnet10_narrow"]
    shown = table.display.set_index("Factor")
    assert shown.index.tolist() == [
        "Ranking: signed − magnitude",
        "Ranking: random − magnitude",
        "Fill: mean − uniform",
        "Target: through − detached",
    ]
    half = 4.302652729911275 / math.sqrt(3)  # differences of -1, -2 and -3 points
    text = f"−2.00 [−{2 + half:.2f}, +{half - 2:.2f}]"
    assert shown.loc["Ranking: signed − magnitude", "Accuracy (points) ↑"] == text  # p = 0.074: no mark
    change = shown.loc["Ranking: signed − magnitude", "First-order change (nats)"]
    assert change.startswith("−0.1") and change.endswith("†")
    assert shown.loc["Fill: mean − uniform", "Accuracy (points) ↑"] == "+0.00 [+0.00, +0.00]"
    assert "Every combination was run" in table.caption
    assert "also holds the interactions of ranking and fill, adjusted among themselves." in table.caption


def test_effects_as_numbers_hold_the_interactions(tables: dict[str, Table]) -> None:
    data = tables["effects_fashion_mnist_resnet10_narrow"].data
    accuracy = data[data["metric"] == "accuracy"].set_index("level")
    assert accuracy.index.tolist() == ["signed", "random", "mean", "through", "signed, mean", "random, mean"]
    assert accuracy.loc["signed", "difference"] == pytest.approx(-2)
    assert accuracy.loc["signed", "p_value"] == pytest.approx(stats.ttest_1samp([-1, -2, -3], 0).pvalue)
    assert accuracy.loc["signed, mean", ["factor", "baseline"]].tolist() == ["ranking × fill", "magnitude, uniform"]
    assert accuracy.loc["signed, mean", "difference"] == pytest.approx(0)
    assert accuracy.loc["signed, mean", "mean"] == pytest.approx(-2)
    change = data[data["metric"] == "first_order_change"].set_index("level")
    assert -0.3 < change.loc["signed", "difference"] < -0.1  # nats stay nats


def test_a_star_says_so_and_has_no_interactions() -> None:
    table = built(STAR)["effects_fashion_mnist_resnet10_narrow"]
    assert "One factor was varied at a time" in table.caption and "interactions" not in table.caption
    assert set(table.data["factor"]) == {"ranking", "fill", "target"}


def test_an_effect_is_marked_below_the_level_only() -> None:
    effect = {"difference": 0.02, "low": 0.01, "high": 0.03, "p_holm": 0.0499}
    measure = Measure("Accuracy", digits=1)
    assert effect_tables.effect_text(effect, measure) == "+2.0 [+1.0, +3.0] †"
    assert effect_tables.effect_text(effect | {"p_holm": 0.05}, measure) == "+2.0 [+1.0, +3.0]"
    assert effect_tables.effect_text(effect | {"p_holm": math.nan}, measure) == "+2.0 [+1.0, +3.0]"


@pytest.mark.parametrize("metric", ["accuracy", "judge_gap_mean", "gini", "relevance_mass"])
def test_a_metric_that_some_run_lacks_is_named(metric: str) -> None:
    records = study_records(STAR)
    records[4] = replace(records[4], metrics={**records[4].metrics, metric: math.nan})
    with pytest.raises(ValueError, match=f"'{metric}' of method 'smoot', seed 1, is missing or undefined"):
        list(effect_tables.build(STUDY, records, histories_of(records), ABOUT))
    without = {name: value for name, value in records[2].metrics.items() if name != metric}
    with pytest.raises(ValueError, match=f"'{metric}' of method 'plain', seed 2, is missing or undefined"):
        records[2] = replace(records[2], metrics=without)
        list(effect_tables.build(STUDY, records, histories_of(records), ABOUT))


def test_the_comparison_as_shown() -> None:
    study = replace(STUDY, compared=("plain", "signed_uniform_detached", "smoot"))
    records = [record for record in study_records(CROSS) if record.cell.method in study.compared]
    histories = histories_of(records)
    (table,) = effect_tables.build(replace(study, exhibits=("comparison",)), records, histories, ABOUT)
    shown, data = table.display.set_index("Method"), table.data.set_index("method")
    assert table.title == "What matters, Fashion-MNIST, ResNet-10 (narrow)"
    assert shown.index.tolist() == ["Plain", "signed_uniform_detached", "SMOOT"]
    p = stats.ttest_1samp([-1, -2, -3], 0).pvalue
    adjusted = holm([p, 1.0])[0]  # SMOOT's accuracy is Plain's
    half = 4.302652729911275 / math.sqrt(3)
    text = f"−2.00 [−{2 + half:.2f}, +{half - 2:.2f}], p = {adjusted:.3f}"
    assert shown.loc["signed_uniform_detached", "Accuracy (minus Plain)"] == text
    assert shown.loc["Plain", "Accuracy (minus Plain)"] == "–"
    assert data.loc["signed_uniform_detached", "accuracy_difference"] == pytest.approx(-2)
    assert data.loc["signed_uniform_detached", "accuracy_p_holm"] == pytest.approx(2 * p)
    share = histories[histories["method"] == "smoot"]["masked_share"].mean()
    assert data.loc["smoot", "masked_share_mean"] == pytest.approx(100 * share)
    assert shown.loc["Plain", "Images masked (%)"] == "0.0 ± 0.0"


def test_the_reference_need_not_be_a_row() -> None:
    table = built(CROSS, replace(STUDY, exhibits=("comparison",), compared=("smoot",)))
    (shown,) = (one.display for one in table.values())
    assert shown["Method"].tolist() == ["SMOOT"] and shown["Accuracy (minus Plain)"].tolist() != ["–"]


def test_unknown_steps_leave_out_their_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "read_costs", lambda: step_costs().query("network == 'two_conv_small'"))
    (table,) = built(CROSS, replace(STUDY, exhibits=("comparison",))).values()
    assert "Cost of the run (×) ↓" in table.display and "A step, measured (×) ↓" not in table.display
    assert "A step, measured" not in table.caption
