"""How much is masked, decided during training: plans, feedback and schedules.

A :class:`MaskPlan` says what is masked in the next batch. A schedule gives one plan per step and learns from the
feedback of the step. Which schedule it is makes the training method:

- :class:`ConstantSchedule`, the same plan at every step: plain training (nothing masked), SGT, random masks.
- :class:`GapSchedule`, SMOOT as this project defines it: as many images are masked as the generalisation gap is wide.
  The abstract of Karkehabadi et al. (2023, arXiv:2310.00772) says that the number of masked images is chosen during
  training, from the input, the accuracy and the loss. The formula is our own.
- :class:`AdaptiveSchedule`, which follows the model's competence in training and needs no held-out images.
- :class:`SequenceSchedule`, plans written down beforehand: the control for anything adaptive.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from smoot.checks import check_between, check_choice, check_count
from smoot.feedback import AsyncFeedback, Feedback

State = dict[str, Tensor]
Ranking = Literal["saliency", "random", "protected", "highest"]
GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class MaskPlan:
    """What is masked in one batch.

    Attributes:
        image_fraction: share of the batch's images that are masked, drawn at random, in [0, 1].
        mask_fraction: fraction of the pixels masked in each of them, in [0, 1].
        ranking: the order in which pixels are masked: from the least salient on (``saliency``), from the most
            salient on (``highest``), at ``random``, or at random without the most salient ones (``protected``).
        protected: fraction of the pixels that ranking ``protected`` never masks, in [0, 1 - mask_fraction].
        max_effect: largest effect of an image's masked pixels together, in the unit of the score (nats for log-odds):
            of the ``mask_fraction`` least salient pixels only the first ones are masked, as long as the magnitudes of
            gradient times change of the pixel, which say by how much the score moves in first order, add up to no
            more. So the image alone decides how many. None: no limit. Needs ranking ``saliency``.
        rounding: what is added before the number of images is rounded down, in [0, 1]: 0.5 rounds to the nearest
            number. Schedules move it from step to step (:func:`fair_rounding`), so that the images masked in many
            small batches add up to their share.

    Raises:
        ValueError: for a value out of its range.
    """

    image_fraction: float = 1.0
    mask_fraction: float = 0.5
    ranking: Ranking = "saliency"
    protected: float = 0.0
    max_effect: float | None = None
    rounding: float = 0.5

    def __post_init__(self) -> None:
        check_choice("ranking", self.ranking, get_args(Ranking))
        for name in ("image_fraction", "mask_fraction", "protected", "rounding"):
            check_between(name, getattr(self, name))
        if self.max_effect is not None:
            check_between("max_effect", self.max_effect, 0.0, math.inf)
            if self.ranking != "saliency":
                raise ValueError(f"max_effect is set with ranking {self.ranking!r}: expected ranking 'saliency'")
        if self.ranking == "protected" and self.mask_fraction + self.protected > 1 + 1e-9:
            raise ValueError(
                f"mask_fraction {self.mask_fraction:g} and protected {self.protected:g} add up to more than 1: "
                "lower one of them"
            )

    @property
    def masks(self) -> bool:
        """Whether the plan masks any pixel of any image."""
        return self.image_fraction > 0 and self.mask_fraction > 0

    def num_images(self, batch_size: int, at_least: int = 1) -> int:
        """Number of images that are masked: ``floor(batch_size * image_fraction + rounding)``, at most all.

        So the host knows before the step whether there is a masked forward pass, without asking the device, and all
        processes know the same.

        Args:
            batch_size: number of images.
            at_least: fewest images that can be masked together. Models whose answers depend on the other images of
                the batch need 2. Where the share is smaller, that many are masked as often as makes up the share.
        """
        share = batch_size * self.image_fraction
        if not self.masks or share == batch_size:
            return batch_size if self.masks else 0
        unit = min(at_least, batch_size) if share < at_least else 1
        return min(unit * math.floor(share / unit + self.rounding), batch_size)


@dataclass(frozen=True, eq=False)
class PerImagePlan(MaskPlan):
    """A plan with a fraction of the pixels for each image, which replaces ``mask_fraction``.

    Attributes:
        fractions: ``(N,)`` in [0, 1], on the inputs' device.

    Raises:
        ValueError: for ranking ``protected``, which has one fraction for all images.
    """

    fractions: Tensor = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ranking == "protected":
            raise ValueError("ranking 'protected' has one fraction for all images: expected another ranking")


def fair_rounding(step: int) -> float:
    """The rounding of a step: 0.5, then multiples of the golden ratio modulo 1.

    They fill [0, 1) evenly from the start (Weyl's equidistribution), so ``floor(share + rounding)`` is the share on
    average, whatever the size of the batches and on every rank alike, without a remainder to be carried over.
    """
    return (0.5 + step * GOLDEN_RATIO) % 1.0


class MaskSchedule(Protocol):
    """Anything that gives plans, learns from feedback, and can be saved and loaded."""

    @property
    def plan(self) -> MaskPlan:
        """The plan of the next step."""

    def step(self, feedback: Feedback) -> MaskPlan:
        """Learns from the feedback of a step and returns the next plan. Call it once, after the step."""

    def state_dict(self) -> State:
        """The settings and the state as tensors, always of the same shapes."""

    def load_state_dict(self, state: State) -> None:
        """Continues from a state that ``state_dict`` returned; raises ValueError for that of another schedule."""


class ConstantSchedule:
    """The same plan at every step, but for the rounding of a fractional number of images.

    Args:
        plan: by default the least salient half of every image.
    """

    def __init__(self, plan: MaskPlan | None = None) -> None:
        self.base = MaskPlan() if plan is None else plan
        self._steps = 0

    @property
    def plan(self) -> MaskPlan:
        """The plan of the next step."""
        return _rounded(self.base, self._steps)

    def step(self, feedback: Feedback) -> MaskPlan:
        """Counts the step and returns the next plan; the feedback changes nothing."""
        self._steps += 1
        return self.plan

    def state_dict(self) -> State:
        """The plan and the number of steps done."""
        return {"settings": _numbers(self.base), "steps": _vector(self._steps)}

    def load_state_dict(self, state: State) -> None:
        """Continues from a saved state; raises ValueError for that of another schedule or plan."""
        check_state(state, self.state_dict())
        self._steps = int(state["steps"])


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
        return _rounded(self.plans[min(self._steps, len(self.plans) - 1)], self._steps)

    def step(self, feedback: Feedback) -> MaskPlan:
        """Moves on to the next plan; the feedback changes nothing."""
        self._steps += 1
        return self.plan

    def state_dict(self) -> State:
        """The plans and the number of steps done."""
        return {"settings": torch.stack([_numbers(plan) for plan in self.plans]), "steps": _vector(self._steps)}

    def load_state_dict(self, state: State) -> None:
        """Continues from a saved state; raises ValueError for that of another schedule or other plans."""
        check_state(state, self.state_dict())
        self._steps = int(state["steps"])


@dataclass
class _RunningMeans:
    """Exponential means weighted by batch size, as sums; dividing by ``weight`` corrects the bias of the start."""

    accuracy: float = 0.0
    loss: float = 0.0
    weight: float = 0.0
    num_classes: int = 0


class AdaptiveSchedule:
    """The competence: as many images are masked as the model's answers in training allow.

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
        self._steps = 0

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
        return _rounded(replace(self.base, image_fraction=self.competence), self._steps)

    def step(self, feedback: Feedback) -> MaskPlan:
        """Learns from the feedback of a step and returns the next plan. Call it once, after the step.

        Raises:
            FloatingPointError: if accuracy or loss is not finite.
            ValueError: for an accuracy outside [0, 1], a negative loss, or a changed number of classes.
        """
        self._steps += 1
        self._pending.append(AsyncFeedback(feedback))
        while self._pending and not (self._pending[0].delayed and len(self._pending) <= self.lag):
            self._update_means(self._pending.popleft())
        return self.plan

    def _update_means(self, feedback: AsyncFeedback) -> None:
        """Adds the numbers of one step to the running means."""
        accuracy, loss, num_images = feedback.read()
        if not num_images:
            return
        if not (math.isfinite(accuracy) and math.isfinite(loss)):
            raise FloatingPointError(f"feedback is accuracy {accuracy}, loss {loss}: training has diverged")
        check_between("feedback's accuracy", accuracy)
        check_between("feedback's loss", loss, 0.0, math.inf)
        means = self._means
        if means.num_classes not in (0, feedback.num_classes):
            raise ValueError(f"feedback has {feedback.num_classes} classes, earlier feedback had {means.num_classes}")
        gain = (1.0 - self.decay) * num_images
        self._means = _RunningMeans(
            accuracy=self.decay * means.accuracy + gain * accuracy,
            loss=self.decay * means.loss + gain * loss,
            weight=self.decay * means.weight + gain,
            num_classes=feedback.num_classes,
        )

    def state_dict(self) -> State:
        """The settings, the running sums, and the feedback that does not count yet."""
        pending = torch.zeros(self.lag, 4, dtype=torch.float64)  # a row without images counts for nothing
        for row, feedback in zip(pending, self._pending, strict=False):
            row.copy_(torch.tensor([*feedback.read(), feedback.num_classes], dtype=torch.float64))
        return {
            "settings": torch.cat([_vector(self.decay, self.lag), _numbers(self.base)]),
            "steps": _vector(self._steps),
            "means": _vector(*vars(self._means).values()),
            "pending": pending,
        }

    def load_state_dict(self, state: State) -> None:
        """Continues from a saved state; raises ValueError for that of another schedule or other settings."""
        check_state(state, self.state_dict())
        accuracy, loss, weight, num_classes = state["means"].tolist()
        self._steps = int(state["steps"])
        self._means = _RunningMeans(accuracy, loss, weight, int(num_classes))
        rows = [row for row in state["pending"].tolist() if row[-1]]
        self._pending = deque(AsyncFeedback.from_checkpoint(*row) for row in rows)


class GapSchedule:
    """As many images are masked as the generalisation gap calls for: much where there is much to regularise.

    With cross-entropies of the model in eval mode, L_train on images that it trains on and L_val on images that it does
    not, the share ``clip(1 - L_train / L_val, 0, 1)`` of each batch is masked: 0 before the first measurement and
    where there is no gap, near 1 where the model answers its training images alone. The formula is our own.

    Call :meth:`measure`, or :meth:`smoot.criterion.SaliencyGuidedLoss.measure`, after each epoch. Use other images for
    it than those that choose the best epoch.

    Args:
        base: the plan but for its image fraction, which the gap replaces; by default ``MaskPlan(mask_fraction=0.2)``.
    """

    def __init__(self, base: MaskPlan | None = None) -> None:
        self.base = MaskPlan(mask_fraction=0.2) if base is None else base
        self.gap = 0.0
        self._steps = 0
        self._measured = False

    @property
    def plan(self) -> MaskPlan:
        """The plan of the next step: the base with the gap as its image fraction."""
        return _rounded(replace(self.base, image_fraction=self.gap), self._steps)

    @property
    def unmeasured_steps(self) -> int:
        """How many steps were done before the first measurement so far; 0 once there was one."""
        return 0 if self._measured else self._steps

    def measure(self, training_loss: float, validation_loss: float) -> float:
        """Sets the share of masked images from two mean cross-entropies in nats, and returns it.

        Under an initialised process group give every rank the same two numbers.

        Raises:
            FloatingPointError: if one of them is not finite.
            ValueError: if one of them is negative.
        """
        check_losses(training_loss, validation_loss)
        self.gap = max(0.0, 1.0 - training_loss / validation_loss) if validation_loss else 0.0
        self._measured = True
        return self.gap

    def step(self, feedback: Feedback) -> MaskPlan:
        """Counts the step and returns the next plan; the feedback changes nothing."""
        self._steps += 1
        return self.plan

    def state_dict(self) -> State:
        """The base, the number of steps done and the gap."""
        measured = _vector(self._measured)
        return {
            "settings": _numbers(self.base),
            "steps": _vector(self._steps),
            "gap": _vector(self.gap),
            "measured": measured,
        }

    def load_state_dict(self, state: State) -> None:
        """Continues from a saved state; raises ValueError for that of another schedule or plan."""
        check_state(state, self.state_dict())
        self._steps, self.gap = int(state["steps"]), float(state["gap"])
        self._measured = bool(state["measured"])


def _rounded(plan: MaskPlan, step: int) -> MaskPlan:
    """The plan with the rounding of a step; as it is where there is nothing to round."""
    return replace(plan, rounding=fair_rounding(step)) if 0 < plan.image_fraction < 1 else plan


def _vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _numbers(plan: MaskPlan) -> Tensor:
    """A plan as a vector of numbers."""
    ranking = get_args(Ranking).index(plan.ranking)
    limit = math.inf if plan.max_effect is None else plan.max_effect
    return _vector(plan.image_fraction, plan.mask_fraction, ranking, plan.protected, limit)


def check_losses(training_loss: float, validation_loss: float) -> None:
    """Raises FloatingPointError unless both losses are finite, ValueError if one is negative."""
    if not (math.isfinite(training_loss) and math.isfinite(validation_loss)):
        raise FloatingPointError(f"losses are {training_loss} and {validation_loss}: training has diverged")
    check_between("training_loss", training_loss, 0.0, math.inf)
    check_between("validation_loss", validation_loss, 0.0, math.inf)


def check_state(state: State, own: State) -> None:
    """Raises ValueError unless a loaded state has the names, shapes and settings of this schedule's own state."""
    shapes = {name: tuple(torch.as_tensor(value).shape) for name, value in state.items()}
    expected = {name: tuple(value.shape) for name, value in own.items()}
    if shapes != expected:
        raise ValueError(f"state holds {shapes}: expected {expected}; was it saved by another schedule?")
    if not torch.allclose(state["settings"].to(own["settings"]), own["settings"], rtol=1e-6, atol=0.0):
        raise ValueError(
            f"state was saved with settings {state['settings'].tolist()}, this schedule has "
            f"{own['settings'].tolist()}: make it with the same arguments, or do not load its state"
        )
