"""Notebooks stay thin and clean, and their parameters plain."""

import ast
import re
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import workbench

ROOT = Path(workbench.__file__).parents[1]
STAGES = ("01_train", "02_evaluate")  # stripped: their results are files
REPORTS = ("00_method", "03_tables", "04_figures")  # committed with their outputs
INTERACTIVE = ("05_explore",)  # stripped: its outputs are controls
EVERY = sorted(STAGES + REPORTS + INTERACTIVE)
PROFILES = (
    dict.fromkeys(STAGES, "smoke")
    | dict.fromkeys(("00_method", *INTERACTIVE))
    | {"03_tables": "laptop", "04_figures": "laptop"}
)
MAX_LINES, MAX_CELL_LINES = 45, 8
UNTIDY = {
    "magic": r"^\s*[%!]",
    "absolute path": r"""["'](/|~|[A-Za-z]:\\)\w""",
    "installation": r"\b(pip|conda|uv) +install\b",
}


def book_of(stem: str) -> Any:
    return nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", as_version=4)


def code_cells(book: Any) -> list[Any]:
    return [cell for cell in book.cells if cell.cell_type == "code"]


def code_lines(source: str) -> int:
    """Lines that are neither blank nor comments."""
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in source.splitlines())


def untidy(book: Any) -> set[str]:
    """What a notebook does that belongs into the package, or nowhere."""
    sources = [cell.source for cell in code_cells(book)]
    text = "\n".join(sources)
    found = {kind for kind, pattern in UNTIDY.items() if re.search(pattern, text, re.MULTILINE)}
    if sum(map(code_lines, sources)) > MAX_LINES or max(map(code_lines, sources), default=0) > MAX_CELL_LINES:
        found.add("too long")
    if "magic" in found:  # not Python
        return found
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add("definition")
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and isinstance(node.value, ast.Lambda):
            found.add("named lambda")
    return found


def outputs(book: Any) -> list[Any]:
    return [output for cell in code_cells(book) for output in cell.outputs]


def test_there_are_exactly_these_notebooks() -> None:
    assert sorted(file.stem for file in (ROOT / "notebooks").glob("*.ipynb")) == EVERY


@pytest.mark.parametrize("stem", EVERY)
def test_a_notebook_is_thin(stem: str) -> None:
    assert untidy(book_of(stem)) == set()


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("def f(): pass", "definition"),
        ("class A: pass", "definition"),
        ("f = lambda x: x", "named lambda"),
        ("%matplotlib inline", "magic"),
        ("open('/data/x')", "absolute path"),
        ("print('pip install x')", "installation"),
        ("\n".join(["x = 1"] * (MAX_CELL_LINES + 1)), "too long"),
    ],
)
def test_the_check_sees_what_is_untidy(source: str, kind: str) -> None:
    assert untidy(new_notebook(cells=[new_code_cell(source)])) == {kind}
    many = [new_code_cell("x = 1") for _ in range(MAX_LINES + 1)]
    assert untidy(new_notebook(cells=many)) == {"too long"}
    assert untidy(new_notebook(cells=[new_markdown_cell(source), *many[1:]])) == set()


@pytest.mark.parametrize("stem", EVERY)
def test_a_notebook_runs_anywhere_and_is_explained(stem: str) -> None:
    book = book_of(stem)
    nbformat.validate(book)
    assert (book.nbformat, book.nbformat_minor) >= (4, 5)
    assert book.metadata.kernelspec.name == "python3"
    assert set(book.metadata) == {"kernelspec", "language_info"}
    assert book.metadata.language_info == {"name": "python"}
    assert book.cells[0].cell_type == "markdown" and book.cells[0].source.startswith("# ")
    assert str(ROOT) not in (ROOT / "notebooks" / f"{stem}.ipynb").read_text(encoding="utf-8")
    assert all({*cell.metadata} <= {"tags"} for cell in book.cells)


@pytest.mark.parametrize("stem", STAGES + INTERACTIVE)
def test_a_notebook_whose_outputs_are_no_results_is_stripped(stem: str) -> None:
    book = book_of(stem)
    assert outputs(book) == []
    assert {cell.execution_count for cell in code_cells(book)} == {None}


@pytest.mark.parametrize("stem", STAGES)
def test_a_stage_notebook_ends_with_its_invariants(stem: str) -> None:
    last = ast.parse(book_of(stem).cells[-1].source)
    assert any(isinstance(node, ast.Assert) for node in last.body)


def badly_executed(book: Any) -> set[str]:
    """What a committed execution must not show."""
    found = {output.output_type for output in outputs(book)} & {"error"}
    if any(output.output_type == "stream" and output.name == "stderr" for output in outputs(book)):
        found.add("stderr")
    counts = [cell.execution_count for cell in code_cells(book)]
    return found | (set() if counts == list(range(1, len(counts) + 1)) else {"order"})


@pytest.mark.parametrize("stem", REPORTS)
def test_a_report_notebook_is_committed_executed(stem: str) -> None:
    assert badly_executed(book_of(stem)) == set()
    assert outputs(book_of(stem))


def parameters_of(stem: str) -> dict[str, Any]:
    """The parameters as papermill sees them."""
    return dict(papermill.inspect_notebook(ROOT / "notebooks" / f"{stem}.ipynb"))


@pytest.mark.parametrize(("stem", "profile"), PROFILES.items())
def test_a_parameters_cell_holds_plain_values_and_comments_and_comes_first(stem: str, profile: str | None) -> None:
    tagged = [cell for cell in code_cells(book_of(stem)) if "parameters" in cell.metadata.get("tags", [])]
    assert tagged == code_cells(book_of(stem))[: len(tagged)]
    values = {}
    for statement in (statement for cell in tagged for statement in ast.parse(cell.source).body):
        assert isinstance(statement, ast.Assign)
        values[ast.unparse(statement.targets[0])] = ast.literal_eval(statement.value)
    assert list(values) == list(parameters_of(stem))
    assert all(parameter["help"] for parameter in parameters_of(stem).values())
    assert values.get("profile") == profile


def test_documented_commands_pass_parameters_that_exist() -> None:
    files = [ROOT / "Makefile", ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    commands = re.findall(r"notebooks/(\w+)\.ipynb([^\n`]* -p [^\n`]*)", text)
    assert commands
    for stem, options in commands:
        assert set(re.findall(r"-p (\w+)", options)) <= set(parameters_of(stem)), stem
