"""Do methods differ? Every method against one reference: what it reaches, gains, masks and costs.

Frames hold one row per method and seed of one data set and backbone.
"""

from collections.abc import Iterator, Sequence

import pandas as pd

from workbench.reporting import captions
from workbench.reporting.captions import Setting
from workbench.reporting.metrics import Metric, Metrics
from workbench.reporting.questions import Study
from workbench.reporting.table import SCALED, SPREAD, Table, difference_text, head, summarised, table
from workbench.reporting.words import NOTHING, display_name
from workbench.results.costs import read_costs
from workbench.results.records import RunRecord, metrics_frame
from workbench.results.statistics import compared_frame
from workbench.studies import oracle
from workbench.studies.prices import PRICES, run_prices

COMPARED = ("accuracy", "judge_gap_right_mean", "judge_gap_mean", "gap_black", "stability")


def tables(study: Study, records: Sequence[RunRecord], histories: pd.DataFrame, setting: Setting) -> Iterator[Table]:
    """The tables of the exhibit ``comparison``, for one data set and backbone; none if the study does not ask for it.

    Args:
        study: which exhibits, and what differences are taken to.
        records: of this data set and backbone.
        histories: one row per epoch; those of other settings are left out.
        setting: what the captions say of the runs.

    Raises:
        ValueError: if a record lacks a metric that a table needs.
    """
    if "comparison" not in study.exhibits:
        return
    frame = metrics_frame(records)
    end = f"{captions.ending(study, records, setting, COMPARED)} {setting.origin}"
    methods, metrics = study.shown(list(dict.fromkeys(frame["method"]))), oracle.shown(COMPARED, records, setting)
    paid = run_prices(records, captions.of_setting(histories, setting), read_costs(), study.reference, setting)
    priced = frame.merge(paid, on=["method", "seed"], how="left")
    yield comparison_table(priced, methods, study, metrics, setting, end)


def comparison_table(
    frame: pd.DataFrame, methods: Sequence[str], study: Study, metrics: Metrics, setting: Setting, end: str
) -> Table:
    """Methods against one reference: what they reach, what they gain, how much they mask, what they cost.

    Args:
        frame: the metrics of each method and seed, with the columns of `prices.run_prices`.
        methods: rows, in order.
        study: its title, and the method that differences are taken to; it need not be a row.
        metrics: what is compared, in order.
        setting: names the data set and backbone.
        end: of the caption.
    """
    reference = study.reference
    family = list(dict.fromkeys([*methods, reference]))
    compared = {metric: compared_frame(frame, metric, family, [reference]) for metric in metrics}
    prices = {name: metric for name, metric in PRICES.items() if frame[name].notna().any()}
    rows = []
    for method in methods:
        own = frame[frame["method"] == method]
        numbers: dict[str, object] = {"method": method, "n": len(own)}
        texts = head({"method": method}) | {"n": str(len(own))}
        for name, metric in metrics.items():
            values, words = summarised(own, {name: metric})
            paired, shown = _against(method, compared[name], name, metric)
            numbers |= values | paired
            texts |= words | {f"{metric.label} (minus {display_name(reference)})": shown}
        values, words = summarised(own, prices)
        rows.append((numbers | values, texts | words))
    timed = " A step, measured: at the recorded share of images masked, over Plain's."
    caption = (
        f"{SPREAD[0].upper()}{SPREAD[1:]}. Minus {display_name(reference)}: paired by seed, with 95 % confidence "
        f"interval; p: paired t-test, Holm-adjusted over the {len(family) - 1} differences in the same measure. Images "
        "masked: mean over training. Cost of the run: its passes, counted image by image (forward 1, backward 2, to "
        "the inputs alone 1, to the inputs as part of the loss's own backward 0), over those of "
        f"{display_name(reference)}'s epochs without masks.{timed if 'relative' in prices else ''} {end}"
    )
    return table(f"comparison_{setting.place}", f"{study.title}, {setting.name}", caption, rows)


def _against(method: str, compared: pd.DataFrame, name: str, metric: Metric) -> tuple[dict[str, object], str]:
    """A method's paired difference to the reference in one metric; a dash for the reference and where undefined."""
    fields = ("difference", "low", "high", "effect_size", "p_value", "p_holm")
    scale = {field: metric.factor if field in SCALED else 1.0 for field in fields}
    for pair in compared[compared["method"] == method].to_dict("records"):
        return {f"{name}_{field}": scale[field] * pair[field] for field in fields}, difference_text(pair, metric)
    return {f"{name}_{field}": float("nan") for field in fields}, NOTHING
