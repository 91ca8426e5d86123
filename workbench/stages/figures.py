"""Loads a profile's results and draws its figures: PNG to read, and SVG where lines are drawn.

Call ``figures.write_all("laptop")``; the files are ``figures/laptop/plots/NAME.png`` and ``NAME.svg``, and
``captions.json`` says what each shows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from workbench.config import files, paths
from workbench.config.profile import load_grid
from workbench.reporting import captions, charts, cost_charts
from workbench.reporting import saliency_maps as pictures
from workbench.reporting.captions import Setting, all_facts
from workbench.reporting.metrics import ACCURACY, judged_fill
from workbench.reporting.questions import load_study
from workbench.reporting.style import save
from workbench.reporting.words import display_name, fixed
from workbench.results import costs
from workbench.results import records as results
from workbench.results.records import RunRecord
from workbench.results.statistics import compared_frame
from workbench.studies import comparison_charts, effect_charts, schedule_charts

REFERENCE = "plain"  # what differences are drawn to
SUBJECT = "smoot"  # whose cost changes during a run
BANDS = "bands: 95 % confidence interval over seeds"


@dataclass(frozen=True)
class Drawn:
    """A figure with the stem of its files and its caption; ``vector`` where an SVG is worth having."""

    name: str
    caption: str
    figure: Figure
    vector: bool = True


def write_all(profile: str) -> dict[str, Path]:
    """Draw and write all figures of a profile; the same results give the same bytes.

    Returns:
        The PNG of each figure by name, in reading order.

    Raises:
        FileNotFoundError: for a missing file; names it and the command that makes it.
        ValueError: for files that do not say what they should.
    """
    folder = paths.ProfilePaths(profile).plots
    written: dict[str, Path] = {}
    said: dict[str, str] = {}
    for drawn in draw_all(profile):
        written[drawn.name] = save(drawn.figure, folder / f"{drawn.name}.png")
        said[drawn.name] = drawn.caption
        if drawn.vector:
            save(drawn.figure, folder / f"{drawn.name}.svg")
    files.write_json(said, folder / "captions.json")
    return written


def draw_all(profile: str) -> Iterator[Drawn]:
    """All figures of a profile, one after the other: those of each data set and backbone, then the grid's."""
    grid = load_grid(profile)
    groups = captions.by_setting(results.load_records(grid))
    histories = results.read_histories(grid)
    study = load_study(profile)
    if study is not None:
        for draw, (setting, records) in product((effect_charts.draw, schedule_charts.draw), groups):
            yield from (Drawn(*drawn) for drawn in draw(study, records, histories, setting))
        return
    for setting, records in groups:
        yield from _of_samples(results.read_samples(grid, setting.dataset, setting.backbone), setting, grid.seeds[0])
        here = (histories["dataset"] == setting.dataset) & (histories["backbone"] == setting.backbone)
        yield from _of_runs(records, histories[here], grid.methods, setting)
    yield from _sanity(groups)
    if REFERENCE in grid.methods and len(grid.methods) > 1:
        for name, metric in {"accuracy_differences": "accuracy", "robustness_differences": "accuracy_pgd"}.items():
            yield from _differences(name, metric, groups, grid.methods)
    yield from _run_cost(groups, histories, grid.methods)
    yield _growth()


