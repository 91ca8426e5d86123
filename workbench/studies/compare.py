"""Do methods differ? Every method against one reference: what it reaches, gains, masks and costs.

Frames hold one row per method and seed of one data set and backbone.
"""

from collections.abc import Iterable, Iterator, Sequence

import pandas as pd

from workbench.reporting import captions
from workbench.reporting.captions import Setting
from workbench.reporting.charts import FILLED, Chart, Differences, forest
from workbench.reporting.cost import RUN, run_costs
from workbench.reporting.metrics import ARROWS, Metrics, judged_fill, quality
from workbench.reporting.questions import Study
from workbench.reporting.style import Looks
from workbench.reporting.table import SPREAD, Table, paired, summarised, table
from workbench.reporting.words import Titles
from workbench.results.records import RunRecord, metrics_frame
from workbench.results.statistics import compared_frame

COMPARED = ("accuracy", "judge_gap_right_mean", "judge_gap_mean", "gap_black", "stability")
DRAWN = ("accuracy", "judge_gap_right_mean", "gap_black", "stability")


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
    known = quality(records[0].config["evaluation"]["fills"], [setting.region])
    return {metric: known[metric] for metric in metrics}


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


def tables(
    study: Study, records: Sequence[RunRecord], histories: pd.DataFrame, setting: Setting, titles: Titles
) -> Iterator[Table]:
    """The tables of the exhibit ``comparison``, for one data set and backbone; none if the study does not ask for it.

    Args:
        study: which exhibits, and what differences are taken to.
        records: of this data set and backbone.
        histories: one row per epoch; those of other settings are left out.
        setting: what the captions say of the runs.
        titles: of the methods.

    Raises:
        ValueError: if a record lacks a metric that a table needs.
    """
    if "comparison" not in study.exhibits:
        return
    frame = metrics_frame(records)
    end = f"{captions.ending(study, records, setting, COMPARED)} {setting.origin}"
    metrics = shown(COMPARED, records, setting)
    paid = run_costs(records, captions.of_setting(histories, setting), study.reference, setting)
    priced = frame.merge(paid, on=["method", "seed"], how="left")
    yield comparison_table(priced, study, metrics, setting, titles, end)


def comparison_table(
    frame: pd.DataFrame, study: Study, metrics: Metrics, setting: Setting, titles: Titles, end: str
) -> Table:
    """Methods against one reference: what they reach, what they gain, how much they mask, what they cost.

    Args:
        frame: the metrics of each method and seed, with the columns `cost.RUN`.
        study: its title, the methods that are rows, and the one that differences are taken to, which need not be one.
        metrics: what is compared, in order.
        setting: names the data set and backbone.
        titles: of the methods.
        end: of the caption.
    """
    reference, methods = study.reference, study.shown(list(dict.fromkeys(frame["method"])))
    family = list(dict.fromkeys([*methods, reference]))
    compared = {metric: compared_frame(frame, metric, family, [reference]) for metric in metrics}
    rows = []
    for method in methods:
        own = frame[frame["method"] == method]
        numbers: dict[str, object] = {"method": method, "n": len(own)}
        texts = {"Method": titles[method]} | {"n": str(len(own))}
        for name, metric in metrics.items():
            values, words = summarised(own, {name: metric})
            against, shown = paired(method, reference, compared[name], metric)
            numbers |= values | {f"{name}_{field}": value for field, value in against.items()}
            texts |= words | {f"{metric.label} (minus {titles[reference]})": shown}
        values, words = summarised(own, RUN)
        rows.append((numbers | values, texts | words))
    caption = (
        f"{SPREAD}. Minus {titles[reference]}: paired by seed, with 95 % confidence "
        f"interval; p: paired t-test, Holm-adjusted over the {len(family) - 1} differences in the same measure. Images "
        "masked: mean over training. Cost of the run: its passes, counted image by image (forward 1, backward 2, to "
        "the inputs alone 1, to the inputs as part of the loss's own backward 0), over those of "
        f"{titles[reference]}'s epochs without masks. {end}"
    )
    return table(f"comparison_{setting.place}", f"{study.title}, {setting.name}", caption, rows)


def charts(
    study: Study, records: Sequence[RunRecord], histories: pd.DataFrame, setting: Setting, looks: Looks
) -> Iterator[Chart]:
    """The figure of the exhibit ``comparison``: the differences to the study's reference, one panel per metric.

    Args:
        study, records, histories, setting: as for :func:`tables`; histories are not used.
        looks: of all methods.

    Raises:
        ValueError: as :func:`tables`.
    """
    if "comparison" not in study.exhibits:
        return
    frame, reference = metrics_frame(records), study.reference
    methods = list(dict.fromkeys([reference, *study.shown(list(dict.fromkeys(frame["method"])))]))
    panels = []
    for name, metric in shown(DRAWN, records, setting).items():
        axis = f"{metric.difference_unit.capitalize() or 'Difference'}{ARROWS[metric.better]}"
        panels.append(Differences(metric.label, axis, compared_frame(frame, name, methods, [reference]), metric.factor))
    caption = (
        f"Differences to {looks[reference].title}, {setting.name}, paired by seed, with 95 % confidence interval; "
        f"{FILLED}. {captions.ending(study, records, setting, DRAWN)}"
    )
    drawn = {method: looks[method] for method in methods}
    yield Chart(f"comparison_{setting.place}", caption, forest(panels, drawn, columns=len(panels)))
