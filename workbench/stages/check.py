"""``check``: what a pipeline reads, looked at before DVC does: parameters, names, data sets and the lock file.

DVC puts names from ``params.yaml`` into shell commands, and of a damaged ``dvc.lock`` it says what is wrong but not
what to do.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from workbench.config import files, paths
from workbench.config.profile import load_grid, load_judge, load_retraining, load_runs
from workbench.data.catalogue import describe
from workbench.reporting.questions import load_claims, load_study


def check_profile(profile: str) -> None:
    """Read all parameters of a profile, and the entries of its data sets.

    Raises:
        ValueError: names file, key and value of the first mistake.
    """
    grid = load_grid(profile)
    for dataset, backbone in grid.settings:
        load_runs(dataset, backbone, None, profile)
    for dataset in grid.datasets:
        describe(dataset)
    for load in (load_judge, load_retraining, load_claims, load_study):
        load(profile)


def check_lock(lock: Path) -> None:
    """Refuse a lock file that DVC cannot read; none at all is no mistake.

    Raises:
        ValueError: says what is wrong and what to do.
    """
    if not lock.exists():
        return
    try:
        problem = _problem(files.read_yaml(lock))
    except ValueError as error:
        problem = str(error).removeprefix(f"{lock} ")
    if problem:
        name = lock.relative_to(paths.ROOT) if lock.is_relative_to(paths.ROOT) else lock
        raise ValueError(
            f"{name} {problem}: take back the committed one with `git checkout {name}`; without one, delete it, and "
            "DVC runs every stage again, where finished runs are found in scratch/ledger"
        )


def _problem(content: object) -> str:
    """Why DVC would not take this for a lock; empty if it would."""
    if content is None:
        return "is empty"
    if not isinstance(content, dict) or content.get("schema") != "2.0" or not isinstance(content.get("stages"), dict):
        return "is no lock of DVC (half-written or edited?)"
    for stage, entry in content["stages"].items():
        if not isinstance(entry, dict) or "cmd" not in entry:
            return f"has no command of stage {stage} (half-written or edited?)"
        for kind in ("deps", "outs"):
            listed = entry.get(kind, [])
            if not isinstance(listed, list) or not all(isinstance(file, dict) and "path" in file for file in listed):
                return f"lists no files under {kind} of stage {stage} (half-written or edited?)"
    return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: 0 if DVC can start."""
    parser = argparse.ArgumentParser(prog="python -m workbench check", description=__doc__)
    parser.add_argument("--profile", default="laptop", help="laptop (the default), paper or a study")
    profile = parser.parse_args(arguments).profile
    check_profile(profile)
    check_lock(paths.params_file(profile).with_name("dvc.lock"))
    return 0
