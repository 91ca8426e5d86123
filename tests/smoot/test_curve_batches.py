"""Curves: what is classified once, what one forward pass holds, and what happens when memory runs out."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from states import copied, same
from sums import SumOfPixels
from torch import Tensor

from smoot.curves import deletion_curve, perturbation_curves

PIXELS = torch.tensor([[2.0, 5.0, 1.0, 4.0, 3.0]])
ZERO = torch.tensor([0])


def test_the_ends_are_answered_once(recorded: Callable, generator: Callable) -> None:
    inputs, saliency, targets = torch.rand(3, 1, 4, 5), torch.rand(3, 4, 5), torch.zeros(3, dtype=torch.int64)
    model = SumOfPixels()
    with recorded(model) as calls:
        perturbation_curves(model, inputs, targets, saliency, generator=generator(0), batch_size=32)
    rows = torch.cat([call.inputs for call in calls]).flatten(1)
    assert len(rows) == 3 * (2 + 3 * 9)  # not 3 * 3 * 11
    assert len(rows.unique(dim=0)) == 3 * (1 + 3 * 9) + 1  # the three images filled with zeros are equal


def test_steps_that_round_to_the_same_pixels_are_answered_once(recorded: Callable) -> None:
    model = SumOfPixels()
    with recorded(model) as calls:
        result = deletion_curve(model, PIXELS, ZERO, PIXELS, score="log_odds")
    assert sum(len(call.inputs) for call in calls) == 6
    assert result.score.tolist() == [15, 10, 10, 6, 6, 3, 3, 1, 1, 0, 0]


def test_a_forward_mixes_images_and_steps_and_the_first_holds_the_images(recorded: Callable) -> None:
    inputs, model = torch.rand(3, 1, 4, 5), SumOfPixels()
    with recorded(model) as calls:
        deletion_curve(model, inputs, torch.zeros(3, dtype=torch.int64), torch.rand(3, 4, 5), batch_size=10)
    assert [len(call.inputs) for call in calls] == [10, 10, 10, 3]
    assert torch.equal(calls[0].inputs[:3], inputs)


def test_ties_go_by_pixel_index_and_all_channels_of_a_pixel_go_together(recorded: Callable) -> None:
    inputs = torch.arange(1.0, 9.0).view(1, 2, 2, 2)
    model = SumOfPixels()
    with recorded(model) as calls:
        deletion_curve(model, inputs, ZERO, torch.ones(1, 2, 2), fractions=(0.0, 0.25, 0.5, 1.0))
    (call,) = calls
    assert call.inputs.flatten(1).tolist() == [
        [1, 2, 3, 4, 5, 6, 7, 8],
        [0, 2, 3, 4, 0, 6, 7, 8],
        [0, 0, 3, 4, 0, 0, 7, 8],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ]


def test_the_model_and_the_inputs_are_left_as_they_were(
    small_net: Callable, batch: Callable, recorded: Callable
) -> None:
    model, (images, labels) = small_net(dropout=0.5), batch()
    model[1].eval()
    modes, buffers = [module.training for module in model.modules()], copied(model.named_buffers())
    saliency = torch.rand(8, 6, 6)
    kept, kept_saliency = images.clone(), saliency.clone()
    with recorded(model) as calls:
        result = deletion_curve(model, images, labels, saliency, batch_size=5)
    assert [len(call.inputs) for call in calls] == 17 * [5] + [3]  # 8 images at 11 steps
    assert not any(call.training for call in calls)
    assert [module.training for module in model.modules()] == modes
    assert same(dict(model.named_buffers()), buffers)
    assert torch.equal(images, kept) and torch.equal(saliency, kept_saliency)
    assert not result.score.requires_grad and all(p.grad is None for p in model.parameters())


# -- out of memory


class Fits(SumOfPixels):
    """Runs out of memory above so many rows, or in one particular forward."""

    def __init__(self, rows: int, error: Exception) -> None:
        super().__init__()
        self.rows, self.error = rows, error
        self.seen: list[int] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.seen.append(len(inputs))
        if len(inputs) > self.rows:
            raise self.error
        return super().forward(inputs)


NO_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:75] DefaultCPUAllocator: not enough memory: you tried ..."),
]


@pytest.mark.parametrize("error", NO_MEMORY, ids=["accelerator", "cpu", "cpu, other words"])
def test_the_batch_is_halved_and_the_work_goes_on(error: Exception, generator: Callable) -> None:
    inputs, targets = torch.rand(4, 10), torch.zeros(4, dtype=torch.int64)
    given: dict[str, Any] = {"fill": "uniform", "score": "log_odds"}
    whole = perturbation_curves(SumOfPixels(), inputs, targets, inputs, generator=generator(0), **given)
    model = Fits(20, error)
    model.train()
    pieces = perturbation_curves(model, inputs, targets, inputs, batch_size=64, generator=generator(0), **given)
    for kind in ("deletion", "insertion", "random"):
        torch.testing.assert_close(getattr(whole, kind).score, getattr(pieces, kind).score)
    assert model.seen == [64, 32, *7 * [16], 4]  # 116 rows; nothing that was answered is asked again
    assert model.training


def test_the_batch_is_halved_from_what_was_there_not_from_what_was_allowed() -> None:
    model = Fits(3, NO_MEMORY[0])
    deletion_curve(model, torch.rand(1, 10), ZERO, torch.rand(1, 10), batch_size=10**6)
    assert model.seen == [11, 5, *5 * [2], 1]


@pytest.mark.parametrize("error", NO_MEMORY)
def test_one_row_that_does_not_fit_is_an_error_with_a_hint(error: Exception) -> None:
    model, inputs = Fits(0, error), torch.rand(4, 10)
    with pytest.raises(torch.OutOfMemoryError, match=r"one input of shape \(10,\).*free memory on cpu") as caught:
        deletion_curve(model, inputs, torch.zeros(4, dtype=torch.int64), inputs, batch_size=8)
    assert model.seen == [8, 4, 2, 1] and caught.value.__cause__ is error
    assert model.training


def test_other_errors_of_the_model_pass_at_once() -> None:
    model, inputs = Fits(0, RuntimeError("mat1 and mat2 shapes cannot be multiplied")), torch.rand(4, 10)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        deletion_curve(model, inputs, torch.zeros(4, dtype=torch.int64), inputs)
    assert model.seen == [44]
