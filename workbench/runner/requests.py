"""Which request of a run is the latest, so that a stage that was left behind does not overwrite newer results.

A stage writes down the runs that it will put in place, each with a digest of all that decides it. Before it writes it
looks again: if a run was meanwhile asked for with another digest, it writes nothing. The same request made twice, by
two processes that share the work, is no conflict: both write the same.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.config import files, paths
from workbench.config.locks import waiting_for


class Superseded(RuntimeError):
    """The runs of a stage were asked for again with other parameters, code or data; the message names one."""


def digest(*facts: Any) -> str:
    """SHA-256 over facts that JSON has a form for."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Request:
    """Runs that one process is going to put in place.

    Attributes:
        profile: whose results they are.
        runs: the digest of each run by its name, ``STAGE/PROFILE/SETTING/METHOD/SEED``.
    """

    profile: str
    runs: Mapping[str, str]

    @property
    def files(self) -> dict[Path, dict[str, str]]:
        """The runs by the file of their stage and setting: one that all settings share would grow with each."""
        found: dict[Path, dict[str, str]] = {}
        for run, wanted in self.runs.items():
            group = "-".join(run.split("/")[:3])
            found.setdefault(_folder(self.profile) / f"{group}.json", {})[run] = wanted
        return found

    def register(self) -> None:
        """Make this the latest request of its runs."""
        with self._locked():
            for file, runs in self.files.items():
                files.write_json(_latest(file) | runs, file)

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Keep other stages of the profile from writing inside the block.

        Raises:
            Superseded: if there is a later request of one of the runs.
        """
        with self._locked():
            latest = {run: wanted for file in self.files for run, wanted in _latest(file).items()}
            for run, wanted in self.runs.items():
                if latest.get(run, wanted) != wanted:
                    raise Superseded(
                        f"{run} was asked for again with other parameters, code or data while this stage worked: "
                        "nothing is written, and what it finished stays in the ledger"
                    )
            yield

    def _locked(self) -> AbstractContextManager[None]:
        return waiting_for(_folder(self.profile) / "lock", f"writes results of {self.profile}")


def _folder(profile: str) -> Path:
    return paths.ROOT / "scratch" / "requests" / profile


def _latest(file: Path) -> dict[str, str]:
    """What is written down; nothing if the file is missing or damaged, for it only tells stages apart."""
    try:
        return files.read_json(file)
    except (OSError, ValueError):
        return {}
