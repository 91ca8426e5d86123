"""A profile's whole grid without the pipeline: judges, training, evaluation, retraining, on a machine of its own.

``python -m smoot.workbench.grid --profile paper`` calls what the stages call, so it writes the same histories,
records and weights, and finds finished seeds in the ledger: an interrupted run goes on with the same command.
The pipeline on the same machine then finds every run finished and assembles tables and figures.
"""

import argparse
import sys
from collections.abc import Sequence

from smoot.workbench.config import load_grid
from smoot.workbench.evaluation_cells import evaluate_cell
from smoot.workbench.judge_cells import train_judges
from smoot.workbench.retraining_cells import retrain_cells
from smoot.workbench.training_cells import train_cell


def run_grid(profile: str) -> None:
    """Trains and measures every cell of a profile, in the pipeline's order.

    Raises:
        ValueError: for an unknown profile or a bad parameter.
    """
    cells = list(load_grid(profile).cells())
    train_judges(profile)
    for number, cell in enumerate(cells, start=1):
        print(f"{profile}, cell {number} of {len(cells)}: {', '.join(cell)}", flush=True)
        train_cell(*cell, profile)
        metrics = evaluate_cell(*cell, profile)
        print(f"  accuracy {metrics['accuracy'].mean():.4f} over {len(metrics)} seeds", flush=True)
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
