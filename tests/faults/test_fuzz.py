"""Damaged files: each is read, or refused in one sentence that names the file; nothing else comes out.

``make test`` tries a few, ``make faults`` thousands: ``FUZZ_SECONDS`` says how long each reader is tried. The same
files come in the same order every time.
"""

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mutations import mutated
from readers import READERS, Trial

FEW = 12
SECONDS = float(os.environ.get("FUZZ_SECONDS", "5"))


def while_there_is_time() -> Iterator[int]:
    """Numbers for so many seconds after the first."""
    number, end = 0, time.monotonic() + SECONDS
    while time.monotonic() < end:
        yield (number := number + 1)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("many", [False, pytest.param(True, marks=pytest.mark.faults)], ids=["a few", "thousands"])
def test_damaged_files_are_read_or_refused_by_name(
    name: str, many: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, draws, trial = READERS[name](tmp_path / "work", monkeypatch), random.Random(name), Trial(tmp_path)
    reader.read()
    whole = {file: file.read_bytes() for file in reader.files}
    for _ in while_there_is_time() if many else range(FEW):
        file = draws.choice(reader.files)
        file.write_bytes(mutated(whole[file], draws))
        trial.read(reader, file)
        file.write_bytes(whole[file])
    if many:
        with capsys.disabled():
            print(f"\n{name}: {trial}")
    assert trial.counts["refused"]
    assert not trial.found, "\n".join(trial.found.values())
