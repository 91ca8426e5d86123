"""The tables of what the runs reached: the whole grid, and for each data set and backbone its qualities.

Frames in, a :class:`~workbench.reporting.words.Table` out; no files.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from workbench.reporting.captions import Setting, all_facts
from workbench.reporting.metrics import (
    ACCURACY,
    MASKING,
    PLACES,
    Metrics,
    faithfulness,
    judged_fill,
    localisation,
    quality,
)
from workbench.reporting.table import (
    SPREAD,
    Row,
    Table,
    difference_text,
    differences,
    grid_rows,
    summarised,
    table,
)
from workbench.reporting.words import NOTHING, display_name
from workbench.results.statistics import REFERENCES

CHANCE = 0.25  # grid pointing of a map that knows nothing: one tile of four
CONTROLLED = ("relevance_mass", "relevance_rank", "pointing_game", "gini")  # measured for a random map too
REGIONS = {
    "foreground": "the object (pixels brighter than the background)",
    "block": "the half of the image that holds the digit; the other half says nothing",
    "shortcut": "the patch that gives the label away in training and not on the test split, where saliency on it "
    "is a mistake: lower is better",
}


def accuracy_table(frame: pd.DataFrame, comparisons: pd.DataFrame, methods: Sequence[str], setting: Setting) -> Table:
    """Accuracy, calibration and robustness on one data set and backbone, with paired differences.

    Args:
        frame: the metrics `metrics.ACCURACY` for each method and seed.
        comparisons: of ``accuracy``, from `statistics.comparisons_frame`.
        methods: rows, in order.
        setting: what the caption says of the runs.
    """
    references = [reference for reference in REFERENCES if reference in set(comparisons["reference"])]
    rows = []
    for method in methods:
        numbers, texts = _line(frame, method, ACCURACY)
        paired, paired_texts = differences(method, comparisons, references, ACCURACY["accuracy"])
        rows.append((numbers | paired, texts | paired_texts))
    measured = setting.measured
    caption = (
        f"{setting.facts}; the best epoch is chosen on {setting.validation_images:,} other training images; {SPREAD}. "
        f"Noise: Gaussian, sd {measured.noise_std:g}; blur: Gaussian, sd {measured.blur_sigma:g} px; both on "
        f"{measured.robustness_images:,} test images. PGD: {measured.pgd_steps} steps against the label, no pixel "
        f"changed by more than {measured.pgd_epsilon:g}, on {measured.pgd_images:,} test images. Pixels are in "
        "[0, 1]. Last columns: accuracy minus that of the method named, in points, paired by seed, with 95 % "
        f"confidence interval; p: paired t-test, Holm-adjusted over all {len(comparisons)} pairs of methods. "
        f"{setting.origin}"
    )
    return table(f"accuracy_{setting.place}", f"Accuracy, {setting.name}", caption, rows)


def faithfulness_table(frame: pd.DataFrame, methods: Sequence[str], fills: Sequence[str], setting: Setting) -> Table:
    """Areas of the deletion and insertion curves on one data set and backbone.

    Args:
        frame: the metrics `metrics.faithfulness` for each method and seed.
        methods: rows, in order.
        fills: what removed pixels were replaced by, in order.
        setting: what the caption says of the runs.
    """
    measures = faithfulness(fills)
    bare = [metric for metric in measures if "gap" not in metric]
    rows = [_line(frame, method, measures, bare) for method in methods]
    caption = (
        f"{setting.facts}, curves on {setting.measured.curve_images:,} of them; means over seeds, "
        f"{SPREAD}. Gap: insertion minus deletion, the areas under the accuracy curve while the most salient "
        f"pixels are shown or removed first and the others filled ({' or '.join(fills)}). Random: the area "
        "for a random ranking, the control, whose gap is 0 in expectation. Judge: the same areas of one "
        "network, the same for all methods and seeds, that was trained on erased images and sees only which pixels a "
        "method calls salient. Maps explain the predicted class, curves score the true one: a wrong answer has a map "
        f"of another class, so that a less accurate network has less to gain. {setting.origin}"
    )
    return table(f"faithfulness_{setting.place}", f"Faithfulness, {setting.name}", caption, rows)


def localisation_table(frame: pd.DataFrame, methods: Sequence[str], setting: Setting) -> Table:
    """Where the saliency is on one data set and backbone, with a random map as control.

    Args:
        frame: the metrics `metrics.localisation`, and those of a random map, for each method and seed.
        methods: rows, in order.
        setting: what the caption says of the runs.
    """
    measures = localisation([setting.region])
    rows = [_line(frame, method, measures) for method in methods]
    control, texts = _line(_control(frame, measures), "control", measures)
    rows.append((control, texts | {"Method": "Random map (control)"}))
    measured = setting.measured
    caption = (
        f"{setting.facts}, saliency on {measured.curve_images:,} of them; {SPREAD}. Region: "
        f"{REGIONS.get(setting.region, setting.region)}. Relevance: share of the saliency (mass), and of as many most "
        "salient pixels as the region has (rank), inside it. Pointing game: images whose most salient pixel is at most "
        f"{measured.pointing_tolerance} pixel{'s' if measured.pointing_tolerance != 1 else ''} away from it. Grid "
        f"pointing: share of a class's saliency on its own image in mosaics of four ({measured.mosaics:,} of them); "
        f"{NOTHING} where the network takes one image size only. Gini index: the higher, the fewer pixels hold the "
        "saliency, be they the right ones or not. Stability: Spearman correlation of the map with that of the image "
        f"under Gaussian noise, sd {measured.stability_std:g}, in [−1, 1]. {setting.origin}"
    )
    return table(f"localisation_{setting.place}", f"Localisation, {setting.name}", caption, rows)


def _line(frame: pd.DataFrame, method: str, measures: Metrics, bare: Sequence[str] = ()) -> Row:
    """One method's numbers with its name and the number of its runs."""
    own = frame[frame["method"] == method]
    numbers, texts = summarised(own, measures, bare)
    return {"method": method, "n": len(own)} | numbers, {"Method": display_name(method), "n": str(len(own))} | texts


