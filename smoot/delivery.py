"""Numbers on their way from an accelerator to the host, so that nobody waits for them."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Measured(Protocol):
    """What is delivered: a step's accuracy and loss, as numbers or 0-d tensors."""

    @property
    def accuracy(self) -> float | Tensor: ...
    @property
    def loss(self) -> float | Tensor: ...
    @property
    def num_classes(self) -> int: ...
    @property
    def num_images(self) -> int: ...


@dataclass(frozen=True)
class _Numbers:
    accuracy: float
    loss: float
    num_classes: int
    num_images: int


class Delivery:
    """A step's accuracy and loss, sent off when it is made and read when it is asked for.

    From a CUDA device they are copied to pinned memory behind the work that is queued there; reading waits for
    that copy alone, which has long happened if some steps lie between. Anything else is read at once.

    Attributes:
        delayed: whether the numbers come from a device that the host should not wait for.
        num_classes, num_images: of the step.
    """

    def __init__(self, measured: Measured) -> None:
        self.num_classes, self.num_images = measured.num_classes, measured.num_images
        pair = [measured.accuracy, measured.loss]
        tensors = [value for value in pair if isinstance(value, Tensor)]
        self.delayed = len(tensors) == 2 and tensors[0].device.type == "cuda"
        self._event: torch.cuda.Event | None = None
        if self.delayed:
            stacked = torch.stack([value.detach().double() for value in tensors])
            self._numbers = stacked.to("cpu", non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(stacked.device))
        else:
            self._numbers = torch.tensor([float(value) for value in pair], dtype=torch.float64)

    @classmethod
    def again(cls, accuracy: float, loss: float, num_classes: int, num_images: int) -> "Delivery":
        """One that was under way when a checkpoint was written, and still counts late."""
        one = cls(_Numbers(accuracy, loss, num_classes, num_images))
        one.delayed = True
        return one

    def read(self) -> tuple[float, float]:
        """Accuracy and loss; waits for the copy if it is still under way."""
        if self._event is not None:
            self._event.synchronize()
        accuracy, loss = self._numbers.tolist()
        return accuracy, loss
