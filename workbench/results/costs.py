"""What a training step was measured to cost: the benchmarks' files, and a run's cost computed from them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from workbench.config import files, paths

COSTS = (
    "network",
    "method",
    "image_fraction",
    "ms_per_step",
    "relative_to_plain",
    "limit",
    "achieved",
    "memory_mb",
    "relative_memory",
    "device",
    "batch_size",
    "precision",
    "compiled",
    "mask_overlap",
    "rounds",
)
GROWTH = ("axis", "value", "method", "ms", "memory_mb", "exponent", "memory_exponent", "network", "device", "rounds")
KEYS = ["network", "device", "batch_size", "precision", "compiled"]


def read_costs() -> pd.DataFrame:
    """The measured step costs: the columns `COSTS`, a line per network, method, share of images and setting.

    Raises:
        FileNotFoundError: if they were not measured; names the command.
        ValueError: for missing or unknown columns.
    """
    return read_benchmark("step_cost", COSTS)


def read_growth() -> pd.DataFrame:
    """Time and memory against size: the columns `GROWTH`, a line per axis, value and method.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_costs`.
    """
    return read_benchmark("growth", GROWTH)


def read_benchmark(name: str, columns: Sequence[str]) -> pd.DataFrame:
    """A table that a benchmark wrote.

    Args:
        name: stem of the file in results/benchmarks.
        columns: those that it must have, no more and no fewer.

    Raises:
        FileNotFoundError: if it is missing; names the command that makes it.
        ValueError: if it has other columns.
    """
    path = paths.BENCHMARKS / f"{name}.csv"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: `make bench` makes it")
    frame = pd.read_csv(path)
    files.check_keys(dict.fromkeys(frame.columns), set(columns), path, "column ")
    return frame


def run_cost(costs: pd.DataFrame, histories: pd.DataFrame, backbone: str, batch_size: int) -> pd.DataFrame:
    """What every epoch of some runs cost relative to plain training, from measured steps and recorded shares.

    A step's cost at the recorded share of planned images lies on straight lines between those measured: plain
    training's at 0, then the method's own.

    Args:
        costs: as from :func:`read_costs`; those on a CPU in float32 count.
        histories: one row per epoch of every run of one data set and backbone.
        backbone: the network of these runs.
        batch_size: of these runs.

    Returns:
        The histories' ``method``, ``seed``, ``epoch`` with ``relative`` and ``limit``; without the methods that were
        not measured, and without rows if the network was not.
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
