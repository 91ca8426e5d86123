"""A run that is ended in whatever way and started again gives what an uninterrupted run gives, to the last byte."""

import io
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from processes import PATIENCE, crew, running, until
from stopping import EPOCHS, STEPS, Checkout, Moment

OPTIMISE = "workbench.training.guided._optimise"
EPOCH = [f"0 epoch {number}" for number in range(EPOCHS + 1)]
WHOLE = [*EPOCH[1:], "0 evaluation"]
SAVE, FINISH, UPDATE = (
    "workbench.training.guided._save",
    "workbench.runner.ledger.Entry.finish",
    "workbench.results.tables.Table.update",
)
KILL, CTRL_C = signal.SIGKILL, signal.SIGINT
HALF = STEPS + STEPS // 2  # in the middle of the second epoch of a process
# Every moment lies in a process that goes on with what the one before left; then, what that process began.
ENDS = {
    "after the first checkpoint": (Moment("train", SAVE, after=True), KILL, EPOCH[1:2]),
    "in the middle of the third epoch": (Moment("train", OPTIMISE, HALF), CTRL_C, EPOCH[2:4]),
    "in the middle of the fourth epoch": (Moment("train", OPTIMISE, HALF), KILL, EPOCH[3:5]),
    "with a checkpoint written and not in place": (Moment("train", "os.fsync", after=True), KILL, EPOCH[4:5]),
    "with weights and epochs written and the entry not finished": (Moment("train", FINISH), KILL, EPOCH[4:]),
    "with the weights in place and the epochs not": (Moment("parent", UPDATE), KILL, []),
    "with the record in the ledger and the samples not in place": (
        Moment("evaluate", "numpy.savez_compressed", after=True),
        KILL,
        WHOLE[-1:],
    ),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """One seed that nothing interrupted; tests work on copies."""
    checkout = Checkout.new(tmp_path_factory.mktemp("whole") / "root")
    checkout.run(0)
    assert checkout.ran == WHOLE
    tables = {f"{name}.csv" for name in ("attributions", "curves", "epochs", "runs", "sanity")}
    others = {"0.safetensors", "config.json", "samples.npz"}
    assert {Path(name).name for name in checkout.outputs} == tables | others
    (content,) = (content for name, content in checkout.outputs.items() if name.endswith("/runs.csv"))
    best = pd.read_csv(io.BytesIO(content))["best_epoch"]
    assert best.item() < EPOCHS  # so its weights must outlast what is ended later
    yield checkout
    checkout.close()


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    """One where nothing was trained yet."""
    fresh = Checkout.new(tmp_path / "root")
    yield fresh
    fresh.close()


def test_ended_at_many_moments(whole: Checkout, checkout: Checkout) -> None:
    for when, (moment, number, begun) in ENDS.items():
        before = len(checkout.ran)
        process = checkout.stop(0, at=moment)
        members = crew(process)
        os.killpg(process.pid, number)
        assert process.wait(PATIENCE) != 0, when
        assert until(lambda members=members: not any(map(running, members))), when
        assert checkout.ran[before:] == begun, when
        assert not any(name.endswith("runs.csv") for name in checkout.outputs), when
    assert checkout.told.read_text().count("KeyboardInterrupt") == 1
    assert len(list(checkout.root.rglob("*.tmp"))) == 1  # the samples; the next claim removes it
    checkout.run(0)
    assert checkout.ran[-2:] == ["0 evaluation", "0 evaluation"]
    assert checkout.outputs == whole.outputs
    assert not list(checkout.root.rglob("*.tmp"))
    assert checkout.epochs_kept == []


def test_when_only_the_parent_is_killed_a_second_start_waits_for_what_is_left(
    whole: Checkout, checkout: Checkout
) -> None:
    process = checkout.stop(0, last="train", at=Moment("train", OPTIMISE, 2 * STEPS + STEPS // 2))
    (worker,) = checkout.stopped
    os.kill(worker, signal.SIGSTOP)  # so that it stays until it has been waited for
    process.kill()
    process.wait()
    try:
        second = checkout.start(0, last="train")
        assert until(lambda: "another process works on" in checkout.told.read_text())
        time.sleep(0.3)
        assert checkout.ran == EPOCH[1:4]
        assert checkout.epochs_kept == [2]
    finally:
        os.kill(worker, signal.SIGCONT)
    assert until(lambda: not running(worker))  # by itself, from the middle of its work
    assert second.wait(PATIENCE) == 0
    assert checkout.ran == [*EPOCH[1:4], *EPOCH[3:]]
    trained = {name: text for name, text in whole.outputs.items() if name.endswith((".safetensors", "epochs.csv"))}
    assert checkout.outputs == trained
