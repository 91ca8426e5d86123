"""The README is generated where it has results, short, and its example runs."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from smoot.workbench import readme


@pytest.fixture
def text() -> str:
    return (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_generated_blocks_are_up_to_date(text: str) -> None:
    assert readme.MARKER.search(text), "README.md has no generated block"
    assert readme.filled(text) == text, "run: python -m smoot.workbench.readme"


def test_at_most_200_lines(text: str) -> None:
    assert len(text.splitlines()) <= 200


def test_the_first_example_trains(text: str) -> None:
    """It may use ``model``, ``optimizer`` and ``loader`` as anyone's loop has them."""
    example = re.search(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert example, "README.md has no ```python block"
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 3))
    loader = [(torch.rand(16, 1, 6, 6), torch.arange(16) % 3)] * 3
    names = {"model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1), "loader": loader}
    exec(example.group(1), names)
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.any() for gradient in gradients if gradient is not None)
