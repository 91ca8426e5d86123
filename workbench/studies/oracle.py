"""Constant plans in hindsight: the best cell of a grid, and what others reach of its gain.

The *grid* of a study are its constant methods that differ in the shares of images and of pixels that they mask and
in nothing else. The *oracle* of a metric is the cell with the best mean over seeds. Chosen on the seeds that score
it, it flatters: the *held-out* oracle is chosen on all seeds but one and scored on that one, seed by seed. Metrics
are those where higher is better.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, TypeAlias

import pandas as pd

from workbench.reporting.captions import Setting
from workbench.reporting.metrics import Metrics, judged_fill, quality
from workbench.results.records import RunRecord, metrics_frame
from workbench.results.statistics import PairedComparison, compare

Config: TypeAlias = Mapping[str, Any]  # of a method, as in a run record
AXES = ["image_fraction", "mask_fraction"]


@dataclass(frozen=True)
class Oracle:
    """The best cell of a grid in one metric.

    Attributes:
        method: the cell with the best mean over all seeds.
        held_out: for each seed the cell with the best mean over the other seeds; empty with one seed.
    """

    method: str
    held_out: Mapping[int, str]


def headline(records: Sequence[RunRecord], setting: Setting) -> Metrics:
    """Accuracy and the judge's gap on rightly answered images.

    Raises:
        ValueError: if a record lacks one of them.
    """
    fill = judged_fill(records[0].config["evaluation"]["fills"])
    return shown(("accuracy", f"judge_gap_right_{fill}"), records, setting)


def shown(metrics: Sequence[str], records: Sequence[RunRecord], setting: Setting) -> Metrics:
    """How the metrics that an exhibit needs are shown, in order.

    Raises:
        ValueError: if a record lacks one of them.
    """
    check_measured(metrics_frame(records), metrics)
    known = known_measures(records, setting)
    return {metric: known[metric] for metric in metrics}


def known_measures(records: Sequence[RunRecord], setting: Setting) -> Metrics:
    """How the metrics of these records are shown."""
    return quality(records[0].config["evaluation"]["fills"], [setting.region])


def check_measured(frame: pd.DataFrame, metrics: Iterable[str]) -> None:
    """Every run has a number for each metric: an exhibit must not go without it silently.

    Raises:
        ValueError: names metric, method and seed.
    """
    for metric in metrics:
        lacking = frame[frame[metric].isna()] if metric in frame else frame
        for row in lacking[:1].to_dict("records"):
            run = f"method {row['method']!r}, seed {row['seed']}"
            raise ValueError(f"{metric!r} of {run}, is missing or undefined: expected a number for every run")


def method_configs(records: Sequence[RunRecord]) -> dict[str, Config]:
    """Each method's configuration, in the records' order."""
    return {record.cell.method: record.config["method"] for record in records}


def scheduled_methods(configs: Mapping[str, Config]) -> list[str]:
    """The methods whose masking changes during training, without those that train otherwise or on other data."""
    return [name for name, config in configs.items() if config["schedule"] != "constant" and not _overrides(config)]


def read_grid(configs: Mapping[str, Config]) -> pd.DataFrame:
    """The grid of a study: ``method`` and the two `AXES`, by rising shares.

    Raises:
        ValueError: if there are fewer than two cells, or not exactly one for each pair of shares.
    """
    magnitude = {name: config for name, config in configs.items() if config["guidance"]["reduction"] == "mean_abs"}
    asked = {name: config for name, config in magnitude.items() if is_constant(config)}
    cells = family(asked, [f"plan.{axis}" for axis in AXES]).set_axis(["method", *AXES], axis="columns")
    if len(cells) < 2:
        raise ValueError(f"the methods {list(configs)} hold {len(cells)} constant plans of one kind: expected a grid")
    for images, pixels in product(*(sorted(set(cells[axis])) for axis in AXES)):
        own = cells.loc[(cells[AXES] == [images, pixels]).all(axis=1), "method"].tolist()
        if len(own) != 1:
            raise ValueError(
                f"methods that mask {pixels:g} of the pixels of {images:g} of the images are {own}: expected exactly "
                "one for each pair of shares of the grid"
            )
    return cells.sort_values(AXES, ignore_index=True)


def is_constant(config: Config) -> bool:
    """Whether a method masks fixed shares of images and of their least salient pixels, and changes nothing else."""
    plan = config["plan"]
    constant = config["schedule"] == "constant" and plan["image_fraction"] > 0 and not _overrides(config)
    consistent = config["guidance"].get("consistency", "kl") == "kl"
    return constant and consistent and (plan["pixels"], plan["ranking"]) == ("fraction", "saliency")


def _overrides(config: Config) -> bool:
    return bool(config.get("training") or config.get("dataset"))


def flat_config(config: Config) -> dict[str, Any]:
    """Every key of a method's configuration but its name, as ``block.key``."""
    flat: dict[str, Any] = {}
    for block, content in config.items():
        if isinstance(content, Mapping):
            flat |= {f"{block}.{key}": value for key, value in content.items()}
        elif block != "name":
            flat[block] = content
    return flat


