from pathlib import Path

import pandas as pd
import pytest
from synthetic import step_costs

from workbench.config import paths
from workbench.results import costs


def histories(shares: dict[str, list[float]]) -> pd.DataFrame:
    """One seed, one row per epoch and method."""
    rows = [
        {"method": method, "seed": 3, "epoch": epoch, "image_fraction": share}
        for method, own in shares.items()
        for epoch, share in enumerate(own, start=1)
    ]
    return pd.DataFrame(rows)


def test_a_run_costs_what_lies_between_the_measured_shares() -> None:
    shares = {"plain": [0.0, 0.0, 0.0], "smoot": [0.0, 0.25, 0.75], "sgt": [1.0, 1.0, 1.0], "unmeasured": [1.0] * 3}
    found = costs.run_cost(step_costs(), histories(shares), "two_conv_small", 64)

    assert list(found.columns) == ["method", "seed", "epoch", "relative", "limit"]
    assert set(found["seed"]) == {3} and set(found["method"]) == {"plain", "smoot", "sgt"}
    relative = {method: own["relative"].tolist() for method, own in found.groupby("method")}
    assert relative["plain"] == [1, 1, 1]
    assert relative["smoot"] == pytest.approx([1, 1.3, 1.9])  # 1 at 0, 1.6 at a half, 2.2 at 1
    assert relative["sgt"] == pytest.approx([2.8, 2.8, 2.8])
    limits = found[found["method"] == "smoot"]["limit"].tolist()
    assert limits == pytest.approx([1, 1.25, 1.75])


def test_only_steps_on_a_cpu_in_float32_with_the_runs_batches_count() -> None:
    measured = step_costs()
    measured.loc[measured["device"] == "cuda", "relative_to_plain"] = 99.0
    cpu = measured[measured["device"] == "cpu"].assign(relative_to_plain=77.0)
    others = [cpu.assign(batch_size=512), cpu.assign(precision="bf16"), cpu.assign(compiled=True)]
    everything = pd.concat([*others, measured], ignore_index=True)
    found = costs.run_cost(everything, histories({"smoot": [1.0]}), "resnet10_narrow", 64)
    assert found["relative"].tolist() == pytest.approx([2.2])


@pytest.mark.parametrize(("backbone", "batch_size"), [("vit", 64), ("two_conv_small", 32)])
def test_a_network_that_was_not_measured_so_has_no_rows(backbone: str, batch_size: int) -> None:
    assert costs.run_cost(step_costs(), histories({"smoot": [1.0]}), backbone, batch_size).empty


def test_rows_keep_their_place_whatever_the_index() -> None:
    runs = histories({"smoot": [0.5, 1.0]}).set_axis([40, 7], axis="index")
    found = costs.run_cost(step_costs(), runs, "two_conv_small", 64)
    assert found["relative"].to_dict() == pytest.approx({40: 1.6, 7: 2.2})


@pytest.mark.parametrize("content", [b"", b"network\n\xff", b'network,method\n"a,b\n'])
def test_a_spoilt_benchmark_is_named(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "BENCHMARKS", tmp_path)
    (tmp_path / "step_cost.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"step_cost\.csv is not a table \(.*\): `make bench` makes it"):
        costs.read_costs()
