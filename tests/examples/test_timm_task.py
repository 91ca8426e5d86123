"""timm's training task: gradients, the average of the weights, and a continued run."""

import copy

import pytest
import torch
from reference_loop import assert_same_state, batches, begun, fitted_network, train

from examples import timm_task
from examples.timm_task import GuidedTask


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm_task, "DEVICE", torch.device("cpu"))


def run(task: GuidedTask, optimizer: torch.optim.Optimizer, accumulate: int = 1) -> None:
    """The body of timm's own training loop."""
    for index, (images, labels) in enumerate(batches(6), start=1):
        result = task(images, labels)
        assert result["output"].shape == (16, 10)
        (result["loss"] / accumulate).backward()
        if index % accumulate == 0:
            optimizer.step()
            task.update_ema()
            optimizer.zero_grad()


def made() -> tuple[GuidedTask, torch.optim.Optimizer]:
    task = GuidedTask(fitted_network(), torch.device("cpu"))
    task.setup_ema(decay=0.5)
    return task, torch.optim.Adam(task.trainable_module.parameters(), lr=1e-3)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_it_trains_as_the_reference_does(accumulate: int) -> None:
    (task, optimizer), reference, schedule = made(), fitted_network(), begun()
    task.criterion.schedule.measure(0.4, 1.0)
    run(task, optimizer, accumulate)
    other = torch.optim.Adam(reference.parameters(), lr=1e-3)
    draws = torch.Generator().manual_seed(0)
    train(reference, other, batches(6), schedule, generator=draws, accumulate=accumulate)
    assert_same_state(task.criterion.schedule.state_dict(), schedule.state_dict())
    assert_same_state(task.trainable_module.state_dict(), reference.state_dict())


def test_a_continued_run_equals_an_uninterrupted_one() -> None:
    (once, optimizer), (twice, other) = made(), made()
    once.criterion.schedule.measure(0.4, 1.0)
    run(once, optimizer)
    saved = copy.deepcopy((once.get_checkpoint_state(), once.get_checkpoint_state(ema=True), optimizer.state_dict()))
    twice.load_checkpoint_state(*saved[0].values())
    twice.load_checkpoint_state(*saved[1].values(), ema=True)
    other.load_state_dict(saved[2])
    run(once, optimizer)
    run(twice, other)
    assert_same_state(twice.get_checkpoint_state(), once.get_checkpoint_state())
    assert_same_state(twice.get_checkpoint_state(ema=True), once.get_checkpoint_state(ema=True))


def test_it_runs_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    timm_task.main(epochs=1)
    assert "MaskPlan(image_fraction=0." in capsys.readouterr().out
