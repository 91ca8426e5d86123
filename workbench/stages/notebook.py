"""Notebooks as pipeline steps: run one with parameters, extract its code, refresh it in place.

``run SOURCE TARGET -p NAME VALUE`` executes with papermill. Unlike papermill's own command it reads the
values as YAML, refuses a parameter that the notebook does not have, runs in the notebook's folder, streams
what the kernel prints, and puts TARGET in place only when every cell succeeded.
``refresh NOTEBOOK...`` executes notebooks that are committed with their outputs, in place and byte-stably.
"""

import argparse
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from workbench.config.files import replacing
from workbench.config.paths import FAILED, ROOT
from workbench.config.temporary import temporary_folder
from workbench.runner.pool import ONE_THREAD

KERNEL = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# A busy machine may start a kernel, and deliver a finished cell's output, late. Of a progress bar only its end is
# stored. The kernel ends at once with whatever it started: a stage's results are on disk by then.
TIMEOUTS = {"start_timeout": 600, "iopub_timeout": 300}
DETERMINISTIC_OUTPUT = {"progress_bar": False, "coalesce_streams": True}
SHUTDOWN = {"shutdown_kernel": "immediate", "extra_arguments": ["--IPKernelApp.log_level=ERROR"]}
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")  # YAML 1.1 takes 1e-3 for text
# Optional for jsonschema, which nbformat and papermill validate with: a grammar of internationalised addresses
# that takes longer to build than all else they import. No notebook's schema asks for such an address.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]


class NotebookError(RuntimeError):
    """A notebook stopped; the message names cell, error and where the notebook was kept."""


