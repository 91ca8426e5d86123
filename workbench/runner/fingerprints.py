"""Fingerprints of code: SHA-256 over syntax trees, so that only a change of meaning changes them.

A result depends on the code that computed it, yet not on its comments, docstrings and line breaks. A *room* is
``smoot`` or a folder of ``workbench``. No fingerprint have the runner, which decides when work is done and not what
comes out, what is only looked at, and ``smoot.cli``, of which others import the decoding of images alone. Those of
rooms and notebooks are committed in ``fingerprints/``, one file each; the stages of the pipeline depend on those files,
and the ledger's keys on the same text.
"""

import ast
import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from workbench.config import files, paths

SOURCES = Path(__file__).parents[2]
NOTEBOOKS = ("01_train", "02_evaluate", "03_tables", "04_figures")
UNSEEN = ("runner", "exploring")  # rooms that decide no result
# Where files come from and where they lie decides no number: their content is checked by its own hash.
LEFT_OUT = ("workbench/data/download.py", "workbench/config/paths.py", "smoot/cli/")
DECODING = "smoot/cli/decoding.py"  # of image folders, the workbench's too


def rooms() -> dict[str, Path]:
    """The folder of each room that has a fingerprint, by its name."""
    folders = sorted(file.parent for file in (SOURCES / "workbench").glob("*/__init__.py"))
    return {folder.name: folder for folder in (SOURCES / "smoot", *folders) if folder.name not in UNSEEN}


@cache
def fingerprint(*names: str) -> str:
    """SHA-256 over the fingerprints of rooms, in the given order.

    Raises:
        ValueError: if there is no such room.
    """
    known = rooms()
    for name in names:
        if name not in known:
            raise ValueError(f"no room {name!r}: expected one of {', '.join(known)}")
    return _sha256("".join(room_text(known[name]) for name in names))


def room_text(folder: Path) -> str:
    """One line ``SHA-256  FILE`` for each source file and template of a room, in the order of their names."""
    lines = []
    for file in sorted([*folder.rglob("*.py"), *folder.rglob("*.j2")]):
        place = file.relative_to(SOURCES).as_posix()
        if place == DECODING or not place.startswith(LEFT_OUT):
            text = file.read_text("utf-8")
            decisive = meaning(text) if file.suffix == ".py" else text
            lines.append(f"{_sha256(decisive)}  {file.relative_to(folder).as_posix()}\n")
    return "".join(lines)


def notebook_text(file: Path) -> str:
    """One line ``SHA-256  FILE``: the code cells of a notebook, whatever its prose, outputs and metadata."""
    try:
        code = "".join(f"{meaning(source)}\n" for source in code_cells(file))
    except SyntaxError as error:
        raise ValueError(f"{file}: a cell is not Python ({error.msg}): expected plain Python") from None
    return f"{_sha256(code)}  {file.name}\n"


def code_cells(notebook: Path) -> list[str]:
    """The sources of a notebook's code cells, without the one in which papermill injects parameters.

    Raises:
        ValueError: if the file is no notebook; names it.
    """
    try:
        cells = json.loads(notebook.read_text("utf-8"))["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        kept = [cell for cell in code if "injected-parameters" not in cell["metadata"].get("tags", [])]
        return ["".join(cell["source"]) for cell in kept]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{notebook} is no notebook ({error}): expected an .ipynb file") from None


def write_fingerprints() -> list[Path]:
    """Write the fingerprint of every room and stage notebook to ``fingerprints/``; returns the files.

    The file of a room that is gone is removed.
    """
    texts = {name: room_text(folder) for name, folder in rooms().items()}
    texts |= {stem: notebook_text(SOURCES / "notebooks" / f"{stem}.ipynb") for stem in NOTEBOOKS}
    targets = [paths.FINGERPRINTS / f"{name}.txt" for name in texts]
    for stale in set(paths.FINGERPRINTS.glob("*.txt")) - set(targets):
        stale.unlink()
    return [files.write_text(text, target) for target, text in zip(targets, texts.values(), strict=True)]


def meaning(source: str) -> str:
    """The syntax tree of Python source as text, the same in every version of Python.

    Left out: positions and comments, which a tree does not hold; statements that are a mere text, which is what
    docstrings are; and empty fields, which versions of Python have more or fewer of.
    """
    return "".join(_shown(ast.parse(source)))


def _shown(node: Any) -> Iterator[str]:
    if isinstance(node, ast.Constant):
        yield f"Constant({node.value!r})"
    elif isinstance(node, ast.AST):
        yield f"{type(node).__name__}("
        for name, value in ast.iter_fields(node):
            if value is not None and value != []:
                yield f"{name}="
                yield from _shown(value)
                yield " "
        yield ")"
    elif isinstance(node, list):
        yield "["
        for item in node:
            if not _is_text(item):
                yield from _shown(item)
                yield " "
        yield "]"
    else:
        yield repr(node)


def _is_text(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
