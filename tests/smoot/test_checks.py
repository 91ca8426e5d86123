"""The checks themselves: what they let through, what they refuse, and that they never read a device."""

import math
from typing import Any

import pytest
import torch

from smoot.checks import (
    check_between,
    check_choice,
    check_count,
    check_inputs,
    check_logits,
    check_map_shape,
    check_saliency,
    check_targets,
)


def test_choices() -> None:
    check_choice("fill", "mean", ("mean", "uniform"))
    with pytest.raises(ValueError, match=r"^fill is 'men': expected one of 'mean', 'uniform'$"):
        check_choice("fill", "men", iter(["mean", "uniform"]))


@pytest.mark.parametrize("value", [-1e-9, 1.0001, math.nan, math.inf, True, "0.5", None, torch.tensor(0.5)])
def test_only_numbers_within_bounds_pass(value: Any) -> None:
    for good in (0, 0.0, -0.0, 0.5, 1, 1.0):
        check_between("mass", good)
    with pytest.raises(ValueError, match=r"^mass is .*: expected a number in \[0, 1\]$"):
        check_between("mass", value)
    check_between("budget", 7.5, 0.0, math.inf)
    with pytest.raises(ValueError, match=r"budget is 3: expected a number in \[4, inf\]"):
        check_between("budget", 3, 4, math.inf)


@pytest.mark.parametrize("value", [0, -1, 2.0, True, "3", None])
def test_counts(value: Any) -> None:
    check_count("batch_size", 1)
    with pytest.raises(ValueError, match=r"^batch_size is .*: expected a whole number of at least 1$"):
        check_count("batch_size", value)


def test_saliency_may_be_negative_unless_told_otherwise() -> None:
    signed = torch.tensor([[1.0, -1.0]])
    check_saliency(signed)
    check_saliency(signed.abs(), non_negative=True)
    with pytest.raises(ValueError, match="negative values"):
        check_saliency(signed, non_negative=True)


@pytest.mark.parametrize(("inputs", "expected"), [((2, 3), (2, 3)), ((2, 3, 4), (2, 4)), ((2, 3, 4, 5), (2, 4, 5))])
def test_maps_have_the_inputs_shape_without_channels(inputs: tuple[int, ...], expected: tuple[int, ...]) -> None:
    check_map_shape("mask", torch.zeros(expected), torch.zeros(inputs))
    with pytest.raises(ValueError, match="mask has shape"):
        check_map_shape("mask", torch.zeros((*expected, 1)), torch.zeros(inputs))


def test_values_on_an_accelerator_are_not_read() -> None:
    """Tensors on ``meta`` have no values: reading one would fail, as it would make a GPU's host wait."""
    inputs = torch.empty(2, 3, 4, 4, device="meta")
    labels = torch.empty(2, dtype=torch.int64, device="meta")
    with pytest.raises(RuntimeError):
        bool(torch.isfinite(inputs).all())
    check_inputs(inputs)
    check_targets(labels, 2)
    check_logits(torch.empty(2, 5, device="meta"), labels)
    check_saliency(inputs[:, 0], non_negative=True)
    check_map_shape("mask", inputs[:, 0], inputs)
    for bad in (torch.empty(0, 3, device="meta"), torch.empty(3, device="meta")):
        with pytest.raises(ValueError, match="shape"):
            check_inputs(bad)
