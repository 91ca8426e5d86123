"""A run that is ended in whatever way and started again gives what an uninterrupted run gives, to the last byte."""

import os
import signal
import time
from pathlib import Path

import pytest
from stopping import EPOCHS, STEPS, Checkout, Moment, crew, running, until

WHOLE = [*(f"0 epoch {epoch}" for epoch in range(1, EPOCHS + 1)), "0 evaluation"]
IN_THE_THIRD_EPOCH = Moment("train", "smoot.workbench.training._optimise", 2 * STEPS + STEPS // 2)
# Every moment is that of a process which takes up what the one before it left.
KILLS = {
    "after the first checkpoint": (Moment("train", "smoot.workbench.training._save", after=True), [1]),
    "in the middle of the third epoch": (
        Moment("train", "smoot.workbench.training._optimise", STEPS + STEPS // 2),
        [2, 3],
    ),
    "with the third checkpoint not yet in place": (Moment("train", "torch.save", after=True), [3]),
    "with the weights written and the entry unfinished": (
        Moment("train", "smoot.workbench.ledger.Entry.finish"),
        [3, 4, 5],
    ),
    "with the weights in place and the history not": (Moment("parent", "smoot.workbench.storage.copy_whole", 2), []),
    "in the evaluation": (Moment("evaluate", "smoot.workbench.evaluation._faithfulness"), ["evaluation"]),
    "with the record written and the samples not": (
        Moment("evaluate", "smoot.workbench.storage.write_samples"),
        ["evaluation"],
    ),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """One seed that nothing interrupted; tests work on copies."""
    checkout = Checkout.new(tmp_path_factory.mktemp("whole") / "root")
    checkout.run(0)
    assert checkout.ran == WHOLE
    assert sorted(Path(name).name for name in checkout.outputs) == ["0.csv", "0.json", "0.safetensors", "samples.npz"]
    return checkout


def end(checkout: Checkout, at: Moment, number: signal.Signals) -> float:
    """Start one seed, send the signal to all its processes at the moment; the seconds until none is left."""
    process, _ = checkout.stop(0, at=at)
    members, start = crew(process), time.monotonic()
    os.killpg(process.pid, number)
    assert process.wait(60) != 0
    assert until(lambda: not any(map(running, members)), 60)
    return time.monotonic() - start


def test_killed_at_many_moments(whole: Checkout, tmp_path: Path) -> None:
    checkout = Checkout.new(tmp_path / "root")
    for when, (moment, begun) in KILLS.items():
        before = len(checkout.ran)
        end(checkout, moment, signal.SIGKILL)
        expected = [f"0 {what}" if isinstance(what, str) else f"0 epoch {what}" for what in begun]
        assert checkout.ran[before:] == expected, when
        assert not any(name.endswith(".json") for name in checkout.outputs), when
    before = len(checkout.ran)
    checkout.run(0)
    assert checkout.ran[before:] == ["0 evaluation"]
    assert checkout.outputs == whole.outputs
    assert not list(checkout.root.rglob("*.tmp"))
    assert checkout.checkpoints == {}


def test_ctrl_c_ends_every_process_and_loses_the_epoch_under_way(whole: Checkout, tmp_path: Path) -> None:
    checkout = Checkout.new(tmp_path / "root")
    assert end(checkout, IN_THE_THIRD_EPOCH, signal.SIGINT) < 15
    assert checkout.checkpoints == {0: 2}
    assert checkout.told.read_text().rstrip().endswith("KeyboardInterrupt")
    checkout.run(0)
    assert checkout.ran == [*WHOLE[:3], *WHOLE[2:]]
    assert checkout.outputs == whole.outputs


def test_workers_end_when_only_their_parent_is_killed(whole: Checkout, tmp_path: Path) -> None:
    checkout = Checkout.new(tmp_path / "root")
    process, _ = checkout.stop(0, at=IN_THE_THIRD_EPOCH)
    members = crew(process)
    assert len(members) > 1
    process.kill()
    process.wait()
    checkout.run(0)  # at once, without waiting for their end
    assert not any(map(running, members))
    assert checkout.ran == [*WHOLE[:3], *WHOLE[2:]]
    assert checkout.outputs == whole.outputs


def test_a_second_start_waits_for_a_worker_that_is_left(whole: Checkout, tmp_path: Path) -> None:
    checkout = Checkout.new(tmp_path / "root")
    process, worker = checkout.stop(0, evaluate=False, at=IN_THE_THIRD_EPOCH)
    os.kill(worker, signal.SIGSTOP)  # it cannot notice its parent's end
    process.kill()
    process.wait()
    try:
        second = checkout.start(0, evaluate=False)
        assert until(lambda: "another process works on" in checkout.told.read_text(), 60)
        time.sleep(0.5)
        assert checkout.ran == WHOLE[:3]
        assert running(worker)
    finally:
        os.kill(worker, signal.SIGCONT)
    assert second.wait(120) == 0
    assert not running(worker)
    assert checkout.ran == [*WHOLE[:3], *WHOLE[2:-1]]
    assert checkout.outputs == {name: content for name, content in whole.outputs.items() if "records" not in name}


def test_finished_seeds_are_found_again(whole: Checkout, tmp_path: Path) -> None:
    checkout = whole.copy(tmp_path / "root")
    for file in checkout.outputs:
        (checkout.root / "runs" / "smoke" / file).unlink()
    checkout.run(0)
    assert checkout.ran == WHOLE
    assert checkout.outputs == whole.outputs


def test_one_more_seed_trains_that_seed_only(whole: Checkout, tmp_path: Path) -> None:
    checkout = whole.copy(tmp_path / "root")
    checkout.run(0, 1)
    assert checkout.ran == [*WHOLE, *(line.replace("0", "1", 1) for line in WHOLE)]
    added = {name: content for name, content in checkout.outputs.items() if name not in whole.outputs}
    assert checkout.outputs == whole.outputs | added
    assert sorted(Path(name).name for name in added) == ["1.csv", "1.json", "1.safetensors"]


def test_without_the_ledger_the_same_comes_out_again(whole: Checkout, tmp_path: Path) -> None:
    checkout = whole.copy(tmp_path / "root")
    checkout.run(0, ledger="off")
    assert checkout.ran == [*WHOLE, *WHOLE]
    assert checkout.outputs == whole.outputs
