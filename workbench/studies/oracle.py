"""How many images and pixels should be masked? Constant plans in hindsight, and what schedules reach without a search.

The *grid* of a study are its constant plans that differ in the shares of images and of pixels that they mask and in
nothing else. The *oracle* of a metric is the plan with the best mean over seeds. Chosen on the seeds that score it,
it flatters: the *held-out* oracle is chosen on all seeds but one and scored on that one, seed by seed. Higher is
better in every metric here; frames hold one row of metrics per method and seed.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise, product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from workbench.reporting.charts import Chart
from workbench.reporting.cost import Config, counted_cost
from workbench.reporting.metrics import Metric, Metrics
from workbench.reporting.style import INK, Look, Looks, finish, legend, panels, styled
from workbench.reporting.table import SPREAD, Table, scaled
from workbench.reporting.words import NOTHING, Titles, fixed, interval, plus_minus
from workbench.results.statistics import PairedComparison, compare
from workbench.studies.plans import by_seed, is_constant, largest_family, scheduled_methods, trajectories
from workbench.studies.runs import StudyRuns

AXES = ["image_fraction", "mask_fraction"]
HALO = patheffects.withStroke(linewidth=2.5, foreground="white")


def read_grid(configs: Mapping[str, Config]) -> pd.DataFrame:
    """The grid of a study: ``method`` and the two `AXES`, by rising shares.

    Raises:
        ValueError: if there are fewer than two plans, or not exactly one for each pair of shares.
    """
    magnitude = {name: config for name, config in configs.items() if config["guidance"]["reduction"] == "mean_abs"}
    plans = largest_family({name: config for name, config in magnitude.items() if is_constant(config)}, AXES)
    if len(plans) < 2:
        raise ValueError(f"the methods {list(configs)} hold {len(plans)} constant plans of one kind: expected a grid")
    for images, pixels in product(*(sorted(set(plans[axis])) for axis in AXES)):
        own = plans.loc[(plans[AXES] == [images, pixels]).all(axis=1), "method"].tolist()
        if len(own) != 1:
            raise ValueError(
                f"methods that mask {pixels:g} of the pixels of {images:g} of the images are {own}: expected exactly "
                "one for each pair of shares of the grid"
            )
    return plans.sort_values(AXES, ignore_index=True)


def best_plan(wide: pd.DataFrame) -> str:
    """The column, a plan, with the highest mean over the rows, seeds; of equals the first."""
    return str(wide.mean().idxmax())


def held_out_plans(wide: pd.DataFrame) -> dict[int, str]:
    """For each seed the best plan of the other seeds; empty with one seed."""
    return {int(seed): best_plan(wide.drop(index=seed)) for seed in wide.index} if len(wide) > 1 else {}


def standings(
    plans: pd.DataFrame,
    scheduled: Sequence[str],
    frame: pd.DataFrame,
    metrics: Sequence[str],
    reference: str,
    beside: Sequence[str] = (),
) -> pd.DataFrame:
    """The reference, every plan, the oracles and the methods whose masking changes, in every metric.

    Args:
        plans: the grid as from :func:`read_grid`.
        scheduled: the methods beside it.
        frame: the metrics for each method and seed.
        metrics: that oracles are sought for.
        reference: what gains are taken to.
        beside: metrics that are scored too.

    Returns:
        One row per line and metric: ``kind`` (reference, cell, oracle, held_out, schedule), ``of`` (the metric that
        an oracle is best in), ``method`` (empty for held-out oracles), ``metric``, the fields of
        `statistics.PairedComparison` of the gain, ``share`` of the gain of the metric's held-out oracle (NaN unless
        that gain's whole interval is above zero).
    """
    seeds = sorted(frame["seed"].unique())
    grid = {metric: by_seed(frame, metric)[plans["method"].tolist()] for metric in metrics}
    held_out = {metric: held_out_plans(wide) for metric, wide in grid.items()}
    lines: list[tuple[str, str, Mapping[int, str]]] = [("reference", "", dict.fromkeys(seeds, reference))]
    lines += [("cell", "", dict.fromkeys(seeds, method)) for method in plans["method"]]
    for metric, wide in grid.items():
        lines += [("oracle", metric, dict.fromkeys(seeds, best_plan(wide))), ("held_out", metric, held_out[metric])]
    lines += [("schedule", "", dict.fromkeys(seeds, method)) for method in scheduled]
    rows = []
    for metric in [*metrics, *beside]:
        wide = by_seed(frame, metric)
        found = _gain(wide, held_out[metric], reference) if held_out.get(metric) else None
        whole = found.difference if found is not None and found.low > 0 else math.nan
        for kind, of, chosen in lines:
            if chosen:
                gain = _gain(wide, chosen, reference)
                method = "" if kind == "held_out" else chosen[seeds[0]]
                keys = {"kind": kind, "of": of, "method": method, "metric": metric}
                rows.append(keys | asdict(gain) | {"share": gain.difference / whole})
    return pd.DataFrame(rows)


def _gain(wide: pd.DataFrame, chosen: Mapping[int, str], reference: str) -> PairedComparison:
    """Of the method that is chosen for each seed over the reference."""
    return compare([wide[chosen[seed]][seed] for seed in wide.index], wide[reference].tolist())


def training_costs(configs: Mapping[str, Config], histories: pd.DataFrame, plans: pd.DataFrame) -> dict[str, float]:
    """What one training with every plan, and with every method whose masking changes, costs in plain trainings."""
    shares = {str(row["method"]): [row["image_fraction"]] for row in plans.to_dict("records")}
    for name in scheduled_methods(configs):
        shares[name] = histories.loc[histories["method"] == name, "image_fraction"].tolist()
    return {name: float(counted_cost(configs[name], own).mean()) for name, own in shares.items()}


def table(runs: StudyRuns, titles: Titles) -> Table:
    """The reference, the best constant plans in hindsight, and what schedules reach of them.

    The numbers hold the grid's plans too. No oracle is sought for the second judge's gap.

    Raises:
        ValueError: if a run lacks a metric, or the methods hold no grid.
    """
    metrics, plans, setting = runs.headline(), read_grid(runs.methods), runs.setting
    beside = runs.metrics(f"second_{list(metrics)[-1]}")
    scheduled = scheduled_methods(runs.methods)
    lines = standings(plans, scheduled, runs.frame, list(metrics), runs.study.reference, list(beside))
    costs, seeds = training_costs(runs.methods, runs.histories, plans), len(runs.frame["seed"].unique())
    search = sum(costs[method] for method in plans["method"])
    prices = {"reference": 1.0, "oracle": seeds * search, "held_out": (seeds - 1) * search, "cell": math.nan}
    kinds = zip(lines["kind"], lines["method"], strict=True)
    data = scaled(lines, {**metrics, **beside}).merge(plans, on="method", how="left")
    data = data.assign(cost=[prices[kind] if kind in prices else costs[method] for kind, method in kinds])
    images, pixels = (_percents(sorted(set(plans[axis]))) for axis in AXES)
    caption = (
        f"The grid: {len(plans)} constant plans that mask {images} of the images and {pixels} of their pixels. Best: "
        "the plan with the best mean over seeds, chosen in hindsight; held out: chosen on all seeds but one and scored "
        f"on that one, which is what a search finds. {SPREAD}; gain: minus {titles[runs.study.reference]}, paired "
        "by seed, with 95 % confidence interval, not adjusted: those of best plans ignore that they were chosen, and "
        "held-out scores of several seeds are not independent. Of the held-out gain: as a share of what the best plan "
        f"for this metric gains held out, {NOTHING} where the interval of that gain is not above zero. Cost: of one "
        f"training; of a best plan one training of each of the {len(plans)} plans with every seed that chose it (all "
        f"{seeds}, held out {seeds - 1}); in passes, counted in forwards: a plain step takes 3; one that masks the "
        "share r of its images 3 + 3r, plus 1 for saliency from the same forward or 2 from a forward of its own. "
        f"{runs.ending(metrics)} {setting.origin}"
    )
    title = f"The best constant plan and the schedules, {setting.name}"
    return Table(f"oracle_{setting.place}", title, caption, data, _display(data, metrics, beside, titles))


def _display(data: pd.DataFrame, metrics: Metrics, beside: Metrics, titles: Titles) -> pd.DataFrame:
    """The lines as text, without the grid's plans."""
    texts = []
    for (kind, of, method), own in data[data["kind"] != "cell"].groupby(["kind", "of", "method"], sort=False):
        first, name = own.iloc[0], titles.get(str(method), "")
        if of:
            plan = f"{100 * first[AXES[0]]:g} % of images, {100 * first[AXES[1]]:g} % of pixels"
            label = metrics[str(of)].label
            name = f"Best plan for {label[0].lower()}{label[1:]} ({'held out' if kind == 'held_out' else plan})"
        text = {"Method": name}
        for row in own.to_dict("records"):
            sought = row["metric"] in metrics
            text |= _standing(row, (metrics if sought else beside)[row["metric"]], sought=sought)
        texts.append(text | {"Cost (plain trainings) ↓": fixed(first["cost"], 1)})
    return pd.DataFrame(texts)


