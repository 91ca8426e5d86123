"""Write the tables of a profile and its verdict: Markdown to read, CSV to compute with.

``tables.write_all("laptop")`` writes ``figures/laptop/tables/NAME.md`` and ``NAME.csv``, and ``verdict.md``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from workbench.config import files, paths
from workbench.config.profile import load_grid, load_retraining, method_entries
from workbench.reporting import captions, claims, controls, cost, quality
from workbench.reporting.captions import Setting
from workbench.reporting.metrics import Metric, judged_fill
from workbench.reporting.questions import Claim, load_claims, load_study
from workbench.reporting.table import Table, difference_text
from workbench.reporting.words import Titles
from workbench.results import records as results
from workbench.results.costs import read_costs
from workbench.results.records import RunRecord
from workbench.results.statistics import compared_frame
from workbench.studies.exhibits import asked

SUBJECT = "smoot"  # the method that the verdict is on
BASELINE = "plain"
REFERENCES = (BASELINE, "random_mask", "sgt", "sgt_improved")  # what it is compared with
LEVEL = 0.05
RULE = (
    "*Better* and *worse* mean that the 95 % confidence interval of the difference, paired by seed, excludes "
    "zero; differences are in points, p is Holm-adjusted over all pairs of methods of the same data set, "
    "backbone and measure. The judge is one separate network per data set."
)


@dataclass(frozen=True)
class Results:
    """What the tables of a profile are made from.

    Attributes:
        methods: of the grid, in its order, with their titles.
        titles: of all methods that the profile can name.
        groups: for each data set and backbone its setting and one row of metrics per method and seed, with the
            ``validation_accuracy`` of its training.
        attributions: one row per attribution of the networks that get all of them; may be empty.
        histories: one row per epoch of every run.
        costs: one row per network, setting, method and share of masked images.
        judges: one row per data set.
        retraining: one row per method, seed and level of the settings that were retrained; may be empty.
        claims: of the profile.
    """

    methods: Titles
    titles: Titles
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
        """All metrics of all runs."""
        return pd.concat([frame for _, frame in self.groups], ignore_index=True)


def write_all(profile: str) -> dict[str, Table]:
    """Write all tables of a profile and its verdict; the same results give the same bytes.

    Returns:
        The tables by name, in reading order.

    Raises:
        FileNotFoundError: for a missing file; names it and the command that makes it.
        ValueError: for files that do not say what they should.
    """
    folder = paths.ProfilePaths(profile).tables
    tables = build_all(profile)
    for table in tables.values():
        table.write(folder)
    files.write_text(verdict(profile), folder / "verdict.md")
    return tables


def build_all(profile: str) -> dict[str, Table]:
    """All tables of a profile by name, in reading order; those without anything to show are left out."""
    study = load_study(profile)
    if study is None:
        return {table.name: table for table in _of_grid(load(profile))}
    found = [exhibit.table(runs, method_titles(profile)) for runs, exhibit in asked(study, profile)]
    return {table.name: table for table in found}


def load(profile: str) -> Results:
    """Read everything that the tables of a profile need.

    Raises:
        FileNotFoundError: for a missing file; names it and the command that makes it.
        ValueError: for files that do not say what they should.
    """
    grid, titles = load_grid(profile), method_titles(profile)
    records = results.load_records(grid)
    return Results(
        methods={method: titles[method] for method in grid.methods},
        titles=titles,
        groups=[(setting, _metrics(group)) for setting, group in captions.by_setting(records)],
        attributions=results.attributions_frame(records),
        histories=results.read_histories(grid),
        costs=read_costs(),
        judges=results.read_judges(grid),
        retraining=results.read_retraining(grid, load_retraining(profile)),
        claims=load_claims(profile),
    )


def method_titles(profile: str) -> Titles:
    """The titles of all methods that a profile can name."""
    return {name: entry.title for name, entry in method_entries(profile).items()}


def _metrics(records: Sequence[RunRecord]) -> pd.DataFrame:
    """The records' metrics, and the validation accuracy that their networks were chosen by."""
    chosen = [record.summary["validation_accuracy"] for record in records]
    return results.metrics_frame(records).assign(validation_accuracy=chosen)


