"""How well a network answers images: accuracy with its interval, cross-entropy and calibration."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from smoot.cli import ranks

NORMAL_95 = 1.959964  # half of the 95 % interval of a standard normal variable
BINS = 15


@dataclass(frozen=True)
class Answers:
    """What a network answered to N images.

    Attributes:
        right: ``(N,)`` bool, whether the most likely class was the true one.
        confidence: ``(N,)``, its probability.
        loss: ``(N,)``, cross-entropy in nats.
    """

    right: Tensor
    confidence: Tensor
    loss: Tensor

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return float(self.right.double().mean())

    @property
    def cross_entropy(self) -> float:
        """Mean over the images, in nats."""
        return float(self.loss.double().mean())

    def summary(self) -> dict[str, Any]:
        """The numbers that are reported."""
        low, high = wilson_interval(int(self.right.sum()), len(self.right))
        return {
            "images": len(self.right),
            "accuracy": round(self.accuracy, 6),
            "accuracy_interval_95": [round(low, 6), round(high, 6)],
            "cross_entropy": round(self.cross_entropy, 6),
            "calibration_error": round(calibration_error(self.confidence, self.right), 6),
        }


def answers_of(
    network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], device: torch.device, noise: float = 0.0
) -> Answers:
    """A network's answers in eval mode, to images under Gaussian noise of standard deviation ``noise``.

    Of several ranks each answers its own images, and all get all answers.

    Raises:
        ValueError: if there are no images.
    """
    network.eval()
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    draws = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for images, labels in batches:
            if noise:
                images = images + noise * torch.randn(images.shape, generator=draws, device=device)  # noqa: PLW2901
            if not len(images):
                continue
            log_probability = network(images).float().log_softmax(1)
            most, answer = log_probability.max(1)
            loss = -log_probability.gather(1, labels.unsqueeze(1)).squeeze(1)
            found.append(((answer == labels).cpu(), most.exp().cpu(), loss.cpu()))
    found = [answers for of_one in ranks.gathered(found) for answers in of_one]
    if not found:
        raise ValueError("none of the images could be read: expected at least one")
    right, confidence, loss = (torch.cat(column) for column in zip(*found, strict=True))
    return Answers(right, confidence, loss)


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927), which stays within [0, 1]."""
    share, weight = successes / trials, NORMAL_95**2 / trials
    centre = (share + weight / 2) / (1 + weight)
    half = NORMAL_95 * math.sqrt(share * (1 - share) / trials + weight / (4 * trials)) / (1 + weight)
    return max(0.0, centre - half), min(1.0, centre + half)


def calibration_error(confidence: Tensor, right: Tensor) -> float:
    """Expected calibration error (Guo et al. 2017): mean over images of |accuracy - confidence| of their bin of 15."""
    place = (confidence * BINS).ceil().clamp(1, BINS).long() - 1
    difference = torch.zeros(BINS, dtype=torch.float64).index_add_(0, place, right.double() - confidence.double())
    return float(difference.abs().sum() / len(right))