def _standing(row: Mapping[Hashable, Any], metric: Metric, *, sought: bool) -> dict[str, str]:
    """Value, gain and, if an oracle was sought for it, share of the held-out gain in one metric."""
    reference = row["kind"] == "reference"
    gain = interval(row["difference"], row["low"], row["high"], metric.digits)
    share = {f"{metric.label}: of the held-out gain (%)": NOTHING if reference else fixed(100 * row["share"], 0)}
    return {
        metric.header: plus_minus(row["mean"], row["sd"], metric.digits),
        f"{metric.label}: gain": NOTHING if reference else gain,
    } | (share if sought else {})


def _percents(levels: Sequence[float]) -> str:
    """``20, 50 or 100 %``."""
    *others, last = [f"{100 * level:g}" for level in levels]
    return f"{', '.join(others)}{' or ' if others else ''}{last} %"


def chart(runs: StudyRuns, looks: Looks) -> Chart:
    """The grid as a map, with what the scheduled methods masked.

    Raises:
        ValueError: if a run lacks a metric of the headline, or the methods hold no grid.
    """
    metrics, plans, setting = runs.headline(), read_grid(runs.methods), runs.setting
    caption = (
        f"Constant plans, {setting.name}: means over seeds where this share of the images and of their pixels is "
        "masked, the best one framed. Lines: what the methods whose masking changes masked, epoch by epoch "
        f"from the small dot to the large mark, mean over seeds. {runs.ending(metrics)}"
    )
    figure = grid_map(plans, runs.frame, trajectories(runs), metrics, runs.study.reference, looks)
    return Chart(f"oracle_{setting.place}", caption, figure)