def parse_parameters(pairs: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Parameters from ``NAME VALUE`` texts, the values as YAML (``1e-3`` is a number here too).

    Raises:
        ValueError: if a value is no YAML of numbers, texts, lists and mappings, or a name comes twice.
    """
    parameters: dict[str, Any] = {}
    for name, text in pairs:
        if name in parameters:
            raise ValueError(f"parameter {name} is given twice, the second time as {text}")
        try:
            parameters[name] = float(text) if NUMBER.fullmatch(text) else yaml.safe_load(text)
            json.dumps(parameters[name])  # refuses a date, and a list that holds itself
        # PyYAML raises all of these.
        except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
            raise ValueError(f"parameter {name} is {text!r}, which is not plain YAML: quote it") from None
    return parameters


def read(source: Path) -> Any:
    """The notebook without injected parameters, on the kernel of the environment that is running."""
    import nbformat

    if not source.is_file():
        raise FileNotFoundError(f"no notebook {source}: expected the path of an .ipynb file")
    try:
        book = nbformat.read(source, as_version=4)  # type: ignore[no-untyped-call]
        nbformat.validate(book)
    except Exception as error:  # nbformat and the libraries below it raise a dozen types
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"{source} is no notebook ({reason}): expected an .ipynb file") from None
    book.cells = [cell for cell in book.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    book.metadata.update(KERNEL)
    return book


def write(book: Any, target: Path) -> None:
    """Put a notebook in place, whole."""
    import nbformat

    with replacing(target) as temporary:
        nbformat.write(book, temporary)  # type: ignore[no-untyped-call]


def execute(source: Path, target: Path, parameters: Mapping[str, Any]) -> Any:
    """The notebook after running every cell; ``target`` only names it, nothing is written there.

    Raises:
        ValueError: if the notebook has no parameter of that name.
        NotebookError: if a cell failed or the kernel died; the notebook so far is kept in ``logs/failed``.
    """
    import papermill

    for logger in ("papermill", "asyncio"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)  # what matters is raised
    for name, value in ONE_THREAD.items():
        os.environ.setdefault(name, value)
    # The kernel imports the package that is running here, whatever else is installed.
    package = str(Path(__file__).parents[2])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    streams = {"stdout_file": sys.stdout, "stderr_file": sys.stderr, "cwd": source.resolve().parent}
    with temporary_folder() as scratch:
        before, after = scratch / "before.ipynb", scratch / "after.ipynb"
        write(read(source), before)
        known = list(papermill.inspect_notebook(before))
        if unknown := [name for name in parameters if name not in known]:
            names = ", ".join(known) or "none, for it has no cell tagged `parameters`"
            raise ValueError(f"{source} has no parameter {', '.join(unknown)}: expected one of {names}")
        try:
            options = TIMEOUTS | DETERMINISTIC_OUTPUT | SHUTDOWN | streams
            book = papermill.execute_notebook(before, after, dict(parameters), **options)
        except (papermill.PapermillExecutionError, RuntimeError) as error:
            _keep_failed(source, target, after, error)
    book.metadata.papermill.update(input_path=str(source), output_path=str(target))
    return book


def _keep_failed(source: Path, target: Path, copy: Path, error: Exception) -> NoReturn:
    """Keep the notebook as far as it went; one error says what happened and where to look."""
    target = target.resolve()
    kept = FAILED / (target.relative_to(ROOT) if target.is_relative_to(ROOT) else target.name)
    if not copy.exists():  # nothing ran, or the disk is full
        raise NotebookError(f"{source}: {error}\nthe notebook could not be kept: it was not written") from error
    cells = [cell for cell in read(copy).cells if cell.cell_type == "code"]
    started = [cell for cell in cells if cell.metadata.papermill.start_time]
    errors = [output for cell in started for output in cell.outputs if output.output_type == "error"]
    what = f"{errors[-1].ename}: {errors[-1].evalue}" if errors else f"{error} (killed or out of memory?)"
    line = started[-1].source.strip().partition("\n")[0] if started else "before the first cell"
    where = f"cell [{started[-1].execution_count or len(started)}] ({line})" if started else line
    try:
        with replacing(kept) as temporary:
            shutil.copyfile(copy, temporary)
        place = f"the notebook is kept in {kept}"
    except OSError as reason:
        place = f"the notebook could not be kept in {kept} ({reason.strerror})"
    raise NotebookError(f"{source}: {where}: {what}\n{place}")


def run(source: Path, target: Path, parameters: Mapping[str, Any]) -> None:
    """Execute ``source`` with the parameters and write it to ``target`` if every cell succeeded."""
    if source.resolve() == target.resolve():
        raise ValueError(f"{target} is the source itself: name another target, or use `refresh`")
    if sys.stdout.isatty():
        os.environ.setdefault("SMOOT_PROGRESS", "1")
        os.environ.setdefault("COLUMNS", str(shutil.get_terminal_size().columns))
    write(execute(source, target, parameters), target)


def refresh(notebook: Path, parameters: Mapping[str, Any]) -> None:
    """Execute ``notebook`` in place and drop what differs between two executions."""
    os.environ["SMOOT_PROGRESS"] = "0"
    book = execute(notebook, notebook, parameters)
    for part in (book, *book.cells):
        for key in ("papermill", "execution", "widgets"):
            part.metadata.pop(key, None)
        if part.metadata.get("tags") == []:
            del part.metadata["tags"]
        if part.metadata.get("tags") == ["injected-parameters"]:
            part["id"] = "injected-parameters"
    book.metadata.update(KERNEL)
    write(book, notebook)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; see the module's first lines."""
    parser = argparse.ArgumentParser(prog="python -m workbench notebook", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(dest="command", required=True)
    one, several = commands.add_parser("run"), commands.add_parser("refresh")
    one.add_argument("notebook", type=Path, metavar="NOTEBOOK")
    one.add_argument("target", type=Path, metavar="TARGET")
    several.add_argument("notebooks", type=Path, nargs="+", metavar="NOTEBOOK")
    for command in (one, several):
        command.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    given = parser.parse_args(arguments)
    parameters = parse_parameters(given.p)
    if given.command == "run":
        run(given.notebook, given.target, parameters)
    else:
        for notebook in given.notebooks:
            refresh(notebook, parameters)
    return 0
