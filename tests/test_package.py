"""The package as it is shipped, its names, and the command line's start."""

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
from importlib import import_module
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.metadata import Metadata
from processes import printed

import smoot

ROOT = Path(smoot.__file__).parents[1]


def said(code: str, **environment: str) -> list[str]:
    """What Python prints for this code, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return printed([sys.executable, "-c", code], env=environment).splitlines()


def test_the_package_lists_its_names_and_has_them_all() -> None:
    assert smoot.__all__ == sorted(set(smoot.__all__))
    for name in smoot.__all__:
        found = getattr(smoot, name)
        assert getattr(import_module(found.__module__), name) is found
        assert found.__module__.startswith("smoot."), name
    code = "import json\nfrom smoot import *\nprint(json.dumps(sorted(name for name in dir() if name[0] != '_')))"
    assert json.loads(said(code)[0]) == sorted([*smoot.__all__, "json"])


@pytest.fixture(scope="module")
def metadata(built: tuple[Path, Path]) -> Metadata:
    """What the wheel says of itself."""
    with ZipFile(built[1]) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return Metadata.from_email(archive.read(name))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution, and the wheel that is built from it alone."""
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"  # setuptools writes beside what it builds
    folders = ("smoot", "workbench", "tests", "examples", "docs")
    for name in tracked(*folders, "pyproject.toml", "MANIFEST.in", "README.md", "CHANGELOG.md", "LICENSE"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    printed([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source])
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


def tracked(*places: str) -> list[str]:
    """The files under git there, as far as they exist."""
    listed = printed(["git", "ls-files", *places], cwd=ROOT).splitlines()
    return [name for name in listed if (ROOT / name).is_file()]


def test_the_wheel_contains_the_core_and_nothing_else(built: tuple[Path, Path]) -> None:
    shipped = [name for name in ZipFile(built[1]).namelist() if ".dist-info/" not in name]
    assert sorted(shipped) == sorted(tracked("smoot"))
    assert "smoot/py.typed" in shipped


def test_the_source_distribution_contains_the_core_and_what_builds_it(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as archive:
        names = [member.name.partition("/")[2] for member in archive if member.isfile()]
    own = {name for name in names if ".egg-info/" not in name}
    files = {"pyproject.toml", "MANIFEST.in", "LICENSE", "CHANGELOG.md", "docs/package.md"}
    assert own == {*tracked("smoot"), *files, "PKG-INFO", "setup.cfg"}


def test_a_package_index_would_take_both(built: tuple[Path, Path]) -> None:
    printed([sys.executable, "-m", "twine", "check", "--strict", *built])


def test_the_metadata_says_what_is_shipped(metadata: Metadata) -> None:
    assert metadata.name == "smoot-saliency"
    assert str(metadata.version) == smoot.__version__
    assert [need.name for need in metadata.requires_dist or [] if "extra" not in str(need.marker)] == ["torch"]
    assert metadata.license_expression == "MIT"
    assert metadata.description_content_type == "text/markdown"
    versions = {text.rpartition(" ")[2] for text in metadata.classifiers or [] if "Python :: 3." in text}
    assert versions == {f"3.{minor}" for minor in range(30) if f"3.{minor}" in metadata.requires_python}


def test_the_description_stands_by_itself(metadata: Metadata) -> None:
    description = str(metadata.description)
    links = re.findall(r"\]\(([^)]*)\)", description)
    assert links
    assert all(link.startswith("https://") for link in links), "a relative link leads nowhere on a package index"
    (example,) = re.findall(r"```python\n(.*?)```", description, re.DOTALL)
    assert example in (ROOT / "README.md").read_text(encoding="utf-8")  # whose test runs it


def test_one_version_everywhere() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == smoot.__version__
    assert f"\nversion: {smoot.__version__}\n" in citation
    assert re.findall(r"^## (.*)$", changes, re.MULTILINE)[0] == smoot.__version__


def started(root: Path, *arguments: str) -> list[str]:
    """What the command line prints; then its exit code and which heavy libraries it loaded."""
    code = (
        "import sys\nfrom workbench.__main__ import main\n"
        f"try: code = main({list(arguments)})\nexcept SystemExit as end: code = end.code\n"
        "print(code, *sorted({'torch', 'timm', 'torchvision', 'matplotlib'} & {*sys.modules}))"
    )
    return said(code, SMOOT_ROOT=str(root))


@pytest.mark.parametrize("arguments", [("--help",), ("code",), ("notebook", "--help")])
def test_a_command_that_computes_nothing_starts_without_torch(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert started(tmp_path, *arguments)[-1] == "0"


def test_outside_a_checkout_it_says_where_to_look(tmp_path: Path) -> None:
    commands = [["methods"], ["verify"], ["data", "fetch", "mnist"]]
    code = f"from workbench.__main__ import main; print(*(main(command) for command in {commands}))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SMOOT_ROOT": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split()[-3:] == ["2"] * 3
    assert done.stderr.count(f"{tmp_path} is no checkout of the project") == 3
    assert done.stderr.count("set SMOOT_ROOT to its folder") == 3
