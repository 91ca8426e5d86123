"""The benchmarks run at tiny sizes and write whole tables; nothing about time is asserted."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch

from smoot.curves import deletion_curve
from workbench.config import paths


@pytest.fixture
def evaluation_cost() -> ModuleType:
    """The benchmark as a module; it is a script outside the package."""
    file = Path(__file__).parents[1] / "benchmarks" / "evaluation_cost.py"
    spec = importlib.util.spec_from_file_location("evaluation_cost", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def threads() -> Iterator[None]:
    """The benchmark takes one thread; the other tests get theirs back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_every_engine_has_a_line(
    evaluation_cost: ModuleType,
    threads: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(paths, "BENCHMARKS", tmp_path)
    monkeypatch.setattr(paths, "ROOT", tmp_path.parent)
    evaluation_cost.main(
        ["--rounds", "2", "--warmup", "0", "--images", "3", "--batch-size", "2", "--networks", "linear"]
    )
    table = pd.read_csv(tmp_path / "evaluation_cost.csv")
    assert len(table) == 5 and not table.isna().any().any()
    assert table.loc[table["engine"] == evaluation_cost.REFERENCE, "relative"].item() == 1.0
    assert "commit" in json.loads((tmp_path / "evaluation_cost.provenance.json").read_text())
    assert "evaluation_cost.csv" in capsys.readouterr().out


def test_quantus_and_this_package_are_asked_the_same(evaluation_cost: ModuleType) -> None:
    """Pixel flipping's scores are the curve's from the first step on; both replace by 0."""
    task = evaluation_cost.make_task("linear", 6, 4, "cpu")
    flipping, _ = evaluation_cost.quantus_engines(task)
    theirs = torch.tensor(flipping.call())
    steps = evaluation_cost.STEPS
    ours = deletion_curve(
        task.network, task.images, task.labels, task.saliency, fractions=[step / steps for step in range(steps + 1)]
    )
    assert theirs.shape == (6, flipping.points)
    torch.testing.assert_close(ours.score[1:], theirs.mean(0))
