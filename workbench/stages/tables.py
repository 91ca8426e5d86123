"""Loads a profile's results and writes its tables and its verdict: Markdown to read, CSV to compute with.

tables.write_all("laptop")    # figures/laptop/tables/NAME.md and NAME.csv, verdict.md
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from workbench.config import paths
from workbench.config.files import write_text
from workbench.config.profile import load_grid
from workbench.reporting import captions, claims, controls, cost
from workbench.reporting import quality as quality_tables
from workbench.reporting.captions import Setting
from workbench.reporting.metrics import Metric, judged_fill, quality
from workbench.reporting.questions import Claim, Study, load_claims, load_study, remarks
from workbench.reporting.table import Table, difference_text
from workbench.reporting.words import display_name
from workbench.results import records as results
from workbench.results.costs import read_costs
from workbench.results.records import RunRecord
from workbench.results.statistics import REFERENCES, compared_frame
from workbench.studies import compare
from workbench.studies import index as studies

SUBJECT = "smoot"  # whose verdict it is
LEVEL = 0.05
RULE = (
    "*Better* and *worse* mean that the 95 % confidence interval of the difference, paired by seed, excludes "
    "zero; differences are in points, p is Holm-adjusted over all pairs of methods of the same data set, "
    "backbone and measure. The judge is one independent network a data set."
)


@dataclass(frozen=True)
class Results:
    """What the tables of a profile are made from.

    Attributes:
        methods: in the grid's order.
        fills: what removed pixels were replaced by, in the evaluation's order.
        groups: for each data set and backbone its setting and one row of metrics per method and seed, with the
            ``validation_accuracy`` of its training.
        attributions: one row per attribution of the networks that are explained in every way; may be empty.
        histories: one row per epoch of every run.
        costs: one row per network, setting, method and share of masked images.
        judges: one row per data set.
        retraining: one row per method, seed and level of the settings that were retrained; may be empty.
        claims: of the profile.
    """

    methods: Sequence[str]
    fills: Sequence[str]
    groups: Sequence[tuple[Setting, pd.DataFrame]]
    attributions: pd.DataFrame
    histories: pd.DataFrame
    costs: pd.DataFrame
    judges: pd.DataFrame
    retraining: pd.DataFrame
    claims: Sequence[Claim]

    @property
    def settings(self) -> list[Setting]:
        return [setting for setting, _ in self.groups]

    @property
    def everything(self) -> pd.DataFrame:
        """All metrics of all records."""
        return pd.concat([frame for _, frame in self.groups], ignore_index=True)


def load(profile: str) -> Results:
    """Read everything that the tables of a profile need.

    Raises:
        FileNotFoundError: for a missing file; names it and the command that makes it.
        ValueError: for files that do not say what they should.
    """
    grid = load_grid(profile)
    records = results.load_records(grid)
    return Results(
        methods=grid.methods,
        fills=tuple(records[0].config["evaluation"]["fills"]),
        groups=[(setting, _metrics(group)) for setting, group in captions.by_setting(records)],
        attributions=results.attributions_frame(records),
        histories=results.read_histories(grid),
        costs=read_costs(),
        judges=studies.read_judges(grid),
        retraining=studies.read_retraining(profile),
        claims=load_claims(profile),
    )


def _metrics(records: Sequence[RunRecord]) -> pd.DataFrame:
    """The records' metrics, and the validation accuracy that their networks were chosen by."""
    chosen = [record.history["validation_accuracy"] for record in records]
    return results.metrics_frame(records).assign(validation_accuracy=chosen)


def build_all(profile: str) -> dict[str, Table]:
    """All tables of a profile by name, in reading order; those without anything to show are left out."""
    study = load_study(profile)
    if study is not None:
        return {table.name: table for table in _of_study(study, profile)}
    loaded = load(profile)
    built = [
        quality_tables.summary_table(loaded.everything, loaded.methods, loaded.fills, loaded.settings),
        *_claims(loaded),
        *_of_settings(loaded),
        *_of_attributions(loaded),
        *_of_studies(loaded),
        quality_tables.masking_table(loaded.histories, loaded.methods, loaded.settings),
        cost.cost_table(loaded.costs),
    ]
    return {table.name: table for table in built}


def _of_study(study: Study, profile: str) -> Iterator[Table]:
    """The tables that answer a study's question, for each data set and backbone."""
    grid = load_grid(profile)
    histories = results.read_histories(grid)
    for setting, records in captions.by_setting(results.load_records(grid)):
        yield from compare.tables(study, records, histories, setting)


