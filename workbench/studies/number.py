"""How many images and pixels should be masked? Constant plans in hindsight, and what schedules reach without a search.

The *grid* of a study are its constant plans that differ in the shares of images and of pixels that they mask and in
nothing else. The *oracle* of a metric is the plan with the best mean over seeds. Chosen on the seeds that score it,
it flatters: the *held-out* oracle is chosen on all seeds but one and scored on that one, seed by seed. A *sweep*
varies the fraction of pixels k alone, every image masked. Frames hold one row per method and seed of one data set
and backbone; metrics are those where higher is better.
"""

import json
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from workbench.reporting import captions
from workbench.reporting.captions import Setting
from workbench.reporting.charts import BANDS, Chart
from workbench.reporting.cost import Config, counted_cost
from workbench.reporting.metrics import Metric, Metrics
from workbench.reporting.questions import Study
from workbench.reporting.style import INK, Look, Looks, finish, legend, panels, styled
from workbench.reporting.table import SCALED, SPREAD, Table, scaled, summarised
from workbench.reporting.words import NOTHING, Titles, fixed, interval, plus_minus
from workbench.results.records import RunRecord, metrics_frame
from workbench.results.statistics import PairedComparison, compare, mean_interval
from workbench.studies.compare import headline, shown

AXES = ["image_fraction", "mask_fraction"]
SWEPT: Mapping[str, Config] = {  # family of a sweep, and the method that it looks like: its guidance
    "sgt": {"score": "log_prob", "reduction": "signed_mean", "detach_target": False},
    "sgt_improved": {"score": "log_odds", "reduction": "mean_abs", "detach_target": True},
}
TITLES = {"sgt": "SGT as published", "sgt_improved": "SGT improved"}
HALO = patheffects.withStroke(linewidth=2.5, foreground="white")


def method_configs(records: Sequence[RunRecord]) -> dict[str, Config]:
    """Each method's configuration, in the records' order."""
    return {record.method: record.config["method"] for record in records}


def scheduled_methods(configs: Mapping[str, Config]) -> list[str]:
    """The methods whose masking changes during training, without those that train otherwise or on other data."""
    return [name for name, config in configs.items() if config["schedule"] != "constant" and not _overrides(config)]


def read_grid(configs: Mapping[str, Config]) -> pd.DataFrame:
    """The grid of a study: ``method`` and the two `AXES`, by rising shares.

    Raises:
        ValueError: if there are fewer than two plans, or not exactly one for each pair of shares.
    """
    magnitude = {name: config for name, config in configs.items() if config["guidance"]["reduction"] == "mean_abs"}
    asked = {name: config for name, config in magnitude.items() if _is_constant(config)}
    plans = _largest_family(asked, AXES)
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


def read_sweeps(configs: Mapping[str, Config]) -> pd.DataFrame:
    """The methods that mask a fraction k of the pixels of every image: ``family`` (of `SWEPT`), ``value``, ``method``.

    Raises:
        ValueError: if two methods of a family have the same fraction, or no family has two methods.
    """
    found = []
    for family, guidance in SWEPT.items():
        asked = {name: config for name, config in configs.items() if _masks_all(config, guidance)}
        own = _largest_family(asked, ["mask_fraction"]).rename(columns={"mask_fraction": "value"})
        twice = own.loc[own["value"].duplicated(keep=False), "method"].tolist()
        if twice:
            raise ValueError(f"the methods {twice} are the same: expected one for each value of a sweep")
        if len(own) > 1:
            found.append(own.assign(family=family).sort_values("value"))
    if not found:
        raise ValueError(f"no two of the methods {list(configs)} differ in the fraction of pixels alone")
    return pd.concat(found, ignore_index=True)[["family", "value", "method"]]


def _is_constant(config: Config) -> bool:
    """Whether a method masks fixed shares of images and of their least salient pixels, and changes nothing else."""
    plan = config["plan"]
    constant = config["schedule"] == "constant" and plan["image_fraction"] > 0 and not _overrides(config)
    consistent = config["guidance"].get("consistency", "kl") == "kl"
    return constant and consistent and plan["ranking"] == "saliency"


def _masks_all(config: Config, guidance: Config) -> bool:
    alike = all(config["guidance"][key] == value for key, value in guidance.items())
    return _is_constant(config) and config["plan"]["image_fraction"] == 1 and alike


