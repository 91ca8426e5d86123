"""The workbench's command line: ``python -m workbench COMMAND …``."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pkgutil import resolve_name
from typing import NamedTuple

from workbench.config import paths

Arguments = Sequence[str] | None


class Command(NamedTuple):
    """A command: what it does, in a line, and the function that does it, ``MODULE:FUNCTION``, imported only then."""

    does: str
    function: str


COMMANDS = {
    "code": Command("write the fingerprints of the code (pipeline)", "workbench.__main__:code"),
    "check": Command("look at the parameters and the lock before the pipeline runs", "workbench.stages.check:main"),
    "data": Command("fetch data sets, or write down what they consist of (pipeline)", "workbench.data.commands:main"),
    "methods": Command("write the parameters of a profile's methods (pipeline)", "workbench.__main__:methods"),
    "judge": Command("train the judges of a profile (pipeline)", "workbench.__main__:judge"),
    "retrain": Command("measure DiffROAR of a setting (pipeline)", "workbench.__main__:retrain"),
    "grid": Command("train and measure a whole profile without the pipeline", "workbench.stages.grid:main"),
    "choice": Command("choose the default over all regimes of a study (pipeline)", "workbench.stages.choice:main"),
    "verify": Command("compare this machine's results with the committed ones", "workbench.stages.verify:main"),
    "notebook": Command("run a notebook with parameters, or refresh it in place", "workbench.stages.notebook:main"),
    "site": Command("collect the documents for the web site", "workbench.stages.site:main"),
    "readme": Command("write or check the generated parts of the documents", "workbench.stages.pages:main"),
}


def code(arguments: Arguments = None) -> int:
    """``code``: write ``fingerprints/``."""
    _parse("code", arguments, profile=False)
    from workbench.runner.fingerprints import write_fingerprints

    print(f"{len(write_fingerprints())} fingerprints in {paths.FINGERPRINTS.relative_to(paths.ROOT)}")
    return 0


def methods(arguments: Arguments = None) -> int:
    """``methods``: write ``results/PROFILE/methods.json``."""
    profile = _parse("methods", arguments).profile
    from workbench.config import files  # with pandas, which takes a second
    from workbench.config.profile import resolved_methods

    resolved = files.simplified(resolved_methods(profile), "methods", digits=None)
    print(f"{len(resolved)} methods in {files.write_json(resolved, paths.ProfilePaths(profile).methods)}")
    return 0


def judge(arguments: Arguments = None) -> int:
    """``judge``: train the judges of a profile."""
    profile = _parse("judge", arguments).profile
    from workbench.stages import runs

    for row in runs.train_judges(profile).itertuples():
        print(f"judge of {row.dataset}, {row.backbone}: test accuracy {row.accuracy:.4f}")
    return 0


def retrain(arguments: Arguments = None) -> int:
    """``retrain``: measure DiffROAR of every run of a setting."""
    given = _parse("retrain", arguments, "dataset", "backbone")
    from workbench.stages import runs

    found = runs.retrain(given.dataset, given.backbone, given.profile)
    print(f"{len(found.groupby(['method', 'seed']))} runs measured by retraining")
    return 0


def _parse(name: str, arguments: Arguments, *places: str, profile: bool = True) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m workbench {name}", description=COMMANDS[name].does)
    for place in places:
        parser.add_argument(place, metavar=place.upper())
    if profile:
        parser.add_argument("--profile", default="laptop", help="laptop (the default), paper, smoke or a study")
    return parser.parse_args(arguments)


def main(arguments: Arguments = None) -> int:
    """Run a command: 0 if all went well, 2 for a wrong argument or parameter, 1 for other failures, 130 for Ctrl-C."""
    try:
        return _main(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _main(arguments: Arguments) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    shown = "\n".join(f"  {name:10} {command.does}" for name, command in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m workbench",
        usage="python -m workbench COMMAND ...",
        description="Everything around the method: data, training, measuring, tables and figures.",
        epilog=f"commands:\n{shown}\n\n`python -m workbench COMMAND --help` says what a command takes.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of those below")
    command = COMMANDS[parser.parse_args(given[:1]).command]
    if (started := os.environ.get("WORLD_SIZE", "1")) != "1":
        print(
            f"error: WORLD_SIZE is {started}, as torchrun sets it: expected one process, which starts those of a run "
            "itself; set training.devices and give the command without torchrun",
            file=sys.stderr,
        )
        return 2
    with _ending_properly():
        status = _run(command, given[1:])
    if status and not paths.methods_file().is_file():
        print(
            f"{paths.ROOT} is no checkout of the project, and the workbench runs in one: "
            "run it from there, or set SMOOT_ROOT to its folder",
            file=sys.stderr,
        )
    return status


@contextmanager
def _ending_properly() -> Iterator[None]:
    """What SIGTERM and SIGHUP end is cleaned up as after an error; a stage of the pipeline ends with its DVC."""
    from workbench.runner.parents import end_with_dvc

    actions = {}
    for number in (signal.SIGTERM, signal.SIGHUP) if threading.current_thread() is threading.main_thread() else ():
        if signal.getsignal(number) is signal.SIG_DFL:  # not under nohup
            actions[number] = signal.signal(number, lambda n, _: sys.exit(128 + n))
    end_with_dvc()
    try:
        yield
    finally:
        for number, action in actions.items():
            signal.signal(number, action)


def _run(command: Command, arguments: Sequence[str]) -> int:
    """The exit code of a command, with errors of its input printed in one line."""
    try:
        return int(resolve_name(command.function)(arguments))
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (OSError, FloatingPointError) as error:  # of a training that diverged, which says so
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        if not type(error).__module__.startswith("workbench."):  # a mistake in the code: where it happened matters
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