def _of_grid(loaded: Results) -> Iterator[Table]:
    """The tables of a profile that compares methods: an overview, the settings, the controls, the cost."""
    methods, settings = loaded.methods, loaded.settings
    yield quality.summary_table(loaded.everything, methods, settings)
    verdicts = claims.claim_verdicts(loaded.claims, loaded.groups)
    if len(verdicts):
        yield claims.claims_overview(verdicts, methods, settings)
        yield claims.claims_table(verdicts, methods, settings)
    yield from _of_settings(loaded)
    yield from _of_controls(loaded)
    yield quality.masking_table(loaded.histories, methods, settings)
    yield cost.cost_table(loaded.costs, loaded.titles)


def _of_settings(loaded: Results) -> Iterator[Table]:
    """The four tables of each data set and backbone, kind by kind."""
    methods = loaded.methods
    for setting, frame in loaded.groups:
        yield quality.accuracy_table(frame, methods, REFERENCES, setting)
    for setting, frame in loaded.groups:
        yield quality.faithfulness_table(frame, methods, setting)
    for setting, frame in loaded.groups:
        yield quality.localisation_table(frame, methods, setting)
    if len(methods) > 1:
        for setting, frame in loaded.groups:
            yield quality.comparisons_table(frame, methods, SUBJECT, REFERENCES, setting)


def _of_controls(loaded: Results) -> Iterator[Table]:
    """Other attributions, sanity, the shortcut, judges and retraining, as far as they were asked for."""
    methods, settings = loaded.methods, loaded.settings
    if len(loaded.attributions):
        yield controls.attributions_table(loaded.attributions, methods, settings)
        yield controls.sanity_table(loaded.attributions, methods, settings)
    shortcuts = [setting for setting in settings if setting.region == "shortcut"]
    if shortcuts:
        yield controls.shortcut_table(loaded.everything, methods, shortcuts)
    yield controls.judges_table(loaded.judges)
    retrained = [setting for setting in settings if len(captions.of_setting(loaded.retraining, setting))]
    if retrained:
        yield controls.retraining_table(loaded.retraining, methods, BASELINE, retrained)


def verdict(profile: str) -> str:
    """What the results say of SMOOT against each reference, no more than the intervals allow, as Markdown.

    A study compares what its tables show: here it says only what it asks.
    """
    study = load_study(profile)
    if study is not None:
        (setting, _), *_ = captions.by_setting(results.load_records(load_grid(profile)))
        return f"**{study.title}.** {captions.remarks(study, profile, setting)}".rstrip() + "\n"
    loaded = load(profile)
    paragraphs = [RULE]
    fills = loaded.settings[0].evaluation.fills
    names = ["accuracy", *(f"gap_{fill}" for fill in fills), f"judge_gap_{judged_fill(fills)}"]
    for setting, frame in loaded.groups:
        compared = {name: compared_frame(frame, name, list(loaded.methods)) for name in names}
        lines = [verdict_line(setting.metrics[name], rows, loaded.methods) for name, rows in compared.items()]
        paragraphs.append("\n".join([f"**{setting.name}** ({setting.facts}):", "", *lines]))
    return "\n\n".join(paragraphs) + "\n"


def verdict_line(metric: Metric, comparisons: pd.DataFrame, methods: Titles) -> str:
    """One bullet: the subject against each reference in one metric where higher is better."""
    own = comparisons[(comparisons["method"] == SUBJECT) & comparisons["reference"].isin(REFERENCES)]
    if own.empty:
        return f"- {metric.label}: no runs of {SUBJECT} beside a reference."
    against = "; ".join(_against(pair, metric, methods) for pair in own.to_dict("records"))
    return f"- {metric.label}: {methods[SUBJECT]} is {against}."


def _against(pair: Mapping[Any, Any], metric: Metric, methods: Titles) -> str:
    """``better than Plain (+0.86 [+0.35, +1.37], p = 0.008)``."""
    reference, evidence = methods[pair["reference"]], difference_text(pair, metric)
    if pair["n"] < 2:
        return f"not comparable with {reference} (one seed: {evidence})"
    if pair["low"] <= 0 <= pair["high"]:
        return f"not distinguishable from {reference} ({evidence})"
    word = "better" if pair["difference"] > 0 else "worse"
    caveat = "" if pair["p_holm"] < LEVEL else " before, not after Holm's adjustment"
    return f"{word} than {reference}{caveat} ({evidence})"
