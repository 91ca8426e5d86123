"""Where the rows of finished jobs go: into the tables of their setting."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.config import files
from workbench.config.profile import Grid
from workbench.results import samples, tables

FACTS = "provenance.json"


def gathered(table: tables.Table, folders: Iterable[Path], target: Path, order: Sequence[str]) -> pd.DataFrame:
    """The rows of the same table of several folders, which it also puts into the table of the target folder."""
    parts = [table.read(folder) for folder in folders]
    found = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(table.columns))
    table.update(found, target, order)
    return found


def keep_provenance(
    table: tables.Table, jobs: Sequence[Any], folders: Sequence[Path], target: Path, order: Sequence[str]
) -> None:
    """The facts of finished jobs, which have a stage and an identity, into the target folder's table of them."""
    facts = [
        job.identity | {"stage": job.stage} | files.read_json(folder / FACTS)
        for job, folder in zip(jobs, folders, strict=True)
    ]
    tables.keep_provenance(table, facts, target, order)


def mean_samples(jobs: Sequence[Any], folders: Sequence[Path], target: Path, grid: Grid) -> dict[str, samples.Samples]:
    """The samples of each method of the jobs, averaged over its seeds whether they were measured now or before.

    A seed measured before is found in the ledger by the key in the setting's provenance, and left out if it is gone.
    """
    measured = tables.PROVENANCE_TABLE.read(target).query("stage == 'evaluate'")
    keys = measured.set_index(["method", "seed"])["key"].to_dict()
    seeds = dict.fromkeys([*grid.seeds, *(job.config.seed for job in jobs)])
    places = {job.config.method.name: folder.parent for job, folder in zip(jobs, folders, strict=True)}
    means = {}
    for method, place in places.items():
        entries = [place / f"{seed}-{keys[method, seed]}" for seed in seeds if (method, seed) in keys]
        found = [samples.samples_in(entry)[method] for entry in entries if (entry / samples.NAME).exists()]
        means[method] = samples.averaged(found)
    return means
