"""Every value of the parameter files in turn is one that nobody means: it is refused by name, or does no harm.

So is the value of a notebook's parameter, which papermill writes into a cell as code.
"""

import ast
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from mutations import mutated
from papermill.translators import PythonTranslator
from readers import READERS, Trial

from workbench.stages.notebook import parse_parameters

DEEP: Any = None
for _ in range(100):
    DEEP = [DEEP]
LOOP: list[Any] = []
LOOP.append(LOOP)
VALUES: tuple[Any, ...] = (
    *(None, True, "", " ", "; touch X", "$(touch X)", "../../X", "/etc/passwd", "a\nb", "\u202eé", "x" * 10_000),
    *("1e-3", -1, 0, 1.5, 1e308, math.inf, math.nan, 10**20, 10**400),
    *([], {}, [None], [[]], {"a": 1}, {3: {}}, {"": ""}, DEEP, LOOP),
)


def places(content: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in nested mappings and lists."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield (*way, key)
        yield from places(value, (*way, key))


def replaced(content: Any, way: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value in one place."""
    if not way:
        return value
    copy = content.copy()
    copy[way[0]] = replaced(content[way[0]], way[1:], value)
    return copy


@pytest.mark.faults
@pytest.mark.parametrize("name", ["profile", "catalogue"])
def test_a_hostile_value_is_refused_by_name_or_does_no_harm(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, trial = READERS[name](tmp_path / "work", monkeypatch), Trial(tmp_path)
    before = {file for file in tmp_path.rglob("*")}
    for file in reader.files:
        whole = file.read_bytes()
        content = yaml.safe_load(whole)
        for way in places(content):
            for value in VALUES:
                file.write_text(yaml.safe_dump(replaced(content, way, value), sort_keys=False))
                trial.read(reader, file)
        file.write_bytes(whole)
    with capsys.disabled():
        print(f"\nhostile values, {name}: {trial}")
    assert not trial.found, "\n".join(trial.found.values())
    assert {file for file in tmp_path.rglob("*")} == before


TEXTS = (
    *(b"sgt", b"[0, 1, 2]", b"{a: 0.5, b: [x]}", b"1e-3", b"null", b"2024-01-02"),
    *(rb'"\x41 \" b"', rb"a 'b'; import os # \\", b"- |\n  x\n"),
)
PLAIN = (ast.Constant, ast.List, ast.Dict, ast.UnaryOp, ast.USub, ast.Load, ast.Call, ast.Name)
TRIES = 20_000


@pytest.mark.faults
def test_a_hostile_parameter_of_a_notebook_arrives_as_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    draws, refused = random.Random(0), 0
    for _ in range(TRIES):
        text = mutated(draws.choice(TEXTS), draws).decode(errors="surrogateescape")  # as the command line has it
        try:
            given = parse_parameters([("given", text)])
        except ValueError as error:
            refused += 1
            assert str(error).startswith("parameter given is ") and len(str(error).splitlines()) == 1
            continue
        (line,) = ast.parse(PythonTranslator.codify(given)).body
        assert isinstance(line, ast.Assign)
        parts = list(ast.walk(line.value))
        assert all(isinstance(part, PLAIN) for part in parts), text
        assert {part.id for part in parts if isinstance(part, ast.Name)} <= {"float"}, text  # of "nan" and "inf"
    with capsys.disabled():
        print(f"\nparameters of a notebook: {TRIES} texts, {refused} refused")
