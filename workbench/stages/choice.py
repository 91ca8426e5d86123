"""Choose the default: the selection rule of ``studies/number``, over the results of all its regimes.

``python -m workbench choice`` writes three tables, as Markdown and CSV, to ``figures/choice``: ``choice``, the
candidates in the order of the rule; ``controls``, the chosen one beside its controls; and ``regimes``, the chosen one
against three references in each regime, also in those that were trained after the choice.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from workbench.config import paths
from workbench.config.profile import method_entries
from workbench.reporting.cost import run_costs
from workbench.reporting.questions import load_study
from workbench.reporting.table import MINUS, SETTING, Row, Table, blank_repeats, paired
from workbench.reporting.words import Titles, fixed, plus_minus
from workbench.results.statistics import compared_frame
from workbench.studies import choice as rule
from workbench.studies.choice import BASELINE, Regime
from workbench.studies.runs import StudyRuns, load_runs

NAME = "choice"  # of the folder, and of its blocks in documents
WORST = "Accuracy in the worst regime (points) ↑"
CONSTANT = "share_25"  # stands beside the chosen rule in every regime
REFERENCES = (BASELINE, "random_mask", "sgt_improved")  # what the chosen rule is compared with in every regime
COMPARED = ("accuracy", "judge_gap_right_mean", "relevance_mass")


def folder() -> Path:
    """Where the tables are."""
    return paths.ROOT / "figures" / NAME


def load_all(profiles: Sequence[str]) -> list[StudyRuns]:
    """The runs of every regime: of each profile, one data set and backbone after the other.

    Raises:
        FileNotFoundError: for a missing result; names it and the command that makes it.
        ValueError: if a profile is no study, or a run lacks a metric of the rule.
    """
    found: list[StudyRuns] = []
    for profile in profiles:
        study = load_study(profile)
        if study is None:
            raise ValueError(f"{profile} has no block study: expected one of {', '.join(profiles)}")
        found += load_runs(study, profile)
    for runs in found:
        runs.metrics("accuracy", *rule.MEASURES)
    return found


def regime(runs: StudyRuns) -> Regime:
    """What the rule reads of the runs of a regime."""
    paid = run_costs(runs.records, runs.histories, BASELINE, runs.setting).groupby("method")["passes"].mean()
    name = f"{runs.study.title}, {runs.setting.name}"
    return Regime(name, runs.frame, {str(method): float(cost) for method, cost in paid.items()})


def build() -> tuple[Table, Table, Table]:
    """The candidates in the order of the rule, the chosen one beside its controls, and in each regime.

    Raises:
        FileNotFoundError, ValueError: as :func:`load_all`; ValueError also if no candidate is in all regimes.
    """
    runs = load_all(rule.PROFILES)
    regimes = [regime(one) for one in runs]
    titles = {name: entry.title for name, entry in method_entries(rule.PROFILES[0]).items()}
    found = rule.choose(regimes)
    chosen = str(found.loc[found["chosen"], "method"].item())
    data = found.assign(worst_accuracy=100 * found["worst_accuracy"])
    display = [
        {
            "Method": titles[row["method"]],
            WORST: fixed(row["worst_accuracy"], sign=True),
            "Within the limit": "yes" if row["accurate"] else "no",
            "Score ↑": fixed(row["score"]),
            "Behind the first ↓": plus_minus(row["behind"], row["behind_se"]),
            "Cost (×) ↓": fixed(row["cost"]),
            "Chosen": "✓" if row["chosen"] else "",
        }
        for row in data.to_dict("records")
    ]
    limit = f"a loss of {100 * rule.LIMIT:g} points"
    if not (found["worst_accuracy"] >= -rule.LIMIT).any():
        slack = f"{100 * rule.SLACK:g} points, as every candidate loses more than {100 * rule.LIMIT:g}"
        limit = f"the smallest loss plus {slack}"
    measures = "; ".join(runs[0].setting.metrics[name].label for name in rule.MEASURES)
    caption = (
        f"Accuracy: minus {titles[BASELINE]}, in the regime where that is lowest. Score: standardised gain of the maps "
        f"over {titles[BASELINE]}, mean over {len(regimes)} regimes; behind: the first's minus this one, ± standard "
        "error. Cost: training passes at most, Plain's being 1. On development images."
    )
    note = (
        f"Accuracy: mean over seeds; limit: {limit}. Score: mean difference to {titles[BASELINE]}, divided by the "
        "standard deviation of these means over all methods of the regime; mean over the regimes and "
        f"{len(rule.MEASURES)} measures ({measures}). Behind: the highest score within the limit minus this one, ± its "
        f"standard error over {rule.RESAMPLES:,} resamples of the seeds of each regime. Chosen: of those within one "
        "standard error of the first, the one of the lowest cost, in passes of a training over those of "
        f"{titles[BASELINE]}, mean over regimes; forwards that measure a gap are not counted. "
        f"{_ending(runs, regimes, rule.CANDIDATES, titles)}"
    )
    title = "The default, by the selection rule of studies/number"
    return (
        Table(NAME, title, caption, data, pd.DataFrame(display), note),
        _controls(runs, regimes, chosen, titles),
        _regimes([*runs, *load_all(rule.LATER)], chosen, titles),
    )


def _controls(runs: Sequence[StudyRuns], regimes: Sequence[Regime], chosen: str, titles: Titles) -> Table:
    """The chosen rule against its controls."""
    everywhere = [name for name in rule.CONTROLS if all(name in one.costs for one in regimes)]
    data = rule.compared(regimes, chosen, everywhere)
    data["worst_accuracy"] *= 100
    display = [
        {
            "Method": titles[row["method"]],
            WORST: fixed(row["worst_accuracy"], sign=True),
            "Score ↑": fixed(row["score"]),
            f"{titles[chosen]}: score ahead": f"{fixed(row['ahead'], sign=True)} ± {fixed(row['ahead_se'])}",
        }
        for row in data.to_dict("records")
    ]
    caption = (
        f"The score of {titles[chosen]} minus that of its controls: numbers that are fixed beforehand or belong to "
        "other images, random masks, no masks; ± its standard error. Accuracy and score: as in the selection rule."
    )
    note = (
        f"Standard errors are over {rule.RESAMPLES:,} resamples of the seeds of each regime; accuracy and score of "
        f"{titles[BASELINE]} are 0. {_ending(runs, regimes, rule.CONTROLS, titles)}"
    )
    return Table("controls", "Whether deciding adds anything", caption, data, pd.DataFrame(display), note)


def _regimes(regimes: Sequence[StudyRuns], chosen: str, titles: Titles) -> Table:
    """The chosen rule in each regime, minus each reference; a constant share minus plain training."""
    rows: list[Row] = []
    for runs in regimes:
        metrics = runs.metrics(*COMPARED)
        paid = run_costs(runs.records, runs.histories, BASELINE, runs.setting)
        shares = paid.groupby("method")["masked_share"].mean()
        pairs = [(chosen, reference) for reference in REFERENCES] + [(CONSTANT, BASELINE)]
        for method, reference in (pair for pair in pairs if {*pair} <= {*runs.methods}):
            share = 100 * float(shares[method])
            numbers: dict[str, object] = {"regime": runs.study.title, "method": method, "reference": reference}
            texts = {SETTING: runs.study.title, "Method": titles[method], MINUS: titles[reference]}
            numbers["masked"], texts["Images masked (%)"] = share, fixed(share, 1)
            for name, metric in metrics.items():
                both = compared_frame(runs.frame, name, [method, reference], [reference])
                found, text = paired(method, reference, both, metric)
                numbers |= {f"{name}_{field}": value for field, value in found.items()}
                texts[metric.label] = text
            rows.append((numbers, texts))
    caption = (
        f"{titles[chosen]} minus three references, and {titles[CONSTANT]} minus {titles[BASELINE]}: mean difference in "
        "points, 95 % confidence interval, p; higher is better. Images masked by the first: mean over training."
    )
    later = "; ".join(runs.study.title for runs in regimes if runs.records[0].profile in rule.LATER)
    note = (
        f"p: paired t-test, not adjusted. Trained after the choice: {later}. "
        f"Regimes: {'; '.join(f'{runs.study.title} ({runs.setting.facts})' for runs in regimes)}."
    )
    return Table.of_rows("regimes", "The default in every regime", caption, blank_repeats(rows), note)


def _ending(runs: Sequence[StudyRuns], regimes: Sequence[Regime], asked: Sequence[str], titles: Titles) -> str:
    """How a caption ends: which methods some regime lacks, what the regimes are, what was measured."""
    lacking = [titles.get(name, name) for name in asked if not all(name in one.costs for one in regimes)]
    said = f"Left out, because a regime lacks them: {'; '.join(lacking)}. " if lacking else ""
    listed = [f"{one.name} ({own.setting.facts})" for one, own in zip(regimes, runs, strict=True)]
    return f"{said}Regimes: {'; '.join(listed)}. {runs[0].remarks}".rstrip()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: writes the tables and prints what was chosen."""
    parser = argparse.ArgumentParser(prog="python -m workbench choice", description=__doc__)
    parser.parse_args(arguments)
    candidates, *others = build()
    for table in (candidates, *others):
        table.write(folder())
    names = candidates.data.loc[candidates.data["chosen"], "method"]
    print(f"{', '.join(names)} of {len(candidates.data)} candidates: {folder().relative_to(paths.ROOT)}/{NAME}.md")
    return 0
