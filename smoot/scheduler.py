"""How much is masked, decided during training: plans, feedback and schedules.

A :class:`MaskPlan` says what is masked in the next batch. A schedule gives one plan per step and learns from the
feedback of the step. Which schedule it is makes the training method:

- :class:`ConstantSchedule`, the same plan at every step: plain training (nothing masked), SGT, random masks.
- :class:`AdaptiveSchedule`, SMOOT as this project defines it. The abstract of Karkehabadi et al. (2023,
  arXiv:2310.00772) says that the number of masked images is chosen during training, from the input, the accuracy
  and the loss. The formula is our own.
- :class:`SequenceSchedule`, plans written down beforehand: the control for anything adaptive.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor

from smoot.checks import check_between, check_choice, check_count
from smoot.masking import pixel_count

Ranking = Literal["saliency", "random", "protected", "highest"]


@dataclass(frozen=True)
class MaskPlan:
    """What is masked in one batch.

    Attributes:
        image_fraction: share of the batch's images that are masked, drawn at random, in [0, 1].
        mask_fraction: fraction of the pixels masked in each of them, in [0, 1].
        ranking: the order in which pixels are masked: from the least salient on (``saliency``), from the most
            salient on (``highest``), at ``random``, or at random without the most salient ones (``protected``).
        protected: fraction of the pixels that ranking ``protected`` never masks, in [0, 1 - mask_fraction].

    Raises:
        ValueError: for a value out of its range.
    """

    image_fraction: float = 1.0
    mask_fraction: float = 0.5
    ranking: Ranking = "saliency"
    protected: float = 0.0

    def __post_init__(self) -> None:
        check_choice("ranking", self.ranking, get_args(Ranking))
        for name in ("image_fraction", "mask_fraction", "protected"):
            check_between(name, getattr(self, name))
        if self.ranking == "protected" and self.mask_fraction + self.protected > 1 + 1e-9:
            raise ValueError(
                f"mask_fraction {self.mask_fraction:g} and protected {self.protected:g} add up to more than 1: "
                "lower one of them"
            )

    def num_images(self, batch_size: int) -> int:
        """Number of images that are masked: ``floor(batch_size * image_fraction + 0.5)``.

        0 if that is below 2, because one image has no batch statistics, or if no pixel is masked. So the host
        knows before the step whether there is a masked forward pass, without asking the device.
        """
        count = pixel_count(self.image_fraction, batch_size)
        return 0 if count < 2 or self.mask_fraction == 0 else count


@dataclass(frozen=True)
class Feedback:
    """What a schedule learns from one step, or from a validation split.

    Attributes:
        accuracy: share of right answers in [0, 1]; a number or a 0-d tensor.
        loss: mean cross-entropy in nats against the labels, without label smoothing; a number or a 0-d tensor.
        num_classes: number of classes, at least 2.
        num_images: number of images behind the two means, at least 1.

    Raises:
        ValueError: for too few classes or images.
    """

    accuracy: float | Tensor
    loss: float | Tensor
    num_classes: int
    num_images: int

    def __post_init__(self) -> None:
        check_between("num_classes", self.num_classes, 2, math.inf)
        check_between("num_images", self.num_images, 1, math.inf)


class MaskSchedule(Protocol):
    """Anything that gives plans, learns from feedback, and can be saved and loaded."""

    @property
    def plan(self) -> MaskPlan:
        """The plan of the next step."""

    def step(self, feedback: Feedback) -> MaskPlan:
        """Learns from the feedback of a step and returns the next plan. Call it once, after the step."""

    def state_dict(self) -> dict[str, Any]:
        """The state as plain numbers."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a state that ``state_dict`` returned."""


@dataclass(frozen=True)
class ConstantSchedule:
    """The same plan at every step.

    Attributes:
        plan: the plan; by default the least salient half of every image.
    """

    plan: MaskPlan = field(default_factory=MaskPlan)

    def step(self, feedback: Feedback) -> MaskPlan:
        """Returns the plan; the feedback changes nothing."""
        return self.plan

    def state_dict(self) -> dict[str, Any]:
        """There is no state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Accepts the empty state only; raises ValueError otherwise."""
        _check_keys(state, set())


