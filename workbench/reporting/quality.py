"""Tables of what the runs reached and what masking did: the whole grid, and the qualities of each setting.

Frames hold one row of metrics per method and seed; the methods are the rows of a table, in order.
"""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from workbench.reporting.captions import Setting, all_facts
from workbench.reporting.chance import source_of, with_controls
from workbench.reporting.metrics import ACCURACY, MASKING, PLACES, Metrics, faithfulness, gaps, localisation, quality
from workbench.reporting.table import SPREAD, Row, Table, differences, grid_rows, paired, scaled, summarised
from workbench.reporting.words import NOTHING, Titles, display_name, fixed
from workbench.results.statistics import compared_frame

HEADLINE = {  # metric: its short name
    "accuracy": "Accuracy",
    "judge_gap_right_mean": "Judge's gap",
    "accuracy_pgd": "Accuracy under PGD",
}
REGIONS = {
    "foreground": "the object (pixels brighter than the background)",
    "block": "the half of the image that holds the digit; the other half says nothing",
    "shortcut": "the patch that gives the label away in training and not on the test split, where saliency on it "
    "is a mistake: lower is better",
}


def summary_table(frame: pd.DataFrame, methods: Titles, settings: Sequence[Setting]) -> Table:
    """The whole grid at a glance: one row per data set, backbone and method."""
    fills = settings[0].evaluation.fills
    available = quality(fills, [setting.region for setting in settings])
    shown = ["accuracy", "ece", "accuracy_noise", "accuracy_pgd", "stability", *gaps(fills), "relevance_mass"]
    places = dict.fromkeys(f"{PLACES[setting.region]} ({display_name(setting.dataset)})" for setting in settings)
    caption = f"{all_facts(settings)} {SPREAD}. Random map and Edge filter: controls that do not look at the network."
    note = (
        "Gap: area under the insertion curve minus that under the deletion curve, for each fill; the judge's: of a "
        "separate network on the same maps, where the method's answer is right. Relevance mass: share of the saliency "
        f"on the {', '.join(places)}; {NOTHING} where that is more than three quarters of the image. "
        f"{source_of(methods)}."
    )
    metrics = {name: available[name] for name in shown}
    rows = grid_rows(*with_controls(frame, methods), settings, metrics)
    return Table.of_rows("summary", "All results", caption, rows, note)


def headline_table(frame: pd.DataFrame, costs: pd.DataFrame, methods: Titles, setting: Setting) -> Table:
    """The few numbers of one setting that the README shows, with the controls below the methods.

    ``costs`` has ``method``, ``seed`` and the ``passes`` of each run, as from `cost.run_costs`.
    """
    metrics = {name: replace(setting.metrics[name], label=label) for name, label in HEADLINE.items()}
    runs, titles = with_controls(frame, methods)
    paid = costs.groupby("method")["passes"].mean()
    rows = []
    for method, title in titles.items():
        numbers, texts = _row(runs, method, title, metrics)
        cost = f"{fixed(paid[method], 1)} ×" if method in paid else NOTHING
        rows.append((numbers | {"passes": paid.get(method)}, texts | {"Cost ↓": cost}))
    caption = (
        f"{setting.facts}; {SPREAD}. Judge's gap: insertion minus deletion area of a separate network, pixels ranked "
        "by the method's maps of right answers; about 0 by chance. PGD: a small attack. Cost: training passes at most, "
        f"Plain's being 1. {setting.origin}"
    )
    note = f"{source_of(methods)}. Cost: without the forwards that measure the gap."
    return Table.of_rows("headline", f"In short, {setting.name}", caption, rows, note)


def accuracy_table(frame: pd.DataFrame, methods: Titles, references: Sequence[str], setting: Setting) -> Table:
    """Accuracy, calibration and robustness in one setting, with paired differences to the references that were run."""
    comparisons = compared_frame(frame, "accuracy", list(methods))
    known = _known(references, comparisons, methods)
    rows = []
    for method, title in methods.items():
        numbers, texts = _row(frame, method, title, ACCURACY)
        against, against_texts = differences(method, comparisons, known, ACCURACY["accuracy"])
        leading = {name: texts[name] for name in ("Method", ACCURACY["accuracy"].header)}
        rows.append((numbers | against, leading | against_texts | texts))
    measured = setting.evaluation.robustness
    caption = f"{setting.facts}; {SPREAD}. Minus: differences in accuracy, paired by seed. {setting.origin}"
    note = (
        f"The best epoch is chosen on {setting.validation_images:,} other training images. "
        f"Noise: Gaussian, sd {measured.noise_std:g}; blur: Gaussian, sd {measured.blur_sigma:g} px; both on "
        f"{measured.images:,} test images. PGD: {measured.pgd_steps} steps against the label, no pixel "
        f"changed by more than {measured.pgd_epsilon:g}, on {measured.pgd_images:,} test images. Pixels are in "
        "[0, 1]. Minus: accuracy minus that of the method named, in points, with 95 % confidence interval; p: paired "
        f"t-test, Holm-adjusted over all {len(comparisons)} pairs of methods."
    )
    return Table.of_rows(f"accuracy_{setting.place}", f"Accuracy, {setting.name}", caption, rows, note)