def _control(frame: pd.DataFrame, measures: Metrics) -> pd.DataFrame:
    """The metrics of a random map, one row per seed; grid pointing is chance where it was measured at all."""
    names = {f"random_{metric}": metric for metric in CONTROLLED}
    by_seed = frame.groupby("seed")[list(names)].mean().rename(columns=names).reset_index()
    by_seed = by_seed.reindex(columns=["seed", *measures]).assign(method="control")
    return by_seed.assign(grid_pointing=float("nan") if frame["grid_pointing"].isna().any() else CHANCE)


def comparisons_table(
    comparisons: Mapping[str, pd.DataFrame], subject: str, fills: Sequence[str], setting: Setting
) -> Table:
    """Every metric of one data set and backbone: the subject against each reference, all pairs as numbers.

    Args:
        comparisons: for each metric the rows of `statistics.comparisons_frame`; none where it was not measured.
        subject: the method whose differences are shown.
        fills: what removed pixels were replaced by, in order.
        setting: what the caption says of the runs.
    """
    lines, numbers = [], []
    known = {reference for found in comparisons.values() for reference in found["reference"]}
    references = [reference for reference in REFERENCES if reference in known]
    for metric, measure in quality(fills, [setting.region]).items():
        found = comparisons[metric]
        texts = {f"Minus {display_name(reference)}": NOTHING for reference in references}
        for pair in found[found["method"] == subject].to_dict("records"):
            if pair["reference"] in references:
                texts[f"Minus {display_name(pair['reference'])}"] = difference_text(pair, measure)
        lines.append({"Measure": measure.difference} | texts)
        numbers.append(_scaled(found, measure.factor).assign(metric=metric))
    caption = (
        f"{display_name(subject)} minus the method named, paired by seed, with 95 % confidence interval; arrows: "
        "which sign is better. p: paired t-test, Holm-adjusted over all pairs of methods of the same measure; the "
        f"CSV file holds all of them. {setting.facts}. {setting.origin}"
    )
    data = pd.concat(numbers, ignore_index=True)
    data = data[["metric", *(name for name in data.columns if name != "metric")]]
    name, title = f"comparisons_{setting.place}", f"Paired differences, {setting.name}"
    return Table(name, title, caption, data, pd.DataFrame(lines))


def _scaled(comparisons: pd.DataFrame, factor: float) -> pd.DataFrame:
    """The same comparisons in the unit that tables show."""
    names = ["mean", "sd", "reference_mean", "reference_sd", "difference", "low", "high"]
    return comparisons.assign(**{name: factor * comparisons[name] for name in names})


def summary_table(
    frame: pd.DataFrame, methods: Sequence[str], fills: Sequence[str], settings: Sequence[Setting]
) -> Table:
    """The whole grid at a glance: one line per data set, backbone and method.

    Args:
        frame: all metrics of all records.
        methods: lines within each data set and backbone, in order.
        fills: what removed pixels were replaced by, in order.
        settings: the data sets and backbones, in order.
    """
    regions = [setting.region for setting in settings]
    available = quality(fills, regions)
    gaps = [f"gap_{fill}" for fill in fills]
    judged = f"judge_gap_{judged_fill(fills)}"
    shown = ["accuracy", "ece", "accuracy_noise", "accuracy_pgd", *gaps, judged, "relevance_mass", "stability"]
    measures = {metric: available[metric] for metric in shown}
    places = dict.fromkeys(f"{PLACES[setting.region]} ({display_name(setting.dataset)})" for setting in settings)
    caption = (
        f"{SPREAD[0].upper()}{SPREAD[1:]}. Gap: insertion minus deletion area for each fill; the judge's: of one "
        f"independent network on the same maps. Relevance mass: share of the saliency on the {', '.join(places)}. "
        f"{all_facts(settings)}"
    )
    return table("summary", "All results", caption, grid_rows(frame, methods, settings, measures))


def masking_table(histories: pd.DataFrame, methods: Sequence[str], settings: Sequence[Setting]) -> Table:
    """What masking did during training: means over epochs, then over seeds.

    Args:
        histories: one row per epoch of every run; NaN where nothing was masked.
        methods: lines within each data set and backbone, in order; those that never mask are left out.
        settings: the data sets and backbones, in order.
    """
    keys = ["dataset", "backbone", "method", "seed"]
    by_seed = histories.groupby(keys)[list(MASKING)].mean().reset_index()
    masking = [m for m in methods if by_seed[by_seed["method"] == m]["masked_share"].max() > 0]
    caption = (
        f"Means over the epochs of training in which something was masked, on training batches; {SPREAD}. "
        f"Information lost: KL(p(x) ‖ p(masked x)) of the masked images. {all_facts(settings)}"
    )
    return table("masking", "What masking did", caption, grid_rows(by_seed, masking, settings, MASKING))
