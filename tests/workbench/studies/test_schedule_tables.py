import math

import pandas as pd
import pytest
from synthetic import SETTING, step_costs
from test_oracle import whole_study

from workbench.reporting import captions
from workbench.reporting.metrics import Metric
from workbench.reporting.questions import Choice, Condition, Study
from workbench.reporting.table import Table
from workbench.results.records import RunRecord, metrics_frame
from workbench.studies import oracle
from workbench.studies import sweep_tables as schedule_tables
from workbench.studies.prices import Prices

Made = tuple[list[RunRecord], pd.DataFrame]
RULE = Choice(("plain", "i100_k50", "smoot", "smoot_tau_0.3"), "accuracy", 0.003, ("judge_gap_right_mean", "gap_black"))
CONDITIONS = (
    Condition("Training images", "500", {"plain": "plain", "smoot": "smoot"}),
    Condition("Training images", "1,000", {"plain": "plain", "smoot": "sgt_k90"}),
    Condition("Training images", "4,000", {"plain": "plain", "smoot": "i20_k10"}),
    Condition("Labels", "clean", {"plain": "plain", "smoot": "smoot", "sgt_improved": "i60_k50"}),
    Condition("Labels", "half wrong", {"plain": "plain", "smoot": "smoot_tau_0.1", "sgt_improved": "i100_k50"}),
)
STUDY = Study("A study", ("oracle", "sweep", "choice", "conditions"), "plain", "A note.", (), RULE, CONDITIONS)
GAP = "Judge's gap, right answers, mean"
MEASURED = "maps on the first 500 of them, PGD on the first 400."


@pytest.fixture(scope="module")
def made() -> Made:
    return whole_study()


@pytest.fixture(scope="module")
def tables(made: Made) -> dict[str, Table]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedule_tables, "read_costs", step_costs)
        return {table.name: table for table in schedule_tables.build(STUDY, *made, SETTING)}


def test_what_the_study_asks_for(made: Made, tables: dict[str, Table]) -> None:
    kinds = ("oracle", "sweep", "choice", "conditions")
    assert list(tables) == [f"{kind}_{SETTING.place}" for kind in kinds]
    for table in tables.values():
        assert table.caption.endswith(f" A note. {captions.JUDGED} {SETTING.facts}; {MEASURED} {SETTING.origin}")
        assert "nan" not in table.markdown
    sweep = Study("A study", ("sweep",), "plain")
    assert [table.name for table in schedule_tables.build(sweep, *made, SETTING)] == [f"sweep_{SETTING.place}"]


def test_the_oracle_beside_the_schedules(made: Made, tables: dict[str, Table]) -> None:
    table = tables[f"oracle_{SETTING.place}"]
    frame = metrics_frame(made[0])
    means = 100 * frame.groupby("method")["accuracy"].mean()
    cells = [name for name in means.index if name.startswith("i")]
    best = means[cells].idxmax()
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
    # shares 0.2 and 0.4 between plain and 1.6, 0.6 and 0.8 between 1.6 and 2.2; five cells each
    search = 5 * ((1 + 0.4 * 0.6) + (1 + 0.8 * 0.6) + (1.6 + 0.2 * 0.6) + (1.6 + 0.6 * 0.6) + 2.2)
    cost = "Cost (plain trainings) ↓"
    assert row[cost] == f"{5 * search:.1f}" and shown.loc["Plain", cost] == "1.0"  # of all five seeds
    assert shown.loc["Best plan for accuracy (held out)", cost] == f"{4 * search:.1f}"
    assert "one training of each of the 25 plans with every seed that chose it (all 5, held out 4)" in table.caption
    assert "25 constant plans that mask 20, 40, 60, 80 or 100 % of the images" in table.caption
    assert "in measured steps (CPU" in table.caption
    kinds = table.data.drop_duplicates(["kind", "of", "method"])["kind"].value_counts().to_dict()
    assert kinds == {"cell": 25, "schedule": 6, "oracle": 2, "held_out": 2, "reference": 1}
    assert (
        table.data.set_index(["kind", "metric", "method"]).loc[("cell", "accuracy", "i40_k70"), "mask_fraction"] == 0.7
    )


