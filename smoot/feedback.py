"""What a schedule learns from one step, and its copy from a device for which the host does not wait."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from smoot.checks import check_between


@dataclass(frozen=True)
class Feedback:
    """What a schedule learns from one step, or from a validation split.

    Attributes:
        accuracy: share of right answers in [0, 1]; a number or a 0-d tensor.
        loss: mean cross-entropy in nats against the labels, without label smoothing; a number or a 0-d tensor.
        num_classes: number of classes, at least 2.
        num_images: number of images behind the two means, at least 0; a number or a 0-d tensor. Feedback of none
            counts for nothing.
        held_out_loss: mean cross-entropy in nats on images that the model does not train on, as last measured; None
            before the first measurement.

    Raises:
        ValueError: for too few classes or images.
    """

    accuracy: float | Tensor
    loss: float | Tensor
    num_classes: int
    num_images: float | Tensor
    held_out_loss: float | None = None

    def __post_init__(self) -> None:
        check_between("num_classes", self.num_classes, 2, math.inf)
        if not isinstance(self.num_images, Tensor):
            check_between("num_images", self.num_images, 0, math.inf)


class AsyncFeedback:
    """Non-blocking device-to-host copy of accuracy and loss.

    From a CUDA device both are copied to pinned memory after the work already queued there. :meth:`read` waits for
    that copy alone, which has long arrived if it is read some steps later. Anything else is read at once.

    Args:
        feedback: of one step.

    Attributes:
        delayed: whether the two come from a device that the host should not wait for.
        num_classes, num_images: as in the feedback.
    """

    def __init__(self, feedback: Feedback) -> None:
        self.num_classes = feedback.num_classes
        values = [feedback.accuracy, feedback.loss, feedback.num_images]
        devices = [value.device for value in values if isinstance(value, Tensor) and value.device.type == "cuda"]
        self.delayed = bool(devices)
        self._event: torch.cuda.Event | None = None
        if devices:
            self._numbers = torch.stack([on_device(value, devices[0]) for value in values]).to("cpu", non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(devices[0]))
        else:
            self._numbers = torch.tensor([float(value) for value in values], dtype=torch.float64)

    @classmethod
    def from_checkpoint(cls, accuracy: float, loss: float, num_images: float, num_classes: float) -> "AsyncFeedback":
        """A copy that was still on its way when a checkpoint was written: it counts as late as it would have."""
        copy = cls(Feedback(accuracy, loss, int(num_classes), num_images))
        copy.delayed = True
        return copy

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied and pickled by its numbers: an event belongs to its process."""
        return type(self).from_checkpoint, (*self.read(), self.num_classes)

    def read(self) -> tuple[float, float, float]:
        """Accuracy, loss and number of images; waits until the copy has arrived."""
        if self._event is not None:
            self._event.synchronize()
        accuracy, loss, num_images = self._numbers.tolist()
        return accuracy, loss, num_images


def on_device(value: float | Tensor, device: torch.device) -> Tensor:
    """A 0-d float64 tensor on the device; a number is filled in there, since copying it would make the host wait."""
    if isinstance(value, Tensor):
        return value.detach().to(device, torch.float64)
    return torch.full((), float(value), dtype=torch.float64, device=device)
