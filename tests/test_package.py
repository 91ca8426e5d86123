"""The package as it is shipped, its names, and the command line's start."""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from zipfile import ZipFile

import pytest

import smoot

ROOT = Path(smoot.__file__).parents[1]


def said(code: str, **environment: str) -> list[str]:
    """What Python prints for this code, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_package_lists_its_names_and_has_them_all() -> None:
    assert smoot.__all__ == sorted(set(smoot.__all__))
    for name in smoot.__all__:
        found = getattr(smoot, name)
        assert getattr(import_module(found.__module__), name) is found
        assert found.__module__.startswith("smoot."), name
    code = "import json\nfrom smoot import *\nprint(json.dumps(sorted(name for name in dir() if name[0] != '_')))"
    assert json.loads(said(code)[0]) == sorted([*smoot.__all__, "json"])


def test_the_wheel_contains_the_core_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "source"  # setuptools writes beside what it builds
    listed = subprocess.run(
        ["git", "ls-files", "smoot", "workbench", "tests", "pyproject.toml", "README.md", "LICENSE"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    for name in listed:
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    shipped = [name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert sorted(shipped) == sorted(name for name in listed if name.startswith("smoot/") and (ROOT / name).is_file())
    assert "smoot/py.typed" in shipped


@pytest.mark.parametrize("arguments", [["--help"], ["code"], ["notebook", "--help"]])
def test_a_command_that_computes_nothing_starts_without_torch(arguments: list[str], tmp_path: Path) -> None:
    code = (
        f"import sys\nfrom workbench.__main__ import main\ntry: code = main({arguments})\n"
        "except SystemExit as end: code = end.code\n"
        "print(code, *sorted({'torch', 'timm', 'torchvision', 'matplotlib'} & {*sys.modules}))"
    )
    assert said(code, SMOOT_ROOT=str(tmp_path))[-1] == "0"
