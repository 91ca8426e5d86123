import math

import pandas as pd
from synthetic import SETTING

from workbench.reporting import cost, quality
from workbench.results.costs import COSTS


def test_masking_means_over_epochs_then_seeds() -> None:
    rows = []
    for seed, shares in ((0, (0.0, 0.5)), (1, (0.2, 0.7))):
        for epoch, share in enumerate(shares, start=1):
            lost = math.nan if share == 0 else share
            row = {"dataset": "fashion_mnist", "backbone": "resnet10_narrow", "seed": seed, "epoch": epoch}
            names = ("masked_pixels", "information_loss", "flip_share", "cross_entropy_rise")
            rows.append(row | {"method": "smoot", "masked_share": share} | dict.fromkeys(names, lost))
            rows.append(row | {"method": "plain", "masked_share": 0.0} | dict.fromkeys(names, math.nan))
    table = quality.masking_table(pd.DataFrame(rows), ("plain", "smoot"), [SETTING])

    assert table.display["Method"].tolist() == ["SMOOT"]  # plain masks nothing
    shown = table.display.iloc[0]
    assert shown["Images masked (%)"] == "35.0 ± 14.1"  # 25 and 45
    assert shown["Their pixels masked (%)"] == "47.5 ± 3.5"  # 50 (one epoch undefined) and 45
    assert shown["Information lost (nats)"] == "0.475 ± 0.035"
    assert shown["Answers changed (%)"] == "47.5 ± 3.5"
    assert shown["Cross-entropy rise (nats)"] == "0.475 ± 0.035"
    assert "2,000 of 60,000 training images" in table.caption


def test_costs() -> None:
    lines = [
        {"network": "resnet10_narrow", "method": "plain", "image_fraction": 0.0, "ms_per_step": 20.04, "device": "cpu"}
        | {"relative_to_plain": 1.0, "limit": 1.0, "achieved": 1.0, "memory_mb": 30.0, "relative_memory": 1.0}
        | {"batch_size": 64, "precision": "fp32", "compiled": False, "mask_overlap": math.nan, "rounds": 9},
        {"network": "vit", "method": "sgt_reference", "image_fraction": 0.5, "ms_per_step": 1500.0, "device": "cuda"}
        | {"relative_to_plain": 2.5, "limit": 8 / 3, "achieved": 16 / 15, "memory_mb": 33.0, "relative_memory": 1.1}
        | {"batch_size": 512, "precision": "bf16", "compiled": True, "mask_overlap": 0.987, "rounds": 5},
    ]
    table = cost.cost_table(pd.DataFrame(lines))
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
    without = cost.cost_table(pd.DataFrame(lines[:1]))
    assert list(without.display.columns) == list(table.display.columns)[:-1]  # no masks were compared
