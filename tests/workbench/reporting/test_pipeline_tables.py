import pandas as pd
import pytest
from synthetic import pipeline_costs

from workbench.reporting import pipeline_tables

ABOUT = {"profile": "laptop", "workers": 2, "device": "2 × Some CPU"}


def stage(name: str, commands: int, start: float, work: float) -> dict[str, object]:
    return {"stage": name, "commands": commands, "fixed_seconds": start, "work_seconds": work, **ABOUT}


def test_shares_are_of_all_the_time() -> None:
    measured = pipeline_tables.with_shares([stage("train", 6, 60.0, 240.0), stage("report", 1, 5.0, 15.0)])
    assert measured["share"].tolist() == [300 / 320, 20 / 320]
    assert tuple(measured.columns) == pipeline_tables.PIPELINE
    assert pipeline_tables.with_shares([stage("train", 6, 0.0, 0.0)])["share"].tolist() == [0.0]


def test_the_pipeline_with_its_sum() -> None:
    measured = pipeline_tables.with_shares([stage("train", 6, 60.0, 1240.0), stage("report", 1, 5.0, 15.0)])
    table = pipeline_tables.pipeline_table(measured)
    assert table.display.to_numpy().tolist() == [
        ["Training", "6", "60.0", "1,240.0", "98.5"],
        ["Report", "1", "5.0", "15.0", "1.5"],
        ["All", "7", "65.0", "1,255.0", "100.0"],
    ]
    assert table.data["stage"].tolist() == ["train", "report", "all"]
    assert table.data["fixed_seconds"].tolist() == [60, 5, 65]
    assert "Seconds of the profile laptop on 2 × Some CPU, 2 workers" in table.caption
    assert "`results/provenance/laptop`" in table.caption


def test_an_unknown_stage_is_an_error() -> None:
    measured = pipeline_costs().replace({"stage": {"judge": "jury"}})
    with pytest.raises(ValueError, match=r"unknown stages \['jury'\] in pipeline_cost.csv: expected dvc, code, data"):
        pipeline_tables.pipeline_table(measured)


def test_starts() -> None:
    measured = pd.DataFrame([("python", 0.0204), ("import torch", 1.1)], columns=pipeline_tables.STARTS)
    table = pipeline_tables.starts_table(measured)
    assert table.display.to_numpy().tolist() == [["python", "0.02"], ["import torch", "1.10"]]
    assert table.data["seconds"].tolist() == [0.0204, 1.1]
