"""How much does the fraction of masked pixels matter? It is swept while every image is masked and all else stays."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workbench.reporting.charts import BANDS, Chart
from workbench.reporting.cost import Config
from workbench.reporting.metrics import Metrics
from workbench.reporting.style import Look, Looks, finish, legend, panels, styled
from workbench.reporting.table import Table, summarised
from workbench.reporting.words import Titles, fixed
from workbench.results.statistics import mean_interval
from workbench.studies.plans import by_seed, is_constant, largest_family, trajectories
from workbench.studies.runs import StudyRuns

FAMILIES: Mapping[str, Config] = {  # family of a sweep, and the method that it looks like: its guidance
    "sgt": {"score": "log_prob", "reduction": "signed_mean", "detach_target": False},
    "sgt_improved": {"score": "log_odds", "reduction": "mean_abs", "detach_target": True},
}
TITLES = {"sgt": "SGT as published", "sgt_improved": "SGT improved"}


def read_sweeps(configs: Mapping[str, Config]) -> pd.DataFrame:
    """The methods that mask a fraction of the pixels of every image: ``family`` (of `FAMILIES`), ``value``, ``method``.

    Raises:
        ValueError: if two methods of a family have the same fraction, or no family has two methods.
    """
    found = []
    for family, guidance in FAMILIES.items():
        asked = {name: config for name, config in configs.items() if _masks_all(config, guidance)}
        own = largest_family(asked, ["mask_fraction"]).rename(columns={"mask_fraction": "value"})
        twice = own.loc[own["value"].duplicated(keep=False), "method"].tolist()
        if twice:
            raise ValueError(f"the methods {twice} are the same: expected one for each value of a sweep")
        if len(own) > 1:
            found.append(own.assign(family=family).sort_values("value"))
    if not found:
        raise ValueError(f"no two of the methods {list(configs)} differ in the fraction of pixels alone")
    return pd.concat(found, ignore_index=True)[["family", "value", "method"]]


def _masks_all(config: Config, guidance: Config) -> bool:
    alike = all(config["guidance"][key] == value for key, value in guidance.items())
    return is_constant(config) and config["plan"]["image_fraction"] == 1 and alike


def sensitivity(sweeps: pd.DataFrame, frame: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """How far the seed means of each metric lie apart within each sweep, and where the best one is.

    Args:
        sweeps: as from :func:`read_sweeps`.
        frame: the metrics for each method and seed.
        metrics: higher is better.

    Returns:
        One row per family: ``family``, ``values``, ``smallest``, ``largest``, and for each metric ``low_METRIC``,
        ``high_METRIC``, ``range_METRIC``, ``best_METRIC`` (the fraction of pixels).
    """
    rows = []
    for family, own in sweeps.groupby("family", sort=False):
        row = {"family": family, "values": len(own), "smallest": own["value"].min(), "largest": own["value"].max()}
        for metric in metrics:
            means = by_seed(frame, metric)[own["method"].tolist()].mean().to_numpy()
            row |= {f"low_{metric}": means.min(), f"high_{metric}": means.max(), f"range_{metric}": np.ptp(means)}
            row[f"best_{metric}"] = own["value"].iloc[int(means.argmax())]
        rows.append(row)
    return pd.DataFrame(rows)


def table(runs: StudyRuns, titles: Titles) -> Table:
    """The range of each family's means; the numbers hold every method of the sweeps.

    Raises:
        ValueError: if a run lacks a metric of the headline, or there is no sweep.
    """
    frame, metrics, sweeps, setting = runs.frame, runs.headline(), read_sweeps(runs.methods), runs.setting
    lines = []
    for row in sensitivity(sweeps, frame, list(metrics)).to_dict("records"):
        texts = {"Method": TITLES[row["family"]]}
        texts["Values of k"] = f"{row['values']} from {row['smallest']:g} to {row['largest']:g}"
        for name, metric in metrics.items():
            low, high, width = (metric.factor * row[f"{part}_{name}"] for part in ("low", "high", "range"))
            texts[metric.header] = f"{fixed(low, metric.digits)} to {fixed(high, metric.digits)}"
            texts[f"{metric.label}: range (points) ↓"] = fixed(width, metric.digits)
            texts[f"{metric.label}: best at k"] = f"{row[f'best_{name}']:g}"
        lines.append(texts)
    numbers = []
    for row in sweeps.to_dict("records"):
        own = frame[frame["method"] == row["method"]]
        numbers.append({str(key): value for key, value in row.items()} | {"n": len(own)} | summarised(own, metrics)[0])
    caption = (
        "Lowest and highest mean over seeds while k, the fraction of the pixels of every image that is masked, is "
        "swept and all else stays. The range says how much depends on k, but seeds alone make it larger than zero, "
        "and it grows with the number of values. The CSV file holds every value's mean ± sd. "
        f"{runs.ending(metrics)} {setting.origin}"
    )
    title = f"How much the fraction of masked pixels matters, {setting.name}"
    return Table(f"sweep_{setting.place}", title, caption, pd.DataFrame(numbers), pd.DataFrame(lines))


def chart(runs: StudyRuns, looks: Looks) -> Chart:
    """Each metric against the fraction of pixels, one line per family.

    Raises:
        ValueError: if a run lacks a metric of the headline, or there is no sweep.
    """
    metrics, setting = runs.headline(), runs.setting
    caption = (
        f"The fraction of masked pixels swept while all else stays, {setting.name}; {BANDS}. SGT masks the "
        "fraction on the axis of every image; methods whose masking changes stand beside it at the mean fraction "
        f"of pixels of each masked image, with 95 % confidence intervals. {runs.ending(metrics)}"
    )
    figure = _sweep_lines(read_sweeps(runs.methods), runs.frame, trajectories(runs), metrics, looks)
    return Chart(f"sweep_{setting.place}", caption, figure)


@styled
def _sweep_lines(
    sweeps: pd.DataFrame, frame: pd.DataFrame, paths: pd.DataFrame, metrics: Metrics, looks: Looks
) -> Figure:
    """A panel per metric; the methods of `plans.trajectories` as points at their mean fraction of pixels."""
    pixels = paths.groupby("method", sort=False)["masked_pixels"].mean()
    figure, grid = panels(1, len(metrics), 2.45)
    for axes, (name, metric) in zip(grid[0], metrics.items(), strict=True):
        values = metric.factor * by_seed(frame, name)
        for family, line in sweeps.groupby("family", sort=False):
            _swept(axes, line, values, looks[str(family)])
        for method, x in pixels.items():
            look = looks[str(method)]
            mean, low, high = map(float, mean_interval(values[method].to_numpy()))
            axes.plot([x, x], [low, high], color=look.colour, linewidth=1)
            axes.plot(x, mean, color=look.colour, marker=look.marker, markersize=6, markeredgewidth=0)
        ylabel = "Mean over seeds" if axes is grid[0][0] else ""
        finish(axes, metric.header, "Masked pixels (fraction)", ylabel)
    swept = [looks[family].handle(TITLES[family]) for family in dict.fromkeys(sweeps["family"])]
    legend(figure, [*swept, *(looks[str(method)].handle() for method in pixels.index)])
    return figure


def _swept(axes: Axes, line: pd.DataFrame, values: pd.DataFrame, look: Look) -> None:
    """Mean and interval at each fraction; each marked."""
    x = line["value"].to_numpy(dtype=float)
    mean, low, high = mean_interval(values[line["method"].tolist()].to_numpy())
    axes.plot(x, mean, color=look.colour, marker=look.marker, markeredgewidth=0)
    axes.fill_between(x, low, high, color=look.colour, alpha=0.2, linewidth=0)
    axes.set_xticks(x, [f"{value:g}" for value in x])
