import math
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from synthetic import SETTING, history, run_record, step_costs
from test_charts import CELL
from test_effects import STAR, config
from test_oracle import SMALL, config_of, grid_configs, plan_of, records_of

from workbench.results.records import RunRecord
from workbench.studies import oracle, prices


@pytest.mark.parametrize(
    ("base", "saliency_pass", "expected"),
    [
        ("sgt_improved", "reuse", 4 + 1.5),
        ("sgt_improved", "loss", 3 + 1.5),
        ("sgt", "eval", 5 + 1.5),
        ("random_mask", "reuse", 3 + 1.5),
        ("random_mask", "eval", 3 + 1.5),
    ],
)
def test_passes_are_counted(base: str, saliency_pass: str, expected: float) -> None:
    config = plan_of(0.5, 0.5, base, guidance__saliency_pass=saliency_pass)
    assert prices.counted_cost(config, [0.5]) == pytest.approx([expected / 3])
    assert prices.counted_cost(config, [0.0]) == pytest.approx([1])


@pytest.mark.parametrize(("saliency_pass", "expected"), [("reuse", 4 + 1.5), ("eval", 5 + 1.5), ("loss", 3 + 1.5)])
def test_a_worst_case_fill_needs_a_saliency_though_the_ranking_is_random(saliency_pass: str, expected: float) -> None:
    config = plan_of(0.5, 0.5, "random_mask", guidance__saliency_pass=saliency_pass, guidance__fill="worst_case")
    assert prices.counted_cost(config, [0.5]) == pytest.approx([expected / 3])


def test_sgt_as_published_costs_eight_passes() -> None:
    assert prices.counted_cost(config_of("sgt"), [1.0]) == pytest.approx([8 / 3])


def test_prices_take_measured_steps_where_there_are_some() -> None:
    configs = grid_configs(SMALL) | {"plain": config_of("plain"), "smoot": config_of("smoot")}
    records, cells = records_of(configs), oracle.read_grid(configs)
    rows = [("smoot", seed, epoch, share) for seed in (0, 1) for epoch, share in enumerate((0.0, 0.5, 1.0))]
    histories = pd.DataFrame(rows, columns=["method", "seed", "epoch", "image_fraction"])
    timed = prices.read_prices(records, histories, step_costs(), cells)
    assert timed.measured
    # half of the images 1.6, all 2.2 (the benchmark's lines of smoot): two cells each
    assert timed.search == pytest.approx(2 * 1.6 + 2 * 2.2)
    assert timed.methods == {"smoot": pytest.approx((1 + 1.6 + 2.2) / 3)}
    unknown = step_costs().assign(network="another")
    counted = prices.read_prices(records, histories, unknown, cells)
    assert not counted.measured
    assert counted.search == pytest.approx((2 * 5.5 + 2 * 7) / 3)
    assert counted.methods == {"smoot": pytest.approx((1 + 5.5 / 3 + 7 / 3) / 3)}


def test_prices_are_passes_of_whole_runs_and_measured_steps_where_known() -> None:
    """Improved SGT: 7 passes a step of Plain's 3; trained for 6 epochs, where the reference has 3."""
    long = config(STAR[0]) | {"name": "long"}
    record = run_record(replace(CELL, method="plain"), 0)
    records = [record]
    for name in ("long", "smoot"):
        chosen = long if name == "long" else run_record(replace(CELL, method="smoot"), 0).config["method"]
        cell = replace(CELL, method=name)
        records.append(replace(record, cell=cell, config={**record.config, "method": chosen}))
    frames = [history(one.cell, 0, epochs=6 if one.cell.method == "long" else 3).assign(**one.keys) for one in records]
    histories = pd.concat(frames, ignore_index=True)
    found = prices.run_prices(records, histories, step_costs(), "plain", SETTING).set_index("method")
    assert found.loc["plain", "passes"] == 1 and found.loc["plain", "relative"] == 1
    assert found.loc["long", "passes"] == pytest.approx(2 * 7 / 3) and math.isnan(found.loc["long", "relative"])
    share = histories[histories["method"] == "smoot"]["image_fraction"].mean()
    assert found.loc["smoot", "passes"] == pytest.approx((4 + 3 * share) / 3)
    assert 1 < found.loc["smoot", "relative"] < 2.2


def trained(method: str, **blocks: dict[str, Any]) -> RunRecord:
    """A run of improved SGT under a name of its own, with other training or data."""
    record = run_record(replace(CELL, method="sgt_improved"), 0)
    values = {name: dict(record.config[name]) | block for name, block in blocks.items()}
    whole = {**record.config, **values, "method": config(STAR[0]) | {"name": method} | blocks}
    return replace(record, cell=replace(CELL, method=method), config=whole)


def test_the_price_of_a_run_counts_its_images_whatever_its_batches_are() -> None:
    """Epochs of 2,000 images are 31 batches of 64, or 7 of 256; of 500 images 7 batches of 64; of all 59,000 921."""
    records = [run_record(replace(CELL, method="plain"), 0), trained("usual")]
    records += [trained("large", training={"batch_size": 256}), trained("few", dataset={"train_images": 500})]
    records += [trained("one", dataset={"train_images": 50}), trained("all", dataset={"train_images": None})]
    histories = pd.concat(
        [history(replace(CELL, method="sgt"), 0, 3).assign(**one.keys) for one in records], ignore_index=True
    )
    histories.loc[histories["method"] == "plain", "image_fraction"] = 0.0
    found = prices.run_prices(records, histories, step_costs(), "plain", SETTING).set_index("method")["passes"]
    images = {"usual": 31 * 64, "large": 7 * 256, "few": 7 * 64, "one": 50, "all": 921 * 64}
    assert found.drop("plain").to_dict() == pytest.approx({name: 7 / 3 * n / (31 * 64) for name, n in images.items()})


def test_steps_of_another_size_are_not_those_that_were_measured() -> None:
    large = trained("sgt", training={"batch_size": 256})
    records = [run_record(replace(CELL, method="plain"), 0), large]
    histories = pd.concat([history(one.cell, 0, 3).assign(**one.keys) for one in records], ignore_index=True)
    found = prices.run_prices(records, histories, step_costs(), "plain", SETTING).set_index("method")["relative"]
    assert found["plain"] == 1 and math.isnan(found["sgt"])
    usual = prices.run_prices([records[0], trained("sgt")], histories, step_costs(), "plain", SETTING)
    assert usual.set_index("method")["relative"]["sgt"] == pytest.approx(2.8)
