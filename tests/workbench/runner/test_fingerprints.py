"""Fingerprints: they change with the meaning of code and with nothing else."""

import ast
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from workbench.config import paths
from workbench.runner import fingerprints
from workbench.runner.fingerprints import fingerprint, meaning, notebook_text, write_fingerprints

PROJECT = fingerprints.SOURCES
CODE = '''"""A module."""

import math


class Circle:
    """A circle."""

    radius: float = 2.0

    def area(self) -> float:
        """In square metres."""
        return math.pi * self.radius**2  # Archimedes
'''


def notebook(*cells: tuple[str, str], **tags: str) -> str:
    listed = [
        {"cell_type": kind, "source": [source], "metadata": {"tags": [tags[source]]} if source in tags else {}}
        for kind, source in cells
    ]
    return json.dumps({"cells": listed})


@pytest.fixture(autouse=True)
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A core, two rooms and the notebooks, in a folder of their own."""
    for name in ("smoot", "workbench/data", "workbench/training", "notebooks", "workbench/no_room"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("smoot/__init__", "workbench/data/__init__", "workbench/data/download", "workbench/training/__init__"):
        (tmp_path / f"{name}.py").write_text("")
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
    seen = {of("smoot")}
    (sources / "smoot" / "circle.py").rename(sources / "smoot" / "disc.py")
    seen.add(of("smoot"))
    (sources / "smoot" / "empty.py").write_text("")
    seen.add(of("smoot"))
    assert len(seen) == 3


def test_where_data_come_from_decides_no_number(sources: Path) -> None:
    before = of("data")
    (sources / "workbench/data/download.py").write_text("ADDRESS = 'elsewhere'")
    assert of("data") == before


def test_several_rooms_together_and_one_that_there_is_not() -> None:
    assert len({of("smoot"), of("data"), of("smoot", "data"), of("data", "smoot")}) == 4
    with pytest.raises(ValueError, match="no room 'no_room': expected one of smoot, data, training"):
        fingerprint("no_room")


def test_an_annotation_without_value_and_a_string_that_is_used_count() -> None:
    assert meaning("x: int") != meaning("x: float") != meaning("")
    assert meaning("x = 'a'") != meaning("x = 'b'")
    assert meaning("def f():\n    'a'\n    return 1") == meaning("def f():\n    return 1")


def test_of_a_notebook_only_the_code_cells(tmp_path: Path) -> None:
    file = tmp_path / "n.ipynb"

    def text(*cells: tuple[str, str], **tags: str) -> str:
        file.write_text(notebook(*cells, **tags))
        return notebook_text(file)

    plain = text(("markdown", "# A"), ("code", "x = 1"))
    assert text(("markdown", "# B"), ("code", "x = 1  # one"), ("markdown", "The end.")) == plain
    assert text(("code", "y"), ("code", "x = 1"), y="injected-parameters") == plain
    assert text(("code", "x = 2")) != plain
    assert plain.endswith("  n.ipynb\n")


def test_one_file_per_room_and_notebook_and_none_of_what_is_gone(sources: Path) -> None:
    written = {file.stem: file.read_text() for file in write_fingerprints()}
    assert sorted(written) == sorted(("smoot", "data", "training", *fingerprints.NOTEBOOKS))
    (sources / "fingerprints" / "attic.txt").write_text("old")
    (sources / "smoot" / "circle.py").write_text(CODE.replace("2.0", "3.0"))
    again = {file.stem: file.read_text() for file in write_fingerprints()}
    assert {name for name in again if again[name] != written[name]} == {"smoot"}
    assert sorted(file.stem for file in (sources / "fingerprints").iterdir()) == sorted(written)


@pytest.mark.parametrize(
    ("one", "two"),
    [("f(None)", "f()"), ("def f(*, x): 1", "def f(*, x=None): 1"), ("{**a}", "{None: a}"), ("f('1')", "f(b'1')")],
)
def test_none_is_not_nothing_and_text_is_not_bytes(one: str, two: str) -> None:
    assert meaning(one) != meaning(two)


def test_what_one_version_of_python_leaves_out_of_a_tree_does_not_count() -> None:
    tree = ast.parse("def f(): return 1")
    bare = "".join(fingerprints._shown(tree))
    for name, value in {"type_params": [], "type_comment": None}.items():  # of Python 3.12; of some versions
        setattr(tree.body[0], name, value)
    assert "".join(fingerprints._shown(tree)) == bare


@pytest.fixture
def project(tmp_path: Path, sources: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project's own code and notebooks."""
    copy = tmp_path / "project"
    for folder in ("smoot", "workbench", "notebooks"):
        shutil.copytree(PROJECT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_*"))
    monkeypatch.setattr(fingerprints, "SOURCES", copy)
    return copy


def changed(project: Path, file: str, old: str, new: str) -> set[str]:
    """The names of the fingerprints that an edit changes."""
    before = {written.stem: written.read_text() for written in write_fingerprints()}
    text = (project / file).read_text()
    assert old in text
    (project / file).write_text(text.replace(old, new, 1))
    return {written.stem for written in write_fingerprints() if before[written.stem] != written.read_text()}


def test_edits_of_the_project_change_the_fingerprints_of_what_they_mean(project: Path) -> None:
    assert changed(project, "smoot/objective.py", "kl_weight: float = 1.0", "kl_weight: float = 1.1") == {"smoot"}
    assert changed(project, "workbench/training/plain.py", '"""', '"""Other words: ') == set()
    assert changed(project, "workbench/runner/pool.py", "timeout=0.2", "timeout=0.3") == set()
    assert changed(project, "workbench/data/download.py", "import", "import antigravity\nimport") == set()
    assert changed(project, "workbench/config/paths.py", '"scratch"', '"other"') == set()
    assert changed(project, "workbench/measuring/stability.py", "import", "import math\nimport") == {"measuring"}
