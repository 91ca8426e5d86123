import pandas as pd
import pytest
from drawing import LOOKS, legend_texts, lines, unlabelled
from synthetic import SETTING, TITLES
from synthetic_studies import config_of, plan_of, runs_of

from workbench.reporting.questions import Study
from workbench.reporting.style import Look
from workbench.results.statistics import mean_interval
from workbench.studies import sweep
from workbench.studies.plans import trajectories
from workbench.studies.runs import StudyRuns

CONFIGS = {f"sgt_k{k}": plan_of(1.0, k / 100, "sgt") for k in (70, 30)}
CONFIGS |= {f"i{i}_k{k}": plan_of(i / 100, k / 100) for i in (50, 100) for k in (20, 60)}
CONFIGS |= {name: config_of(name) for name in ("plain", "random_mask", "smoot")}
ACCURACIES = {name: (0.80, 0.82) for name in CONFIGS} | {
    "sgt_k30": (0.77, 0.79),
    "sgt_k70": (0.75, 0.79),
    "smoot": (0.83, 0.85),
}
ALL = LOOKS | {"sgt_improved": Look("SGT improved", "#029e73", "D")}


@pytest.fixture(scope="module")
def runs() -> StudyRuns:
    return runs_of(Study("A study", ("sweep",), "plain", "A note."), CONFIGS, ACCURACIES)


def test_sweeps_are_what_masks_every_image_and_differs_in_the_fraction_alone() -> None:
    assert sweep.read_sweeps(CONFIGS).to_dict("list") == {
        "family": ["sgt", "sgt", "sgt_improved", "sgt_improved"],
        "value": [0.3, 0.7, 0.2, 0.6],
        "method": ["sgt_k30", "sgt_k70", "i100_k20", "i100_k60"],
    }
    with pytest.raises(ValueError, match=r"\['i100_k20', 'again'\] are the same: expected one for each value"):
        sweep.read_sweeps(CONFIGS | {"again": CONFIGS["i100_k20"]})
    with pytest.raises(ValueError, match=r"no two of the methods \['plain', 'one'\] differ in the fraction of pixels"):
        sweep.read_sweeps({"plain": CONFIGS["plain"], "one": CONFIGS["i100_k20"]})


def test_trajectories_are_means_over_seeds_of_epochs_that_masked_something(runs: StudyRuns) -> None:
    own = runs.histories[runs.histories["method"] == "smoot"]
    nothing = own.assign(epoch=0, masked_share=0.0, masked_pixels=float("nan"))
    path = trajectories(StudyRuns(runs.study, runs.records, pd.concat([nothing, runs.histories]), SETTING))
    assert set(path["method"]) == {"smoot"} and path["epoch"].tolist() == list(range(1, 11))
    first, second = (own.loc[own["seed"] == seed, ["masked_share", "masked_pixels"]].to_numpy() for seed in (0, 1))
    assert path[["masked_share", "masked_pixels"]].to_numpy() == pytest.approx((first + second) / 2)


def test_sweeps_say_their_range(runs: StudyRuns) -> None:
    table = sweep.table(runs, TITLES)
    assert table.name == f"sweep_{SETTING.place}" and table.caption.endswith(SETTING.origin)
    assert table.display["Method"].tolist() == ["SGT as published", "SGT improved"]
    row = table.display.iloc[0]
    assert row["Values of k"] == "2 from 0.3 to 0.7"
    assert row[["Accuracy (%) ↑", "Accuracy: range (points) ↓"]].tolist() == ["77.00 to 78.00", "1.00"]
    assert row["Accuracy: best at k"] == "0.3"
    assert row["Judge's gap, right answers, mean: best at k"] == "0.7"  # 1 minus the accuracy
    assert table.data["n"].tolist() == [2] * 4
    assert table.data.set_index("method").loc["sgt_k30", "accuracy_mean"] == pytest.approx(78)


def test_the_schedule_stands_beside_the_sweeps_with_its_interval(runs: StudyRuns) -> None:
    chart = sweep.chart(runs, ALL)
    assert chart.name == f"sweep_{SETTING.place}" and " A note. " in chart.caption
    axes, _ = chart.figure.axes
    assert lines(axes, "sgt") == [([0.3, 0.7], pytest.approx([78, 77]))]
    own = runs.histories[runs.histories["method"] == "smoot"]
    pixels = own.groupby("epoch")["masked_pixels"].mean().mean()
    _, low, high = map(float, mean_interval([83, 85]))
    whiskers, mark = lines(axes, "smoot")
    assert whiskers == (pytest.approx([pixels, pixels]), pytest.approx([low, high]))
    assert mark == (pytest.approx([pixels]), pytest.approx([84]))
    assert legend_texts(chart.figure) == ["SGT as published", "SGT improved", "SMOOT"]
    assert not list(unlabelled(chart.figure))
