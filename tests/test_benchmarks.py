"""The benchmarks run at tiny sizes and write whole tables; nothing about time is asserted."""

import importlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch
from torch import nn

from smoot import Guidance, MaskPlan, input_gradient, lowest_saliency_mask, saliency_map
from workbench.config import files, paths
from workbench.results.costs import COSTS, GROWTH

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NETWORK = "two_conv_small"
Load = Callable[[str], ModuleType]


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """The benchmarks take one thread; the other tests get theirs back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Load:
    """Imports a script of the benchmarks as it is when run, writing to an empty folder."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr(paths, "BENCHMARKS", tmp_path / "results")
    (tmp_path / "results").mkdir()
    (tmp_path / "tests").mkdir()
    for name in ("params.yaml", "methods.yaml", "tests/smoke.yaml"):
        (tmp_path / name).write_text((BENCHMARKS.parent / name).read_text())
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    return importlib.import_module


def test_every_method_has_a_line(
    load: Load, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = load("step_cost")
    known = load("steps").subjects()
    small = {name: replace(subject, batches={"cpu": 8}, large={"cpu": 4}) for name, subject in known.items()}
    for script in (module, load("steps")):
        monkeypatch.setattr(script, "subjects", lambda: small)
    module.main(["--rounds", "2", "--warmup", "1", "--networks", NETWORK, "--device", "cpu", "--large"])
    table = pd.read_csv(paths.BENCHMARKS / "step_cost.csv")
    assert tuple(table.columns) == COSTS
    assert table["batch_size"].value_counts().to_dict() == {8: len(table) / 2, 4: len(table) / 2}
    assert not table.drop(columns="mask_overlap").isna().any().any()
    assert (table["rounds"] == 2).all()
    plain = table[table["method"] == "plain"]
    assert (plain[["relative_to_plain", "limit", "achieved", "relative_memory"]] == 1.0).all().all()
    assert set(table["method"]) == {"plain", "sgt_reference", "sgt", "random_mask", "sgt_improved", "smoot"}
    assert table["achieved"].tolist() == pytest.approx((table["limit"] / table["relative_to_plain"]).tolist(), abs=1e-3)
    assert "commit" in json.loads((paths.BENCHMARKS / "step_cost.provenance.json").read_text())["cpu"]
    assert "step_cost.csv" in capsys.readouterr().out


def test_lines_of_other_devices_stay_and_older_formats_go(load: Load) -> None:
    module = load("step_cost")
    path = paths.BENCHMARKS / "step_cost.csv"
    assert module.kept(["cpu"]).empty
    lines = pd.DataFrame([dict.fromkeys(COSTS, 1) | {"device": device} for device in ("cpu", "cuda")])
    files.write_csv(lines, path)
    assert module.kept(["cpu"])["device"].tolist() == ["cuda"]
    files.write_csv(lines.drop(columns="limit"), path)
    assert module.kept(["cpu"]).empty


def test_a_device_that_is_not_there_is_refused(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load("step_cost")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert module.devices("auto") == ["cpu"]
    with pytest.raises(SystemExit, match="device 'cuda' is not available: this machine has cpu"):
        module.devices("cuda")


def test_sgt_written_out_is_what_this_package_calls_sgt(load: Load) -> None:
    steps = load("steps")
    subject = steps.subjects()["resnet10_narrow"]
    variants = {variant.method: variant for variant in steps.variants()}
    setups = {name: steps.set_up(subject, 6, steps.Mode("cpu")) for name in ("sgt_reference", "sgt")}
    for name, setup in setups.items():
        torch.manual_seed(1)
        variants[name].prepare(setup)()
    ours, theirs = (setup.network for setup in setups.values())
    for (name, parameter), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, msg=name, rtol=1e-4, atol=1e-6)
    for buffer, other in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(buffer, other)


def test_the_masks_of_a_step_are_those_of_its_method(load: Load) -> None:
    steps, measures = load("steps"), load("measures")
    variants = {variant.method: variant for variant in steps.variants()}
    setup = steps.set_up(steps.subjects()[NETWORK], 5, steps.Mode("cpu"))
    gradient = input_gradient(setup.network, setup.images, setup.labels, score="log_prob")
    expected = lowest_saliency_mask(saliency_map(gradient, reduction="signed_mean"), 0.5)
    assert (measures.step_masks(setup, variants["sgt"]) == expected).float().mean() > 0.99
    assert not measures.step_masks(steps.set_up(steps.subjects()[NETWORK], 5, setup.mode), variants["plain"]).any()


def test_overlap_of_bfloat16s_masks(load: Load) -> None:
    steps, measures = load("steps"), load("measures")
    found = {
        variant.method: measures.mask_overlap(steps.subjects()[NETWORK], 6, "cpu", variant)
        for variant in steps.variants()
        if variant.method in ("plain", "random_mask", "sgt_improved") and variant.image_fraction in (0.0, 1.0)
    }
    assert math.isnan(found["plain"]) and found["random_mask"] == 1.0
    assert 0.5 < found["sgt_improved"] < 1.0


def test_operations_of_the_pieces(load: Load) -> None:
    """A linear layer of 6 to 4, after one of 5 to 6, costs 2 x 6 x 4 per image each way."""
    measures = load("measures")
    network = nn.Sequential(nn.Flatten(), nn.Linear(5, 6, bias=False), nn.ReLU(), nn.Linear(6, 4, bias=False))
    images, labels = torch.rand(3, 5), torch.tensor([0, 1, 2])
    first, second = 3 * 2 * 5 * 6, 3 * 2 * 6 * 4
    wanted = {"forward": first + second, "parameters": first + 2 * second, "input": first + second}
    wanted["both"] = 2 * (first + second)
    assert {piece: measures.piece_flops(network, images, labels, piece) for piece in wanted} == wanted


def test_limits_are_counted_over_plain(load: Load) -> None:
    """In a network whose first layer is nothing beside the rest they are those of counting passes."""
    steps, measures = load("steps"), load("measures")
    setup = steps.set_up(steps.subjects()["resnet10_narrow"], 8, steps.Mode("cpu"))
    arithmetic = measures.Arithmetic(setup)
    plain = arithmetic.of((("forward", 1.0), ("parameters", 1.0)))
    limits = {
        (variant.method, variant.image_fraction): arithmetic.of(variant.passes(setup.network)) / plain
        for variant in steps.variants()
    }
    units = {
        ("plain", 0.0): 1.0,
        ("sgt", 1.0): 8 / 3,
        ("sgt_reference", 1.0): 8 / 3,
        ("random_mask", 1.0): 2.0,
        ("sgt_improved", 1.0): 7 / 3,
        ("smoot", 0.5): (4 + 1.5) / 3,
        ("smoot", 1.0): 7 / 3,
    }
    assert limits == {variant: pytest.approx(unit, rel=0.03) for variant, unit in units.items()}
    without_statistics = ("forward", "both", "forward", "parameters")
    assert steps.guided_passes(nn.Linear(2, 2), MaskPlan(), Guidance()) == tuple((p, 1.0) for p in without_statistics)


def test_live_storages(load: Load) -> None:
    counter = load("measures").LiveStorages()
    held = torch.zeros(1000)
    with counter:
        counter.watch([held, held[:10]])
        assert counter.live == 4000
        one = torch.ones(1000)
        two = one + 1
        del one
        kept = (two * 2).view(10, 100)
        del two
        assert (counter.live, counter.peak) == (8000, 12000)
        del kept
        weight = torch.ones(1000, requires_grad=True)
        total = (weight * 2).exp().sum()
        assert counter.live == 4000 + 4000 + 4000 + 4  # exp keeps its answer for the backward, the product goes
        total.backward()
        assert counter.live == 4000 + 4000 + 4000 + 4  # the gradient in its place
    assert counter.peak > counter.live


def test_rounds_end_when_patience_does(load: Load) -> None:
    measures, mode = load("measures"), load("steps").Mode("cpu")
    order: list[str] = []
    steps = [lambda name=name: order.append(name) for name in "abc"]
    times = measures.interleaved(steps, measures.Patience(rounds=50, warmup=1, seconds=0.0), mode)
    assert [len(one) for one in times] == [5, 5, 5]
    assert "".join(order[3:12]) == "abcbcacab"
    assert all(order.count(name) == 6 for name in "abc")
    few = measures.interleaved(steps, measures.Patience(rounds=2, warmup=0, seconds=0.0), mode)
    assert [len(one) for one in few] == [2, 2, 2]


def test_growth_has_a_line_per_size_and_method(
    load: Load, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = load("growth")
    sizes = {"batch_size": (4, 8), "pixels": (16**2, 20**2), "num_classes": (2, 5), "num_images": (8, 16)}
    monkeypatch.setattr(module, "SIZES", sizes)
    monkeypatch.setattr(module, "BATCH", 4)
    module.main(["--rounds", "1", "--epochs", "1"])
    table = pd.read_csv(paths.BENCHMARKS / "growth.csv")
    assert tuple(table.columns) == GROWTH
    assert len(table) == 16 and not table.isna().any().any()
    found = {axis: tuple(sorted(own["value"].unique())) for axis, own in table.groupby("axis")}
    assert found == sizes
    assert set(table["method"]) == {"plain", "smoot"}
    grown = table[(table["axis"] == "batch_size") & (table["method"] == "smoot")]["memory_mb"].tolist()
    assert grown[0] < grown[1] < 2 * grown[0]  # weights stay, activations double
    assert "growth.csv" in capsys.readouterr().out


def test_exponents(load: Load) -> None:
    module = load("growth")
    sizes = [1, 2, 4, 8, 16]
    assert module.exponent(sizes, [99.0, 99.0, 16.0, 64.0, 256.0]) == pytest.approx(2.0)  # the three largest
    assert module.exponent([8, 2, 4], [8.0, 2.0, 4.0]) == pytest.approx(1.0)
    assert math.isnan(module.exponent([8], [1.0]))


def test_the_bookkeeping_of_a_few_runs_is_measured_and_nothing_stays(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ROOT", "LEDGER"):
        monkeypatch.setattr(paths, name, tmp_path)
    (tmp_path / "here").mkdir()
    found = load("bookkeeping").main(["--runs", "20", "40", "--folder", str(tmp_path / "here")])
    assert found.index.tolist() == [20, 40] and (found > 0).all(axis=None)
    assert list(found) == ["ledger", "found", "queue", "taken_up", "requests"]
    assert list((tmp_path / "here").iterdir()) == []