class SequenceSchedule:
    """One given plan after another: ramps in time, replayed image shares, alternating rankings.

    Args:
        plans: one per step, at least one; further steps repeat the last one.

    Raises:
        ValueError: without a plan.
    """

    def __init__(self, plans: Sequence[MaskPlan]) -> None:
        if not plans:
            raise ValueError("plans is empty: expected at least one MaskPlan")
        self.plans = tuple(plans)
        self._steps = 0

    @property
    def plan(self) -> MaskPlan:
        """The plan of the next step."""
        return self.plans[min(self._steps, len(self.plans) - 1)]

    def step(self, feedback: Feedback) -> MaskPlan:
        """Moves on to the next plan; the feedback changes nothing."""
        self._steps += 1
        return self.plan

    def state_dict(self) -> dict[str, Any]:
        """The number of steps done."""
        return {"steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a saved state; raises ValueError if its keys are not those of ``state_dict``."""
        _check_keys(state, {"steps"})
        self._steps = state["steps"]


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
        self.num_classes, self.num_images = feedback.num_classes, feedback.num_images
        pair = [feedback.accuracy, feedback.loss]
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
    def from_checkpoint(cls, accuracy: float, loss: float, num_classes: int, num_images: int) -> "AsyncFeedback":
        """A copy that was still on its way when a checkpoint was written: it counts as late as it would have."""
        copy = cls(Feedback(accuracy, loss, num_classes, num_images))
        copy.delayed = True
        return copy

    def read(self) -> tuple[float, float]:
        """Accuracy and loss; waits until the copy has arrived."""
        if self._event is not None:
            self._event.synchronize()
        accuracy, loss = self._numbers.tolist()
        return accuracy, loss


@dataclass
class _RunningMeans:
    """Exponential means weighted by batch size, as sums; dividing by ``weight`` corrects the bias of the start."""

    accuracy: float = 0.0
    loss: float = 0.0
    weight: float = 0.0
    num_classes: int = 0


class AdaptiveSchedule:
    """SMOOT: as many images are masked as the model's competence allows.

    With running accuracy a and running cross-entropy l over C classes (exponential means with ``decay``, weighted by
    batch size, bias-corrected), the competence is ``c = a * max(0, 1 - l / ln C)``: 0 at chance and before any
    feedback, near 1 when answers are right and certain. The share c of each batch is masked.

    Args:
        base: the plan but for its image fraction, which the competence replaces; by default ``MaskPlan()``, the
            least salient half of each masked image.
        decay: of the running means per step, in [0, 1).
        lag: number of steps by which feedback from a CUDA device counts late, at least 1, so that the host never
            waits for the device. Feedback from the CPU counts at once.

    Raises:
        ValueError: for values out of range.
    """

    def __init__(self, base: MaskPlan | None = None, *, decay: float = 0.95, lag: int = 4) -> None:
        check_between("decay", decay)
        if decay == 1.0:
            raise ValueError("decay is 1.0: expected a number below 1, or no feedback ever counts")
        self.base = MaskPlan() if base is None else base
        self.decay = decay
        self.lag = check_count("lag", lag)
        self._means = _RunningMeans()
        self._pending: deque[AsyncFeedback] = deque()

    @property
    def accuracy(self) -> float:
        """Running accuracy in [0, 1]; 0 before any feedback."""
        return self._means.accuracy / self._means.weight if self._means.weight else 0.0

    @property
    def loss(self) -> float:
        """Running cross-entropy in nats; 0 before any feedback."""
        return self._means.loss / self._means.weight if self._means.weight else 0.0

    @property
    def competence(self) -> float:
        """``accuracy * max(0, 1 - loss / ln C)``, in [0, 1]."""
        if not self._means.weight:
            return 0.0
        return self.accuracy * max(0.0, 1.0 - self.loss / math.log(self._means.num_classes))

    @property
    def plan(self) -> MaskPlan:
        """The plan of the next step: the base with the competence as its image fraction."""
        return replace(self.base, image_fraction=self.competence)

    def step(self, feedback: Feedback) -> MaskPlan:
        """Learns from the feedback of a step and returns the next plan. Call it once, after the step.

        Raises:
            FloatingPointError: if accuracy or loss is not finite.
            ValueError: for an accuracy outside [0, 1], a negative loss, or a changed number of classes.
        """
        self._pending.append(AsyncFeedback(feedback))
        while self._pending and not (self._pending[0].delayed and len(self._pending) <= self.lag):
            self._update_means(self._pending.popleft())
        return self.plan

    def _update_means(self, feedback: AsyncFeedback) -> None:
        """Adds the numbers of one step to the running means."""
        accuracy, loss = feedback.read()
        if not (math.isfinite(accuracy) and math.isfinite(loss)):
            raise FloatingPointError(f"feedback is accuracy {accuracy}, loss {loss}: training has diverged")
        check_between("feedback's accuracy", accuracy)
        check_between("feedback's loss", loss, 0.0, math.inf)
        means = self._means
        if means.num_classes not in (0, feedback.num_classes):
            raise ValueError(f"feedback has {feedback.num_classes} classes, earlier feedback had {means.num_classes}")
        gain = (1.0 - self.decay) * feedback.num_images
        self._means = _RunningMeans(
            accuracy=self.decay * means.accuracy + gain * accuracy,
            loss=self.decay * means.loss + gain * loss,
            weight=self.decay * means.weight + gain,
            num_classes=feedback.num_classes,
        )

    def state_dict(self) -> dict[str, Any]:
        """The running sums, and the feedback that does not count yet, as plain numbers."""
        pending = [[*feedback.read(), feedback.num_classes, feedback.num_images] for feedback in self._pending]
        return vars(self._means) | {"pending": pending}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a saved state; raises ValueError if its keys are not those of ``state_dict``."""
        _check_keys(state, {*vars(self._means), "pending"})
        self._means = _RunningMeans(**{name: value for name, value in state.items() if name != "pending"})
        self._pending = deque(AsyncFeedback.from_checkpoint(*numbers) for numbers in state["pending"])


def _check_keys(state: dict[str, Any], expected: set[str]) -> None:
    """Raises ValueError unless a loaded state has exactly the keys of this schedule's own state."""
    if set(state) != expected:
        raise ValueError(
            f"state has keys {sorted(state)}: expected {sorted(expected)}; was it saved by another schedule?"
        )