def _of_samples(samples: dict[str, files.Samples], setting: Setting, seed: int) -> Iterator[Drawn]:
    place = setting.place
    yield Drawn(
        f"saliency_maps_{place}",
        f"Saliency of the predicted class, {setting.name}: in each row the first test image of a class, in "
        f"each column one model (seed {seed}); all maps in multiples of their mean, on one scale. ✓ right "
        f"answer, ✗ wrong one. {setting.facts}.",
        pictures.saliency_maps(samples),
        vector=False,
    )
    yield Drawn(
        f"gradient_magnitudes_{place}",
        f"Magnitude of the input gradient over the pixels of {setting.measured.curve_images:,} test images, "
        f"{setting.name}: its distribution for one model of each method (seed {seed}); pixels "
        f"without any gradient are left out. {setting.facts}.",
        pictures.gradient_magnitudes(samples),
    )
    for method, sample in samples.items():
        if len(sample.attribution_names):
            yield Drawn(
                f"attribution_maps_{place}_{method}",
                f"Attributions of the predicted class by one network, {setting.name}, {display_name(method)} (seed "
                f"{seed}): in each row the first test image of a class; all maps in multiples of their mean, on one "
                f"scale; Random and Edges do not look at the network. Below each image: ✓ right answer, ✗ wrong one. "
                f"{setting.facts}.",
                pictures.attribution_maps(sample),
                vector=False,
            )


def _of_runs(
    records: Sequence[RunRecord], histories: pd.DataFrame, methods: Sequence[str], setting: Setting
) -> Iterator[Drawn]:
    place, fills = setting.place, records[0].config["evaluation"]["fills"]
    frame, curves = results.metrics_frame(records), results.curves_frame(records)
    images = f"on {setting.measured.curve_images:,} test images; dotted: random ranking of the pixels; {BANDS}"
    yield Drawn(
        f"curves_{place}",
        f"Deletion and insertion curves of the input gradient, {setting.name}, {images}. {setting.facts}.",
        charts.perturbation_curves(curves, methods, fills),
    )
    yield Drawn(
        f"judge_curves_{place}",
        f"Deletion and insertion curves of one independent judge network on the maps of each method, {setting.name}, "
        f"{images}. {setting.facts}.",
        charts.perturbation_curves(curves, methods, fills, judge=True),
    )
    yield Drawn(
        f"schedule_{place}",
        f"What was masked during training, what masking cost in information, and how training went, {setting.name}; "
        f"{BANDS}. Answers changed, information lost and cross-entropy rise: of the masked images. {setting.facts}.",
        charts.training_schedule(histories, methods),
    )
    judged = judged_fill(fills)
    gaps = {f"gap_{fill}": f"{fill.capitalize()} fill" for fill in fills}
    yield Drawn(
        f"accuracy_faithfulness_{place}",
        f"Test accuracy and insertion − deletion gap, {setting.name}: of the network itself with each fill, and of "
        "one independent judge network on the same maps; small marks are seeds, large ones means with 95 % "
        f"confidence intervals. {setting.facts}.",
        comparison_charts.accuracy_faithfulness(
            frame, methods, gaps | {f"judge_gap_{judged}": f"Judge, {judged} fill"}
        ),
    )


def _sanity(groups: Sequence[tuple[Setting, list[RunRecord]]]) -> Iterator[Drawn]:
    """The cascades of all networks that were explained in every way, one panel each."""
    explained = [(setting, record) for setting, records in groups for record in records if record.sanity]
    if not explained:
        return
    names = [f"{display_name(setting.dataset)}, {display_name(setting.backbone)}" for setting, _ in explained]
    titles = [f"{name}, {display_name(record.cell.method)}" for name, (_, record) in zip(names, explained, strict=True)]
    seeds = sorted({record.seed for _, record in explained})
    if len(seeds) > 1:
        titles = [f"{title}, seed {record.seed}" for title, (_, record) in zip(titles, explained, strict=True)]
    caption = (
        "Sanity: mean Spearman correlation of each attribution's maps with those of the trained network while its "
        "layers are randomised one after the other, from the output to the input (Adebayo et al., 2018), on "
        f"{explained[0][0].measured.attribution_images:,} test images; one network a panel (seed "
        f"{', '.join(map(str, seeds))}). Random and Edges do not look at the network and stay at 1. "
        f"{all_facts([replace(one, seeds=len(seeds)) for one in dict.fromkeys(setting for setting, _ in explained)])}"
    )
    cascades = {title: record.sanity for title, (_, record) in zip(titles, explained, strict=True)}
    yield Drawn("sanity", caption, charts.sanity_cascades(cascades))


