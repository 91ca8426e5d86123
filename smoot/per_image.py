"""A number of masked pixels for each training image, decided from how the model answered its masked copy last time.

The other schedules mask as many pixels in each image of a batch. :class:`PerImageSchedule` keeps one number per
training image, known by its index in the training set, and after each step a rule moves the numbers of the images that
were masked. Four rules are here; a plan with ``max_effect`` (:class:`smoot.scheduler.MaskPlan`) is a fifth one, which
needs no memory.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from smoot.checks import at_least_float32, check_above_zero, check_between, check_count
from smoot.feedback import Feedback, on_device
from smoot.objective import MaskedAnswers
from smoot.scheduler import (
    ConstantSchedule,
    GapSchedule,
    MaskPlan,
    MaskSchedule,
    PerImagePlan,
    State,
    check_losses,
    check_state,
)
from smoot.task import kl_divergences


class NumberRule(Protocol):
    """Moves an image's number of masked pixels."""

    def change(self, answers: MaskedAnswers, feedback: Feedback) -> Tensor:
        """By how much each image's fraction of masked pixels grows, ``(M,)``; negative where it shrinks.

        Args:
            answers: of one step.
            feedback: of the same step, from all ranks.
        """

    def settings(self) -> tuple[float, ...]:
        """What a saved state must agree with."""


@dataclass(frozen=True)
class InformationLoss:
    """A controller: the number grows while masking costs the answer less than a target, and shrinks above it.

    An image loses ``D = KL(p(clean) || p(masked))`` nats. Its fraction of masked pixels changes by
    ``rate * clip(1 - D / tau, -1, 1)``. The formula is our own.

    Attributes:
        tau: nats, above 0; with ``follows_model`` the factor kappa.
        rate: largest change per step, in (0, 1].
        follows_model: whether the target is ``kappa * accuracy * loss`` of the step, so that a model may lose the more
            information the more often it answers rightly and the less certain it is, in place of a fixed number.

    Raises:
        ValueError: for values out of range.
    """

    tau: float = 0.1
    rate: float = 0.05
    follows_model: bool = False

    def __post_init__(self) -> None:
        check_above_zero("tau", self.tau)
        check_above_zero("rate", self.rate, 1.0)

    def change(self, answers: MaskedAnswers, feedback: Feedback) -> Tensor:
        """See :class:`NumberRule`."""
        lost = kl_divergences(answers.clean, answers.masked)
        lost = lost if lost.ndim == 1 else lost.flatten(1).mean(1)
        target = torch.full((), self.tau, dtype=lost.dtype, device=lost.device)
        if self.follows_model:
            accuracy, loss = on_device(feedback.accuracy, lost.device), on_device(feedback.loss, lost.device)
            target = (target * accuracy * loss).clamp(min=1e-6).to(lost.dtype)
        return self.rate * (1 - lost / target).clamp(-1, 1)

    def settings(self) -> tuple[float, ...]:
        """See :class:`NumberRule`."""
        return self.tau, self.rate, self.follows_model


@dataclass(frozen=True)
class Staircase:
    """Up when the masked image is answered rightly, down when not: the weighted up-down method of psychophysics.

    Where it settles, the masked image is answered rightly with probability ``down / (up + down)`` (Kaernbach 1991).

    Attributes:
        up, down: fractions of the pixels, in (0, 1].

    Raises:
        ValueError: for values out of range.
    """

    up: float = 0.02
    down: float = 0.06

    def __post_init__(self) -> None:
        check_above_zero("up", self.up, 1.0)
        check_above_zero("down", self.down, 1.0)

    def change(self, answers: MaskedAnswers, feedback: Feedback) -> Tensor:
        """See :class:`NumberRule`; needs labels ``(M,)``."""
        labels = _labels(answers, "Staircase")
        return torch.where(answers.masked.argmax(1) == labels, self.up, -self.down)

    def settings(self) -> tuple[float, ...]:
        """See :class:`NumberRule`."""
        return self.up, self.down


@dataclass(frozen=True)
class HeldOut:
    """A controller: the number grows while the model answers an image better than images that it has not seen.

    With the image's own cross-entropy l in the training step and the held-out cross-entropy L of the last measurement,
    its fraction of masked pixels changes by ``rate * clip(1 - l / (kappa * L), -1, 1)``: the generalisation gap of
    one image. Nothing changes before the first measurement. The formula is our own.

    Attributes:
        kappa: factor on the held-out loss, above 0.
        rate: largest change per step, in (0, 1].

    Raises:
        ValueError: for values out of range.
    """

    kappa: float = 1.0
    rate: float = 0.05

    def __post_init__(self) -> None:
        check_above_zero("kappa", self.kappa)
        check_above_zero("rate", self.rate, 1.0)

    def change(self, answers: MaskedAnswers, feedback: Feedback) -> Tensor:
        """See :class:`NumberRule`; needs labels ``(M,)``."""
        own = F.cross_entropy(at_least_float32(answers.clean), _labels(answers, "HeldOut"), reduction="none")
        if feedback.held_out_loss is None:
            return torch.zeros_like(own)
        return self.rate * (1 - own / max(self.kappa * feedback.held_out_loss, 1e-6)).clamp(-1, 1)

    def settings(self) -> tuple[float, ...]:
        """See :class:`NumberRule`."""
        return self.kappa, self.rate


