"""What the examples train: scikit-learn's handwritten digits, 1,797 images of 1x8x8, and a small network.

Nothing is downloaded: scikit-learn brings the images.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset


def digits() -> TensorDataset:
    """Images ``(1797, 1, 8, 8)`` in [0, 1] and labels ``(1797,)``."""
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16
    return TensorDataset(images, torch.tensor(data.target, dtype=torch.int64))


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
