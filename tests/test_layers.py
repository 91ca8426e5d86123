"""The rooms and their floors: what a module may import, read from the source."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import workbench
from smoot.cli import NEEDED

SOURCES = Path(workbench.__file__).parents[1]
# A room imports from lower floors and from itself; the core stands below all of them. `cli` is smoot/cli.
FLOORS = (
    ("smoot",),
    ("cli",),
    ("config",),
    ("data", "results", "runner"),
    ("training",),
    ("measuring",),
    ("reporting",),
    ("studies", "exploring"),
    ("stages",),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
HEAVY = {"torch", "timm", "torchvision", "torchmetrics", "safetensors", "captum", "smoot"}
MAX_LINES = 430


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(SOURCES).with_suffix("").parts)


FILES = {module_of(file): file for room in ("smoot", "workbench") for file in sorted((SOURCES / room).rglob("*.py"))}


def room_of(module: str) -> str:
    """``smoot``, ``cli``, the folder in ``workbench``, or empty for the command line above the rooms."""
    first, *rest = module.split(".")
    if module.startswith("smoot.cli."):
        return "cli"
    return first if first == "smoot" else rest[0] if len(rest) > 1 else ""


def imported(code: str) -> Iterator[str]:
    """Every module that a source imports, wherever it does so: a known one by its full name."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative import: name the room"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in FILES else str(node.module)


def own(code: str) -> set[str]:
    """The project's modules among the imported ones."""
    return {name for name in imported(code) if name.partition(".")[0] in ("smoot", "workbench")}


def packages(*rooms: str) -> dict[str, set[str]]:
    """The packages that each module of some rooms imports."""
    inside = {name: file for name, file in FILES.items() if room_of(name) in rooms}
    return {name: {full.partition(".")[0] for full in imported(file.read_text())} for name, file in inside.items()}


def too_high(code: str, room: str) -> set[str]:
    """The modules of the same or a higher floor, other than the room's own, that a source imports."""
    others = {name for name in own(code) if room_of(name) != room}
    return {name for name in others if FLOOR.get(room_of(name), len(FLOORS)) >= FLOOR[room]}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import one another in a circle; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_every_folder_of_the_workbench_is_a_room_with_its_job_in_one_line() -> None:
    found = {file.parent.name: file for file in (SOURCES / "workbench").glob("*/__init__.py")}
    assert set(found) == set(FLOOR) - {"smoot", "cli"}
    for file in found.values():
        (only,) = ast.parse(file.read_text()).body
        assert isinstance(only, ast.Expr) and "\n" not in ast.get_docstring(ast.parse(file.read_text()), clean=False)


def test_a_module_imports_only_from_lower_floors_and_its_own_room() -> None:
    found = {name: too_high(file.read_text(), room_of(name)) for name, file in FILES.items() if room_of(name)}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize("room", FLOOR)
def test_no_circle_inside_a_room(room: str) -> None:
    inside = {name: file for name, file in FILES.items() if room_of(name) == room}
    assert circle({name: own(file.read_text()) & set(inside) for name, file in inside.items()}) == []


def test_the_core_needs_torch_and_nothing_else() -> None:
    allowed = {"smoot", "torch", *sys.stdlib_module_names}
    assert {name: found - allowed for name, found in packages("smoot").items() if found - allowed} == {}


def test_nothing_imports_the_command_for_own_images_but_its_rules_of_decoding() -> None:
    others = {name: own(file.read_text()) for name, file in FILES.items() if room_of(name) != "cli"}
    found = {(name, full) for name, modules in others.items() for full in modules if full.startswith("smoot.cli")}
    assert found == {("workbench.data.image_folders", "smoot.cli.decoding")}


def test_the_command_for_own_images_imports_what_its_extra_installs() -> None:
    extra = tomllib.loads((SOURCES / "pyproject.toml").read_text())["project"]["optional-dependencies"]["images"]
    installed = {"PIL" if name == "pillow" else name for name in (Requirement(line).name for line in extra)}
    found = set().union(*packages("cli").values()) - {"smoot", "torch", *sys.stdlib_module_names}
    assert found == installed == set(NEEDED)


def test_reporting_and_studies_compute_nothing() -> None:
    found = packages("reporting", "studies")
    assert {name: loaded & HEAVY for name, loaded in found.items() if loaded & HEAVY} == {}


def test_a_module_can_be_read_in_one_sitting() -> None:
    assert [name for name, file in FILES.items() if len(file.read_text().splitlines()) > MAX_LINES] == []


def test_the_checks_see_each_kind_of_wrong_import() -> None:
    up = "def f():\n    from workbench.stages.runs import train\n"
    assert too_high(up, "config") == {"workbench.stages.runs"}
    assert too_high("from workbench.stages import runs, tables", "studies") == {
        "workbench.stages.runs",
        "workbench.stages.tables",
    }
    assert too_high("from workbench.data.sets import load", "runner") == {"workbench.data.sets"}  # the same floor
    assert too_high("import workbench.config.paths", "smoot") == {"workbench.config.paths"}
    assert too_high("import workbench.__main__", "stages") == {"workbench.__main__"}
    assert too_high("from smoot import checks\nfrom workbench.config import paths\nimport torch", "training") == set()
    assert set(imported("import numpy as np, os\nfrom scipy import stats")) == {"numpy", "os", "scipy"}
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == {"a", "b", "c"}
    assert circle({"a": {"b"}, "b": set()}) == []
