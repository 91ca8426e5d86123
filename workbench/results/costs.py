"""What training costs: measured steps, as the benchmarks wrote them, and the cost of runs computed from them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from workbench.config import paths
from workbench.config.paths import required
from workbench.config.schema import check_keys

COSTS = (
    *("network", "method", "image_fraction", "ms_per_step", "relative_to_plain", "limit", "achieved", "memory_mb"),
    *("relative_memory", "device", "batch_size", "precision", "compiled", "mask_overlap", "rounds"),
)
GROWTH = ("axis", "value", "method", "ms", "memory_mb", "exponent", "memory_exponent", "network", "device", "rounds")


def read_costs() -> pd.DataFrame:
    """The measured step costs: the columns `COSTS`, one row per network, method, share of images, device and precision.

    Raises:
        FileNotFoundError: if they were not measured; names the command.
        ValueError: for missing or unknown columns, or a file that is no table.
    """
    return _benchmark("step_cost.csv", COSTS)


def read_growth() -> pd.DataFrame:
    """Time and memory against size: the columns `GROWTH`, one row per axis, value and method.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_costs`.
    """
    return _benchmark("growth.csv", GROWTH)


def _benchmark(name: str, columns: Sequence[str]) -> pd.DataFrame:
    path = required(paths.BENCHMARKS / name, "`make bench`")
    try:
        frame = pd.read_csv(path)
    except ValueError as error:
        raise ValueError(f"{path} is not a table ({' '.join(str(error).split())}): `make bench` makes it") from None
    check_keys(frame.columns, columns, str(path), kind="column")
    return frame


def run_cost(costs: pd.DataFrame, histories: pd.DataFrame, backbone: str, batch_size: int) -> pd.DataFrame:
    """The cost of every epoch of some runs relative to plain training, from measured steps and recorded shares.

    Costs are measured at a few shares of masked images. In between they are interpolated linearly, from plain
    training's cost at share 0 to the method's own at the others.

    Args:
        costs: as from :func:`read_costs`; only those on a CPU, in float32 and not compiled are used.
        histories: one row per epoch of every run of one data set and backbone.
        backbone: the network of these runs.
        batch_size: of these runs.

    Returns:
        ``method``, ``seed``, ``epoch`` of the histories with ``relative`` (measured) and ``limit`` (passes counted);
        no rows for a method or network that was not measured.
    """
    chosen = (costs["network"] == backbone) & (costs["device"] == "cpu") & (costs["batch_size"] == batch_size)
    measured = costs[chosen & (costs["precision"] == "fp32") & ~costs["compiled"]]
    rows = histories[histories["method"].isin(measured["method"])]
    found = rows[["method", "seed", "epoch"]].assign(relative=np.nan, limit=np.nan)
    for method, own in rows.groupby("method"):
        points = measured[(measured["method"] == method) & (measured["image_fraction"] > 0)]
        points = points.sort_values("image_fraction")
        at = [0.0, *points["image_fraction"]]
        shares = own["image_fraction"].to_numpy()
        for column, source in {"relative": "relative_to_plain", "limit": "limit"}.items():
            found.loc[own.index, column] = np.interp(shares, at, [1.0, *points[source]])
    return found
