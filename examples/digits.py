"""What the examples train: scikit-learn's handwritten digits, 1,797 images of 1x8x8, and a small network.

Nothing is downloaded: scikit-learn brings the images.
"""

from collections.abc import Iterable, Iterator

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import TensorDataset

NUM_HELD_OUT = 360


def digits() -> TensorDataset:
    """The images to train on, ``(1437, 1, 8, 8)`` in [0, 1], and their labels."""
    return _part(slice(NUM_HELD_OUT, None))


def held_out() -> TensorDataset:
    """The other 360: they measure the generalisation gap and serve nothing else, such as the choice of an epoch."""
    return _part(slice(NUM_HELD_OUT))


def _part(part: slice) -> TensorDataset:
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[part]
    return TensorDataset(images[chosen], torch.tensor(data.target, dtype=torch.int64)[chosen])


def on_device(batches: Iterable[tuple[Tensor, Tensor]], device: torch.device | str) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of a loader, on the device."""
    for images, labels in batches:
        yield images.to(device), labels.to(device)


def network(seed: int = 0) -> nn.Sequential:
    """Two convolutions and a linear layer, with weights drawn from the seed."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )
