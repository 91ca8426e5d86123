"""States of models and schedules: copies, gradients, and whether two are the same."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn


def copied(state: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """A copy of a state dict, or of named tensors, that does not change along."""
    return {name: value.detach().clone() for name, value in dict(state).items()}


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two states have the same names and, to the bit, the same values."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def gradients(model: nn.Module) -> list[Tensor]:
    """Copies of the gradients of all parameters that have one."""
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
