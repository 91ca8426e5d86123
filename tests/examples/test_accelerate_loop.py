"""Accelerate: accumulated gradients, and a run continued from its saved state."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from reference_loop import assert_same_state, begun, few_digits, few_others, fitted_network, train
from torch.utils.data import DataLoader

from examples import accelerate_loop
from smoot import SaliencyGuidedLoss


@pytest.fixture(autouse=True)
def fresh_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accelerate keeps settings of the process in classes."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


@pytest.mark.parametrize("accumulate", [1, 3])
def test_it_trains_as_the_reference_does(accumulate: int) -> None:
    accelerator = Accelerator(gradient_accumulation_steps=accumulate)
    criterion, schedule = SaliencyGuidedLoss(begun(), generator=torch.Generator().manual_seed(1)), begun()
    model, reference = fitted_network(), fitted_network()
    loader = DataLoader(few_digits(), batch_size=16)
    prepared = accelerator.prepare(model, torch.optim.Adam(model.parameters(), lr=1e-3), loader)
    accelerate_loop.train(accelerator, criterion, *prepared)
    optimizer, draws = torch.optim.Adam(reference.parameters(), lr=1e-3), torch.Generator().manual_seed(1)
    train(reference, optimizer, loader, schedule, generator=draws, accumulate=accumulate)
    assert_same_state(criterion.schedule.state_dict(), schedule.state_dict())
    assert_same_state(model.state_dict(), reference.state_dict())


def test_a_continued_run_equals_an_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerate_loop, "digits", few_digits)
    monkeypatch.setattr(accelerate_loop, "held_out", few_others)
    monkeypatch.setattr(accelerate_loop, "network", fitted_network)
    once, twice = tmp_path / "once", tmp_path / "twice"
    accelerate_loop.main(["--epochs", "2", "--checkpoint", str(once)])
    for _ in range(2):
        AcceleratorState._reset_state()
        accelerate_loop.main(["--epochs", "1", "--checkpoint", str(twice)])
    assert 0 < torch.load(once / "custom_checkpoint_0.pkl")["schedule_gap"] < 1
    for name in ("custom_checkpoint_0.pkl", "optimizer.bin"):
        assert_same_state(torch.load(twice / name), torch.load(once / name))
