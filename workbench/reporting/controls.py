"""Tables of checks on saliency: other attributions, randomised and retrained networks, judges, a shortcut.

Methods are those of the grid; rows come in the order of the settings, data sets and backbones.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from workbench.reporting.captions import Setting, all_facts, of_setting
from workbench.reporting.metrics import SANITY, SHORTCUT, gaps, quality, retraining
from workbench.reporting.table import SETTING, SPREAD, Row, Table, blank_repeats, differences, grid_rows, summarised
from workbench.reporting.words import NOTHING, Titles, display_name, fixed
from workbench.results.statistics import compared_frame

# A map that shares more than a quarter of its ranks' variance (0.5 squared) with that of a network whose weights
# are all drawn anew shows the image rather than what was learned; one that ignores the network has exactly 1.
LARGEST = 0.5
CHANGES, FAILS = "changes", "does not change: fails"


def attributions_table(frame: pd.DataFrame, methods: Titles, settings: Sequence[Setting]) -> Table:
    """Faithfulness and localisation of every attribution, from rows of `records.attributions_frame`."""
    fills = settings[0].evaluation.fills
    available = quality(fills, [setting.region for setting in settings])
    shown = [*gaps(fills), "relevance_mass", "pointing_game", "gini", "stability"]
    rows = grid_rows(frame, methods, settings, {name: available[name] for name in shown})
    caption = (
        f"Attributions of the predicted class on the same networks and test images ({_images(settings)}); "
        f"{_facts(frame, settings)}"
    )
    note = (
        "Random and Edges (Sobel) do not look at the network: they are controls. Gap: area under the insertion curve "
        "minus that under the deletion curve, for each fill; the judge's: of a separate network on the same maps, "
        "where the explained network's answer is right."
    )
    return Table.of_rows("attributions", "Attribution methods", caption, rows, note)


def sanity_table(frame: pd.DataFrame, methods: Titles, settings: Sequence[Setting]) -> Table:
    """Whether maps change when all layers are randomised, from rows of `records.attributions_frame`."""
    rows: list[Row] = []
    for numbers, texts in grid_rows(frame, methods, settings, SANITY):
        said = sanity_verdict(*(float(str(numbers[f"{name}_mean"])) for name in SANITY))
        rows.append((numbers | {"verdict": said}, texts | {"Verdict": said}))
    caption = (
        "Similarity of the maps before and after all layers are randomised, from the output to the input (Adebayo et "
        f"al., 2018), on {_images(settings)} test images; {_facts(frame, settings)}"
    )
    note = (
        "A map fails if the size of Spearman's "
        f"correlation is above {LARGEST:g}, more than a quarter of its ranks' variance being that of a network that "
        "learned nothing, or if SSIM is. Random and Edges do not look at the network and must fail: they show that the "
        "check works. Attributions that multiply by the image keep its black pixels black whatever the network is."
    )
    return Table.of_rows("sanity", "Sanity: maps of randomised networks", caption, rows, note)


def sanity_verdict(spearman: float, ssim: float) -> str:
    """`CHANGES` or `FAILS`; a dash if neither similarity is defined."""
    if math.isnan(spearman) and math.isnan(ssim):
        return NOTHING
    return FAILS if abs(spearman) > LARGEST or ssim > LARGEST else CHANGES


def _images(settings: Sequence[Setting]) -> str:
    counts = dict.fromkeys(setting.evaluation.attributions.images for setting in settings)
    return " or ".join(f"{count:,}" for count in counts)


def _facts(frame: pd.DataFrame, settings: Sequence[Setting]) -> str:
    """The seeds of the rows, and the facts of the settings that have a row."""
    seeds = sorted(frame["seed"].unique())
    said = f"n = {len(seeds)} seeds ({', '.join(map(str, seeds))}); ± is the standard deviation over them"
    if len(seeds) == 1:
        said = f"one network per row (seed {seeds[0]}), so n = 1 and no spread"
    counts = [(setting, of_setting(frame, setting)["seed"].nunique()) for setting in settings]
    return f"{said}. {all_facts([replace(setting, seeds=count) for setting, count in counts if count])}"


def shortcut_table(frame: pd.DataFrame, methods: Titles, settings: Sequence[Setting]) -> Table:
    """How much networks rely on a shortcut that tells the class in training images and says nothing in test images.

    ``frame`` has ``validation_accuracy``, ``accuracy``, ``relevance_mass`` and ``random_relevance_mass`` of every run.
    """
    dropped = frame.assign(drop=frame["validation_accuracy"] - frame["accuracy"])
    caption = f"A patch tells the class in training and validation images. {SPREAD}. {all_facts(settings)}"
    note = (
        "The patch tells the class in most training and validation images and is independent of it on the test "
        "split: a network that relies on it loses accuracy, and its saliency lies on the patch."
    )
    rows = grid_rows(dropped, methods, settings, SHORTCUT)
    return Table.of_rows("shortcut", "Reliance on a shortcut", caption, rows, note)


def judges_table(judges: pd.DataFrame) -> Table:
    """The judges of every data set, from the rows of `records.read_judges`."""
    data = judges.assign(accuracy=100 * judges["accuracy"], validation_accuracy=100 * judges["validation_accuracy"])
    names = judges["dataset"].map(display_name)
    display = {
        "Data": names.mask(names == names.shift(), ""),
        "Network": judges["backbone"].map(display_name),
        "Training images": judges["train_images"].map("{:,}".format),
        "Epochs": judges["epochs"],
        "Seed": judges["seed"],
        "Accuracy (%) ↑": data["accuracy"].map(fixed),
        "Validation accuracy (%) ↑": data["validation_accuracy"].map(fixed),
    }
    caption = (
        "Two separate networks per data set judge the maps of all methods, the judge and below it the second judge; "
        "they were trained alike on erased images with a seed of their own (n = 1). Accuracy on the whole test split, "
        "nothing erased."
    )
    return Table("judges", "Judges", caption, data, pd.DataFrame(display).astype(str))


def retraining_table(frame: pd.DataFrame, methods: Titles, baseline: str, settings: Sequence[Setting]) -> Table:
    """DiffROAR: accuracy of networks trained afresh on the most and on the least salient pixels.

    Args:
        frame: one row per run and level, as from `records.read_retraining`.
        methods: the rows.
        baseline: the method that differences are taken to at the middle level, if it is one of them.
        settings: that were retrained.
    """
    levels = sorted(frame["level"].unique())
    middle = levels[len(levels) // 2]
    diffroar = replace(retraining(middle)["diffroar"], digits=2)
    references = {name: title for name, title in methods.items() if name == baseline}
    rows: list[Row] = []
    for setting in settings:
        here = of_setting(frame, setting)
        compared = compared_frame(here[here["level"] == middle], "diffroar", list(methods), [baseline])
        for method in methods:
            own = here[here["method"] == method]
            keys = {"dataset": setting.dataset, "backbone": setting.backbone, "method": method}
            words = {SETTING: setting.name, "Method": methods[method]}
            numbers, texts = _levels(own, levels)
            against, shown = differences(method, compared, references, diffroar)
            shown = {f"{diffroar.label} m{header[1:]}": text for header, text in shown.items()}
            row = keys | {"n": own["seed"].nunique()} | numbers | against
            rows.append((row, words | texts | shown))
    caption = (
        "Accuracy of networks trained afresh on the pixels that a map ranks highest (top) or lowest (bottom). "
        f"DiffROAR: top minus bottom, 0 for a random map. {SPREAD}. {all_facts(settings)}"
    )
    note = (
        "The other pixels are replaced by the data's mean, and the networks are tested on images treated alike (Shah, "
        "Jain and Netrapalli, 2021). Last column: in points, paired by seed, with 95 % confidence interval; p: paired "
        "t-test, Holm-adjusted over the methods of a data set and backbone."
    )
    return Table.of_rows("retraining", "Retraining on the pixels that a map keeps", caption, blank_repeats(rows), note)


def _levels(own: pd.DataFrame, levels: Sequence[float]) -> Row:
    """Top, bottom and difference at every level."""
    numbers: dict[str, object] = {}
    texts: dict[str, str] = {}
    for level in levels:
        found, shown = summarised(own[own["level"] == level], retraining(level), ("top", "bottom"))
        numbers |= {f"{name}_{100 * level:g}": value for name, value in found.items()}
        texts |= shown
    return numbers, texts