def test_counted_passes_are_called_so(made: Made) -> None:
    frame, cells = metrics_frame(made[0]), oracle.read_grid(oracle.method_configs(made[0]))
    lines = oracle.standings(cells, ["smoot"], frame, ["accuracy"], "plain")
    measures = {"accuracy": Metric("Accuracy", digits=2)}
    table = schedule_tables.oracle_table(lines, cells, Prices(50.0, {"smoot": 1.9}, False), measures, SETTING, "End.")
    assert "passes counted in forwards" in table.caption and "measured steps" not in table.caption
    assert table.display.set_index("Method").loc["SMOOT"].iloc[-1] == "1.9"


def test_no_share_where_the_oracle_may_gain_nothing(made: Made) -> None:
    frame, cells = metrics_frame(made[0]), oracle.read_grid(oracle.method_configs(made[0]))
    lines = oracle.standings(cells, ["smoot"], frame, ["accuracy"], "plain").assign(share=math.nan)
    measures = {"accuracy": Metric("Accuracy", digits=2)}
    table = schedule_tables.oracle_table(lines, cells, Prices(50.0, {"smoot": 1.9}, False), measures, SETTING, "End.")
    assert set(table.display["Accuracy: of the held-out gain (%)"]) == {"–"}
    assert "– where the interval of that gain is not above zero" in table.caption


def test_sweeps_say_their_range(made: Made, tables: dict[str, Table]) -> None:
    table = tables[f"sweep_{SETTING.place}"]
    means = 100 * metrics_frame(made[0]).groupby("method")["accuracy"].mean()
    own = means[[f"sgt_k{k}" for k in (10, 30, 50, 70, 90)]]
    row = table.display.set_index("Method").loc["SGT as published: k"]
    assert row["Values"] == "5 from 0.1 to 0.9" and "the number of values and with their span" in table.caption
    assert row["Accuracy (%) ↑"] == f"{own.min():.2f} to {own.max():.2f}"
    assert row["Accuracy: range (points) ↓"] == f"{own.max() - own.min():.2f}"
    assert row["Accuracy: best at"] == "0.1"
    assert table.display["Method"].tolist() == [
        "SGT as published: k",
        "SGT improved: k",
        "SMOOT: τ",
        "SMOOT: kmax",
    ]
    assert len(table.data) == 5 + 5 + 4 + 3
    assert table.data.set_index("method").loc["sgt_k30", "accuracy_mean"] == pytest.approx(means["sgt_k30"])


def test_gains_that_are_none_are_shown_and_marked(tables: dict[str, Table]) -> None:
    table = tables[f"conditions_{SETTING.place}"]
    gains = table.display["Accuracy: gain"].tolist()
    assert table.display["Condition"].tolist() == ["Training images", "", "", "Labels", "", "", ""]
    assert table.display["Level"].tolist() == ["500", "1,000", "4,000", "clean", "", "half wrong", ""]
    assert not gains[0].endswith(("○", "✗"))
    assert gains[1].startswith("−") and gains[1].endswith(" ✗")
    assert gains[2].endswith(" ○")
    accuracy = table.data[table.data["metric"] == "accuracy"]
    assert accuracy["difference"].iloc[1] == pytest.approx(float(gains[1].split(" [")[0].replace("−", "-")), abs=0.005)


@pytest.mark.parametrize(
    ("low", "high", "mark"), [(0.1, 0.3, ""), (-0.1, 0.3, " ○"), (-0.3, -0.1, " ✗"), (math.nan, math.nan, " ○")]
)
def test_marks(low: float, high: float, mark: str) -> None:
    assert schedule_tables.gain_mark({"low": low, "high": high}) == mark
