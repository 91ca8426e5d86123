"""Fingerprints: they change with the meaning of code and with nothing else."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from workbench.config import paths
from workbench.runner import fingerprints
from workbench.runner.fingerprints import fingerprint, meaning, notebook_text, write_fingerprints

CODE = '''"""A module."""

import math


class Circle:
    """A circle."""

    radius: float = 2.0

    def area(self) -> float:
        """In square metres."""
        return math.pi * self.radius**2  # Archimedes
'''


def notebook(*cells: tuple[str, ...]) -> str:
    """Cells of a kind, with a source and tags."""
    listed = [{"cell_type": kind, "source": [source], "metadata": {"tags": tags}} for kind, source, *tags in cells]
    return json.dumps({"cells": listed})


@pytest.fixture(autouse=True)
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A core, two rooms, the runner and the notebooks, in a folder of their own."""
    for name in ("smoot", "workbench/config", "workbench/data", "workbench/runner"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "__init__.py").touch()
    for name in ("notebooks", "workbench/no_room"):
        (tmp_path / name).mkdir()
    (tmp_path / "smoot" / "circle.py").write_text(CODE)
    for stem in fingerprints.NOTEBOOKS:
        (tmp_path / "notebooks" / f"{stem}.ipynb").write_text(notebook(("markdown", "# Title"), ("code", "x = 1")))
    monkeypatch.setattr(fingerprints, "SOURCES", tmp_path)
    monkeypatch.setattr(paths, "FINGERPRINTS", tmp_path / "fingerprints")
    fingerprint.cache_clear()
    yield tmp_path
    fingerprint.cache_clear()


def of(*names: str) -> str:
    """A fingerprint of the files as they are now."""
    fingerprint.cache_clear()
    return fingerprint(*names)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  # Archimedes", ""),
        ('"""A circle."""', '"""A round thing.\n\n    Of any size.\n    """'),
        ('        """In square metres."""\n', ""),
        ("math.pi * self.radius**2", "(\n            math.pi\n            * self.radius ** 2\n        )"),
        ("2.0", "2.00"),
    ],
)
def test_comments_docstrings_and_layout_mean_nothing(sources: Path, old: str, new: str) -> None:
    before = of("smoot")
    assert old in CODE
    (sources / "smoot" / "circle.py").write_text(CODE.replace(old, new))
    assert of("smoot") == before


@pytest.mark.parametrize(
    ("old", "new"),
    [("2.0", "2"), ("2.0", "2.5"), ("math.pi *", "math.pi /"), ("self.radius**2", "2**self.radius"), ("area", "Area")],
)
def test_constants_operators_order_and_names_do(sources: Path, old: str, new: str) -> None:
    before, other = of("smoot"), of("data")
    (sources / "smoot" / "circle.py").write_text(CODE.replace(old, new))
    assert of("smoot") != before
    assert of("data") == other


def test_names_and_number_of_files_count(sources: Path) -> None:
    first = of("smoot")
    (sources / "smoot" / "circle.py").rename(sources / "smoot" / "disc.py")
    renamed = of("smoot")
    (sources / "smoot" / "empty.py").touch()
    assert len({first, renamed, of("smoot")}) == 3


def test_where_files_come_from_and_the_command_for_own_images_decide_no_number(sources: Path) -> None:
    (sources / "smoot" / "cli").mkdir()
    before = of("smoot", "config", "data")
    for file in ("workbench/data/download.py", "workbench/config/paths.py", "smoot/cli/command.py"):
        (sources / file).write_text("ADDRESS = 'elsewhere'")
    assert of("smoot", "config", "data") == before
    for room, file in {"data": "workbench/data/formats.py", "smoot": fingerprints.DECODING}.items():
        before = of(room)
        (sources / file).write_text("MAX_PIXELS = 2**26")  # decoding is the workbench's too
        assert of(room) != before


def test_several_rooms_together_and_one_that_there_is_not() -> None:
    assert len({of("smoot"), of("data"), of("smoot", "data"), of("data", "smoot")}) == 4
    with pytest.raises(ValueError, match="no room 'no_room': expected one of smoot, config, data"):
        fingerprint("no_room")


def test_of_a_notebook_only_the_code_cells(tmp_path: Path) -> None:
    file = tmp_path / "n.ipynb"

    def text(*cells: tuple[str, ...]) -> str:
        file.write_text(notebook(*cells))
        return notebook_text(file)

    plain = text(("markdown", "# A"), ("code", "x = 1"))
    assert text(("markdown", "# B"), ("code", "x = 1  # one"), ("markdown", "The end.")) == plain
    assert text(("code", "y", "injected-parameters"), ("code", "x = 1")) == plain
    assert text(("code", "x = 2")) != plain
    assert plain.endswith("  n.ipynb\n")


def test_one_file_per_room_and_notebook_and_none_of_what_is_gone(sources: Path) -> None:
    written = {file.stem: file.read_text() for file in write_fingerprints()}
    assert sorted(written) == sorted(("smoot", "config", "data", *fingerprints.NOTEBOOKS))
    (sources / "fingerprints" / "attic.txt").write_text("old")
    (sources / "smoot" / "circle.py").write_text(CODE.replace("2.0", "3.0"))
    again = {file.stem: file.read_text() for file in write_fingerprints()}
    assert {name for name in again if again[name] != written[name]} == {"smoot"}
    assert sorted(file.stem for file in (sources / "fingerprints").iterdir()) == sorted(written)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        *[("f(None)", "f()"), ("def f(*, x): 1", "def f(*, x=None): 1"), ("{**a}", "{None: a}"), ("f('1')", "f(b'1')")],
        *[("x: int", "x: float"), ("x: float", ""), ("x = 'a'", "x = 'b'")],
    ],
)
def test_none_is_not_nothing_text_not_bytes_and_annotations_and_strings_count(one: str, two: str) -> None:
    assert meaning(one) != meaning(two)


def test_what_one_version_of_python_leaves_out_of_a_tree_does_not_count() -> None:
    tree = ast.parse("def f(): return 1")
    bare = "".join(fingerprints._shown(tree))
    for name, value in {"type_params": [], "type_comment": None}.items():  # of Python 3.12; of some versions
        setattr(tree.body[0], name, value)
    assert "".join(fingerprints._shown(tree)) == bare


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{}", "is no notebook ('cells')"),
        (b"", "is no notebook (Expecting value"),
        (b"[]", "is no notebook ("),
        (b"\xff", "is no notebook ('utf-8' codec can't decode"),
        (b'{"cells": [{"cell_type": "code"}]}', "is no notebook ('metadata')"),
        (notebook(("code", "!pip install torch")).encode(), "a cell is not Python (invalid syntax)"),
    ],
)
def test_a_file_that_is_no_notebook_of_python_is_named(sources: Path, content: bytes, told: str) -> None:
    file = sources / "notebooks" / f"{fingerprints.NOTEBOOKS[0]}.ipynb"
    file.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        write_fingerprints()
    assert str(caught.value).startswith(f"{file}") and told in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
