"""The plain loop in three precisions, and continued from a checkpoint."""

from functools import partial
from pathlib import Path

import pytest
import torch
from reference_loop import assert_same_state, batches, begun, fitted_network, train

from examples import plain_loop
from smoot import SaliencyGuidedLoss


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_loop, "DEVICE", "cpu")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_it_trains_as_the_reference_does(dtype: str) -> None:
    loader = [(images.float(), labels) for images, labels in batches(6)]
    model, reference = fitted_network().float(), fitted_network().float()
    criterion, schedule = SaliencyGuidedLoss(begun(), generator=torch.Generator().manual_seed(1)), begun()
    scaler = torch.amp.GradScaler("cpu", enabled=dtype == "float16", init_scale=256.0)
    plain_loop.train(loader, model, criterion, torch.optim.Adam(model.parameters(), lr=1e-3), scaler, dtype)
    optimizer, draws = torch.optim.Adam(reference.parameters(), lr=1e-3), torch.Generator().manual_seed(1)
    cast = partial(torch.autocast, "cpu", getattr(torch, dtype), enabled=dtype != "float32")
    scale = 256.0 if dtype == "float16" else 1.0
    train(reference, optimizer, loader, schedule, generator=draws, scale=scale, cast=cast)
    assert criterion.schedule.plan == schedule.plan
    assert_same_state(model.state_dict(), reference.state_dict())


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_continued_run_equals_an_uninterrupted_one(dtype: str, tmp_path: Path) -> None:
    once, twice = tmp_path / "once.pt", tmp_path / "twice.pt"
    plain_loop.main(["--epochs", "2", "--dtype", dtype, "--checkpoint", str(once)])
    for _ in range(2):
        plain_loop.main(["--epochs", "1", "--dtype", dtype, "--checkpoint", str(twice)])
    expected = torch.load(once)
    assert expected["criterion"]["schedule_steps"] == 2 * 23
    assert expected["criterion"]["schedule_gap"] > 0
    assert_same_state(torch.load(twice), expected)
