"""Import closures, on a package made for the test."""

from pathlib import Path

import pytest

from workbench.runner import closure

FILES = {
    "__init__": "from smoot.core import f\n",
    "core": "import math\n",
    "other": "import torch\n",
    "lazy": "",
    "workbench/__init__": "",
    "workbench/plain": "import smoot.core\nfrom workbench import inner, deeper as d\n",
    "workbench/inner": "def f():\n    from smoot.lazy import g\n    return g\n",
    "workbench/deeper/__init__": "from . import leaf\nfrom ..inner import f\n",
    "workbench/deeper/leaf": "from workbench.plain import something\n",
    "workbench/box/__init__": "",
    "workbench/box/item": "",
    "workbench/whole": "import os\nfrom smoot import core, f\n",
    "workbench/whole_too": "import smoot\n",
}


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, code in FILES.items():
        file = tmp_path / "smoot" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code)
    monkeypatch.setattr(closure, "SOURCES", tmp_path)
    return tmp_path / "smoot"


def test_the_closure_follows_every_kind_of_import_and_no_package_file(package: Path) -> None:
    expected = ("core", "lazy", "workbench/deeper/__init__", "workbench/deeper/leaf", "workbench/inner")
    files = [package / f"{name}.py" for name in (*expected, "workbench/plain")]
    assert list(closure.source_files("workbench.plain")) == sorted(files)
    assert closure.source_files("smoot.core") == (package / "core.py",)
    box = tuple(package / f"workbench/box/{name}.py" for name in ("__init__", "item"))
    assert closure.source_files("workbench.box.item") == box
    both = closure.source_files("smoot.other", "smoot.core")
    assert both == (package / "core.py", package / "other.py")


def test_imported_modules_of_source() -> None:
    code = "import numpy as np, os.path\nfrom workbench import inner\nfrom smoot.core import f\n"
    assert closure.imported_modules(code) == {"numpy", "os.path", "workbench.inner", "smoot.core"}


@pytest.mark.parametrize(("module", "line"), [("whole", 2), ("whole_too", 1)])
def test_importing_from_the_whole_package_is_an_error(module: str, line: int) -> None:
    message = f"workbench.{module}, line {line}: imports from the package smoot: name the submodule"
    with pytest.raises(ValueError, match=message):
        closure.source_files(f"workbench.{module}")


@pytest.mark.parametrize("name", ["smoot.nothing", "numpy"])
def test_a_module_that_does_not_exist_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"no module '{name}'"):
        closure.source_files(name)


def test_the_hash_changes_with_what_is_imported_and_with_nothing_else(package: Path) -> None:
    before = closure.code_hash("workbench.plain")
    (package / "other.py").write_text("import torch  # edited\n")
    (package / "__init__.py").write_text("")
    assert closure.code_hash("workbench.plain") == before
    (package / "lazy.py").write_text("g = 1\n")
    edited = closure.code_hash("workbench.plain")
    assert edited != before
    (package / "lazy.py").rename(package / "moved.py")
    (package / "workbench/inner.py").write_text(FILES["workbench/inner"].replace("lazy", "moved"))
    assert closure.code_hash("workbench.plain") not in (before, edited)
