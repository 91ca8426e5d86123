"""A plain training loop, written from the core's functions, that every example is compared with."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from examples.digits import digits, held_out, network
from smoot.guidance import Guidance
from smoot.objective import guided_loss
from smoot.scheduler import GapSchedule

Batch = tuple[Tensor, Tensor]
GUIDANCE = Guidance(reduction="signed_mean", fill="mean")


def few_digits(size: int = 96) -> TensorDataset:
    """The first digits, in float64: two correct loops then differ by less than any mask could notice."""
    images, labels = digits().tensors
    return TensorDataset(images[:size].double(), labels[:size])


def few_others(size: int = 32) -> TensorDataset:
    """The first digits that are held out, in float64."""
    images, labels = held_out().tensors
    return TensorDataset(images[:size].double(), labels[:size])


def batches(number: int, size: int = 16) -> list[Batch]:
    """The first digits in batches."""
    images, labels = few_digits(number * size).tensors
    return list(zip(images.split(size), labels.split(size), strict=True))


@cache
def _fitted_weights() -> dict[str, Tensor]:
    model = network().double()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    images, labels = few_digits(256).tensors
    for _ in range(15):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model.state_dict()


def fitted_network() -> nn.Sequential:
    """The examples' network after some plain training, so that there is a gap."""
    model = network().double()
    model.load_state_dict(_fitted_weights())
    return model


def begun() -> GapSchedule:
    """A schedule that masks from the first step on."""
    schedule = GapSchedule()
    schedule.measure(0.4, 1.0)
    return schedule


def measure(schedule: GapSchedule, model: nn.Module, trained: Batch, others: Batch) -> None:
    """The gap as it is defined, from the mean cross-entropies in eval mode."""
    model.eval()
    with torch.no_grad():
        losses = [F.cross_entropy(model(images), labels).item() for images, labels in (trained, others)]
    model.train()
    assert losses[0] < 0.9 * losses[1], "nothing would be masked, so nothing would be tested"
    schedule.measure(*losses)


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: Iterable[Batch],
    schedule: GapSchedule,
    *,
    generator: torch.Generator | None = None,
    accumulate: int = 1,
    scale: float = 1.0,
    cast: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> None:
    """Steps on the mean gradient of every ``accumulate`` batches.

    The loss is multiplied by ``scale`` and the gradient divided by it, which matters in float16.
    """
    optimizer.zero_grad()
    for index, (images, labels) in enumerate(loader, start=1):
        with cast():
            loss = guided_loss(model, images, labels, schedule.plan, GUIDANCE, generator=generator)
        (loss.total * scale / accumulate).backward()
        schedule.step(loss.feedback)
        if index % accumulate == 0:
            for parameter in model.parameters():
                parameter.grad /= scale
            optimizer.step()
            optimizer.zero_grad()


def assert_same_state(found: Any, expected: Any) -> None:
    """Two states hold the same, whatever a library nests them in; float64 up to rounding."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert_same_state(found[name], value)
    elif isinstance(expected, Sequence) and not isinstance(expected, str):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same_state(one, other)
    elif isinstance(expected, Tensor):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    else:
        assert found == expected
