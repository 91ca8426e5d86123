import math

import numpy as np
import pandas as pd
from test_typesetting import ABOUT

from smoot.workbench import training_tables


def test_masking_means_over_epochs_then_seeds() -> None:
    rows = []
    for seed, shares in ((0, (0.0, 0.5)), (1, (0.2, 0.7))):
        for epoch, share in enumerate(shares, start=1):
            lost = math.nan if share == 0 else share
            row = {"dataset": "fashion_mnist", "backbone": "resnet10_narrow", "seed": seed, "epoch": epoch}
            names = ("masked_pixels", "information_loss", "flip_share", "cross_entropy_rise")
            rows.append(row | {"method": "smoot", "masked_share": share} | dict.fromkeys(names, lost))
            rows.append(row | {"method": "plain", "masked_share": 0.0} | dict.fromkeys(names, math.nan))
    table = training_tables.masking_table(pd.DataFrame(rows), ("plain", "smoot"), [ABOUT])

    assert table.display["Method"].tolist() == ["SMOOT"]  # plain masks nothing
    shown = table.display.iloc[0]
    assert shown["Images masked (%)"] == "35.0 ± 14.1"  # 25 and 45
    assert shown["Their pixels masked (%)"] == "47.5 ± 3.5"  # 50 (one epoch undefined) and 45
    assert shown["Information lost (nats)"] == "0.475 ± 0.035"
    assert shown["Answers changed (%)"] == "47.5 ± 3.5"
    assert shown["Cross-entropy rise (nats)"] == "0.475 ± 0.035"
    assert "2,000 of 60,000 training images" in table.caption


def test_costs() -> None:
    costs = pd.DataFrame(
        [
            ["resnet10_narrow", "plain", 0.0, 20.04, 1.0, 1.0, "one core", 64],
            ["two_conv", "sgt", 0.5, 1500.0, 2.5, 8 / 3, "one core", 64],
        ],
        columns=training_tables.COSTS,
    )
    table = training_tables.cost_table(costs)
    assert table.display.to_numpy().tolist() == [
        ["ResNet-10 (narrow)", "Plain", "0", "20.0", "1.00 ×", "1.00 ×"],
        ["Two-conv", "SGT", "50", "1,500.0", "2.50 ×", "2.67 ×"],
    ]
    assert "one core, batches of 64." in table.caption
    assert np.allclose(table.data["unit_limit"], [1, 8 / 3])
