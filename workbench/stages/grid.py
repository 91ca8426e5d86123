"""A whole profile without the pipeline: for a machine of its own."""

from workbench.config.profile import load_grid
from workbench.stages import runs


def run_grid(profile: str) -> None:
    """Train and measure every setting of a profile, without the pipeline: for a machine of its own.

    It calls what the stages call, so it writes the same tables and weights, and finds finished jobs in the ledger:
    an interrupted grid goes on with the same command, and the pipeline on the same machine finds everything finished.

    Raises:
        ValueError, TrainingDiverged, WorkerDied: as :func:`workbench.stages.runs.train`.
    """
    settings = load_grid(profile).settings
    runs.train_judges(profile)
    for number, setting in enumerate(settings, start=1):
        print(f"{profile}, setting {number} of {len(settings)}: {', '.join(setting)}", flush=True)
        runs.train(*setting, None, profile)
        metrics = runs.evaluate(*setting, None, profile)
        runs.retrain(*setting, profile)
        for method, own in metrics.groupby("method", sort=False):
            print(f"  {method}: accuracy {own['accuracy'].mean():.4f} over {len(own)} seeds", flush=True)
