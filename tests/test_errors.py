"""docs/errors.md: every message that it quotes is one of the code."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "errors.md"
SUBJECTS = (
    "Parameters and profiles",
    "Data sets and image folders",
    "Pipeline and lock",
    "Grid and Slurm",
    "Ledger and results",
    "The drop-in criterion",
    "Notebooks and documents",
)
CODE = re.compile(r"(?<!`)(`{1,2})(?!`) ?(.*?) ?(?<!`)\1(?!`)")
LETTERS, SHARE = 8, 0.2  # that a text of the code fixes at least, to count as a message; of what is quoted


def rows() -> list[tuple[str, str, str]]:
    """Situation, message and remedy of every row."""
    lines = [line for line in DOCUMENT.read_text("utf-8").splitlines() if line.startswith("| ")]
    split = [re.split(r"(?<=[^|]) \| (?=[^|])", line.strip("| ")) for line in lines]
    return [(cells[0], cells[1], cells[2]) for cells in split if cells[0] != "situation" and len(cells) == 3]


def quoted() -> list[str]:
    """Every message of the second column."""
    return [text for _, cell, _ in rows() for _, text in CODE.findall(cell)]


def texts(tree: ast.AST) -> Iterator[list[str]]:
    """The fixed parts of every text in a file, in order; between two of them a value is put in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield [node.value]
        elif isinstance(node, ast.JoinedStr):
            parts = [""]
            for value in node.values:
                if isinstance(value, ast.Constant):
                    parts[-1] += str(value.value)
                else:
                    parts.append("")
            yield parts


@cache
def messages() -> tuple[tuple[int, re.Pattern[str]], ...]:
    """Every text of the code as a pattern, in which values may be anything, with its number of fixed letters."""
    found = [re.split(r"\$\(\w+\)", text) for text in (ROOT / "Makefile").read_text("utf-8").split('"')]
    for folder in ("smoot", "workbench"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            found += texts(ast.parse(file.read_text("utf-8")))
    known = [(letters("".join(parts)), ".*".join(map(re.escape, parts))) for parts in found]
    return tuple((fixed, re.compile(pattern, re.DOTALL)) for fixed, pattern in known if fixed >= LETTERS)


def letters(text: str) -> int:
    return sum(letter.isalpha() for letter in text)


def is_in_the_code(message: str) -> bool:
    """Whether the code has this text, and enough of it is not filled in."""
    return any(fixed >= SHARE * letters(message) and pattern.fullmatch(message) for fixed, pattern in messages())


def test_there_is_a_table_for_every_subject_and_a_remedy_in_every_row() -> None:
    text = DOCUMENT.read_text("utf-8")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == list(SUBJECTS)
    assert len(rows()) == sum(line.startswith("| ") for line in text.splitlines()) - len(SUBJECTS)
    assert all(CODE.search(message) and remedy for _, message, remedy in rows())
    assert 60 <= len(rows()) <= 100


@pytest.mark.parametrize("message", quoted())
def test_a_message_that_is_quoted_is_one_of_the_code(message: str) -> None:
    assert is_in_the_code(message)


@pytest.mark.parametrize(
    "message",
    [
        "epochs is 0: expected a positive whole number of epochs, at least one",
        "params.yaml: training: key 'batch_size' is absent",
        "interrupted by Ctrl-C",
        "label_smoothing is set in the guidance beside a task: set it there",
    ],
)
def test_what_no_error_says_is_not_one_of_the_code(message: str) -> None:
    assert not is_in_the_code(message)