def _overrides(config: Config) -> bool:
    return bool(config.get("training") or config.get("dataset"))


def _largest_family(configs: Mapping[str, Config], axes: Sequence[str]) -> pd.DataFrame:
    """The largest group of methods that differ in these entries of their plans only: ``method`` and the axes."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, config in configs.items():
        plan = {key: value for key, value in config["plan"].items() if key not in axes}
        rest = {key: value for key, value in config.items() if key != "name"} | {"plan": plan}
        row = {"method": name} | {axis: config["plan"][axis] for axis in axes}
        groups.setdefault(json.dumps(rest, sort_keys=True), []).append(row)
    return pd.DataFrame(max(groups.values(), key=len, default=[]), columns=["method", *axes])


@dataclass(frozen=True)
class Oracle:
    """The best plan of a grid in one metric.

    Attributes:
        method: the plan with the best mean over all seeds.
        held_out: for each seed the plan with the best mean over the other seeds; empty with one seed.
    """

    method: str
    held_out: Mapping[int, str]


def find_oracle(plans: pd.DataFrame, frame: pd.DataFrame, metric: str) -> Oracle:
    """The best plan of a metric, and the best without each seed; of equals the first."""
    wide = _by_seed(frame, metric)[plans["method"].tolist()]
    held_out = {int(seed): str(wide.drop(index=seed).mean().idxmax()) for seed in wide.index} if len(wide) > 1 else {}
    return Oracle(str(wide.mean().idxmax()), held_out)


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
        plans, scheduled: the grid as from :func:`read_grid`, and the methods beside it.
        frame: the metrics for each method and seed.
        metrics: that oracles are sought for; higher is better.
        reference: what gains are taken to.
        beside: metrics that are scored too.

    Returns:
        One row per line and metric: ``kind`` (reference, cell, oracle, held_out, schedule), ``of`` (the metric that
        an oracle is best in), ``method`` (empty for held-out oracles), ``metric``, the fields of
        `statistics.PairedComparison` of the gain, ``share`` of the gain of the metric's held-out oracle (NaN unless
        that gain's whole interval is above zero).
    """
    seeds = sorted(frame["seed"].unique())
    lines: list[tuple[str, str, Mapping[int, str]]] = [("reference", "", dict.fromkeys(seeds, reference))]
    lines += [("cell", "", dict.fromkeys(seeds, method)) for method in plans["method"]]
    oracles = {metric: find_oracle(plans, frame, metric) for metric in metrics}
    for metric, oracle in oracles.items():
        lines += [("oracle", metric, dict.fromkeys(seeds, oracle.method)), ("held_out", metric, oracle.held_out)]
    lines += [("schedule", "", dict.fromkeys(seeds, method)) for method in scheduled]
    rows = []
    for metric in [*metrics, *beside]:
        wide = _by_seed(frame, metric)
        held_out = oracles[metric].held_out if metric in oracles else {}
        found = _gain(wide, held_out, reference) if held_out else None
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


