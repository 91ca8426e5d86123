"""What trainings cost over plain training: measured steps where there are some, else passes that are counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from workbench.reporting.captions import Setting
from workbench.reporting.metrics import Metric, Metrics
from workbench.results.costs import run_cost
from workbench.results.records import RunRecord
from workbench.studies.oracle import Config, method_configs, scheduled_methods

PRICES: Metrics = {
    "masked_share": Metric("Images masked", better=""),
    "passes": Metric("Cost of the run (×)", "", 2, "lower"),
    "relative": Metric("A step, measured (×)", "", 2, "lower"),
}
SALIENCY = {"random_mask": 0, "smoot_loss": 0, "sgt": 2, "smoot": 1}  # passes for it, by line of the benchmark


@dataclass(frozen=True)
class Prices:
    """Training cost in units of one plain training.

    Attributes:
        search: of one training of every cell of the grid.
        methods: of one training of each method whose masking changes during training.
        measured: whether steps of the network were timed; else passes are counted.
    """

    search: float
    methods: Mapping[str, float]
    measured: bool


def read_prices(
    records: Sequence[RunRecord], histories: pd.DataFrame, costs: pd.DataFrame, cells: pd.DataFrame
) -> Prices:
    """What one training of every cell, and of every method whose masking changes, costs.

    Args:
        records, histories, cells: of one data set and backbone.
        costs: as from `costs.read_costs`; where they know the network and the batch size, steps count as measured,
            at shares of planned images between the measured ones on straight lines.
    """
    configs = method_configs(records)
    scheduled = scheduled_methods(configs)
    planned = {row["method"]: [row["image_fraction"]] for row in cells.to_dict("records")}
    planned |= {name: histories.loc[histories["method"] == name, "image_fraction"].tolist() for name in scheduled}
    lines = pd.concat(
        [
            pd.DataFrame({"method": _timed_as(configs[name]), "seed": name, "epoch": 0, "image_fraction": shares})
            for name, shares in planned.items()
        ],
        ignore_index=True,
    )
    timed = run_cost(costs, lines, records[0].cell.backbone, records[0].config["training"]["batch_size"])
    if len(timed) == len(lines):
        means = timed.groupby("seed")["relative"].mean()
    else:
        counted = {name: counted_cost(configs[name], shares).mean() for name, shares in planned.items()}
        means = pd.Series(counted, dtype=float)
    search = float(means[cells["method"].tolist()].sum())
    return Prices(search, {name: float(means[name]) for name in scheduled}, len(timed) == len(lines))


def _timed_as(config: Config) -> str:
    """The line of the benchmark that has a method's passes."""
    if config["plan"]["ranking"] == "random" and config["guidance"]["fill"] != "worst_case":
        return "random_mask"
    return {"eval": "sgt", "loss": "smoot_loss"}.get(config["guidance"]["saliency_pass"], "smoot")


def counted_cost(config: Config, shares: Sequence[float]) -> npt.NDArray[np.float64]:
    """Passes of a step over plain training's 3 (a forward is 1, the backward 2, to the inputs only 1).

    A saliency that the loss's own backward gives counts nothing: that backward goes one layer further.

    Args:
        config: of the method; a worst-case fill needs a saliency whatever the ranking.
        shares: of the images that get a masked pass; a step without any is plain.
    """
    at = np.asarray(shares, dtype=np.float64)
    return np.where(at > 0, (3 + SALIENCY[_timed_as(config)] + 3 * at) / 3, 1.0)


def run_prices(
    records: Sequence[RunRecord], histories: pd.DataFrame, costs: pd.DataFrame, reference: str, setting: Setting
) -> pd.DataFrame:
    """What each run paid: ``method``, ``seed`` and the columns `PRICES`.

    Args:
        records, histories, setting: of one data set and backbone.
        costs: as from `costs.read_costs`.
        reference: whose epochs, in number and size, count as 1.

    Returns:
        One row per run: its mean share of masked images; the passes of its whole training, counted image by image,
        over those of plain training for the reference's epochs; the measured cost of its steps over plain steps
        where it is known for the reference's batch size.
    """
    first = {record.cell.method: record for record in reversed(records)}
    size = first[reference].config["training"]["batch_size"]
    alike = [name for name, record in first.items() if record.config["training"]["batch_size"] == size]
    relative = run_cost(costs, histories[histories["method"].isin(alike)], setting.backbone, size)
    epochs = int(histories.loc[histories["method"] == reference, "epoch"].max())
    plain = epochs * _epoch_images(first[reference], setting)
    rows = []
    for (method, seed), own in histories.groupby(["method", "seed"]):
        record = first[str(method)]
        passes = counted_cost(record.config["method"], own["image_fraction"].tolist()).sum()
        rows.append((method, seed, own["masked_share"].mean(), passes * _epoch_images(record, setting) / plain))
    found = pd.DataFrame(rows, columns=["method", "seed", "masked_share", "passes"])
    return found.join(relative.groupby(["method", "seed"])["relative"].mean(), on=["method", "seed"])


def _epoch_images(record: RunRecord, setting: Setting) -> int:
    """Images that the steps of one epoch see: a last batch that is not full is left out, unless it is the only one."""
    drawn, size = record.config["dataset"]["train_images"], record.config["training"]["batch_size"]
    images = setting.train_total - setting.validation_images if drawn is None else drawn
    return images // size * size or images
