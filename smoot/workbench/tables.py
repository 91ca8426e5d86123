"""Loads a profile's results and writes its tables and its verdict: Markdown to read, CSV to compute with.

tables.write_all("laptop")    # figures/laptop/tables/NAME.md and NAME.csv, verdict.md
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from smoot.workbench import captions, paths, results, statistics, storage, tabulation
from smoot.workbench.config import load_grid
from smoot.workbench.results import RunRecord
from smoot.workbench.typesetting import Setting, Table, display_name, write_text

SUBJECT = "smoot"  # whose verdict it is
LEVEL = 0.05
RULE = (
    "*Better* and *worse* mean that the 95 % confidence interval of the difference, paired by seed, excludes "
    "zero; differences are in points, p is Holm-adjusted over all pairs of methods of the same data set, "
    "backbone and measure."
)


@dataclass(frozen=True)
class Results:
    """What the tables of a profile are made from.

    Attributes:
        methods: in the grid's order.
        fills: what removed pixels were replaced by, in the evaluation's order.
        groups: for each data set and backbone its setting and one row of metrics per method and seed.
        histories: one row per epoch of every run.
        costs: one row per network and method.
    """

    methods: Sequence[str]
    fills: Sequence[str]
    groups: Sequence[tuple[Setting, pd.DataFrame]]
    histories: pd.DataFrame
    costs: pd.DataFrame


def load(profile: str) -> Results:
    """Read everything that the tables of a profile need.

    Raises:
        FileNotFoundError: for a missing file; names it and the command that makes it.
        ValueError: for files that do not say what they should.
    """
    grid = load_grid(profile)
    records = results.load_records(grid)
    groups = [(about, results.metrics_frame(group)) for about, group in captions.by_setting(records)]
    return Results(grid.methods, _fills(records), groups, results.read_histories(grid), _costs())


def _fills(records: Sequence[RunRecord]) -> tuple[str, ...]:
    """The fills in the order of the evaluation's configuration."""
    return tuple(records[0].config["evaluation"]["fills"])


def _costs() -> pd.DataFrame:
    """The measured step costs."""
    path = paths.BENCHMARKS / "step_cost.csv"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: `make bench` makes it")
    costs = pd.read_csv(path)
    storage.check_keys(dict.fromkeys(costs.columns), set(tabulation.COSTS), path, "column ")
    return costs


def build_all(profile: str) -> dict[str, Table]:
    """All tables of a profile by name, in reading order."""
    loaded = load(profile)
    abouts = [about for about, _ in loaded.groups]
    everything = pd.concat([frame for _, frame in loaded.groups], ignore_index=True)
    tables = [tabulation.summary_table(everything, loaded.methods, loaded.fills, abouts)]
    for about, frame in loaded.groups:
        compared = _compared(frame, "accuracy", loaded.methods)
        tables.append(tabulation.accuracy_table(frame, compared, loaded.methods, about))
    tables += [tabulation.saliency_table(frame, loaded.methods, loaded.fills, about) for about, frame in loaded.groups]
    tables.append(tabulation.masking_table(loaded.histories, loaded.methods, abouts))
    tables.append(tabulation.cost_table(loaded.costs))
    return {table.name: table for table in tables}


def write_all(profile: str) -> dict[str, Table]:
    """Write all tables of a profile and its verdict; the same results give the same bytes."""
    folder = paths.ProfilePaths(profile).tables
    tables = build_all(profile)
    for table in tables.values():
        table.write(folder)
    write_text(verdict(profile), folder / "verdict.md")
    return tables


def _compared(frame: pd.DataFrame, metric: str, methods: Sequence[str]) -> pd.DataFrame:
    return statistics.comparisons_frame(statistics.compare_methods(frame, metric, methods))


def verdict(profile: str) -> str:
    """What the results say of SMOOT against each reference, no more than the intervals allow, as Markdown."""
    loaded = load(profile)
    paragraphs = [RULE]
    for about, frame in loaded.groups:
        gaps = {f"Gap, {fill}": f"gap_{fill}" for fill in loaded.fills}
        lines = [f"**{about.name}** ({about.facts}):", ""]
        for label, metric in ({"Accuracy": "accuracy"} | gaps).items():
            lines.append(verdict_line(label, _compared(frame, metric, loaded.methods)))
        paragraphs.append("\n".join(lines))
    return "\n\n".join(paragraphs) + "\n"


def verdict_line(label: str, comparisons: pd.DataFrame) -> str:
    """One bullet: the subject against each reference in one measure where higher is better."""
    own = comparisons[comparisons["method"] == SUBJECT].to_dict("records")
    if not own:
        return f"- {label}: no runs of {display_name(SUBJECT)} beside a reference."
    return f"- {label}: {display_name(SUBJECT)} is {'; '.join(_judged(pair) for pair in own)}."


def _judged(pair: Mapping[Any, Any]) -> str:
    """``better than Plain (+0.86 [+0.35, +1.37], p = 0.008)``."""
    reference, evidence = display_name(pair["reference"]), tabulation.difference_text(pair)
    if pair["n"] < 2:
        return f"not comparable with {reference} (one seed: {evidence})"
    if pair["low"] <= 0 <= pair["high"]:
        return f"not distinguishable from {reference} ({evidence})"
    word = "better" if pair["difference"] > 0 else "worse"
    caveat = "" if pair["p_holm"] < LEVEL else " before, not after Holm's adjustment"
    return f"{word} than {reference}{caveat} ({evidence})"
