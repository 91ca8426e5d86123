import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from drawing import LOOKS, legend_texts, solid, unlabelled
from synthetic import SETTING, TITLES, Network, growth, history, run_record
from synthetic_studies import config_of

from workbench.reporting import cost
from workbench.results.costs import COSTS
from workbench.results.records import RunRecord

NETWORK = Network("laptop", "fashion_mnist", "resnet10_narrow", "plain")
EPOCHS = [1, 2, 3]


def run_costs(factor: float = 1.0) -> pd.DataFrame:
    """Two seeds of two methods; ``sgt`` has no rows."""
    rows = [
        {"method": method, "seed": seed, "epoch": epoch, "relative": factor * cost * epoch + seed, "limit": cost}
        for method, cost in {"plain": 1.0, "smoot": 2.0}.items()
        for seed in (0, 1)
        for epoch in EPOCHS
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("count", [1, 3])
def test_a_run_has_a_line_per_method_and_its_limit_dotted(count: int) -> None:
    figure = cost.run_cost({f"setting {number}": run_costs(number + 1) for number in range(count)}, LOOKS)

    assert [axes.get_title(loc="left") for axes in figure.axes] == [f"setting {number}" for number in range(count)]
    last = figure.axes[-1]
    assert solid(last, "smoot") == pytest.approx([2 * count + 0.5, 4 * count + 0.5, 6 * count + 0.5])
    dotted = [np.asarray(line.get_ydata()).tolist() for line in last.lines if line.get_linestyle() == ":"]
    assert dotted == [[1, 1, 1], [2, 2, 2]]
    assert last.get_ylim()[0] == 0
    assert legend_texts(figure) == ["Plain", "SMOOT", "arithmetic limit"]
    assert not list(unlabelled(figure))


def test_growth_is_logarithmic_beside_a_line_of_slope_one() -> None:
    frame = growth()
    figure = cost.growth(frame, LOOKS)
    assert len(figure.axes) == 8
    time, memory = figure.axes[0], figure.axes[4]
    assert (time.get_xscale(), time.get_yscale()) == ("log", "log")
    assert (time.get_title(loc="left"), memory.get_xlabel()) == ("Batch size", "Images per batch")
    assert (time.get_ylabel(), memory.get_ylabel()) == ("Time (s)", "Peak memory (MiB)")
    assert solid(time, "plain") == pytest.approx([0.0066, 0.0114, 0.0306])  # seconds
    assert solid(memory, "smoot") == pytest.approx([20.32, 21.28, 25.12])
    (reference,) = (line for line in time.lines if line.get_linestyle() == ":")
    x, y = np.asarray(reference.get_xdata()), np.asarray(reference.get_ydata())
    assert y[-1] == pytest.approx(0.0612)
    assert np.diff(np.log(y)) == pytest.approx(np.diff(np.log(x)))
    assert [text.get_text() for text in figure.axes[2].get_xticklabels()] == ["2", "1,000"]
    assert not list(unlabelled(figure))
    figure = cost.growth(frame[frame["axis"] == "num_images"], LOOKS)  # the axes that were measured
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Training images", ""]


@pytest.mark.parametrize(
    ("method", "saliency_pass", "passes"),
    [("sgt_improved", "reuse", 4), ("sgt", "eval", 5), ("random_mask", "reuse", 3), ("random_mask", "eval", 3)],
)
def test_passes_of_a_step_are_counted(method: str, saliency_pass: str, passes: int) -> None:
    config = config_of(method, guidance__saliency_pass=saliency_pass)
    assert cost.counted_cost(config, [0.0, 0.5, 1.0]) == pytest.approx([1, (passes + 1.5) / 3, (passes + 3) / 3])


def trained(name: str, method: str = "sgt_improved", **blocks: dict[str, Any]) -> RunRecord:
    """A run of a method under another name, with other training or data."""
    record = run_record(replace(NETWORK, method=method), 0)
    values = {block: dict(record.config[block]) | changed for block, changed in blocks.items()}
    return replace(record, method=name, config={**record.config, **values})


def test_a_run_costs_its_passes_over_those_of_the_references_epochs() -> None:
    """SGT improved takes 7 passes per step to Plain's 3; trained for 6 epochs, where the reference has 3."""
    records = [trained("plain", "plain"), trained("long"), trained("smoot", "smoot")]
    trained_as = {"plain": ("plain", 3), "long": ("sgt_improved", 6), "smoot": ("smoot", 3)}
    made = {name: history(replace(NETWORK, method=like), 0, epochs) for name, (like, epochs) in trained_as.items()}
    histories = pd.concat([frame.assign(method=name, seed=0) for name, frame in made.items()])
    found = cost.run_costs(records, histories, "plain", SETTING).set_index("method")
    share = histories[histories["method"] == "smoot"]["image_fraction"].mean()
    assert found["passes"].to_dict() == pytest.approx({"plain": 1, "long": 2 * 7 / 3, "smoot": (4 + 3 * share) / 3})
    assert found["masked_share"].to_dict() == pytest.approx({"plain": 0, "long": 1, "smoot": share})


def test_the_cost_of_a_run_counts_its_images_whatever_its_batches_are() -> None:
    """Epochs of 2,000 images are 31 batches of 64, or 7 of 256; of 500 images 7 batches of 64; of all 59,000 921."""
    records = [trained("plain", "plain"), trained("usual"), trained("large", training={"batch_size": 256})]
    records += [trained("few", dataset={"train_images": 500}), trained("one", dataset={"train_images": 50})]
    records += [trained("all", dataset={"train_images": None})]
    made = history(replace(NETWORK, method="sgt"), 0, 3)
    histories = pd.concat([made.assign(method=record.method, seed=0) for record in records])
    histories.loc[histories["method"] == "plain", "image_fraction"] = 0.0
    found = cost.run_costs(records, histories, "plain", SETTING).set_index("method")["passes"]
    images = {"usual": 31 * 64, "large": 7 * 256, "few": 7 * 64, "one": 50, "all": 921 * 64}
    assert found.drop("plain").to_dict() == pytest.approx({name: 7 / 3 * n / (31 * 64) for name, n in images.items()})


def test_the_cost_table() -> None:
    lines = [
        {"network": "resnet10_narrow", "method": "plain", "image_fraction": 0.0, "ms_per_step": 20.04, "device": "cpu"}
        | {"relative_to_plain": 1.0, "limit": 1.0, "achieved": 1.0, "memory_mb": 30.0, "relative_memory": 1.0}
        | {"batch_size": 64, "precision": "fp32", "compiled": False, "mask_overlap": math.nan, "rounds": 9},
        {"network": "vit", "method": "sgt_reference", "image_fraction": 0.5, "ms_per_step": 1500.0, "device": "cuda"}
        | {"relative_to_plain": 2.5, "limit": 8 / 3, "achieved": 16 / 15, "memory_mb": 33.0, "relative_memory": 1.1}
        | {"batch_size": 512, "precision": "bf16", "compiled": True, "mask_overlap": 0.987, "rounds": 5},
    ]
    table = cost.cost_table(pd.DataFrame(lines), TITLES)
    usual, large = table.display.to_numpy().tolist()
    assert usual[:2] == ["ResNet-10 (narrow), batch of 64, CPU, fp32", "Plain (0 %)"]
    assert usual[2:] == ["20.0", "1.00 ×", "1.00 ×", "100", "1.00 ×", "–"]
    assert large[:2] == ["ViT (6 blocks), batch of 512, CUDA, bf16, compiled", "SGT as published (50 %)"]
    assert large[2:] == ["1,500.0", "2.50 ×", "2.67 ×", "107", "1.10 ×", "0.99"]
    assert tuple(table.data.columns) == COSTS
    assert table.data["limit"].tolist() == [1, 8 / 3]
    assert "results/benchmarks/step_cost.csv" in table.caption
    without = cost.cost_table(pd.DataFrame(lines[:1]), TITLES)
    assert list(without.display.columns) == list(table.display.columns)[:-1]  # no masks were compared
