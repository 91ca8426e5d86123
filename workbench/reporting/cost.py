"""What a training step costs."""

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from workbench.reporting.table import Row, Table, table
from workbench.reporting.words import Titles, display_name, fixed
from workbench.results.costs import COSTS

LINES = {  # of the benchmark alone
    "sgt_reference": "SGT as published",
    "smoot_reuse": "SMOOT, reused forward",
    "smoot_loss": "SMOOT, loss gradient",
    "smoot_budget": "SMOOT, budget",
}
OVERLAP = "Masks, bf16 with fp32 (IoU) ↑"


def cost_table(costs: pd.DataFrame, methods: Titles) -> Table:
    """Time and memory of a training step relative to plain, beside what arithmetic allows.

    Args:
        costs: as from `costs.read_costs`, one line per network, setting, method and share of masked images.
        methods: of the registry.
    """
    rows: list[Row] = [
        ({str(key): value for key, value in line.items()}, _cost(line, methods))
        for line in costs[list(COSTS)].to_dict("records")
    ]
    if costs["mask_overlap"].isna().all():
        rows = [(numbers, {key: text for key, text in texts.items() if key != OVERLAP}) for numbers, texts in rows]
    caption = (
        "One training step: forward, backward and optimiser. Limit: floating-point operations of the ideal step "
        "over Plain's, both counted by torch's FLOP counter on runs of their passes; achieved: that limit over the "
        "measured ratio. Methods take turns; times are medians, ratios medians of each round's own. Memory: peak of a "
        "step with weights and optimiser state, over Plain's. SGT as published is its definition written out without "
        "this package; SMOOT, budget masks all images and counts those within its budget. Source: "
        "`results/benchmarks/step_cost.csv`, written by `make bench`."
    )
    return table("cost", "Cost of a step", caption, rows)


def _cost(line: Mapping[Hashable, Any], methods: Titles) -> dict[str, str]:
    """One line of the cost table as text."""
    return {
        "Network": display_name(line["network"]),
        "Method": LINES.get(line["method"]) or methods[line["method"]],
        "Batch": fixed(line["batch_size"], 0),
        "Device": line["device"].upper(),
        "Precision": f"{line['precision']}{', compiled' if line['compiled'] else ''}",
        "Images masked (%)": fixed(100 * line["image_fraction"], 0),
        "ms a step ↓": fixed(line["ms_per_step"], 1),
        "Relative to Plain ↓": f"{fixed(line['relative_to_plain'])} ×",
        "Limit": f"{fixed(line['limit'])} ×",
        "Achieved (%) ↑": fixed(100 * line["achieved"], 0),
        "Memory ↓": f"{fixed(line['relative_memory'])} ×",
        OVERLAP: fixed(line["mask_overlap"]),
    }