def family(configs: Mapping[str, Config], axes: Sequence[str]) -> pd.DataFrame:
    """The largest group of methods that differ in the axes only: ``method`` and a column for each axis."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, config in configs.items():
        flat = flat_config(config)
        values = {axis: flat.pop(axis) for axis in axes}
        groups.setdefault(json.dumps(flat, sort_keys=True), []).append({"method": name, **values})
    return pd.DataFrame(max(groups.values(), key=len, default=[]), columns=["method", *axes])


def by_seed(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row per seed, one column per method."""
    return frame.pivot(index="seed", columns="method", values=metric)


def cell_means(cells: pd.DataFrame, frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Means over seeds, a row per share of images and a column per share of pixels."""
    means = by_seed(frame, metric)[cells["method"].tolist()].mean()
    return cells.assign(mean=cells["method"].map(means)).pivot(index=AXES[0], columns=AXES[1], values="mean")


def find_oracle(cells: pd.DataFrame, frame: pd.DataFrame, metric: str) -> Oracle:
    """The best cell of a metric, and the best without each seed; of equals the first."""
    wide = by_seed(frame, metric)[cells["method"].tolist()]
    held_out = {int(seed): str(wide.drop(index=seed).mean().idxmax()) for seed in wide.index} if len(wide) > 1 else {}
    return Oracle(str(wide.mean().idxmax()), held_out)


def share_of_gain(gain: PairedComparison, found: PairedComparison | None) -> float:
    """What part of the held-out oracle's gain a method has; NaN unless that gain's whole interval is above zero."""
    return gain.difference / found.difference if found is not None and found.low > 0 else math.nan


def standings(
    cells: pd.DataFrame,
    scheduled: Sequence[str],
    frame: pd.DataFrame,
    metrics: Sequence[str],
    reference: str,
    beside: Sequence[str] = (),
) -> pd.DataFrame:
    """The reference, every cell, the oracles and the methods whose masking changes, in every metric.

    Args:
        cells, scheduled: the grid as from :func:`read_grid`, and the methods beside it.
        frame: the metrics for each method and seed.
        metrics: that oracles are sought for; higher is better.
        reference: what gains are taken to.
        beside: metrics that are scored too.

    Returns:
        One row per line and metric: ``kind`` (reference, cell, oracle, held_out, schedule), ``of`` (the metric that
        an oracle is best in), ``method`` (empty for held-out oracles), ``metric``, the fields of
        `statistics.PairedComparison` of the gain, ``share`` of the gain of the metric's held-out oracle.
    """
    seeds = sorted(frame["seed"].unique())
    lines: list[tuple[str, str, Mapping[int, str]]] = [("reference", "", dict.fromkeys(seeds, reference))]
    lines += [("cell", "", dict.fromkeys(seeds, method)) for method in cells["method"]]
    oracles = {metric: find_oracle(cells, frame, metric) for metric in metrics}
    for metric, oracle in oracles.items():
        lines += [("oracle", metric, dict.fromkeys(seeds, oracle.method)), ("held_out", metric, oracle.held_out)]
    lines += [("schedule", "", dict.fromkeys(seeds, method)) for method in scheduled]
    rows = []
    for metric in [*metrics, *beside]:
        wide = by_seed(frame, metric)
        held_out = oracles[metric].held_out if metric in oracles else {}
        found = _gain(wide, held_out, reference) if held_out else None
        for kind, of, chosen in lines:
            if chosen:
                gain = _gain(wide, chosen, reference)
                method = "" if kind == "held_out" else chosen[seeds[0]]
                keys = {"kind": kind, "of": of, "method": method, "metric": metric}
                rows.append(keys | asdict(gain) | {"share": share_of_gain(gain, found)})
    return pd.DataFrame(rows)


def _gain(wide: pd.DataFrame, chosen: Mapping[int, str], reference: str) -> PairedComparison:
    """Of the method that is chosen for each seed over the reference."""
    return compare([wide[chosen[seed]][seed] for seed in wide.index], wide[reference].tolist())


def trajectories(histories: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Means over seeds: ``method``, ``epoch``, ``masked_share``, ``masked_pixels``; no epochs without masks."""
    own = histories[histories["method"].isin(methods)]
    means = own.groupby(["method", "epoch"], as_index=False)[["masked_share", "masked_pixels"]].mean()
    return means.dropna(ignore_index=True)
