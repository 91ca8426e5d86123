"""How much is masked, decided during training: plans, feedback and schedules.

A :class:`MaskPlan` says what is masked in the next batch. A schedule hands out plans and takes feedback.
:class:`ConstantSchedule` always hands out the same plan (plain training, SGT, random masks).
:class:`AdaptiveSchedule` is SMOOT as this project defines it: the abstract of Karkehabadi et al. (2023,
arXiv:2310.00772) fixes that the number of masked images is decided during training from the input, the
accuracy and the loss; the formula here is our own.
"""

import math
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, get_args

from torch import Tensor

from smoot.checks import check_between, check_choice, check_count
from smoot.delivery import Delivery
from smoot.masking import pixel_count

Order = Literal["random", "hardest", "easiest"]
Pixels = Literal["fraction", "mass"]
Ranking = Literal["saliency", "random", "protected", "highest"]
Spend = Literal["smallest", "random", "hardest", "easiest"]
Images = Literal["competence", "budget", "all"]


@dataclass(frozen=True)
class MaskPlan:
    """What is masked in one batch.

    Attributes:
        image_fraction: share of the batch's images that is masked, in [0, 1].
        order: which images: drawn at ``random``, or the ``hardest`` (lowest log-odds of their label), or the
            ``easiest`` (highest; an image that is answered wrongly gets weight 0). Ties by index.
        budget: if given, the masked images count only up to the last whose information losses, summed in the
            order ``spend`` and divided by the batch size, stay within this many nats.
        spend: ``smallest`` information loss first, which is the largest number of images that the budget allows;
            or ``random`` (as they come), ``hardest`` or ``easiest`` first.
        pixels: ``fraction`` masks ``mask_fraction`` of each image's pixels; ``mass`` masks the least salient
            ones that hold at most ``mass`` of the saliency, and at most ``max_fraction`` of the pixels.
        mask_fraction: share of pixels, in [0, 1].
        mass: share of saliency, in [0, 1].
        max_fraction: share of pixels, in [0, 1].
        ranking: pixels are masked from the least salient on (``saliency``), at ``random``, at random but
            for the ``protected`` share of most salient ones, or from the most salient on (``highest``).
        protected: share of pixels, in [0, 1 - mask_fraction].

    Raises:
        ValueError: for a value out of its range or a combination that has no meaning.
    """

    image_fraction: float = 1.0
    order: Order = "random"
    budget: float | None = None
    spend: Spend = "smallest"
    pixels: Pixels = "fraction"
    mask_fraction: float = 0.5
    mass: float = 0.2
    max_fraction: float = 0.9
    ranking: Ranking = "saliency"
    protected: float = 0.0

    def __post_init__(self) -> None:
        check_choice("order", self.order, get_args(Order))
        check_choice("pixels", self.pixels, get_args(Pixels))
        check_choice("ranking", self.ranking, get_args(Ranking))
        check_choice("spend", self.spend, get_args(Spend))
        for name in ("image_fraction", "mask_fraction", "mass", "max_fraction", "protected"):
            check_between(name, getattr(self, name))
        if self.budget is not None:
            check_between("budget", self.budget, 0.0, math.inf)
        if self.pixels == "mass" and self.ranking != "saliency":
            raise ValueError(f"pixels 'mass' needs ranking 'saliency', got {self.ranking!r}: use pixels 'fraction'")
        if self.ranking == "protected" and self.mask_fraction + self.protected > 1 + 1e-9:
            raise ValueError(
                f"mask_fraction {self.mask_fraction:g} and protected {self.protected:g} add up to more than 1"
            )

    def num_images(self, batch_size: int) -> int:
        """Number of images that get a masked pass: ``floor(batch_size * image_fraction + 0.5)``.

        0 if that is below 2 (one image has no batch statistics) or if the plan's share of pixels or of
        saliency, or its budget, is 0: the host knows before the step whether there is a masked pass at all.
        """
        pixels = self.mask_fraction if self.pixels == "fraction" else min(self.mass, self.max_fraction)
        count = pixel_count(self.image_fraction, batch_size)
        return 0 if count < 2 or pixels == 0 or self.budget == 0 else count


@dataclass(frozen=True)
class Feedback:
    """What a schedule learns from one step, or from a validation split.

    Attributes:
        accuracy: share of right answers in [0, 1]; a number or a 0-d tensor.
        loss: mean cross-entropy against the hard labels, without smoothing, in nats.
        num_classes: number of classes, at least 2.
        num_images: number of images behind the two means, at least 1.
    """

    accuracy: float | Tensor
    loss: float | Tensor
    num_classes: int
    num_images: int

    def __post_init__(self) -> None:
        check_between("num_classes", self.num_classes, 2, math.inf)
        check_between("num_images", self.num_images, 1, math.inf)


class MaskSchedule(Protocol):
    """Anything that hands out plans, takes feedback, and can be saved and loaded."""

    @property
    def plan(self) -> MaskPlan:
        """The plan of the next batch."""
        ...

    def step(self, feedback: Feedback) -> MaskPlan:
        """Takes in one step's feedback, after that step, and returns the next plan."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The state as plain numbers."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up a state that ``state_dict`` returned."""
        ...


