"""Sixty flipped bits in the files of a real run: sixty are seen, and what comes out afterwards is the same."""

import os
import random
import shutil
import signal
from pathlib import Path

import pytest
import torch
from stopping import Checkout, Moment

from workbench.config import paths
from workbench.runner import ledger
from workbench.training import checkpoints

FLIPS = 60
SAVE = "workbench.training.guided._save"


def flip(file: Path, draws: random.Random) -> None:
    damaged = bytearray(file.read_bytes())
    damaged[draws.randrange(len(damaged))] ^= 1 << draws.randrange(8)
    file.write_bytes(damaged)


@pytest.mark.faults
def test_every_flipped_bit_in_a_checkpoint_is_seen(
    whole: tuple[Checkout, float], checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    process = checkout.stop(0, last="train", at=Moment("train", SAVE, 3, after=True))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (file,) = (checkout.root / "scratch" / "ledger" / "train").rglob("checkpoint.pt")
    content, draws, seen = file.read_bytes(), random.Random(0), 0
    for _ in range(FLIPS):
        file.write_bytes(content)
        flip(file, draws)
        seen += checkpoints.load(file, torch.device("cpu")) is None
    assert seen == FLIPS
    assert capsys.readouterr().err.count("is damaged") == FLIPS
    with capsys.disabled():
        print(f"\nflipped bits, checkpoint: {seen} of {FLIPS} seen")
    begun = len(checkout.ran)
    checkout.run(0)  # with the last of them
    assert checkout.ran[begun] == "0 epoch 1"
    assert checkout.outputs == whole[0].outputs


@pytest.mark.faults
@pytest.mark.parametrize("stage", ["train", "evaluate", "judge"])
def test_every_flipped_bit_in_a_finished_entry_is_seen(
    stage: str,
    whole: tuple[Checkout, float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copied = whole[0].copy(tmp_path / "root")
    monkeypatch.setattr(paths, "LEDGER", copied.root / "scratch" / "ledger")
    monkeypatch.delenv("SMOOT_LEDGER", raising=False)
    folder = next(done.parent for done in sorted((paths.LEDGER / stage).rglob("done")))
    kept, draws, seen = shutil.copytree(folder, tmp_path / "kept"), random.Random(stage), 0
    seed, _, key = folder.name.partition("-")
    place = folder.parent.relative_to(paths.LEDGER / stage).as_posix()
    with ledger.claim(stage, place, int(seed), key) as entry:
        assert entry.folder == folder and entry.finished
    for _ in range(FLIPS):
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        flip(draws.choice(sorted(folder.iterdir())), draws)
        with ledger.claim(stage, place, int(seed), key) as entry:
            seen += not entry.finished and not any(folder.iterdir())
    assert seen == FLIPS
    with capsys.disabled():
        print(f"\nflipped bits, finished entry of {stage}: {seen} of {FLIPS} seen")


@pytest.mark.faults
def test_a_damaged_entry_is_made_again_to_the_last_byte(whole: tuple[Checkout, float], tmp_path: Path) -> None:
    copied = whole[0].copy(tmp_path / "root")
    try:
        for stage in ("train", "evaluate", "judge"):
            file = sorted((copied.root / "scratch" / "ledger" / stage).rglob("done"))[0]
            flip(file.with_name("done" if stage == "judge" else "provenance.json"), random.Random(stage))
        copied.run(0)
        assert copied.told.read_text().count("is damaged: ") == 2  # the judge's weights lie in their place
        assert copied.outputs == whole[0].outputs
    finally:
        copied.close()