def _differences(
    name: str, metric: str, groups: Sequence[tuple[Setting, list[RunRecord]]], methods: Sequence[str]
) -> Iterator[Drawn]:
    """The forest of one metric; nothing where it was not measured."""
    found = {
        setting: compared_frame(results.metrics_frame(records), metric, methods, [REFERENCE])
        for setting, records in groups
    }
    differences = {setting.name: frame for setting, frame in found.items() if len(frame)}
    if not differences:
        return
    label = ACCURACY[metric].label
    caption = (
        f"{label} on the test split minus that of {display_name(REFERENCE)}, paired by seed, with 95 % confidence "
        f"intervals (not adjusted for the number of comparisons). {all_facts([setting for setting, _ in groups])}"
    )
    yield Drawn(name, caption, comparison_charts.difference_forest(differences, REFERENCE, label))


def _run_cost(
    groups: Sequence[tuple[Setting, list[RunRecord]]], histories: pd.DataFrame, methods: Sequence[str]
) -> Iterator[Drawn]:
    """The cost of every epoch on the networks whose steps were measured; nothing if there are none."""
    measured = costs.read_costs()
    found: dict[Setting, pd.DataFrame] = {}
    for setting, records in groups:
        own = histories[(histories["dataset"] == setting.dataset) & (histories["backbone"] == setting.backbone)]
        computed = costs.run_cost(measured, own, setting.backbone, records[0].config["training"]["batch_size"])
        if len(computed):
            found[setting] = computed
    if not found:
        return
    caption = (
        "Cost of each epoch over Plain's, computed, not timed: the measured cost of a step (CPU, float32, "
        "`results/benchmarks/step_cost.csv`, straight lines between no, half and all images masked) at the recorded "
        f"share of images masked; dotted: the arithmetic limit; {BANDS}. {_whole_runs(list(found.values()))}"
        f"{all_facts(list(found))}"
    )
    yield Drawn(
        "run_cost", caption, cost_charts.run_cost({setting.name: own for setting, own in found.items()}, methods)
    )


def _whole_runs(computed: Sequence[pd.DataFrame]) -> str:
    """A sentence on the subject's whole runs: the cheapest and the dearest setting's means."""
    own = [frame[frame["method"] == SUBJECT][["relative", "limit"]].mean() for frame in computed]
    means = [mean for mean in own if mean.notna().all()]
    if not means:
        return ""
    ends = [f"{fixed(mean['relative'])} × (limit {fixed(mean['limit'])} ×)" for mean in sorted(means, key=_relative)]
    said = ends[0] if ends[0] == ends[-1] else f"{ends[0]} to {ends[-1]}"
    return f"A whole run of {display_name(SUBJECT)} costs {said}. "


def _relative(mean: pd.Series) -> float:
    return float(mean["relative"])


def _growth() -> Drawn:
    measured = costs.read_growth()
    slopes = {
        str(axis): (float(own["exponent"].max()), float(own["memory_exponent"].max()))
        for axis, own in measured.groupby("axis")
    }
    said = "; ".join(
        f"{title.lower()} {fixed(slopes[axis][0])} and {fixed(slopes[axis][1])}"
        for axis, (title, _) in cost_charts.AXES.items()
        if axis in slopes
    )
    network, device = measured[["network", "device"]].iloc[0]
    caption = (
        "Time and peak memory of a training step (last column: of a whole epoch) against size, "
        f"{display_name(network)} on one {device.upper()}{' core' if device == 'cpu' else ''}, plain and SMOOT with "
        "every image masked. Exponents of time and memory over the three largest sizes, the larger of both methods "
        f"(1 is linear): {said}. Source: "
        "`results/benchmarks/growth.csv`, written by `make bench`."
    )
    return Drawn("growth", caption, cost_charts.growth(measured))
