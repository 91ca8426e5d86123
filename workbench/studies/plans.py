"""What the methods of a study mask: constant plans, and plans that change during training.

Configurations are those of run records, by method.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from workbench.reporting.cost import Config
from workbench.studies.runs import StudyRuns


def scheduled_methods(configs: Mapping[str, Config]) -> list[str]:
    """The methods whose masking changes during training, without those that train otherwise or on other data."""
    return [name for name, config in configs.items() if config["schedule"] != "constant" and not _overrides(config)]


def is_constant(config: Config) -> bool:
    """Whether a method masks fixed shares of images and of their least salient pixels, and changes nothing else."""
    plan = config["plan"]
    constant = config["schedule"] == "constant" and plan["image_fraction"] > 0 and not _overrides(config)
    consistent = config["guidance"].get("consistency", "kl") == "kl"
    return constant and consistent and plan["ranking"] == "saliency"


def _overrides(config: Config) -> bool:
    return bool(config.get("training") or config.get("dataset"))


def largest_family(configs: Mapping[str, Config], axes: Sequence[str]) -> pd.DataFrame:
    """The largest group of methods that differ in these entries of their plans only: ``method`` and the axes."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, config in configs.items():
        plan = {key: value for key, value in config["plan"].items() if key not in axes}
        rest = {key: value for key, value in config.items() if key != "name"} | {"plan": plan}
        row = {"method": name} | {axis: config["plan"][axis] for axis in axes}
        groups.setdefault(json.dumps(rest, sort_keys=True), []).append(row)
    return pd.DataFrame(max(groups.values(), key=len, default=[]), columns=["method", *axes])


def trajectories(runs: StudyRuns) -> pd.DataFrame:
    """What the shown methods whose masking changes masked, mean over seeds, without epochs that masked nothing.

    Returns:
        One row per method and epoch: ``method``, ``epoch``, ``masked_share`` (of images), ``masked_pixels``.
    """
    methods = [name for name in scheduled_methods(runs.methods) if name in runs.shown]
    own = runs.histories[runs.histories["method"].isin(methods)]
    means = own.groupby(["method", "epoch"], as_index=False)[["masked_share", "masked_pixels"]].mean()
    return means.dropna(ignore_index=True)


def by_seed(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row per seed, one column per method."""
    return frame.pivot(index="seed", columns="method", values=metric)