def _claims(loaded: Results) -> Iterator[Table]:
    judged = claims.judge_claims(loaded.claims, loaded.groups)
    if len(judged):
        yield claims.claims_overview(judged, loaded.fills, loaded.settings)
        yield claims.claims_table(judged, loaded.fills, loaded.settings)


def _of_settings(loaded: Results) -> Iterator[Table]:
    """The four tables of each data set and backbone, kind by kind."""
    methods, fills = loaded.methods, loaded.fills
    compared = [_comparisons(frame, loaded, setting) for setting, frame in loaded.groups]
    for (setting, frame), found in zip(loaded.groups, compared, strict=True):
        yield quality_tables.accuracy_table(frame, found["accuracy"], methods, setting)
    for setting, frame in loaded.groups:
        yield quality_tables.faithfulness_table(frame, methods, fills, setting)
    for setting, frame in loaded.groups:
        yield quality_tables.localisation_table(frame, methods, setting)
    for setting, found in zip(loaded.settings, compared, strict=True):
        if len(found["accuracy"]):
            yield quality_tables.comparisons_table(found, SUBJECT, fills, setting)


def _comparisons(frame: pd.DataFrame, loaded: Results, setting: Setting) -> dict[str, pd.DataFrame]:
    """All pairs of methods in every metric; without rows where it was not measured."""
    return {metric: compared_frame(frame, metric, loaded.methods) for metric in quality(loaded.fills, [setting.region])}


def _of_attributions(loaded: Results) -> Iterator[Table]:
    if len(loaded.attributions):
        yield controls.attributions_table(loaded.attributions, loaded.fills, loaded.settings)
        yield controls.sanity_table(loaded.attributions, loaded.settings)


def _of_studies(loaded: Results) -> Iterator[Table]:
    settings = [setting for setting in loaded.settings if setting.region == "shortcut"]
    if settings:
        yield controls.shortcut_table(loaded.everything, loaded.methods, settings)
    yield controls.judges_table(loaded.judges)
    if len(loaded.retraining):
        present = set(zip(loaded.retraining["dataset"], loaded.retraining["backbone"], strict=True))
        retrained = [setting for setting in loaded.settings if (setting.dataset, setting.backbone) in present]
        yield controls.retraining_table(loaded.retraining, loaded.methods, retrained)


def write_all(profile: str) -> dict[str, Table]:
    """Write all tables of a profile and its verdict; the same results give the same bytes."""
    folder = paths.ProfilePaths(profile).tables
    tables = build_all(profile)
    for table in tables.values():
        table.write(folder)
    write_text(verdict(profile), folder / "verdict.md")
    return tables


def verdict(profile: str) -> str:
    """What the results say of SMOOT against each reference, no more than the intervals allow, as Markdown.

    A study compares what its tables show: here it says only what it asks.
    """
    study = load_study(profile)
    if study is not None:
        return f"**{study.title}.** {remarks(study, results.load_records(load_grid(profile)))}".rstrip() + "\n"
    loaded = load(profile)
    paragraphs = [RULE]
    metrics = ["accuracy", *(f"gap_{fill}" for fill in loaded.fills), f"judge_gap_{judged_fill(loaded.fills)}"]
    for setting, frame in loaded.groups:
        lines = [f"**{setting.name}** ({setting.facts}):", ""]
        for metric in metrics:
            measure = quality(loaded.fills, [setting.region])[metric]
            lines.append(verdict_line(measure, compared_frame(frame, metric, loaded.methods)))
        paragraphs.append("\n".join(lines))
    return "\n\n".join(paragraphs) + "\n"


def verdict_line(measure: Metric, comparisons: pd.DataFrame) -> str:
    """One bullet: the subject against each reference in one measure where higher is better."""
    own = comparisons[(comparisons["method"] == SUBJECT) & comparisons["reference"].isin(REFERENCES)]
    if own.empty:
        return f"- {measure.label}: no runs of {display_name(SUBJECT)} beside a reference."
    judged = "; ".join(_judged(pair, measure) for pair in own.to_dict("records"))
    return f"- {measure.label}: {display_name(SUBJECT)} is {judged}."


def _judged(pair: Mapping[Any, Any], measure: Metric) -> str:
    """``better than Plain (+0.86 [+0.35, +1.37], p = 0.008)``."""
    reference, evidence = display_name(pair["reference"]), difference_text(pair, measure)
    if pair["n"] < 2:
        return f"not comparable with {reference} (one seed: {evidence})"
    if pair["low"] <= 0 <= pair["high"]:
        return f"not distinguishable from {reference} ({evidence})"
    word = "better" if pair["difference"] > 0 else "worse"
    caveat = "" if pair["p_holm"] < LEVEL else " before, not after Holm's adjustment"
    return f"{word} than {reference}{caveat} ({evidence})"
