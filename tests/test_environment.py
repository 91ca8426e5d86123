"""pyproject.toml, requirements.lock, environment.yml and the Makefile describe one environment."""

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distributions, packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
STATED = [*PROJECT["project"]["dependencies"], *EXTRAS["workbench"], *EXTRAS["examples"], *EXTRAS["dev"]]
PINS = [Requirement(line.rstrip("\\ ")) for line in LOCK.splitlines() if re.match(r"[a-z0-9]", line)]


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in requirements}


def pinned(name: str, **environment: str) -> list[Version]:
    """The versions that the lock gives a package where ``environment`` holds."""
    pins = [pin for pin in PINS if canonicalize_name(pin.name) == canonicalize_name(name)]
    held = [pin for pin in pins if pin.marker is None or pin.marker.evaluate(environment)]
    return [Version(next(iter(pin.specifier)).version) for pin in held]


@pytest.mark.parametrize("python", ["3.11.0", "3.11.9", "3.12.0", "3.13.0"])
def test_the_lock_pins_one_version_that_each_range_admits(python: str) -> None:
    for stated in map(Requirement, [*STATED, *PROJECT["build-system"]["requires"]]):
        versions = pinned(stated.name, python_full_version=python, python_version=python.rpartition(".")[0])
        assert len(versions) == 1 and versions[0] in stated.specifier, stated


def test_every_pin_is_exact_and_has_hashes() -> None:
    assert len(PINS) > len(STATED)
    assert all(re.fullmatch(r"==[0-9a-zA-Z.]+", str(pin.specifier)) for pin in PINS)
    blocks = re.split(r"\n(?=[a-z0-9])", LOCK)[1:]
    assert len(blocks) == len(PINS)
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}\b", block) for block in blocks)


@pytest.mark.parametrize("name", ["pyproject.toml", "requirements.lock", "environment.yml"])
def test_no_address_of_an_index_or_of_a_folder(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"(?<![\w.])/(?:home|root|work|tmp|opt|Users)/|index-url|find-links", text)


def test_the_lock_names_every_extra_that_a_pinned_package_requires() -> None:
    """Without one, pip looks for that extra's package anywhere, and finds a release that the lock does not know."""
    extras = {canonicalize_name(pin.name): pin.extras for pin in PINS}
    for distribution in distributions():
        for text in distribution.requires or []:
            needed = Requirement(text)
            name = canonicalize_name(needed.name)
            if name in extras and needed.extras and (needed.marker is None or needed.marker.evaluate({"extra": ""})):
                assert needed.extras <= extras[name], f"{distribution.name} requires {text}"


def test_the_lock_is_installed_without_resolving_and_checked() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    [flags] = re.findall(r"^\t\$\(PIP\) (.*) --requirement requirements\.lock$", makefile, re.MULTILINE)
    assert {"--no-deps", "--require-hashes"} <= set(flags.split())
    assert "\t$(RUN) -m pip check\n" in makefile
    assert "--no-strip-extras" in makefile


def imported(files: list[Path]) -> set[str]:
    """The distributions behind the files' imports, the standard library and this project left out."""
    modules = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules.add(str(node.module).partition(".")[0])
    local = {"smoot", "workbench", "examples", "tests", "conftest", "_typeshed"} | {file.stem for file in files}
    known = packages_distributions()
    foreign = modules - sys.stdlib_module_names - local
    return {canonicalize_name(known.get(module, [f"not-installed-{module}"])[0]) for module in foreign}


@pytest.mark.parametrize(
    ("pattern", "allowed"),
    [
        ("smoot/*.py", PROJECT["project"]["dependencies"]),
        ("smoot/cli/*.py", [*PROJECT["project"]["dependencies"], *EXTRAS["images"]]),
        ("workbench/**/*.py", [*PROJECT["project"]["dependencies"], *EXTRAS["workbench"]]),
        ("examples/*.py", [*PROJECT["project"]["dependencies"], *EXTRAS["examples"]]),
        ("benchmarks/**/*.py", STATED),
        ("tests/**/*.py", STATED),
    ],
)
def test_what_is_imported_is_stated(pattern: str, allowed: list[str]) -> None:
    assert imported(sorted(ROOT.glob(pattern))) <= names(allowed)


def test_conda_takes_a_supported_python_and_the_lock() -> None:
    [python] = [Requirement(text.replace("=", "==", 1)) for text in CONDA["dependencies"][:1]]
    version = next(iter(python.specifier)).version
    assert python.name == "python"
    assert SpecifierSet(PROJECT["project"]["requires-python"]).contains(version)
    assert CONDA["name"] == "smoot"
    assert CONDA["dependencies"][1:] == ["pip", {"pip": ["-r requirements.lock"]}]


def test_dvc_sends_nothing_home() -> None:
    config = configparser.ConfigParser()
    config.read_string((ROOT / ".dvc" / "config").read_text(encoding="utf-8").replace("    ", ""))
    assert not config.getboolean("core", "analytics")
    assert not config.getboolean("core", "check_update")