def faithfulness_table(frame: pd.DataFrame, methods: Titles, setting: Setting) -> Table:
    """Areas under the deletion and insertion curves in one setting."""
    fills = setting.evaluation.fills
    metrics = faithfulness(fills)
    bare = [name for name in metrics if "gap" not in name]
    runs, titles = with_controls(frame, methods)
    rows = [_row(runs, method, title, metrics, bare) for method, title in titles.items()]
    caption = (
        f"{setting.facts}, curves on {setting.evaluation.curve_images:,} of them; means over seeds, {SPREAD}. Gap: "
        f"insertion minus deletion area. {setting.origin}"
    )
    note = (
        "Curves: accuracy while the most salient pixels are removed (deletion) or shown (insertion) first and the "
        f"others filled ({' or '.join(fills)}). Gap: area under the insertion curve minus that under the deletion "
        "curve. Deletion, random map: that area of the method's own network for a random map, which tells how well the "
        "network bears the fill. Judge's gap: of one separate network, the same for all methods and seeds, that was "
        "trained on erased images and sees only which pixels a method calls salient; on the images that the method "
        "answers rightly. Second judge: a network of another architecture, trained alike. Maps explain the predicted "
        "class, curves score the true one: after a wrong answer the map is of another class, so a less accurate "
        f"network has less to gain in its own gap. {source_of(methods)}."
    )
    return Table.of_rows(f"faithfulness_{setting.place}", f"Faithfulness, {setting.name}", caption, rows, note)


def localisation_table(frame: pd.DataFrame, methods: Titles, setting: Setting) -> Table:
    """Where the saliency is in one setting, with the controls."""
    metrics = localisation([setting.region])
    runs, titles = with_controls(frame, methods)
    rows = [_row(runs, method, title, metrics) for method, title in titles.items()]
    measured = setting.evaluation
    caption = (
        f"{setting.facts}, saliency on {measured.curve_images:,} of them; {SPREAD}. Region: "
        f"{REGIONS[setting.region]}. {setting.origin}"
    )
    note = (
        "Relevance: share of the saliency (mass), and of as many most "
        "salient pixels as the region has (rank), inside it. Pointing game: images whose most salient pixel is at most "
        f"{measured.pointing_tolerance} pixel{'s' if measured.pointing_tolerance != 1 else ''} away from it. Grid "
        f"pointing: share of a class's saliency on its own image in mosaics of four ({measured.mosaics:,} of them); "
        f"{NOTHING} where the network takes one image size only. Relevance and pointing: {NOTHING} where the region is "
        "more than three quarters of the image, as in photographs. Gini index: the higher, the fewer pixels hold the "
        "saliency, be they the right ones or not. Stability: Spearman correlation of the map with that of the image "
        f"under Gaussian noise, sd {measured.stability_std:g}, in [−1, 1]. {source_of(methods)}."
    )
    return Table.of_rows(f"localisation_{setting.place}", f"Localisation, {setting.name}", caption, rows, note)


def _row(frame: pd.DataFrame, method: str, title: str, metrics: Metrics, bare: Sequence[str] = ()) -> Row:
    own = frame[frame["method"] == method]
    numbers, texts = summarised(own, metrics, bare)
    return {"method": method, "n": len(own)} | numbers, {"Method": title} | texts


def _known(references: Sequence[str], comparisons: pd.DataFrame, methods: Titles) -> Titles:
    """The references that a method was compared with."""
    return {name: methods[name] for name in references if name in set(comparisons["reference"])}


def comparisons_table(
    frame: pd.DataFrame, methods: Titles, subject: str, references: Sequence[str], setting: Setting
) -> Table:
    """Every metric of one setting: the subject against each reference that was run, all pairs as numbers."""
    compared = [compared_frame(frame, name, list(methods)).assign(metric=name) for name in setting.metrics]
    everything = pd.concat([found for found in compared if len(found)], ignore_index=True)
    known = _known(references, everything, methods)
    rows = []
    for found, metric in zip(compared, setting.metrics.values(), strict=True):
        against = {title: paired(subject, reference, found, metric)[1] for reference, title in known.items()}
        rows.append({"Measure": metric.difference} | {f"Minus {title}": text for title, text in against.items()})
    caption = (
        f"{methods[subject]} minus the method named, paired by seed, with 95 % confidence interval; arrows: which "
        f"sign is better. {setting.facts}. {setting.origin}"
    )
    note = (
        "p: paired t-test, Holm-adjusted over all pairs of methods of the same measure, which the CSV file holds. A "
        "claim's verdict, adjusted within its own family, is in `claims.md`, where the profile makes claims."
    )
    data = scaled(everything, setting.metrics)
    data.insert(0, "metric", data.pop("metric"))
    name, title = f"comparisons_{setting.place}", f"Paired differences, {setting.name}"
    return Table(name, title, caption, data, pd.DataFrame(rows), note)


def masking_table(histories: pd.DataFrame, methods: Titles, settings: Sequence[Setting]) -> Table:
    """What masking did during training: means over epochs, then over seeds; without methods that never mask.

    ``histories`` has one row per epoch of every run, NaN where nothing was masked.
    """
    keys = ["dataset", "backbone", "method", "seed"]
    lost = (histories["masked_share"] * histories["information_loss"]).where(histories["masked_share"] > 0, 0.0)
    epochs = histories.assign(information_loss_per_training_image=lost)
    by_seed = epochs.groupby(keys)[list(MASKING)].mean().reset_index()
    most = by_seed.groupby("method")["masked_share"].max()
    masking = {method: title for method, title in methods.items() if most[method] > 0}
    caption = f"Means over epochs, on training batches; {SPREAD}. {all_facts(settings)}"
    note = (
        "Images masked, and what is lost per training image: over all epochs; all else: over those in which something "
        "was masked. Information lost: KL(p(x) ‖ p(masked x)) of the masked images; per training image: times the "
        "share of images masked, 0 in an epoch without masks."
    )
    rows = grid_rows(by_seed, masking, settings, MASKING)
    return Table.of_rows("masking", "What masking did", caption, rows, note)