@styled
def grid_map(
    plans: pd.DataFrame, frame: pd.DataFrame, paths: pd.DataFrame, metrics: Metrics, reference: str, looks: Looks
) -> Figure:
    """A heat map of the grid for each metric, with what the scheduled methods masked drawn on it.

    Args:
        plans: as from :func:`read_grid`.
        frame: the metrics for each method and seed.
        paths: as from `plans.trajectories`.
        metrics: panels, in order.
        reference: whose mean stands in the titles.
        looks: of all methods.
    """
    methods = [str(method) for method in dict.fromkeys(paths["method"])]
    figure, grid = panels(1, len(metrics), 3.4, sharey=True)
    for axes, (name, metric) in zip(grid[0], metrics.items(), strict=True):
        means = metric.factor * plan_means(plans, frame, name)
        _heat(axes, means, metric.digits)
        for method in methods:
            _path(axes, paths[paths["method"] == method], looks[method])
        mean = metric.factor * by_seed(frame, name)[reference].mean()
        title = f"{metric.header}\n{looks[reference].title}: {fixed(mean, metric.digits)}"
        finish(axes, title, "Masked pixels (%)", "Masked images (%)" if axes is grid[0][0] else "")
        axes.grid(visible=False)
    if methods:
        legend(figure, [looks[method].handle() for method in methods])
    return figure


def plan_means(plans: pd.DataFrame, frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Means over seeds, one row per share of images and one column per share of pixels."""
    means = by_seed(frame, metric)[plans["method"].tolist()].mean()
    return plans.assign(mean=plans["method"].map(means)).pivot(index=AXES[0], columns=AXES[1], values="mean")


def _heat(axes: Axes, means: pd.DataFrame, digits: int) -> None:
    """Plans at their shares, each with its number; the best one framed. Light, so that lines on it show."""
    images, pixels = (list(map(float, axis)) for axis in (means.index, means.columns))
    values = means.to_numpy()
    x, y, best = _edges(pixels), _edges(images), values.max()
    spread = max(best - values.min(), 1e-9)
    axes.pcolormesh(x, y, values, cmap="Blues", vmin=values.min(), vmax=values.min() + 1.8 * spread)
    for (row, column), value in np.ndenumerate(values):
        said = axes.text(100 * pixels[column], 100 * images[row], fixed(value, digits), ha="center", va="center")
        said.set(fontsize=7, zorder=5, path_effects=[HALO])  # above the lines
        if value == best:
            corner, size = (x[column], y[row]), (x[column + 1] - x[column], y[row + 1] - y[row])
            axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=INK, linewidth=1.6))
    axes.set(xlim=(0, max(100, x[-1])), ylim=(0, y[-1]))
    axes.set_xticks([100 * share for share in pixels])
    axes.set_yticks([100 * share for share in images])


def _edges(levels: Sequence[float]) -> list[float]:
    """Edges around rising shares, in %: half-way between them, the outer ones as far beyond, not below 0."""
    middles = [(low + high) / 2 for low, high in pairwise(levels)]
    first = 2 * levels[0] - middles[0] if middles else levels[0] - 0.1
    last = 2 * levels[-1] - middles[-1] if middles else levels[-1] + 0.1
    return [100 * max(edge, 0.0) for edge in (first, *middles, last)]


def _path(axes: Axes, path: pd.DataFrame, look: Look) -> None:
    """What one method masked, epoch by epoch; a large mark at the end."""
    x, y = (100 * path.sort_values("epoch")[["masked_pixels", "masked_share"]].to_numpy()).T
    axes.plot(x, y, color=look.colour, linewidth=1.3, path_effects=[HALO])
    axes.plot(x[:1], y[:1], color=look.colour, marker="o", markersize=3.5, markeredgewidth=0, linestyle="")
    (end,) = axes.plot(x[-1:], y[-1:], color=look.colour, marker=look.marker, linestyle="", clip_on=False)
    end.set(markersize=7, markeredgecolor="white")
