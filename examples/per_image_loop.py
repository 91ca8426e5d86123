"""A number of masked pixels per training image: the data set returns its images' numbers, the criterion takes them.

    python -m examples.per_image_loop --rule staircase

The loader may shuffle; the index says which image is which. The numbers are part of the criterion's state.
"""

import argparse

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.utils.data import DataLoader, Dataset

from examples.digits import digits, network
from smoot import InformationLoss, PerImageSchedule, PublicCode, SaliencyGuidedLoss, Staircase

RULES = {"information_loss": InformationLoss(), "staircase": Staircase(), "public_code": PublicCode(num_pixels=64)}


class Numbered(Dataset[tuple[Tensor, Tensor, int]]):
    """Another data set whose items also hold their number."""

    def __init__(self, inner: Dataset[tuple[Tensor, Tensor]]) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        return (*self.inner[index], index)


def train(loader: DataLoader, model: nn.Module, criterion: SaliencyGuidedLoss, optimizer: Optimizer) -> None:
    """Trains for one pass over the loader."""
    for images, labels, index in loader:
        optimizer.zero_grad()
        criterion.backward(model, images, labels, index=index)
        optimizer.step()


def main(arguments: list[str] | None = None) -> None:
    """Trains for some epochs and prints how many pixels are masked."""
    parser = argparse.ArgumentParser(description="Train on the digits with a number of masked pixels for each image.")
    parser.add_argument("--rule", default="information_loss", choices=RULES)
    parser.add_argument("--epochs", type=int, default=5)
    asked = parser.parse_args(arguments)
    images, model = Numbered(digits()), network()
    schedule = PerImageSchedule(RULES[asked.rule], len(images))
    optimizer, criterion = Adam(model.parameters(), lr=3e-3), SaliencyGuidedLoss(schedule)
    for epoch in range(asked.epochs):
        train(DataLoader(images, batch_size=64, shuffle=True), model, criterion, optimizer)
        low, middle, high = torch.quantile(schedule.numbers, torch.tensor([0.1, 0.5, 0.9])).tolist()
        print(f"epoch {epoch + 1}: {middle:.0%} of an image's pixels are masked ({low:.0%} to {high:.0%})")


if __name__ == "__main__":
    main()
