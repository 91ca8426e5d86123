"""Do methods differ? Every method against one reference: what it reaches, gains, masks and costs.

Frames hold one row per method and seed of one data set and backbone.
"""

from collections.abc import Iterator, Sequence

import pandas as pd

from workbench.reporting import captions
from workbench.reporting.captions import Setting
from workbench.reporting.metrics import Metrics
from workbench.reporting.questions import Study
from workbench.reporting.table import SPREAD, Table, paired, summarised, table
from workbench.reporting.words import Titles
from workbench.results.costs import read_costs
from workbench.results.records import RunRecord, metrics_frame
from workbench.results.statistics import compared_frame
from workbench.studies import oracle
from workbench.studies.prices import PRICES, run_prices

COMPARED = ("accuracy", "judge_gap_right_mean", "judge_gap_mean", "gap_black", "stability")


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
    metrics = oracle.shown(COMPARED, records, setting)
    paid = run_prices(records, captions.of_setting(histories, setting), read_costs(), study.reference, setting)
    priced = frame.merge(paid, on=["method", "seed"], how="left")
    yield comparison_table(priced, study, metrics, setting, titles, end)


def comparison_table(
    frame: pd.DataFrame, study: Study, metrics: Metrics, setting: Setting, titles: Titles, end: str
) -> Table:
    """Methods against one reference: what they reach, what they gain, how much they mask, what they cost.

    Args:
        frame: the metrics of each method and seed, with the columns of `prices.run_prices`.
        study: its title, the methods that are rows, and the one that differences are taken to, which need not be one.
        metrics: what is compared, in order.
        setting: names the data set and backbone.
        titles: of the methods.
        end: of the caption.
    """
    reference, methods = study.reference, study.shown(list(dict.fromkeys(frame["method"])))
    family = list(dict.fromkeys([*methods, reference]))
    compared = {metric: compared_frame(frame, metric, family, [reference]) for metric in metrics}
    prices = {name: metric for name, metric in PRICES.items() if frame[name].notna().any()}
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
        values, words = summarised(own, prices)
        rows.append((numbers | values, texts | words))
    timed = " A step, measured: at the recorded share of images masked, over Plain's."
    caption = (
        f"{SPREAD}. Minus {titles[reference]}: paired by seed, with 95 % confidence "
        f"interval; p: paired t-test, Holm-adjusted over the {len(family) - 1} differences in the same measure. Images "
        "masked: mean over training. Cost of the run: its passes, counted image by image (forward 1, backward 2, to "
        "the inputs alone 1, to the inputs as part of the loss's own backward 0), over those of "
        f"{titles[reference]}'s epochs without masks.{timed if 'relative' in prices else ''} {end}"
    )
    return table(f"comparison_{setting.place}", f"{study.title}, {setting.name}", caption, rows)
