"""Two pipelines at once in one folder: one does the work, and the other waits, helps or says why it cannot."""

import subprocess
from functools import partial
from pathlib import Path

import pytest
from processes import PATIENCE
from test_rehearsal import METHODS, REPRO, SEEDS, SETTING, Repository

TRAINING = (*REPRO[:-1], f"{REPRO[-1]}:train@{SETTING}")


@pytest.mark.faults
def test_two_pipelines_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    repository = Repository.new(tmp_path / "repository")
    run = partial(subprocess.Popen, TRAINING, cwd=repository.root, env=repository.environment, text=True)
    both = [run(stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(2)]
    told = [process.communicate(timeout=3 * PATIENCE)[0] for process in both]
    codes = [process.returncode for process in both]
    assert 0 in codes, told
    for code, text in zip(codes, told, strict=True):
        assert "Traceback" not in text
        assert code == 0 or "lock" in text, text
    assert len(repository.files("scratch/ledger/train", "done")) == len(METHODS) * len(SEEDS)
    assert "Data and pipelines are up to date." in repository.run(*TRAINING)
    repository.commit()
    assert "Running stage" in repository.run(*TRAINING, "--force", SMOOT_LEDGER="off")
    assert repository.status() == []  # alone, the same to the last byte
