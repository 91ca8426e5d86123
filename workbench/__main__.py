"""The command line of the workbench: ``python -m workbench STAGE …``; each stage imports its code when it runs."""

import argparse
import sys
from collections.abc import Callable, Sequence

from workbench.config import files
from workbench.config.paths import ProfilePaths

Command = Callable[[str], None]


def _methods(profile: str) -> None:
    from workbench.config.profile import resolved_methods

    print(files.write_json(resolved_methods(profile), ProfilePaths(profile).methods))


def _judge(profile: str) -> None:
    from workbench.stages.runs import train_judges

    for row in train_judges(profile).itertuples():
        print(f"judge of {row.dataset}: test accuracy {row.accuracy:.4f}")


def _retrain(profile: str, dataset: str, backbone: str) -> None:
    from workbench.stages.runs import retrain

    found = retrain(dataset, backbone, profile)
    print(f"{len(found.drop_duplicates(['method', 'seed']))} runs measured by retraining")


def _grid(profile: str) -> None:
    from workbench.stages.runs import run_grid

    run_grid(profile)


# Stages of one profile: what they do, and the profile they take if none is named.
PROFILE_STAGES: dict[str, tuple[Command, str, str]] = {
    "methods": (_methods, "write the resolved parameters of the grid's methods", "laptop"),
    "judge": (_judge, "train the judge of every data set", "laptop"),
    "grid": (_grid, "train and measure a whole profile without the pipeline", "paper"),
}
OWN = ("data", "notebook", "verify", "readme")  # stages with arguments of their own


def _code() -> None:
    from workbench.runner.fingerprints import write_fingerprints

    print(f"{len(write_fingerprints())} fingerprints in fingerprints/")


def _own(stage: str, arguments: Sequence[str]) -> int:
    """A stage that reads its arguments itself."""
    if stage == "data":
        from workbench.data.commands import main
    elif stage == "notebook":
        from workbench.stages.notebook import main
    elif stage == "verify":
        from workbench.stages.verify import main
    else:
        from workbench.stages.pages import main
    return main(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one stage.

    Returns:
        0; 1 for an error of the work, 2 for bad input, 130 after Ctrl-C.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in OWN:
        return _own(given[0], given[1:])
    parser = argparse.ArgumentParser(prog="python -m workbench", description="Run one stage of the workbench.")
    stages = parser.add_subparsers(dest="stage", required=True, metavar="STAGE")
    stages.add_parser("code", help="write the fingerprints of rooms and notebooks")
    for name, (_, does, default) in PROFILE_STAGES.items():
        stages.add_parser(name, help=does).add_argument("--profile", default=default)
    retraining = stages.add_parser("retrain", help="measure the maps of a setting by retraining (DiffROAR)")
    for name in ("dataset", "backbone"):
        retraining.add_argument(name)
    retraining.add_argument("--profile", default="laptop")
    for name, does in {
        "data": "fetch data sets, or describe them for a profile",
        "notebook": "run or refresh a notebook",
        "verify": "compare results with the committed ones",
        "readme": "write or check the README's generated blocks",
    }.items():
        stages.add_parser(name, help=does, add_help=False)
    chosen = parser.parse_args(given)
    try:
        if chosen.stage == "code":
            _code()
        elif chosen.stage == "retrain":
            _retrain(chosen.profile, chosen.dataset, chosen.backbone)
        else:
            PROFILE_STAGES[chosen.stage][0](chosen.profile)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
