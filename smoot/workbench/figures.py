"""Loads a profile's results and draws its figures: PNG to read, and SVG where lines are drawn.

Call ``figures.write_all("laptop")``; the files are ``figures/laptop/plots/NAME.png`` and ``NAME.svg``, and
``captions.json`` says what each shows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from smoot.workbench import captions, charts, paths, pictures, results, statistics, storage
from smoot.workbench.config import load_grid
from smoot.workbench.results import RunRecord
from smoot.workbench.style import save
from smoot.workbench.typesetting import Setting, all_facts, display_name

REFERENCE = "plain"  # what differences are drawn to
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
    storage.write_json(said, folder / "captions.json")
    return written


def draw_all(profile: str) -> Iterator[Drawn]:
    """All figures of a profile, one after the other: those of each data set and backbone, then the grid's."""
    grid = load_grid(profile)
    groups = captions.by_setting(results.load_records(grid))
    histories = results.read_histories(grid)
    for about, records in groups:
        yield from _of_samples(results.read_samples(grid, about.dataset, about.backbone), about, grid.seeds[0])
        here = (histories["dataset"] == about.dataset) & (histories["backbone"] == about.backbone)
        yield from _of_runs(records, histories[here], grid.methods, about)
    if REFERENCE in grid.methods and len(grid.methods) > 1:
        yield _differences(groups, grid.methods)


def _of_samples(samples: dict[str, storage.Samples], about: Setting, seed: int) -> Iterator[Drawn]:
    place = f"{about.dataset}_{about.backbone}"
    yield Drawn(
        f"saliency_maps_{place}",
        f"Saliency of the predicted class, {about.name}: in each row the first test image of a class, in "
        f"each column one model (seed {seed}); all maps in multiples of their mean, on one scale. ✓ right "
        f"answer, ✗ wrong one. {about.facts}.",
        pictures.saliency_maps(samples),
        vector=False,
    )
    yield Drawn(
        f"gradient_magnitudes_{place}",
        f"Magnitude of the input gradient over the pixels of {about.curve_images:,} test images, "
        f"{about.name}: its distribution for one model of each method (seed {seed}); pixels "
        f"without any gradient are left out. {about.facts}.",
        pictures.gradient_magnitudes(samples),
    )


def _of_runs(
    records: Sequence[RunRecord], histories: pd.DataFrame, methods: Sequence[str], about: Setting
) -> Iterator[Drawn]:
    place, fills = f"{about.dataset}_{about.backbone}", records[0].config["evaluation"]["fills"]
    frame, curves = results.metrics_frame(records), results.curves_frame(records)
    yield Drawn(
        f"curves_{place}",
        f"Deletion and insertion curves of the input gradient, {about.name}, on {about.curve_images:,} test "
        f"images; dotted: random ranking of the pixels; {BANDS}. {about.facts}.",
        charts.perturbation_curves(curves, methods, fills),
    )
    yield Drawn(
        f"schedule_{place}",
        f"What was masked during training and how training went, {about.name}; {BANDS}. {about.facts}.",
        charts.training_schedule(histories, methods),
    )
    yield Drawn(
        f"accuracy_faithfulness_{place}",
        f"Test accuracy and insertion − deletion gap, {about.name}: small marks are seeds, large ones means "
        f"with 95 % confidence intervals. {about.facts}.",
        charts.accuracy_faithfulness(frame, methods, fills),
    )


def _differences(groups: Sequence[tuple[Setting, list[RunRecord]]], methods: Sequence[str]) -> Drawn:
    differences = {}
    for about, records in groups:
        compared = statistics.compare_methods(
            results.metrics_frame(records), "accuracy", methods, references=[REFERENCE]
        )
        differences[about.name] = statistics.comparisons_frame(compared)
    caption = (
        f"Test accuracy minus that of {display_name(REFERENCE)}, paired by seed, with 95 % confidence "
        f"intervals (not adjusted for the number of comparisons). {all_facts([about for about, _ in groups])}"
    )
    return Drawn("accuracy_differences", caption, charts.difference_forest(differences, REFERENCE))
