"""The tables of training itself: what masking did, and what a step costs."""

from collections.abc import Sequence

import pandas as pd

from smoot.workbench.measures import MASKING
from smoot.workbench.tabulation import SPREAD, Row, grid_rows, table
from smoot.workbench.typesetting import Setting, Table, all_facts, display_name, fixed

COSTS = (
    "network",
    "method",
    "image_fraction",
    "ms_per_step",
    "relative_to_plain",
    "unit_limit",
    "device",
    "batch_size",
)


def masking_table(histories: pd.DataFrame, methods: Sequence[str], abouts: Sequence[Setting]) -> Table:
    """What masking did during training: means over epochs, then over seeds.

    Args:
        histories: one row per epoch of every run; NaN where nothing was masked.
        methods: lines within each data set and backbone, in order; those that never mask are left out.
        abouts: the data sets and backbones, in order.
    """
    keys = ["dataset", "backbone", "method", "seed"]
    by_seed = histories.groupby(keys)[list(MASKING)].mean().reset_index()
    masking = [m for m in methods if by_seed[by_seed["method"] == m]["masked_share"].max() > 0]
    caption = (
        f"Means over the epochs of training, on training batches; {SPREAD}. Information lost: "
        f"KL(p(x) ‖ p(masked x)) of the masked images. {all_facts(abouts)}"
    )
    return table("masking", "What masking did", caption, grid_rows(by_seed, masking, abouts, MASKING))


def cost_table(costs: pd.DataFrame) -> Table:
    """Time of a training step relative to plain, beside what arithmetic allows.

    Args:
        costs: the columns `COSTS`, one line per network, method and share of masked images.
    """
    rows: list[Row] = []
    for cost in costs.to_dict("records"):
        texts = {
            "Network": display_name(cost["network"]),
            "Method": display_name(cost["method"]),
            "Images masked (%)": fixed(100 * cost["image_fraction"], 0),
            "ms a step ↓": fixed(cost["ms_per_step"], 1),
            "Relative to Plain ↓": f"{fixed(cost['relative_to_plain'])} ×",
            "Arithmetic limit": f"{fixed(cost['unit_limit'])} ×",
        }
        rows.append(({key: cost[key] for key in COSTS}, texts))
    settings = costs[["device", "batch_size"]].drop_duplicates().to_dict("records")
    machines = " and ".join(f"{setting['device']}, batches of {setting['batch_size']}" for setting in settings)
    caption = (
        f"Wall-clock time of one training step: {machines}. Arithmetic limit: the method's passes counted in "
        "forwards of the batch, relative to Plain's 3. Source: `results/benchmarks/step_cost.csv`, written "
        "by `make bench`."
    )
    return table("cost", "Cost of a step", caption, rows)
