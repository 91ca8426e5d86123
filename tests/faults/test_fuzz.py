"""Damaged files by the thousand: each is read, or refused in one sentence that names the file; nothing else comes out.

``FUZZ_SECONDS`` says how long each reader is tried. The same inputs come in the same order every time.
"""

import os
import random
import time
from pathlib import Path

import pytest
from mutations import mutated
from readers import READERS, Trial

SECONDS = float(os.environ.get("FUZZ_SECONDS", "5"))


@pytest.mark.faults
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_read_or_refused_by_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, draws, trial = READERS[name](tmp_path / "work", monkeypatch), random.Random(name), Trial(tmp_path)
    reader.read()
    whole = {file: file.read_bytes() for file in reader.files}
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        file = draws.choice(reader.files)
        file.write_bytes(mutated(whole[file], draws))
        trial.read(reader, file)
        file.write_bytes(whole[file])
    with capsys.disabled():
        print(f"\n{name}: {trial}")
    assert trial.counts["refused"]
    assert not trial.found, "\n".join(trial.found.values())
