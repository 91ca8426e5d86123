"""The tables of attribution methods: their quality on the same networks, and whether they depend on weights."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from workbench.reporting.measures import SANITY, Measures, faithfulness, judged_fill, localisation
from workbench.reporting.table import Row, blank_repeats, head, summarised, table
from workbench.reporting.words import NOTHING, Setting, Table, all_facts, in_order

# A map that shares more than a quarter of its ranks' variance (0.5 squared) with that of a network whose weights
# are all drawn anew shows the image rather than what was learned; one that ignores the network has exactly 1.
LARGEST = 0.5
CHANGES, FAILS = "changes", "does not change: fails"
WORDS = ("Data", "Backbone", "Method")


def attributions_table(frame: pd.DataFrame, fills: Sequence[str], abouts: Sequence[Setting]) -> Table:
    """Faithfulness and localisation of every attribution on the networks that are explained in every way.

    Args:
        frame: rows of `results.attributions_frame`.
        fills: what removed pixels were replaced by, in order.
        abouts: the data sets and backbones, in order.
    """
    qualities = {**faithfulness(fills), **localisation([about.region for about in abouts])}
    gaps = [f"gap_{fill}" for fill in fills]
    shown = [*gaps, f"judge_gap_{judged_fill(fills)}", "relevance_mass", "pointing_game", "gini", "stability"]
    rows = _rows(frame, abouts, {metric: qualities[metric] for metric in shown})
    caption = (
        f"Attributions of the predicted class on the same networks and test images ({_images(abouts)}); "
        f"{_seeds(frame)}. Random and Edges (Sobel) do not look at the network: they are controls. Gap: insertion "
        "minus deletion area for each fill; the judge's: of one independent network on the same maps. "
        f"{all_facts(_shown(frame, abouts))}"
    )
    return table("attributions", "Attribution methods", caption, blank_repeats(rows, WORDS))


def sanity_table(frame: pd.DataFrame, abouts: Sequence[Setting]) -> Table:
    """Whether maps change when all layers are randomised.

    Args:
        frame: rows of `results.attributions_frame`.
        abouts: the data sets and backbones, in order.
    """
    rows: list[Row] = []
    for numbers, texts in _rows(frame, abouts, SANITY):
        said = sanity_verdict(*(float(str(numbers[f"{metric}_mean"])) for metric in SANITY))
        rows.append((numbers | {"verdict": said}, texts | {"Verdict": said}))
    caption = (
        "Similarity of the maps before and after all layers are randomised, from the output to the input (Adebayo et "
        f"al., 2018), on {_images(abouts)} test images; {_seeds(frame)}. A map fails if the size of Spearman's "
        f"correlation is above {LARGEST:g}, more than a quarter of its ranks' variance being that of a network that "
        "learned nothing, or if SSIM is. Random and Edges do not look at the network and must fail: they show that the "
        "check works. Attributions that multiply by the image keep its black pixels black whatever the network is. "
        f"{all_facts(_shown(frame, abouts))}"
    )
    return table("sanity", "Sanity: maps of randomised networks", caption, blank_repeats(rows, WORDS))


def sanity_verdict(spearman: float, ssim: float) -> str:
    """`CHANGES` or `FAILS`; a dash if neither similarity is defined."""
    if math.isnan(spearman) and math.isnan(ssim):
        return NOTHING
    return FAILS if abs(spearman) > LARGEST or ssim > LARGEST else CHANGES


def _rows(frame: pd.DataFrame, abouts: Sequence[Setting], measures: Measures) -> list[Row]:
    """One line per data set, backbone, method and attribution, in the settings' order."""
    rows = []
    for about in abouts:
        here = frame[(frame["dataset"] == about.dataset) & (frame["backbone"] == about.backbone)]
        for method in here["method"].unique():
            explained = here[here["method"] == method]
            for name in in_order(explained["attribution"].unique()):
                own = explained[explained["attribution"] == name]
                keys = {"dataset": about.dataset, "backbone": about.backbone, "method": method, "attribution": name}
                numbers, texts = summarised(own, measures)
                rows.append((keys | {"n": len(own)} | numbers, head(keys) | texts))
    return rows


def _shown(frame: pd.DataFrame, abouts: Sequence[Setting]) -> list[Setting]:
    """The settings that have a line, with the seeds that their lines have."""
    seeds = frame.groupby(["dataset", "backbone"])["seed"].nunique()
    places = [(about, (about.dataset, about.backbone)) for about in abouts]
    return [replace(about, seeds=int(seeds[place])) for about, place in places if place in seeds]


def _images(abouts: Sequence[Setting]) -> str:
    """How many test images were explained."""
    return " or ".join(f"{count:,}" for count in dict.fromkeys(about.measured.attribution_images for about in abouts))


def _seeds(frame: pd.DataFrame) -> str:
    """``one network a line (seed 0), so n = 1``."""
    seeds = sorted(frame["seed"].unique())
    if len(seeds) == 1:
        return f"one network a line (seed {seeds[0]}), so n = 1 and no spread"
    return f"n = {len(seeds)} seeds ({', '.join(map(str, seeds))}); ± is the standard deviation over them"
