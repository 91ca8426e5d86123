"""Write the tables of a profile: Markdown to read, CSV to compute with.

``tables.write_all("laptop")`` writes ``figures/laptop/tables/NAME.md`` and ``NAME.csv``.
"""

from collections.abc import Iterator, Sequence

import pandas as pd

from workbench.config import paths
from workbench.config.profile import load_grid, load_judge, load_retraining, method_entries
from workbench.reporting import captions, claims, controls, cost
from workbench.reporting import quality as qualities
from workbench.reporting.captions import Setting
from workbench.reporting.chance import located
from workbench.reporting.questions import load_claims, load_study
from workbench.reporting.table import Table
from workbench.reporting.words import Titles
from workbench.results import records as results
from workbench.results.costs import read_costs
from workbench.results.records import RunRecord
from workbench.studies.exhibits import asked

SUBJECT = "smoot"  # the method that is compared
BASELINE = "plain"
REFERENCES = (BASELINE, "random_mask", "sgt", "sgt_improved")  # what it is compared with
Groups = Sequence[tuple[Setting, pd.DataFrame]]  # of each setting one row of metrics per run


def write_all(profile: str) -> dict[str, Table]:
    """Write all tables of a profile; the same results give the same bytes.

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
    return tables


def build_all(profile: str) -> dict[str, Table]:
    """All tables of a profile by name, in reading order; those without anything to show are left out."""
    study = load_study(profile)
    if study is None:
        return {table.name: table for table in _of_grid(profile)}
    found = [exhibit.table(runs, _titles(profile)) for runs, exhibit in asked(study, profile)]
    return {table.name: table for table in found}


def _of_grid(profile: str) -> Iterator[Table]:
    """The tables of a profile that compares methods: an overview, the settings, the controls, the cost."""
    grid, titles = load_grid(profile), _titles(profile)
    methods = {method: titles[method] for method in grid.methods}
    records = results.load_records(grid)
    groups = _groups(records)
    settings = [setting for setting, _ in groups]
    everything = pd.concat([frame for _, frame in groups], ignore_index=True)
    histories = results.read_histories(grid)
    yield from _headline(records, groups[0], histories, methods)
    yield qualities.summary_table(everything, methods, settings)
    verdicts = claims.claim_verdicts(load_claims(profile), groups)
    if len(verdicts):
        yield claims.claims_overview(verdicts, methods, settings)
        yield claims.claims_table(verdicts, methods, settings)
    yield from _of_settings(groups, methods)
    attributions = located(results.attributions_frame(records), results.metrics_frame(records))
    if len(attributions):
        yield controls.attributions_table(attributions, methods, settings)
        yield controls.sanity_table(attributions, methods, settings)
    if shortcuts := [setting for setting in settings if setting.region == "shortcut"]:
        yield controls.shortcut_table(everything, methods, shortcuts)
    yield controls.judges_table(results.read_judges(grid, load_judge(profile)))
    retraining = results.read_retraining(grid, load_retraining(profile))
    if retrained := [setting for setting in settings if len(captions.of_setting(retraining, setting))]:
        yield controls.retraining_table(retraining, methods, BASELINE, retrained)
    yield qualities.masking_table(histories, methods, settings)
    if profile == paths.DEFAULT:  # of no profile's networks: once is enough
        yield cost.cost_table(read_costs(), titles)


def _headline(
    records: Sequence[RunRecord], group: tuple[Setting, pd.DataFrame], histories: pd.DataFrame, methods: Titles
) -> Iterator[Table]:
    """The few numbers of the first setting, if it holds plain training and what they are made from."""
    setting, frame = group
    if BASELINE in methods and set(qualities.HEADLINE) <= set(setting.metrics):
        own = next(runs for _, runs in captions.by_setting(records))
        paid = cost.run_costs(own, captions.of_setting(histories, setting), BASELINE, setting)
        shown = {method: methods[method] for method in (*REFERENCES, SUBJECT) if method in methods}
        yield qualities.headline_table(frame, paid, shown, setting)


def _of_settings(groups: Groups, methods: Titles) -> Iterator[Table]:
    """The four tables of each data set and backbone, kind by kind."""
    for setting, frame in groups:
        yield qualities.accuracy_table(frame, methods, REFERENCES, setting)
    for setting, frame in groups:
        yield qualities.faithfulness_table(frame, methods, setting)
    for setting, frame in groups:
        yield qualities.localisation_table(frame, methods, setting)
    if len(methods) > 1:
        for setting, frame in groups:
            yield qualities.comparisons_table(frame, methods, SUBJECT, REFERENCES, setting)


def _titles(profile: str) -> Titles:
    """The titles of all methods that a profile can name."""
    return {name: entry.title for name, entry in method_entries(profile).items()}


def _groups(records: Sequence[RunRecord]) -> Groups:
    """Each setting with its runs' metrics, and the validation accuracy that their networks were chosen by."""
    groups = []
    for setting, own in captions.by_setting(records):
        chosen = [record.summary["validation_accuracy"] for record in own]
        frame = results.metrics_frame(own)
        groups.append((setting, located(frame, frame).assign(validation_accuracy=chosen)))
    return groups
