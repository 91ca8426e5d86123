"""Compare regenerated results with the committed ones: the same study on another machine.

On one machine the tables are equal byte for byte. Across machines and versions the last bits of arithmetic
differ, training amplifies them, and a network differs as if it had another seed. So a mean over seeds is held
against its own spread: it may differ by at most ``TOLERANCE`` standard errors of the difference of two means. What a
judge says of the controls is left out: it varies with the judge alone, and there is one network of each.
"""

import argparse
import io
import re
import subprocess
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from workbench.config import paths
from workbench.config.profile import load_grid
from workbench.results import records as results

TOLERANCE = 4.0
FLOOR = 0.01  # differences of means below one percentage point (or 0.01 nats) are accepted
METHOD = ["dataset", "backbone", "method"]
JUDGED_CONTROL = re.compile(r"(random|edges)_(second_)?judge_")


def compare(ours: pd.DataFrame, committed: pd.DataFrame) -> pd.DataFrame:
    """Every mean over seeds that moved further than its spread explains.

    Args:
        ours, committed: one row per run: dataset, backbone, method, seed and metrics, as from :func:`comparable`.

    Returns:
        One row per deviation: dataset, backbone, method, metric, both means, and their difference in standard
        errors; empty if none.

    Raises:
        ValueError: if the two do not hold the same settings, methods and metrics.
    """
    both = _means(ours).add_suffix("_ours").join(_means(committed).add_suffix("_committed"), how="outer")
    if both["count_ours"].isna().any() or both["count_committed"].isna().any():
        raise ValueError("the two hold other settings, methods or metrics: compare runs of the same parameters")
    difference = (both["mean_ours"] - both["mean_committed"]).abs()
    error = (both["error_ours"] ** 2 + both["error_committed"] ** 2) ** 0.5
    undefined = both["mean_ours"].isna() != both["mean_committed"].isna()
    moved = undefined | (difference > FLOOR) & (difference > TOLERANCE * error)
    columns = {"ours": both["mean_ours"], "committed": both["mean_committed"], "standard_errors": difference / error}
    return pd.DataFrame(columns)[moved].reset_index()


def comparable(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs of `metrics_frame` without the metrics that have no spread over seeds of their own."""
    return frame[[name for name in frame if not JUDGED_CONTROL.match(str(name))]]


def _means(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean, standard error (0 for a single seed) and number of seeds of every metric of every method."""
    long = frame.drop(columns="seed").melt(id_vars=METHOD, var_name="metric")
    means = long.groupby([*METHOD, "metric"])["value"].agg(["mean", "sem", "count"])
    return means.rename(columns={"sem": "error"}).fillna({"error": 0.0})


def committed_metrics(profile: str, revision: str) -> pd.DataFrame:
    """The metrics of a profile's runs at a revision of this repository.

    Raises:
        ValueError: if the revision does not exist or has no results of the profile.
    """
    folder = paths.ProfilePaths(profile).results.relative_to(paths.ROOT).as_posix()
    command = ["git", "-C", str(paths.ROOT), "archive", "--format=zip", revision, folder]
    archive = subprocess.run(command, capture_output=True, check=False)
    if archive.returncode:
        raise ValueError(f"no results of {profile!r} at {revision!r}: {archive.stderr.decode().strip()}")
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(io.BytesIO(archive.stdout)) as content:
        content.extractall(scratch)
        settings = [path.parent for path in sorted(Path(scratch, folder).glob("*/runs.csv"))]
        if not settings:
            raise ValueError(f"no tables of {profile!r} at {revision!r}: expected a revision with {folder}/*/runs.csv")
        return results.metrics_frame([record for setting in settings for record in results.records_in(setting)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what moved; the exit code is 1 if anything did."""
    parser = argparse.ArgumentParser(
        prog="python -m workbench verify", description="Compare the results of this machine with the committed ones."
    )
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--revision", default="HEAD", help="commit to compare with")
    asked = parser.parse_args(arguments)
    ours = comparable(results.metrics_frame(results.load_records(load_grid(asked.profile))))
    moved = compare(ours, comparable(committed_metrics(asked.profile, asked.revision)))
    metrics, settings = len(ours.columns) - len(METHOD) - 1, len(ours.groupby(METHOD[:2]))
    counted = f"{metrics} metrics of {ours['method'].nunique()} methods in {settings} settings"
    print(f"{counted}, {asked.profile} against {asked.revision}: ", end="")
    if moved.empty:
        print(f"all means within {TOLERANCE:g} standard errors (or {FLOOR:g}).")
        return 0
    print(f"{len(moved)} moved further than their spread over seeds explains.")
    print(moved.round(4).to_string(index=False))
    return 1