@dataclass(frozen=True)
class PublicCode:
    """The rule of a public repository that may or may not be the first author's.

    ``alikabadi/Masking_Based_Grad`` (commit 694c3d3): a number of pixels grows by the whole part of ``gain * |d|``,
    where d is how much more the masked image's answer diverges from the label than the clean image's. As that code
    computes it, with C classes and a batch of N, ``d = 1/C * sum_c exp(t_c) (log p_c(clean) - log p_c(masked))``,
    where t is 1/N for the label and 0 elsewhere: nearly the mean over the classes of the change of log p, whatever
    the label. Its sign is dropped, so the number never shrinks but by the schedule's bounds.

    Attributes:
        gain: pixels per unit of d, above 0.
        num_pixels: of an image, at least 1.
        of_label: whether d is the change of the label's log p alone, in place of the sum over the classes.
        signed: whether the number shrinks where d is negative.
        whole: whether only whole pixels count.

    Raises:
        ValueError: for values out of range.
    """

    gain: float = 5.0
    num_pixels: int = 1024
    of_label: bool = False
    signed: bool = False
    whole: bool = True

    def __post_init__(self) -> None:
        check_above_zero("gain", self.gain)
        check_count("num_pixels", self.num_pixels)

    def change(self, answers: MaskedAnswers, feedback: Feedback) -> Tensor:
        """See :class:`NumberRule`; needs labels ``(M,)``."""
        labels = _labels(answers, "PublicCode")
        clean, masked = (at_least_float32(logits).log_softmax(1) for logits in (answers.clean, answers.masked))
        index = labels.unsqueeze(1)
        if self.of_label:
            difference = (clean - masked).gather(1, index).squeeze(1)
        else:
            weight = torch.ones_like(clean).scatter(1, index, math.exp(1 / answers.batch_size))
            difference = (weight * (clean - masked)).mean(1)
        pixels = self.gain * (difference if self.signed else difference.abs())
        return (pixels.trunc() if self.whole else pixels) / self.num_pixels

    def settings(self) -> tuple[float, ...]:
        """See :class:`NumberRule`."""
        return self.gain, self.num_pixels, self.of_label, self.signed, self.whole


PUBLIC_CODE_BOUNDS = ((0, 0), (0, 0), (100 / 1024, 450 / 1024), (150 / 1024, 900 / 1024))
"""The bounds of that repository: nothing is masked in the first two epochs."""


