"""Draws the figures of a profile from its results and writes them with their captions and the report.

Call ``figures.write_all("laptop")``; the files are ``figures/laptop/plots/NAME.png``, ``captions.json`` beside them,
which says what each shows, and ``figures/laptop/report.html``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pandas as pd

from workbench.config import files, paths
from workbench.config.profile import load_grid, method_entries
from workbench.reporting import captions, charts, cost, saliency_maps
from workbench.reporting.captions import Setting, all_facts
from workbench.reporting.charts import BANDS, FILLED, Chart, Differences
from workbench.reporting.metrics import ACCURACY, judged_fill
from workbench.reporting.questions import load_study
from workbench.reporting.style import Looks, method_looks, save
from workbench.reporting.words import display_name, fixed
from workbench.results import costs
from workbench.results import records as results
from workbench.results.records import RunRecord
from workbench.results.samples import Samples
from workbench.results.statistics import compared_frame
from workbench.stages import report
from workbench.studies.exhibits import asked

REFERENCE = "plain"  # what differences are drawn to
OVERLAID = ("plain", "sgt", "smoot")  # methods whose maps are laid over the images
SUBJECT = "smoot"  # whose cost changes during a run
Groups = Sequence[tuple[Setting, list[RunRecord]]]


def write_all(profile: str) -> dict[str, str]:
    """Draw and write all figures of a profile, then its report; the same results give the same bytes.

    Returns:
        The caption of each figure by name, in reading order.

    Raises:
        FileNotFoundError: for a missing file; names it and the command that makes it.
        ValueError: for files that do not say what they should.
    """
    folder = paths.ProfilePaths(profile).plots
    said: dict[str, str] = {}
    for chart in draw_all(profile):
        save(chart.figure, folder / f"{chart.name}.png")
        said[chart.name] = chart.caption
    files.write_json(said, folder / "captions.json")
    report.write_report(profile)
    return said


def draw_all(profile: str) -> Iterator[Chart]:
    """All figures of a profile, one after the other: those of each data set and backbone, then the grid's."""
    looks, study = method_looks(method_entries(profile)), load_study(profile)
    if study is not None:
        for runs, exhibit in asked(study, profile):
            yield exhibit.chart(runs, looks)
        return
    grid = load_grid(profile)
    groups = captions.by_setting(results.load_records(grid))
    histories = results.read_histories(grid)
    shown = {method: looks[method] for method in grid.methods}
    for setting, records in groups:
        samples = results.read_samples(grid, setting.dataset, setting.backbone)
        yield from _of_samples(samples, setting, grid.seeds[0], shown)
        yield from _of_runs(records, captions.of_setting(histories, setting), setting, shown)
    yield from _sanity(groups, shown)
    if REFERENCE in grid.methods and len(grid.methods) > 1:
        for name, metric in {"accuracy_differences": "accuracy", "robustness_differences": "accuracy_pgd"}.items():
            yield from _differences(name, metric, groups, shown)
    yield from _run_cost(groups, histories, shown)
    if profile == paths.DEFAULT:  # of no profile's networks: once is enough
        yield _growth(looks)


def _of_samples(samples: dict[str, Samples], setting: Setting, seed: int, looks: Looks) -> Iterator[Chart]:
    yield Chart(
        f"saliency_maps_{setting.place}",
        f"Saliency of the predicted class, {setting.name}: in each column a method; mean map of the networks of "
        f"all seeds, in multiples of its mean, on one scale. ✓ right, ✗ wrong answer of the network of seed {seed}. "
        f"{setting.facts}.",
        saliency_maps.saliency_maps(samples, looks, setting.dataset),
    )
    overlaid = {method: samples[method] for method in OVERLAID if method in samples}
    if len(overlaid) == len(OVERLAID):
        yield Chart(
            f"overlays_{setting.place}",
            f"Saliency of the predicted class laid over the images, {setting.name}: mean map of the networks of all "
            f"seeds, each in multiples of its mean, and one random map; bright: much saliency. {setting.facts}.",
            saliency_maps.overlays(overlaid, looks, setting.dataset),
        )
    yield Chart(
        f"gradient_magnitudes_{setting.place}",
        f"Magnitude of the input gradient, {setting.name}: over the pixels of {setting.evaluation.curve_images:,} test "
        f"images, one network of each method (seed {seed}); pixels without any gradient are left out. {setting.facts}.",
        saliency_maps.gradient_magnitudes(samples, looks),
    )
    for method, sample in samples.items():
        if len(sample.attribution_names):
            yield Chart(
                f"attribution_maps_{setting.place}_{method}",
                f"Attributions, {setting.name}, {looks[method].title}: of the predicted class by one network (seed "
                f"{seed}), in multiples of their mean, on one scale; Random and Edges do not look at the network. ✓ "
                f"right, ✗ wrong answer. {setting.facts}.",
                saliency_maps.attribution_maps(sample, setting.dataset),
            )


