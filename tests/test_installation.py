"""The lock installs what it names whatever else an index offers, with the pip that each supported Python brings."""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from processes import printed

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def said(python: str, code: str) -> str:
    """What a Python prints; empty if it does not start, as a version manager's stand-in for another version."""
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def pythons() -> list[str]:
    """Every supported Python that can be found and starts, this one among them."""
    named = [f"python3.{minor}" for minor in (11, 12, 13)]
    folders = sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/*/bin"))
    path = os.pathsep.join([os.environ["PATH"], *map(str, folders)])
    found: list[str] = []
    for name in named:
        candidates = [shutil.which(name, path=folder) for folder in path.split(os.pathsep)]
        found += [one for one in candidates if one and said(one, "import ensurepip; print('starts')")][:1]
    return found


def bundled_pip(python: str) -> Path:
    """The wheel of pip that a Python puts into new environments; Debian keeps it in a folder of its own."""
    code = (
        "import ensurepip, sysconfig; print(ensurepip.__path__[0], sysconfig.get_config_var('WHEEL_PKG_DIR') or None)"
    )
    package, folder = said(python, code).split()
    [found] = [*Path(package, "_bundled").glob("pip-*.whl"), *Path(folder).glob("pip-*.whl")]
    return found


def wheel(folder: Path, name: str, version: str, requires: str = "") -> str:
    """Write an empty package as a wheel into a folder; returns its SHA-256."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nProvides-Extra: more\n"
    files = {
        f"{name}.py": "",
        f"{info}/METADATA": metadata + (f"Requires-Dist: {requires}\n" if requires else ""),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{file},sha256={digest},{len(text)}\n"
        archive.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def flags(of: str) -> list[str]:
    """What `make environment` passes to pip for the lock itself."""
    [line] = re.findall(rf"^\t\$\(PIP\) (.*) --requirement {re.escape(of)}$", MAKEFILE, re.MULTILINE)
    return str(line).split()


@pytest.mark.parametrize("python", pythons())
@pytest.mark.parametrize("way", ["make environment", "environment.yml"])
def test_a_newer_release_of_a_required_extra_changes_nothing(python: str, way: str, tmp_path: Path) -> None:
    index = tmp_path / "index"
    index.mkdir()
    user = wheel(index, "asks", "1.0", "offers[more]>=1")
    offered = wheel(index, "offers", "1.0")
    wheel(index, "offers", "2.0")  # published after the lock was written
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"asks==1.0 --hash=sha256:{user}\noffers[more]==1.0 --hash=sha256:{offered}\n")
    bundled = bundled_pip(python)
    given = flags("requirements.lock") if way == "make environment" else ["--require-hashes"]
    command = [python, bundled / "pip", "install", *given, "--dry-run", "--quiet", "--report", "-", "-r", lock]
    offline = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    offline |= {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index)}
    installed = [entry["metadata"] for entry in json.loads(printed(command, env=offline))["install"]]
    assert sorted((entry["name"], entry["version"]) for entry in installed) == [("asks", "1.0"), ("offers", "1.0")]


def test_this_python_is_tried() -> None:
    assert pythons()
