"""The tables of what is measured beside the runs: shortcut, judges, retraining; and of the claims."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from workbench.reporting.measures import Measure, quality
from workbench.reporting.table import SPREAD, Row, blank_repeats, differences, grid_rows, head, summarised, table
from workbench.reporting.words import NOTHING, Setting, Table, all_facts, display_name, fixed, interval
from workbench.results.statistics import compared_frame

BASELINE = "plain"
DIFFROAR = Measure("DiffROAR", "points", 2)
MARKS = {"supported": "✓", "contradicted": "✗", "inconclusive": "?"}


def shortcut_table(frame: pd.DataFrame, methods: Sequence[str], abouts: Sequence[Setting]) -> Table:
    """What networks do whose training images carry a shortcut, and their test images a useless one.

    Args:
        frame: ``validation_accuracy``, ``accuracy``, ``relevance_mass`` and ``random_relevance_mass`` of every run.
        methods: lines within each data set and backbone, in order.
        abouts: the settings whose region is a shortcut, in order.
    """
    measures = {
        "validation_accuracy": Measure("Validation accuracy with the shortcut", digits=2, better=""),
        "accuracy": Measure("Test accuracy without", digits=2),
        "drop": Measure("Drop", "points", 2, better="lower"),
        "relevance_mass": Measure("Saliency on the patch", better="lower"),
        "random_relevance_mass": Measure("Of a random map (control)", better=""),
    }
    dropped = frame.assign(drop=frame["validation_accuracy"] - frame["accuracy"])
    caption = (
        "A patch that tells the class in most training and validation images and is independent of it on the test "
        f"split: a network that relies on it loses accuracy, and its saliency shows why. {SPREAD[0].upper()}"
        f"{SPREAD[1:]}. {all_facts(abouts)}"
    )
    return table("shortcut", "Reliance on a shortcut", caption, grid_rows(dropped, methods, abouts, measures))


def judges_table(judges: pd.DataFrame) -> Table:
    """The judge of every data set.

    Args:
        judges: rows of `studies.read_judges`.
    """
    rows: list[Row] = []
    for judge in judges.to_dict("records"):
        texts = {
            "Data": display_name(judge["dataset"]),
            "Network": display_name(judge["backbone"]),
            "Training images": f"{judge['train_images']:,}",
            "Epochs": str(judge["epochs"]),
            "Seed": str(judge["seed"]),
            "Accuracy (%) ↑": fixed(100 * judge["accuracy"]),
            "Validation accuracy (%) ↑": fixed(100 * judge["validation_accuracy"]),
        }
        numbers = {str(key): value for key, value in judge.items()}
        percent = {key: 100 * judge[key] for key in ("accuracy", "validation_accuracy")}
        rows.append((numbers | percent, texts))
    caption = (
        "One network a data set, trained on erased images with a seed of its own, that judges the maps of all methods "
        "and is none of them (n = 1); accuracy on the whole test split, nothing erased."
    )
    return table("judges", "Judges", caption, rows)


def retraining_table(frame: pd.DataFrame, methods: Sequence[str], abouts: Sequence[Setting]) -> Table:
    """DiffROAR: accuracy of networks trained afresh on the most and on the least salient pixels.

    Args:
        frame: rows of `studies.read_retraining`.
        methods: lines within each data set and backbone, in order.
        abouts: the data sets and backbones that were retrained, in order.
    """
    levels = sorted(frame["level"].unique())
    middle = levels[len(levels) // 2]
    rows: list[Row] = []
    for about in abouts:
        here = frame[(frame["dataset"] == about.dataset) & (frame["backbone"] == about.backbone)]
        compared = compared_frame(here[here["level"] == middle], "diffroar", methods, [BASELINE])
        for method in methods:
            own = here[here["method"] == method]
            keys = {"dataset": about.dataset, "backbone": about.backbone, "method": method}
            numbers, texts = _levels(own, levels)
            paired, shown = differences(method, compared, [BASELINE] if BASELINE in methods else [], DIFFROAR)
            shown = {f"DiffROAR at {_percent(middle)} m{key[1:]}": text for key, text in shown.items()}
            rows.append((keys | {"n": own["seed"].nunique()} | numbers | paired, head(keys) | texts | shown))
    caption = (
        "Networks trained afresh on the share of pixels that a map ranks highest (top) or lowest (bottom), the others "
        "replaced by the data's mean, and tested on images treated alike. DiffROAR: top minus bottom accuracy, in "
        f"points, 0 for a random map (Shah, Jain and Netrapalli, 2021). {SPREAD[0].upper()}{SPREAD[1:]}. Last column: "
        "paired by seed, with 95 % confidence interval; p: paired t-test, Holm-adjusted over the methods of a data set "
        f"and backbone. {all_facts(abouts)}"
    )
    return table("retraining", "Retraining on the pixels that a map keeps", caption, blank_repeats(rows))


def _percent(level: float) -> str:
    return f"{100 * level:g} %"


def _levels(own: pd.DataFrame, levels: Sequence[float]) -> Row:
    """Top, bottom and difference at every level."""
    numbers: dict[str, object] = {}
    texts: dict[str, str] = {}
    for level in levels:
        measures = {
            "top": Measure(f"Top {_percent(level)} of pixels"),
            "bottom": Measure(f"Bottom {_percent(level)} of pixels", better="lower"),
            "diffroar": Measure(f"DiffROAR at {_percent(level)}", "points"),
        }
        found, shown = summarised(own[own["level"] == level], measures, ("top", "bottom"))
        numbers |= {f"{name}_{100 * level:g}": value for name, value in found.items()}
        texts |= shown
    return numbers, texts


def claims_table(judged: pd.DataFrame, fills: Sequence[str], abouts: Sequence[Setting]) -> Table:
    """Every claim on every setting, and what came of it.

    Args:
        judged: rows of `claims.judge_claims`.
        fills: what removed pixels were replaced by, in order.
        abouts: the data sets and backbones, in order.
    """
    regions = {about.key: about.region for about in abouts}
    rows: list[Row] = []
    for found in judged.to_dict("records"):
        region = regions[f"{found['dataset']}-{found['backbone']}"]
        measure = quality(fills, [region]).get(found["metric"], Measure(found["metric"], "", 3, ""))
        effect, low, high, margin = (measure.factor * found[key] for key in ("effect", "low", "high", "margin"))
        missing = math.isnan(found["effect"])
        texts = {
            "Claim": f"{display_name(found['method'])}: {found['claim']}",
            "Family": found["family"],
            "Data": display_name(found["dataset"]),
            "Backbone": display_name(found["backbone"]),
            "Measure": measure.difference,
            "Improvement ↑": NOTHING if missing else interval(effect, low, high, measure.digits),
            "Margin": fixed(margin, measure.digits),
            "n": str(found["n"]),
            "p ↓": _p(found["p_holm"]),
            "p needed": f"{found['p_required']:g}",
            "Verdict": found["verdict"],
        }
        rows.append(({str(key): value for key, value in found.items()}, texts))
    caption = (
        "Claims as they stand in the profile's parameters, whatever came out. Improvement: advantage over the "
        "reference, positive where the method is better whatever the arrow, paired by seed, with 95 % confidence "
        "interval. A margin is how much worse still counts as not worse; p: paired t-test of improvement + margin "
        "against zero, Holm-adjusted over the claims of the same family on the same data set and backbone; nothing is "
        "adjusted over data sets and backbones. Supported: p below what is needed and improvement above −margin; not "
        "supported: the whole interval, which is not adjusted, below −margin; inconclusive: neither; not measured: the "
        "metric is undefined there. Intervals are over the networks' seeds; the judge is one network. Effect sizes in "
        f"the CSV file are of improvement + margin. {all_facts(abouts)}"
    )
    return table("claims", "Claims and verdicts", caption, blank_repeats(rows, ("Claim", "Family")))


def claims_overview(judged: pd.DataFrame, fills: Sequence[str], abouts: Sequence[Setting]) -> Table:
    """The claims at a glance: one line each, one column for every data set and backbone.

    Args:
        judged: rows of `claims.judge_claims`.
        fills: what removed pixels were replaced by, in order.
        abouts: the data sets and backbones, in order.
    """
    rows: list[Row] = []
    for name, found in judged.groupby(["claim", "family", "method"], sort=False):
        claim, family, method = map(str, name)
        by_setting = {f"{row['dataset']}-{row['backbone']}": row for row in found.to_dict("records")}
        verdicts = {about.key: by_setting[about.key]["verdict"] for about in abouts if about.key in by_setting}
        texts = {"Claim": f"{display_name(method)}: {claim}", "Family": family}
        texts |= {about.name: _glance(by_setting.get(about.key), fills, about) for about in abouts}
        rows.append(({"claim": claim, "family": family} | verdicts, texts))
    caption = (
        "What came of each claim: ✓ supported, after Holm's adjustment within its family and setting; ✗ contradicted "
        "by the whole 95 % interval, which is not adjusted; ? inconclusive. Nothing is adjusted over settings. Beside "
        "it the mean improvement in the measure's own unit (points for shares); the rule, intervals and p-values: "
        "`claims.md`. "
        f"{all_facts(abouts)}"
    )
    return table("claims_overview", "Claims at a glance", caption, rows)


def _glance(found: Mapping[Hashable, Any] | None, fills: Sequence[str], about: Setting) -> str:
    """``✓ +0.86``; a dash where the claim was not made or not measured."""
    if found is None or found["verdict"] not in MARKS:
        return NOTHING
    measure = quality(fills, [about.region])[found["metric"]]
    return f"{MARKS[found['verdict']]} {fixed(measure.factor * found['effect'], measure.digits, sign=True)}"


def _p(value: float) -> str:
    """A p-value alone: ``0.008``, ``< 0.001``."""
    if math.isnan(value):
        return NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
