"""Notebooks as pipeline steps: run one with parameters, extract its code, refresh it in place.

``run SOURCE TARGET -p NAME VALUE`` executes with papermill. Unlike papermill's own command it reads the
values as YAML, refuses a parameter that the notebook does not have, runs in the notebook's folder, streams
what the kernel prints, and puts TARGET in place only when every cell succeeded.
``code NOTEBOOK... --into FOLDER`` writes the code cells as ``STEM.py``: what a stage depends on, so that
saving a notebook without changing its code makes nothing stale.
``refresh NOTEBOOK...`` executes notebooks that are committed with their outputs, in place and byte-stably.
"""

import argparse
import logging
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from smoot.workbench.paths import FAILED, ROOT, replacing

# One thread a process: faster than two on shared cores, and thread counts change the trained weights.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "MKL_NUM_THREADS": "1"}
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
EXECUTION: dict[str, Any] = {
    "progress_bar": False,
    "start_timeout": 300,
    "iopub_timeout": 60,  # seconds that a busy machine may take to deliver a finished cell's output
    "record_timing": False,
    "coalesce_streams": True,
    "shutdown_kernel": "immediate",
    "extra_arguments": ["--IPKernelApp.log_level=ERROR"],
}


class NotebookError(RuntimeError):
    """A notebook stopped; the message names cell, error and where the notebook was kept."""


def parse_parameters(pairs: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Parameters from ``NAME VALUE`` texts, the values as YAML (``1e-3`` is a number here too).

    Raises:
        ValueError: if a value is no YAML or a name comes twice.
    """
    parameters: dict[str, Any] = {}
    for name, text in pairs:
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"parameter {name} is {text!r}, which is not YAML: quote it") from error
        if name in parameters:
            raise ValueError(f"parameter {name} is given twice: {parameters[name]!r} and {value!r}")
        is_number = isinstance(value, str) and re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+", value)
        parameters[name] = float(value) if is_number else value
    return parameters


def _load(source: Path) -> Any:
    import nbformat

    return nbformat.read(source, as_version=4)  # type: ignore[no-untyped-call]


def read(source: Path) -> Any:
    """The notebook without injected parameters, on this environment's kernel, every cell with a stable id."""
    if not source.is_file():
        raise FileNotFoundError(f"no notebook {source}: expected the path of an .ipynb file")
    book = _load(source)
    book.cells = [cell for cell in book.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    if (book.nbformat, book.nbformat_minor) < (4, 5):
        book.nbformat_minor = 5
        for index, cell in enumerate(book.cells):
            cell["id"] = f"cell-{index}"
    book.metadata.update(kernelspec=KERNEL, language_info={"name": "python"})
    return book


def _write(book: Any, target: Path) -> None:
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

    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what matters is raised
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # The kernel imports the package that is running here, whatever else is installed.
    package = str(Path(__file__).parents[2])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory(prefix="smoot-notebook-") as scratch:
        before, after = Path(scratch) / "before.ipynb", Path(scratch) / "after.ipynb"
        _write(read(source), before)
        known = list(papermill.inspect_notebook(before))
        if unknown := [name for name in parameters if name not in known]:
            names = ", ".join(known) or "none, for it has no cell tagged `parameters`"
            raise ValueError(f"{source} has no parameter {', '.join(unknown)}: expected one of {names}")
        streams = {"stdout_file": sys.stdout, "stderr_file": sys.stderr, "cwd": source.resolve().parent}
        try:
            book = papermill.execute_notebook(before, after, dict(parameters), **streams, **EXECUTION)
        except (papermill.PapermillExecutionError, RuntimeError) as error:
            _keep_failed(source, target, after, error)
    book.metadata.papermill.update(input_path=str(source), output_path=str(target))
    return book


def _keep_failed(source: Path, target: Path, copy: Path, error: Exception) -> NoReturn:
    """Keep the notebook as far as it went, and say in one error what happened and where to look."""
    target = target.resolve()
    kept = FAILED / (target.relative_to(ROOT) if target.is_relative_to(ROOT) else target.name)
    with replacing(kept) as temporary:
        shutil.copyfile(copy, temporary)
    cells = [cell for cell in _load(copy).cells if cell.cell_type == "code"]
    started = [cell for cell in cells if cell.metadata.papermill.start_time]
    errors = [output for cell in started for output in cell.outputs if output.output_type == "error"]
    what = f"{errors[-1].ename}: {errors[-1].evalue}" if errors else f"{error} (killed or out of memory?)"
    text = started[-1].source if started else "before the first cell"
    line = next((line for line in text.splitlines() if line.strip()), "")
    raise NotebookError(f"{source}: cell [{len(started)}] ({line.strip()}): {what}\nthe notebook is kept in {kept}")


def run(source: Path, target: Path, parameters: Mapping[str, Any]) -> None:
    """Execute ``source`` with the parameters and write it to ``target`` if every cell succeeded."""
    if source.resolve() == target.resolve():
        raise ValueError(f"{target} is the source itself: name another target, or use `refresh`")
    os.environ.setdefault("SMOOT_PROGRESS", "1" if sys.stdout.isatty() else "0")
    _write(execute(source, target, parameters), target)


def refresh(notebook: Path, parameters: Mapping[str, Any]) -> None:
    """Execute ``notebook`` in place and drop what differs between two executions."""
    os.environ["SMOOT_PROGRESS"] = "0"
    book = execute(notebook, notebook, parameters)
    for holder in (book, *book.cells):
        for key in ("papermill", "execution", "widgets"):
            holder.metadata.pop(key, None)
        if not holder.metadata.get("tags", True):
            del holder.metadata["tags"]
    for cell in book.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell["id"] = "injected-parameters"
    book.metadata.update(kernelspec=KERNEL, language_info={"name": "python"})
    _write(book, notebook)


def code(notebook: Path) -> str:
    """The notebook's code cells as one text, whatever its outputs, counts and metadata."""
    cells = [cell.source for cell in read(notebook).cells if cell.cell_type == "code" and cell.source.strip()]
    lines = "\n\n".join(f"# %%\n{source}" for source in cells).splitlines()
    return "\n".join([f"# The code cells of {notebook.name}", "", *(line.rstrip() for line in lines), ""])


def write_code(notebook: Path, folder: Path) -> Path:
    """Write the notebook's code to ``folder``; an identical file is left alone."""
    target, text = folder / f"{notebook.stem}.py", code(notebook)
    if not target.is_file() or target.read_text(encoding="utf-8") != text:
        with replacing(target) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return target


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; see the module's first lines."""
    parser = argparse.ArgumentParser(prog="python -m smoot.workbench.notebook", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for command in ("run", "code", "refresh"):
        sub = commands.add_parser(command)
        sub.add_argument("notebooks", type=Path, nargs=1 if command == "run" else "+", metavar="NOTEBOOK")
        if command == "run":
            sub.add_argument("target", type=Path, metavar="TARGET")
        if command == "code":
            sub.add_argument("--into", type=Path, required=True, metavar="FOLDER")
        else:
            sub.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    given = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, lambda n, _: sys.exit(128 + n))
    try:
        for notebook in given.notebooks:
            if given.command == "code":
                write_code(notebook, given.into)
            elif given.command == "run":
                run(notebook, given.target, parse_parameters(given.p))
            else:
                refresh(notebook, parse_parameters(given.p))
    except (NotebookError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
