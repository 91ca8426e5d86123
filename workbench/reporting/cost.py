"""What a training step costs."""

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from workbench.reporting.table import Row, Table, table
from workbench.reporting.words import cost_name, fixed
from workbench.results.costs import COSTS

OVERLAP = "Masks, bf16 with fp32 (IoU) ↑"


def cost_table(costs: pd.DataFrame) -> Table:
    """Time and memory of a training step relative to plain, beside what arithmetic allows.

    Args:
        costs: as from `costs.read_costs`, one line per network, setting, method and share of masked images.
    """
    rows: list[Row] = [({str(key): value for key, value in line.items()}, _cost(line)) for line in _lines(costs)]
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


def _lines(costs: pd.DataFrame) -> list[dict[Hashable, Any]]:
    return costs[list(COSTS)].to_dict("records")


def _cost(line: Mapping[Hashable, Any]) -> dict[str, str]:
    """One line of the cost table as text."""
    return {
        "Network": cost_name(line["network"]),
        "Method": cost_name(line["method"]),
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