@dataclass(frozen=True)
class ConstantSchedule:
    """The same plan at every step: nothing masked (plain training), SGT, or random masks."""

    plan: MaskPlan = field(default_factory=MaskPlan)

    def step(self, feedback: Feedback) -> MaskPlan:
        """Returns the plan; the feedback changes nothing."""
        return self.plan

    def state_dict(self) -> dict[str, Any]:
        """There is no state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Accepts the empty state only."""
        if state:
            raise ValueError(f"a constant schedule has no state, got keys {sorted(state)}: was it another schedule's?")


@dataclass
class _RunningMeans:
    """Exponential means weighted by batch size; dividing by the summed weight corrects the bias."""

    accuracy: float = 0.0
    loss: float = 0.0
    weight: float = 0.0
    num_classes: int = 0


class AdaptiveSchedule:
    """SMOOT: the number of masked images follows what the network already knows.

    With running accuracy a and running cross-entropy l over C classes (exponential means with ``decay``,
    weighted by batch size, bias-corrected), the competence is ``c = a * max(0, 1 - l / ln C)``: 0 at chance
    and before any feedback, near 1 when the answers are right and certain.

    - ``images="competence"`` masks the share c of each batch.
    - ``images="budget"`` masks as many images as possible while the mean information loss stays within
      ``budget * a * l`` nats.
    - ``images="all"`` masks every image.

    How many pixels of each image are masked is in ``base``; with its ``pixels="mass"`` the image decides.

    Args:
        base: what stays the same: order, pixels, ranking. Its image fraction and budget are replaced.
        images: which of the three rules.
        budget: kappa, the share of the right answers' loss that masking may cost; only for ``"budget"``.
        scale_mass: multiplies the base's ``mass`` by the competence.
        decay: beta of the running means, in [0, 1).
        lag: on a CUDA device feedback counts so many steps late, so that the host never waits for the device; on
            the CPU, where there is nothing to wait for, it counts at once.

    Raises:
        ValueError: for values out of range.
    """

    def __init__(
        self,
        base: MaskPlan | None = None,
        *,
        images: Images = "competence",
        budget: float = 0.1,
        scale_mass: bool = False,
        decay: float = 0.95,
        lag: int = 4,
    ) -> None:
        check_choice("images", images, get_args(Images))
        check_between("budget", budget, 0.0, math.inf)
        check_between("decay", decay)
        if decay == 1.0:
            raise ValueError("decay is 1.0: expected a number below 1, or no feedback ever counts")
        self.base = MaskPlan(pixels="mass") if base is None else base
        self.images = images
        self.budget = budget
        self.scale_mass = scale_mass
        self.decay = decay
        self.lag = check_count("lag", lag)
        self._means = _RunningMeans()
        self._underway: deque[Delivery] = deque()

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
        """The plan of the next batch."""
        base = replace(self.base, mass=self.base.mass * self.competence) if self.scale_mass else self.base
        if self.images == "competence":
            return replace(base, image_fraction=self.competence, budget=None)
        if self.images == "budget":
            return replace(base, image_fraction=1.0, budget=self.budget * self.accuracy * self.loss)
        return replace(base, image_fraction=1.0, budget=None)

    def step(self, feedback: Feedback) -> MaskPlan:
        """Takes in one step's feedback and returns the next plan. Call it after the step.

        Raises:
            FloatingPointError: if accuracy or loss is not finite.
            ValueError: for an accuracy outside [0, 1], a negative loss, or a changed number of classes.
        """
        self._underway.append(Delivery(feedback))
        while self._underway and not (self._underway[0].delayed and len(self._underway) <= self.lag):
            self._take(self._underway.popleft())
        return self.plan

    def _take(self, delivered: Delivery) -> None:
        """One step's numbers into the running means."""
        accuracy, loss = delivered.read()
        if not (math.isfinite(accuracy) and math.isfinite(loss)):
            raise FloatingPointError(f"feedback is accuracy {accuracy}, loss {loss}: training has diverged")
        check_between("feedback's accuracy", accuracy)
        check_between("feedback's loss", loss, 0.0, math.inf)
        means = self._means
        if means.num_classes not in (0, delivered.num_classes):
            raise ValueError(f"feedback has {delivered.num_classes} classes, earlier feedback had {means.num_classes}")
        gain = (1.0 - self.decay) * delivered.num_images
        self._means = _RunningMeans(
            accuracy=self.decay * means.accuracy + gain * accuracy,
            loss=self.decay * means.loss + gain * loss,
            weight=self.decay * means.weight + gain,
            num_classes=delivered.num_classes,
        )

    def state_dict(self) -> dict[str, Any]:
        """The running sums as plain numbers, and the steps that do not count yet."""
        underway = [[*one.read(), one.num_classes, one.num_images] for one in self._underway]
        return vars(self._means) | {"underway": underway}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up a saved state; other keys than ours are an error."""
        expected = {*vars(self._means), "underway"}
        if set(state) != expected:
            raise ValueError(f"state has keys {sorted(state)}: expected {sorted(expected)}")
        sums = {name: value for name, value in state.items() if name != "underway"}
        self._means = _RunningMeans(**sums)
        self._underway = deque(Delivery.again(*one) for one in state["underway"])
