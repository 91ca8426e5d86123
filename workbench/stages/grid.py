"""A profile's whole grid without the pipeline: judges, training, evaluation, retraining, on a machine of its own.

``python -m workbench.stages.grid --profile paper`` calls what the stages call, so it writes the same histories,
records and weights, and finds finished seeds in the ledger: an interrupted run goes on with the same command.
The pipeline on the same machine then finds every run finished and assembles tables and figures.
"""

import argparse
import sys
from collections.abc import Sequence

from workbench.config.profile import load_grid
from workbench.stages.evaluation_cells import evaluate_cell
from workbench.stages.judge_cells import train_judges
from workbench.stages.retraining_cells import retrain_cells
from workbench.stages.training_cells import train_cell


def run_grid(profile: str) -> None:
    """Trains and measures every setting of a profile with all its methods, in the pipeline's order.

    Raises:
        ValueError: for an unknown profile or a bad parameter.
    """
    settings = load_grid(profile).settings
    train_judges(profile)
    for number, setting in enumerate(settings, start=1):
        print(f"{profile}, setting {number} of {len(settings)}: {', '.join(setting)}", flush=True)
        train_cell(*setting, None, profile)
        metrics = evaluate_cell(*setting, None, profile)
        for method, own in metrics.groupby("method", sort=False):
            print(f"  {method}: accuracy {own['accuracy'].mean():.4f} over {len(own)} seeds", flush=True)
    print(f"{len(retrain_cells(profile))} runs measured by retraining", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train and evaluate a profile's whole grid.")
    parser.add_argument("--profile", default="paper")
    try:
        run_grid(parser.parse_args(arguments).profile)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
