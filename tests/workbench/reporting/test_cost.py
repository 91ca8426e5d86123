import math

import pandas as pd
from synthetic import TITLES

from workbench.reporting import cost
from workbench.results.costs import COSTS


def test_costs() -> None:
    lines = [
        {"network": "resnet10_narrow", "method": "plain", "image_fraction": 0.0, "ms_per_step": 20.04, "device": "cpu"}
        | {"relative_to_plain": 1.0, "limit": 1.0, "achieved": 1.0, "memory_mb": 30.0, "relative_memory": 1.0}
        | {"batch_size": 64, "precision": "fp32", "compiled": False, "mask_overlap": math.nan, "rounds": 9},
        {"network": "vit", "method": "sgt_reference", "image_fraction": 0.5, "ms_per_step": 1500.0, "device": "cuda"}
        | {"relative_to_plain": 2.5, "limit": 8 / 3, "achieved": 16 / 15, "memory_mb": 33.0, "relative_memory": 1.1}
        | {"batch_size": 512, "precision": "bf16", "compiled": True, "mask_overlap": 0.987, "rounds": 5},
    ]
    table = cost.cost_table(pd.DataFrame(lines), TITLES)
    assert table.display.to_numpy().tolist() == [
        ["ResNet-10 (narrow)", "Plain", "64", "CPU", "fp32", "0", "20.0", "1.00 ×", "1.00 ×", "100", "1.00 ×", "–"],
        [
            *("ViT (6 blocks)", "SGT as published", "512", "CUDA", "bf16, compiled", "50"),
            *("1,500.0", "2.50 ×", "2.67 ×", "107", "1.10 ×", "0.99"),
        ],
    ]
    assert tuple(table.data.columns) == COSTS
    assert table.data["limit"].tolist() == [1, 8 / 3]
    assert "results/benchmarks/step_cost.csv" in table.caption
    without = cost.cost_table(pd.DataFrame(lines[:1]), TITLES)
    assert list(without.display.columns) == list(table.display.columns)[:-1]  # no masks were compared
