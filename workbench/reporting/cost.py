"""What training costs: a measured step, passes counted over a run, and growth with the size of the work."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, NullLocator, StrMethodFormatter

from workbench.reporting.captions import Setting
from workbench.reporting.charts import band
from workbench.reporting.metrics import Metric, Metrics
from workbench.reporting.style import INK, Looks, finish, legend, panels, styled, tiles
from workbench.reporting.table import Table
from workbench.reporting.words import Titles, display_name, fixed
from workbench.results.costs import COSTS
from workbench.results.records import RunRecord

Config: TypeAlias = Mapping[str, Any]  # of a method, as in a run record
REFERENCE = {"sgt_reference": "SGT as published"}  # of the benchmark alone
OVERLAP = "Masks, bf16 with fp32 (IoU) ↑"
SALIENCY = {"reuse": 1, "eval": 2}  # saliency pass: passes that it takes beyond those of the two losses
RUN: Metrics = {
    "masked_share": Metric("Images masked", better=""),
    "passes": Metric("Cost of the run (×)", "", 2, "lower"),
}
AXES = {  # axis of growth: title, x axis
    "batch_size": ("Batch size", "Images per batch"),
    "pixels": ("Image size", "Pixels per image"),
    "num_classes": ("Classes", "Classes"),
    "num_images": ("Training images", "Images per epoch"),
}
QUANTITIES = {"ms": ("Time (s)", 1e-3), "memory_mb": ("Peak memory (MiB)", 1.0)}


def cost_table(costs: pd.DataFrame, methods: Titles) -> Table:
    """Time and memory of a training step relative to plain, beside what arithmetic allows, from `costs.read_costs`."""
    data = costs[list(COSTS)]
    display = pd.DataFrame([_cost(line, {**REFERENCE, **methods}) for line in data.to_dict("records")])
    if data["mask_overlap"].isna().all():
        display = display.drop(columns=OVERLAP)
    caption = (
        "One training step: forward, backward and optimiser; in brackets the share of images masked. Source: "
        "`results/benchmarks/step_cost.csv`, written by `make bench`."
    )
    note = (
        "Limit: floating-point operations of the ideal step over Plain's, both counted by torch's FLOP counter on runs "
        "of their passes; achieved: that limit over the measured ratio. Methods take turns; times are medians, ratios "
        "medians of each round's own. Memory: peak of a step with weights and optimiser state, over Plain's. SGT as "
        "published is its definition written out without this package."
    )
    return Table("cost", "Cost of a step", caption, data, display, note)


def _cost(line: Mapping[Hashable, Any], methods: Titles) -> dict[str, str]:
    return {
        "Network": (
            f"{display_name(line['network'])}, batch of {fixed(line['batch_size'], 0)}, {line['device'].upper()}, "
            f"{line['precision']}{', compiled' if line['compiled'] else ''}"
        ),
        "Method": f"{methods[line['method']]} ({fixed(100 * line['image_fraction'], 0)} %)",
        "ms a step ↓": fixed(line["ms_per_step"], 1),
        "Relative to Plain ↓": f"{fixed(line['relative_to_plain'])} ×",
        "Limit": f"{fixed(line['limit'])} ×",
        "Achieved (%) ↑": fixed(100 * line["achieved"], 0),
        "Memory ↓": f"{fixed(line['relative_memory'])} ×",
        OVERLAP: fixed(line["mask_overlap"]),
    }


def counted_cost(config: Config, shares: Sequence[float]) -> npt.NDArray[np.float64]:
    """Passes of a step over plain training's 3 (a forward is 1, a backward 2, a backward to the inputs alone 1).

    At most: where images are answered independently, the loss's own backward may save the saliency's.

    Args:
        config: of the method.
        shares: of the images that get a masked pass; a step without any is plain.
    """
    at = np.asarray(shares, dtype=np.float64)
    saliency = 0 if config["plan"]["ranking"] == "random" else SALIENCY[config["guidance"]["saliency_pass"]]
    return np.where(at > 0, (3 + saliency + 3 * at) / 3, 1.0)


def run_costs(records: Sequence[RunRecord], histories: pd.DataFrame, reference: str, setting: Setting) -> pd.DataFrame:
    """What each run paid: ``method``, ``seed`` and the columns `RUN`.

    Returns:
        One row per run of this data set and backbone: its mean share of masked images, and the passes of its whole
        training, counted image by image, over those of plain training for the reference's epochs.
    """
    first = {record.method: record for record in reversed(records)}
    epochs = int(histories.loc[histories["method"] == reference, "epoch"].max())
    plain = epochs * _epoch_images(first[reference], setting)
    rows = []
    for (method, seed), own in histories.groupby(["method", "seed"]):
        record = first[str(method)]
        passes = counted_cost(record.config["method"], own["image_fraction"].tolist()).sum()
        rows.append((method, seed, own["masked_share"].mean(), passes * _epoch_images(record, setting) / plain))
    return pd.DataFrame(rows, columns=["method", "seed", *RUN])


def _epoch_images(record: RunRecord, setting: Setting) -> int:
    """Images that the steps of one epoch see: a last batch that is not full is left out, unless it is the only one."""
    drawn, size = record.config["dataset"]["train_images"], record.config["training"]["batch_size"]
    images = setting.train_total - setting.validation_images if drawn is None else drawn
    return images // size * size or images


@styled
def run_cost(costs: Mapping[str, pd.DataFrame], looks: Looks) -> Figure:
    """Cost of each epoch over plain training's, one panel per title; dotted what arithmetic allows.

    Args:
        costs: for each panel's title ``method``, ``seed``, ``epoch``, ``relative``, ``limit``.
        looks: those of methods without rows are left out.
    """
    figure, placed = tiles(len(costs), 2, 1.9, 0.6, sharex=True, sharey=True)
    measured = {method for frame in costs.values() for method in frame["method"]}
    shown = {method: look for method, look in looks.items() if method in measured}
    for (axes, left, lowest), (title, frame) in zip(placed, costs.items(), strict=True):
        for place, (method, look) in enumerate(shown.items()):
            own = frame[frame["method"] == method]
            by_seed = own.pivot(index="seed", columns="epoch", values="relative")
            band(axes, by_seed, look, marked=(place, len(shown)))
            limit = own.groupby("epoch")["limit"].mean()
            axes.plot(limit.index, limit, ":", color=look.colour, linewidth=1.1)
        finish(axes, title, "Epoch" if lowest else "", "Time over Plain's (×)" if left else "")
        axes.tick_params(labelbottom=lowest)
    axes.set_ylim(bottom=0)  # shared by all panels
    dotted = Line2D([], [], color=INK, linestyle=":", label="arithmetic limit")
    legend(figure, [*(look.handle() for look in shown.values()), dotted])
    return figure


@styled
def growth(frame: pd.DataFrame, looks: Looks) -> Figure:
    """Time (top) and peak memory (bottom) against size, one column per axis, all logarithmic.

    The dotted line has slope 1 and ends in the largest size's highest value. The frame is that of `costs.read_growth`.
    """
    shown = {axis: text for axis, text in AXES.items() if (frame["axis"] == axis).any()}
    methods = list(dict.fromkeys(frame["method"]))
    figure, grid = panels(2, len(shown), 4.6)
    for row, (column, (ylabel, factor)) in zip(grid, QUANTITIES.items(), strict=True):
        values = factor * frame[column]
        for axes, (axis, (title, xlabel)) in zip(row, shown.items(), strict=True):
            wide = factor * frame[frame["axis"] == axis].pivot(index="value", columns="method", values=column)
            _grown(axes, wide[methods], looks)
            top, left = row is grid[0], axes is row[0]
            finish(axes, title if top else "", "" if top else xlabel, ylabel if left else "")
            _logarithmic(axes, wide.index.tolist(), (values.min() / 1.6, values.max() * 1.6))
            axes.tick_params(labelleft=left)
    figure.align_xlabels()
    dotted = Line2D([], [], color=INK, linestyle=":", label="linear growth")
    legend(figure, [*(looks[method].handle() for method in methods), dotted])
    return figure


def _grown(axes: Axes, wide: pd.DataFrame, looks: Looks) -> None:
    """A line per column, the first one broad so that equal ones both show, and linear growth."""
    for place, method in enumerate(wide.columns):
        look = looks[method]
        (line,) = axes.plot(wide.index, wide[method], color=look.colour)
        line.set(marker=look.marker, markeredgewidth=0, linewidth=1.2 if place else 3.2)
    sizes = wide.index.to_numpy(dtype=float)
    axes.plot(sizes, float(wide.iloc[-1].max()) * sizes / sizes[-1], ":", color=INK, linewidth=1.1)


def _logarithmic(axes: Axes, sizes: Sequence[float], limits: tuple[float, float]) -> None:
    """Logarithmic axes with plain numbers; linear growth may leave them."""
    axes.set(xscale="log", yscale="log", ylim=limits)
    axes.set_xticks(list(sizes), [f"{size:,.0f}" for size in sizes], rotation=60, fontsize=7)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