def _of_runs(records: Sequence[RunRecord], histories: pd.DataFrame, setting: Setting, looks: Looks) -> Iterator[Chart]:
    place, fills = setting.place, records[0].config["evaluation"]["fills"]
    frame, curves = results.metrics_frame(records), results.curves_frame(records)
    judged = judged_fill(fills)
    images = f"on {setting.evaluation.curve_images:,} test images; dotted: deletion by a random map; {BANDS}"
    yield Chart(
        f"curves_{place}",
        f"Deletion and insertion curves, {setting.name}: pixels ranked by input gradient, {images}. {setting.facts}.",
        charts.perturbation_curves(curves, looks, fills, classes=setting.num_classes),
    )
    yield Chart(
        f"judge_curves_{place}",
        f"Curves of the judge, {setting.name}: deletion and insertion curves of a separate network on each method's "
        f"maps of right answers, {images}. {setting.facts}.",
        charts.perturbation_curves(curves, looks, fills, judge=True, classes=setting.num_classes),
    )
    yield Chart(
        f"schedule_{place}",
        f"What was masked, {setting.name}: what masking did to the masked images, and how training went; {BANDS}. "
        "Generalisation gap: 1 − cross-entropy of training images / that of validation images, at least 0. "
        f"{setting.facts}.",
        charts.training_schedule(histories, looks),
    )
    gaps = {f"gap_{fill}": f"{fill.capitalize()} fill" for fill in fills}
    yield Chart(
        f"accuracy_faithfulness_{place}",
        f"Test accuracy and insertion − deletion gap, {setting.name}: of the network itself with each fill, and of "
        "the judge on the maps of right answers; small marks: seeds, large ones: means with 95 % confidence intervals. "
        f"{setting.facts}.",
        charts.accuracy_faithfulness(frame, looks, gaps | {f"judge_gap_right_{judged}": f"Judge, {judged} fill"}),
    )


def _sanity(groups: Groups, looks: Looks) -> Iterator[Chart]:
    """The cascades of all networks that got all attributions, one panel each."""
    explained = [(setting, record) for setting, records in groups for record in records if record.sanity]
    if not explained:
        return
    seeds = sorted({record.seed for _, record in explained})
    cascades = {}
    for setting, record in explained:
        seed = f", seed {record.seed}" if len(seeds) > 1 else ""
        cascades[f"{setting.name}, {looks[record.method].title}{seed}"] = record.sanity
    settings = dict.fromkeys(setting for setting, _ in explained)
    caption = (
        "Sanity: Spearman correlation of maps with those of the trained network while its layers are randomised "
        f"(Adebayo et al., 2018), on {explained[0][0].evaluation.attributions.images:,} test images; one network per "
        f"panel (seed {', '.join(map(str, seeds))}). Random and Edges stay at 1. "
        f"{all_facts([replace(setting, seeds=len(seeds)) for setting in settings])}"
    )
    yield Chart("sanity", caption, charts.sanity_cascades(cascades))


def _differences(name: str, metric: str, groups: Groups, looks: Looks) -> Iterator[Chart]:
    """The forest of one metric, one panel per setting; nothing where it was not measured."""
    shown, reference = ACCURACY[metric], looks[REFERENCE].title
    axis, panels = f"{shown.label} minus {reference} (points)", []
    for setting, records in groups:
        rows = compared_frame(results.metrics_frame(records), metric, list(looks), [REFERENCE])
        if len(rows):
            panels.append(Differences(setting.name, axis, rows, shown.factor))
    if panels:
        caption = (
            f"{shown.label} minus that of {reference}: on the test split, paired by seed, with 95 % confidence "
            f"intervals; {FILLED}. {all_facts([setting for setting, _ in groups])}"
        )
        yield Chart(name, caption, charts.forest(panels, looks, columns=3))


def _run_cost(groups: Groups, histories: pd.DataFrame, looks: Looks) -> Iterator[Chart]:
    """The cost of every epoch on the networks whose steps were measured; nothing if there are none."""
    measured = costs.read_costs()
    found: dict[Setting, pd.DataFrame] = {}
    for setting, records in groups:
        own, size = captions.of_setting(histories, setting), records[0].config["training"]["batch_size"]
        computed = costs.run_cost(measured, own, setting.backbone, size)
        if len(computed):
            found[setting] = computed
    if not found:
        return
    caption = (
        "Cost of each epoch over Plain's: from the measured cost of a step (`results/benchmarks/step_cost.csv`) at the "
        f"recorded share of masked images. {_whole_runs(list(found.values()), looks)}{all_facts(list(found))}"
    )
    yield Chart("run_cost", caption, cost.run_cost({setting.name: own for setting, own in found.items()}, looks))


def _whole_runs(computed: Sequence[pd.DataFrame], looks: Looks) -> str:
    """A sentence on the subject's whole runs: the cheapest and the dearest setting's means."""
    own = [frame[frame["method"] == SUBJECT][["relative", "limit"]].mean() for frame in computed]
    means = sorted((float(mean["relative"]), float(mean["limit"])) for mean in own if mean.notna().all())
    if not means:
        return ""
    ends = [f"{fixed(relative)} × (limit {fixed(limit)} ×)" for relative, limit in means]
    said = ends[0] if ends[0] == ends[-1] else f"{ends[0]} to {ends[-1]}"
    return f"A whole run of {looks[SUBJECT].title} costs {said}. "


def _growth(looks: Looks) -> Chart:
    measured = costs.read_growth()
    slopes = measured.groupby("axis")[["exponent", "memory_exponent"]].max()
    said = "; ".join(
        f"{title.lower()} {fixed(slopes['exponent'][axis])} and {fixed(slopes['memory_exponent'][axis])}"
        for axis, (title, _) in cost.AXES.items()
        if axis in slopes.index
    )
    network, device = measured[["network", "device"]].iloc[0]
    caption = (
        "Time and memory of a step: against size (on the right of an epoch), "
        f"{display_name(network)} on one {device.upper()}{' core' if device == 'cpu' else ''}; SMOOT masks every "
        f"image. Exponents of time and memory (1 is linear): {said}. Source: `results/benchmarks/growth.csv`."
    )
    return Chart("growth", caption, cost.growth(measured, looks))
