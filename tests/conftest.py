"""Small models and a forward counter that several test files share."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

if not os.access(Path.home(), os.W_OK):  # matplotlib and IPython would say so on standard error in every process
    _folder = tempfile.mkdtemp()
    os.environ |= {"MPLCONFIGDIR": _folder, "IPYTHONDIR": _folder}
    atexit.register(shutil.rmtree, _folder, ignore_errors=True)

# Files that take a minute or more: begun first, so that of several processes none is left with them at the end.
LONGEST = ("test_rehearsal", "test_resume", "test_ranks", "test_parallel", "test_pipeline", "test_interrupted")
LONGEST += ("test_ddp", "test_notebook", "test_figures")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@dataclass(frozen=True)
class Call:
    """One forward of a model: what it saw and in which mode."""

    inputs: Tensor
    training: bool


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture
def generator() -> Callable[[int], torch.Generator]:
    """Makes a CPU generator from a seed."""
    return lambda seed: torch.Generator().manual_seed(seed)


@pytest.fixture
def recorded() -> Callable[[nn.Module], AbstractContextManager[list[Call]]]:
    """A context in which every forward of the model is recorded."""

    @contextmanager
    def record(model: nn.Module) -> Iterator[list[Call]]:
        calls: list[Call] = []
        handle = model.register_forward_pre_hook(
            lambda module, arguments: calls.append(Call(arguments[0].detach().clone(), module.training))
        )
        try:
            yield calls
        finally:
            handle.remove()

    return record


@pytest.fixture
def linear() -> Callable[..., nn.Sequential]:
    """Makes a linear classifier for inputs of any shape: logits = W x + b."""

    def make(shape: tuple[int, ...], classes: int = 3, seed: int = 0, **kind: torch.dtype) -> nn.Sequential:
        torch.manual_seed(seed)
        features = torch.Size(shape[1:]).numel()
        return nn.Sequential(nn.Flatten(), nn.Linear(features, classes, **kind))

    return make


@pytest.fixture
def small_net() -> Callable[..., nn.Sequential]:
    """Makes a small convolutional net for (N, 3, 6, 6) images and 4 classes, in training mode."""

    def make(
        seed: int = 0, *, batch_norm: bool = True, dropout: float = 0.0, dtype: torch.dtype = torch.float32
    ) -> nn.Sequential:
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8) if batch_norm else nn.Identity(),
            nn.Tanh(),
            nn.Dropout(dropout),
            nn.Flatten(),
            nn.Linear(8 * 36, 4),
        ).to(dtype)

    return make


@pytest.fixture
def batch() -> Callable[..., tuple[Tensor, Tensor]]:
    """Makes images (N, 3, 6, 6) in [0, 1] with labels of 4 classes for ``small_net``."""

    def make(size: int = 8, seed: int = 1, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        source = torch.Generator().manual_seed(seed)
        images = torch.rand(size, 3, 6, 6, generator=source, dtype=dtype)
        return images, torch.randint(4, (size,), generator=source)

    return make