def _by_seed(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row per seed, one column per method."""
    return frame.pivot(index="seed", columns="method", values=metric)


def plan_means(plans: pd.DataFrame, frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Means over seeds, one row per share of images and one column per share of pixels."""
    means = _by_seed(frame, metric)[plans["method"].tolist()].mean()
    return plans.assign(mean=plans["method"].map(means)).pivot(index=AXES[0], columns=AXES[1], values="mean")


def trajectories(histories: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Means over seeds: ``method``, ``epoch``, ``masked_share``, ``masked_pixels``; no epochs without masks."""
    own = histories[histories["method"].isin(methods)]
    means = own.groupby(["method", "epoch"], as_index=False)[["masked_share", "masked_pixels"]].mean()
    return means.dropna(ignore_index=True)


def sensitivity(sweeps: pd.DataFrame, frame: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """How far the seed means of each metric lie apart within each sweep, and where the best one is.

    Args:
        sweeps: as from :func:`read_sweeps`.
        frame: the metrics for each method and seed.
        metrics: higher is better.

    Returns:
        One row per family: ``family``, ``values``, ``smallest``, ``largest``, and for each metric ``low_METRIC``,
        ``high_METRIC``, ``range_METRIC``, ``best_METRIC`` (the fraction k).
    """
    rows = []
    for family, own in sweeps.groupby("family", sort=False):
        row = {"family": family, "values": len(own), "smallest": own["value"].min(), "largest": own["value"].max()}
        for metric in metrics:
            means = _by_seed(frame, metric)[own["method"].tolist()].mean().to_numpy()
            row |= {f"low_{metric}": means.min(), f"high_{metric}": means.max(), f"range_{metric}": np.ptp(means)}
            row[f"best_{metric}"] = own["value"].iloc[int(means.argmax())]
        rows.append(row)
    return pd.DataFrame(rows)


def training_costs(configs: Mapping[str, Config], histories: pd.DataFrame, plans: pd.DataFrame) -> dict[str, float]:
    """What one training with every plan, and with every method whose masking changes, costs in plain trainings."""
    shares = {str(row["method"]): [row["image_fraction"]] for row in plans.to_dict("records")}
    for name in scheduled_methods(configs):
        shares[name] = histories.loc[histories["method"] == name, "image_fraction"].tolist()
    return {name: float(counted_cost(configs[name], own).mean()) for name, own in shares.items()}


def tables(
    study: Study, records: Sequence[RunRecord], histories: pd.DataFrame, setting: Setting, titles: Titles
) -> Iterator[Table]:
    """The tables of the exhibits ``oracle`` and ``sweep``, for one data set and backbone, as far as asked for.

    Args:
        study: which exhibits, and what gains are taken to.
        records: of this data set and backbone.
        histories: one row per epoch; those of other settings are left out.
        setting: what the captions say of the runs.
        titles: of all methods.

    Raises:
        ValueError: if a record lacks a metric that a table needs, or the methods are not what an exhibit asks for.
    """
    if not {"oracle", "sweep"} & set(study.exhibits):
        return
    frame, metrics, configs = metrics_frame(records), headline(records, setting), method_configs(records)
    end = f"{captions.ending(study, records, setting, metrics)} {setting.origin}"
    if "oracle" in study.exhibits:
        plans, scheduled = read_grid(configs), scheduled_methods(configs)
        (judged,) = (metric.replace("_right", "") for metric in metrics if metric.startswith("judge_gap_right"))
        lines = standings(plans, scheduled, frame, list(metrics), study.reference, (judged,))
        costs = training_costs(configs, captions.of_setting(histories, setting), plans)
        beside = shown((judged,), records, setting)
        yield oracle_table(lines, plans, costs, {**metrics, **beside}, setting, titles, end)
    if "sweep" in study.exhibits:
        yield sweep_table(read_sweeps(configs), frame, metrics, setting, end)


def oracle_table(
    lines: pd.DataFrame,
    plans: pd.DataFrame,
    costs: Mapping[str, float],
    metrics: Metrics,
    setting: Setting,
    titles: Titles,
    end: str,
) -> Table:
    """The reference, the best constant plans in hindsight, and what schedules reach of them.

    Args:
        lines: as from :func:`standings`; the numbers hold the grid's plans too.
        plans: as from :func:`read_grid`.
        costs: as from :func:`training_costs`.
        metrics: what is shown, in order, also those that no oracle is sought for.
        setting: names the data set and backbone.
        titles: of all methods.
        end: of the caption.
    """
    shares, seeds = plans.set_index("method"), int(lines["n"].iloc[0])
    search = sum(costs[method] for method in plans["method"])
    prices = {"reference": 1.0, "oracle": seeds * search, "held_out": (seeds - 1) * search, "cell": math.nan}

    def price(kind: str, method: str) -> float:
        return prices[kind] if kind in prices else costs[method]

    texts = []
    for (kind, of, method), own in lines[lines["kind"] != "cell"].groupby(["kind", "of", "method"], sort=False):
        name = titles.get(str(method), "")
        if of:
            plan = "held out" if kind == "held_out" else _plan(shares, str(method))
            name = f"Best plan for {metrics[str(of)].label[0].lower()}{metrics[str(of)].label[1:]} ({plan})"
        text = {"Method": name}
        for row in own.to_dict("records"):
            text |= _standing(row, metrics[row["metric"]], sought=row["metric"] in set(lines["of"]))
        texts.append(text | {"Cost (plain trainings) ↓": fixed(price(str(kind), str(method)), 1)})
    reference = titles[lines["method"].iloc[0]]
    images, pixels = (_percents(sorted(set(plans[axis]))) for axis in AXES)
    caption = (
        f"The grid: {len(plans)} constant plans that mask {images} of the images and {pixels} of their pixels. Best: "
        "the plan with the best mean over seeds, chosen in hindsight; held out: chosen on all seeds but one and scored "
        f"on that one, which is what a search finds. {SPREAD}; gain: minus {reference}, paired "
        "by seed, with 95 % confidence interval, not adjusted: those of best plans ignore that they were chosen, and "
        "held-out scores of several seeds are not independent. Of the held-out gain: as a share of what the best plan "
        f"for this metric gains held out, {NOTHING} where the interval of that gain is not above zero. Cost: of one "
        f"training; of a best plan one training of each of the {len(plans)} plans with every seed that chose it (all "
        f"{seeds}, held out {seeds - 1}); in passes, counted in forwards: a plain step takes 3; one that masks the "
        "share r of its images 3 + 3r, plus 1 for saliency from the same forward or 2 from a forward of its own. "
        f"{end}"
    )
    kinds = zip(lines["kind"], lines["method"], strict=True)
    data = scaled(lines, metrics).merge(plans, on="method", how="left").assign(cost=[price(*line) for line in kinds])
    title = f"The best constant plan and the schedules, {setting.name}"
    return Table(f"oracle_{setting.place}", title, caption, data, pd.DataFrame(texts))


def _percents(levels: Sequence[float]) -> str:
    """``20, 50 or 100 %``."""
    words = [f"{100 * level:g}" for level in levels]
    return f"{' or '.join([', '.join(words[:-1]), words[-1]] if len(words) > 1 else words)} %"


def _plan(shares: pd.DataFrame, method: str) -> str:
    """``80 % of images, 30 % of pixels``."""
    images, pixels = (100 * float(shares[axis][method]) for axis in AXES)
    return f"{images:g} % of images, {pixels:g} % of pixels"


def _standing(row: Mapping[Hashable, Any], metric: Metric, *, sought: bool) -> dict[str, str]:
    """Value, gain and, if an oracle was sought for it, share of the held-out gain in one metric."""
    values = {name: metric.factor * row[name] for name in SCALED}
    gain = interval(values["difference"], values["low"], values["high"], metric.digits)
    reference = row["kind"] == "reference"
    share = {f"{metric.label}: of the held-out gain (%)": NOTHING if reference else fixed(100 * row["share"], 0)}
    return {
        metric.header: plus_minus(values["mean"], values["sd"], metric.digits),
        f"{metric.label}: gain": NOTHING if reference else gain,
    } | (share if sought else {})


def sweep_table(sweeps: pd.DataFrame, frame: pd.DataFrame, metrics: Metrics, setting: Setting, end: str) -> Table:
    """How much the fraction of pixels matters; the numbers hold every method of the sweeps.

    Args:
        sweeps: as from :func:`read_sweeps`.
        frame: the metrics for each method and seed.
        metrics, setting, end: as for :func:`oracle_table`.
    """
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
        f"and it grows with the number of values. The CSV file holds every value's mean ± sd. {end}"
    )
    title = f"How much the fraction of masked pixels matters, {setting.name}"
    return Table(f"sweep_{setting.place}", title, caption, pd.DataFrame(numbers), pd.DataFrame(lines))


def charts(
    study: Study, records: Sequence[RunRecord], histories: pd.DataFrame, setting: Setting, looks: Looks
) -> Iterator[Chart]:
    """The figures of the exhibits ``oracle`` and ``sweep``, for one data set and backbone, as far as asked for.

    Args:
        study, records, histories, setting: as for :func:`tables`.
        looks: of every method.

    Raises:
        ValueError: as :func:`tables`.
    """
    if not {"oracle", "sweep"} & set(study.exhibits):
        return
    frame, metrics, configs = metrics_frame(records), headline(records, setting), method_configs(records)
    end = captions.ending(study, records, setting, metrics)
    asked = set(study.shown(list(configs)))
    scheduled = [name for name in scheduled_methods(configs) if name in asked]
    paths = trajectories(captions.of_setting(histories, setting), scheduled)
    if "oracle" in study.exhibits:
        yield Chart(
            f"oracle_{setting.place}",
            f"Constant plans, {setting.name}: means over seeds where this share of the images and of their pixels is "
            "masked, the best one framed. Lines: what the methods whose masking changes masked, epoch by epoch "
            f"from the small dot to the large mark, mean over seeds. {end}",
            oracle_map(read_grid(configs), frame, paths, metrics, study.reference, looks),
        )
    if "sweep" in study.exhibits:
        yield Chart(
            f"sweep_{setting.place}",
            f"The fraction of masked pixels swept while all else stays, {setting.name}; {BANDS}. SGT masks the "
            "fraction on the axis of every image; methods whose masking changes stand beside it at the mean fraction "
            f"of pixels of each masked image, with 95 % confidence intervals. {end}",
            sweep_lines(read_sweeps(configs), frame, paths, metrics, looks),
        )


@styled
def oracle_map(
    plans: pd.DataFrame, frame: pd.DataFrame, paths: pd.DataFrame, metrics: Metrics, reference: str, looks: Looks
) -> Figure:
    """A heat map of the grid for each metric, with what the scheduled methods masked drawn on it.

    Args:
        plans: as from :func:`read_grid`.
        frame: the metrics for each method and seed.
        paths: as from :func:`trajectories`.
        metrics: panels, in order.
        reference: whose mean stands in the titles.
        looks: of all methods.
    """
    methods = [str(method) for method in dict.fromkeys(paths["method"])]
    figure, grid = panels(1, len(metrics), 3.4, sharey=True)
    for axes, (name, metric) in zip(grid[0], metrics.items(), strict=True):
        _heat(axes, metric.factor * plan_means(plans, frame, name), metric.digits)
        for method in methods:
            _path(axes, paths[paths["method"] == method], looks[method])
        mean = metric.factor * _by_seed(frame, name)[reference].mean()
        title = f"{metric.header}\n{looks[reference].title}: {fixed(mean, metric.digits)}"
        finish(axes, title, "Masked pixels (%)", "Masked images (%)" if axes is grid[0][0] else "")
        axes.grid(visible=False)
    if methods:
        legend(figure, [looks[method].handle() for method in methods])
    return figure


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


@styled
def sweep_lines(
    sweeps: pd.DataFrame, frame: pd.DataFrame, paths: pd.DataFrame, metrics: Metrics, looks: Looks
) -> Figure:
    """Each metric against the fraction of pixels k, one line per family.

    Args:
        sweeps: as from :func:`read_sweeps`.
        frame: the metrics for each method and seed.
        paths: as from :func:`trajectories`: methods that are drawn at their mean fraction of pixels.
        metrics: panels, in order.
        looks: of all methods.
    """
    methods = [str(method) for method in dict.fromkeys(paths["method"])]
    families = [str(family) for family in dict.fromkeys(sweeps["family"])]
    figure, grid = panels(1, len(metrics), 2.45)
    for axes, (name, metric) in zip(grid[0], metrics.items(), strict=True):
        values = metric.factor * _by_seed(frame, name)
        for family in families:
            _swept(axes, sweeps[sweeps["family"] == family], values, looks[family])
        for method in methods:
            look, pixels = looks[method], paths.loc[paths["method"] == method, "masked_pixels"].mean()
            mean, low, high = map(float, mean_interval(values[method].to_numpy()))
            axes.plot([pixels, pixels], [low, high], color=look.colour, linewidth=1)
            axes.plot(pixels, mean, color=look.colour, marker=look.marker, markersize=6, markeredgewidth=0)
        ylabel = "Mean over seeds" if axes is grid[0][0] else ""
        finish(axes, metric.header, "Masked pixels (fraction)", ylabel)
    swept = [looks[family].handle(TITLES[family]) for family in families]
    legend(figure, [*swept, *(looks[method].handle() for method in methods)])
    return figure


def _swept(axes: Axes, line: pd.DataFrame, values: pd.DataFrame, look: Look) -> None:
    """Mean and interval at each value of k; each marked."""
    x = line["value"].to_numpy(dtype=float)
    mean, low, high = mean_interval(values[line["method"].tolist()].to_numpy())
    axes.plot(x, mean, color=look.colour, marker=look.marker, markeredgewidth=0)
    axes.fill_between(x, low, high, color=look.colour, alpha=0.2, linewidth=0)
    axes.set_xticks(x, [f"{value:g}" for value in x])