class PerImageSchedule:
    """A fraction of masked pixels for each training image, which a rule moves after each step.

    Pass the images' indices in the training set with each batch:
    ``criterion(model, images, labels, index=index)``. Under an initialised process group all ranks keep the same
    numbers; a step then adds up one vector of ``2 * num_images`` numbers over the ranks.

    Args:
        rule: moves the numbers, such as :class:`InformationLoss`.
        num_images: in the training set, at least 1.
        start: fraction of the pixels masked at first, in [0, 1].
        bounds: lowest and highest fraction at an image's first, second, ... visit, in [0, 1]; the last pair holds
            from then on. Numbers are held within them before and after each visit.
        images: decides how many images of a batch are masked, and the ranking; by default all, by saliency. Its
            plan's ``mask_fraction`` is not used.

    Raises:
        ValueError: for values out of range, or without bounds.
    """

    def __init__(
        self,
        rule: NumberRule,
        num_images: int,
        *,
        start: float = 0.2,
        bounds: Sequence[tuple[float, float]] = ((0.0, 0.9),),
        images: MaskSchedule | None = None,
    ) -> None:
        check_count("num_images", num_images)
        check_between("start", start)
        if not bounds:
            raise ValueError("bounds is empty: expected at least one pair (lowest, highest)")
        for low, high in bounds:
            check_between("bounds", low)
            check_between("bounds", high, low)
        self.rule, self.start = rule, start
        self.images: MaskSchedule = ConstantSchedule(MaskPlan()) if images is None else images
        self._bounds = torch.tensor(bounds, dtype=torch.float32)
        self._numbers = torch.full((num_images,), start, dtype=torch.float32)
        self._visits = torch.zeros(num_images, dtype=torch.int64)
        self.held_out_loss: float | None = None

    @property
    def plan(self) -> MaskPlan:
        """How many images the next step masks; see :meth:`plan_for` for the pixels."""
        return self.images.plan

    def plan_for(self, index: Tensor, device: torch.device) -> PerImagePlan:
        """The plan of the next step.

        Args:
            index: ``(N,)`` int64, the images' numbers in the training set.
            device: of the images.

        Raises:
            TypeError: if the index is no int64 tensor ``(N,)``.
            ValueError: for an index (on the CPU) out of range.
        """
        return PerImagePlan(**vars(self.images.plan), fractions=self._fractions(index, device))

    @property
    def numbers(self) -> Tensor:
        """Each image's fraction of masked pixels, ``(num_images,)``, at its next visit."""
        return self._within(torch.arange(len(self._numbers), device=self._numbers.device))

    def _fractions(self, index: Tensor, device: torch.device) -> Tensor:
        """The fractions of masked pixels ``(N,)`` of some images; moves the state to the device."""
        if not isinstance(index, Tensor) or index.dtype != torch.int64 or index.ndim != 1:
            got = f"{index.dtype} {tuple(index.shape)}" if isinstance(index, Tensor) else type(index).__name__
            raise TypeError(f"index is {got}: expected the images' numbers in the training set, int64 (N,)")
        if (
            index.device.type == "cpu"
            and len(index)
            and not 0 <= int(index.min()) <= int(index.max()) < self.num_images
        ):
            raise ValueError(
                f"index lies in [{index.min()}, {index.max()}]: expected numbers of the schedule's "
                f"{self.num_images} images, 0 to {self.num_images - 1}"
            )
        self._bounds, self._numbers, self._visits = (
            state.to(device) for state in (self._bounds, self._numbers, self._visits)
        )
        return self._within(index.to(device))

    @property
    def num_images(self) -> int:
        """In the training set."""
        return len(self._numbers)

    def changes(self, index: Tensor, answers: MaskedAnswers | None, feedback: Feedback) -> Tensor:
        """What one rank's step adds: ``(2, num_images)``, changes of the numbers and visits.

        Args:
            index: as for :meth:`plan_for`.
            answers: of the step; None if nothing was masked.
            feedback: of all ranks.
        """
        added = torch.zeros(2, self.num_images, device=self._numbers.device)
        if answers is None:
            return added
        visited = index.to(added.device)[answers.rows]
        counts = torch.ones_like(visited, dtype=added.dtype)
        if answers.drawn is not None:
            counts = answers.drawn.to(added.dtype)
        used = self._within(visited)
        change = self.rule.change(answers, replace(feedback, held_out_loss=self.held_out_loss))
        moved = self._within(visited, used + change.to(added.dtype))
        added[0].index_add_(0, visited, (moved - self._numbers[visited]) * counts)
        added[1].index_add_(0, visited, counts)
        return added

    def learn(self, added: Tensor) -> None:
        """Applies the :meth:`changes` of a step, summed over all ranks; an image seen twice moves by their mean."""
        self._numbers += added[0] / added[1].clamp(min=1)
        self._visits += added[1] > 0

    def measure(self, training_loss: float, validation_loss: float) -> float:
        """Tells the rule the held-out loss, and a gap schedule in ``images`` both; returns the share of masked images.

        Under an initialised process group give every rank the same two numbers.

        Raises:
            FloatingPointError: if one of them is not finite.
            ValueError: if one of them is negative.
        """
        check_losses(training_loss, validation_loss)
        self.held_out_loss = validation_loss
        if isinstance(self.images, GapSchedule):
            self.images.measure(training_loss, validation_loss)
        return self.images.plan.image_fraction

    def step(self, feedback: Feedback) -> MaskPlan:
        """Learns how many images are masked; see :meth:`learn` for the pixels."""
        return self.images.step(feedback)

    def state_dict(self) -> State:
        """The settings, the number and the visits of each image, and the state of ``images``."""
        settings = torch.tensor([self.start, *self.rule.settings()], dtype=torch.float64)
        own = {
            "settings": torch.cat([settings, self._bounds.flatten().double().cpu()]),
            "numbers": self._numbers.cpu().clone(),
            "visits": self._visits.cpu().clone(),
            "held_out_loss": torch.tensor(
                [math.inf if self.held_out_loss is None else self.held_out_loss], dtype=torch.float64
            ),
        }
        return own | {f"images_{name}": value for name, value in self.images.state_dict().items()}

    def load_state_dict(self, state: State) -> None:
        """Continues from a saved state; raises ValueError for that of another schedule or other settings."""
        check_state(state, self.state_dict())
        self.images.load_state_dict(
            {name.removeprefix("images_"): value for name, value in state.items() if name.startswith("images_")}
        )
        device = self._numbers.device
        self._numbers = state["numbers"].to(device, torch.float32).clone()
        self._visits = state["visits"].to(device, torch.int64).clone()
        held_out = float(state["held_out_loss"])
        self.held_out_loss = None if math.isinf(held_out) else held_out

    def _within(self, index: Tensor, numbers: Tensor | None = None) -> Tensor:
        """The images' numbers, held within the bounds of their visit."""
        low, high = self._bounds[self._visits[index].clamp(max=len(self._bounds) - 1)].unbind(1)
        return (self._numbers[index] if numbers is None else numbers).clamp(low, high)


def _labels(answers: MaskedAnswers, rule: str) -> Tensor:
    if answers.targets.ndim != 1 or answers.targets.dtype != torch.int64 or answers.clean.ndim != 2:
        raise ValueError(f"{rule} needs one class label per image, int64 (N,): got {tuple(answers.targets.shape)}")
    return answers.targets