# A Python that makes an environment in no time: `-m venv` writes a `.venv/bin/python` that notes what it is
# asked to do in `log` and fails at an installation while a file `broken` exists.
FAKE_PYTHON = """#!/bin/sh
if [ "$1" = -c ]; then
    pretend="import sys; sys.version = '{version}.0'; sys.version_info = {info}"
    exec "{python}" -c "$pretend; exec(sys.argv[1])" "$2"
fi
echo "$@" >> log
mkdir -p .venv/bin
cat > .venv/bin/python <<'END'
#!/bin/sh
echo "$@" >> log
test "$2" != pip || test ! -e broken
END
chmod +x .venv/bin/python
"""


class Folder:
    """A copy of the files that `make environment` reads, in a folder with a space in its name."""

    def __init__(self, parent: Path, version: str = "3.12") -> None:
        self.path = parent / "a clone"
        self.path.mkdir()
        for name in ("Makefile", "requirements.lock", "pyproject.toml"):
            shutil.copy(ROOT / name, self.path)
        info = f"({version.replace('.', ', ')}, 0)"
        fake = self.path / "fake"
        fake.write_text(FAKE_PYTHON.format(python=sys.executable, version=version, info=info))
        fake.chmod(0o755)

    def make(self, target: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        clean["GIT_CEILING_DIRECTORIES"] = str(self.path.parent)
        command = ["make", target, "PYTHON=./fake"]
        return subprocess.run(command, cwd=self.path, env=clean, capture_output=True, text=True, check=False)

    def log(self) -> list[str]:
        """What was asked of the fake Python since the last call, shortened to the first three words."""
        file = self.path / "log"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return [" ".join(line.split()[:3]) for line in lines]


MADE = ["-m venv --clear", "-m pip install", "-m pip install", "-m pip install", "-m pip check"]


def test_the_environment_is_made_once_and_again_if_it_was_cut_short(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    (folder.path / "broken").touch()
    assert folder.make("environment").returncode != 0
    assert folder.log() == MADE[:2]
    (folder.path / "broken").unlink()
    for log in (MADE, []):
        assert folder.make("environment").returncode == 0
        assert folder.log() == log


def test_a_changed_lock_updates_the_environment(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.make("environment")
    folder.log()
    os.utime(folder.path / ".venv" / ".complete", (0, 0))
    (folder.path / "broken").touch()
    assert folder.make("environment").returncode != 0
    assert folder.log() == ["-c", "-m pip install"]
    (folder.path / "broken").unlink()
    assert folder.make("environment").returncode == 0
    assert folder.log() == MADE  # an update that was cut short left no complete environment


def test_a_moved_folder_gets_an_environment_of_its_own(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.make("environment")
    folder.path = folder.path.rename(tmp_path / "elsewhere")
    folder.log()
    assert folder.make("environment").returncode == 0
    assert folder.log() == MADE


@pytest.mark.parametrize("version", ["3.10", "3.14"])
def test_an_unsupported_python_is_refused_with_the_way_out(tmp_path: Path, version: str) -> None:
    folder = Folder(tmp_path, version)
    made = folder.make("environment")
    assert made.returncode != 0
    assert f"./fake is {version}.0" in made.stderr
    assert "make PYTHON=python3.12 environment" in made.stderr
    assert not (folder.path / ".venv").exists()


# A Python whose environments have a pip-audit that says what this test wants.
FAKE_AUDIT = """#!/bin/sh
mkdir "$3/bin"
printf '#!/bin/sh\\n' > "$3/bin/python"
cat > "$3/bin/pip-audit" <<'END'
#!/bin/sh
{audit}
END
chmod +x "$3/bin/python" "$3/bin/pip-audit"
"""


@pytest.mark.parametrize(
    ("audit", "code", "out", "told"),
    [
        ("echo No known vulnerabilities found >&2", 0, "No known vulnerabilities found\n", ""),
        ('echo Found 1 >&2; while [ "$1" != --output ]; do shift; done; echo a 1.0 > "$2"; exit 1', 2, "a 1.0\n", ""),
        ("echo Trace >&2; echo no route >&2; exit 1", 2, "", "No advisory was looked up (no route): run make audit"),
    ],
    ids=["clean", "found", "unreachable"],
)
def test_an_audit_says_what_it_found_or_that_it_could_not_look(
    audit: str, code: int, out: str, told: str, tmp_path: Path
) -> None:
    folder = Folder(tmp_path)
    (folder.path / "fake").write_text(FAKE_AUDIT.format(audit=audit))
    made = folder.make("audit")
    assert (made.returncode, made.stdout) == (code, out)
    assert made.stderr.startswith(told) and "Trace" not in made.stderr


def test_a_folder_without_git_is_refused_with_the_way_out(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    refused = folder.make("repository")
    assert refused.returncode != 0
    assert "git init" in refused.stderr
    subprocess.run(["git", "init", "--quiet"], cwd=folder.path, check=True)
    assert folder.make("repository").returncode == 0
