"""How images are masked and compared: the settings that stay the same in training, and the masked copies of a batch."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from smoot.checks import check_between, check_choice, check_count
from smoot.coupling import images_are_coupled
from smoot.masking import (
    Fill,
    channels_first,
    fill_values,
    limited_mask,
    lowest_saliency_mask,
    protected_random_mask,
    random_mask,
    replace_masked,
)
from smoot.modes import buffers_kept
from smoot.parallel import check_wrapper, num_ranks, unwrapped
from smoot.saliency import Reduction, input_gradient, saliency_map
from smoot.scheduler import MaskPlan, PerImagePlan
from smoot.task import Classification, Model, Score, Task, answer

SaliencyPass = Literal["reuse", "eval"]
Statistics = Literal["keep", "update"]
Consistency = Literal["kl", "cross_entropy"]


@dataclass(frozen=True)
class Guidance:
    """How images are masked and compared: the settings that stay the same during training.

    SMOOT, the default of :class:`smoot.SaliencyGuidedLoss`, is ``Guidance(reduction="signed_mean", fill="mean")``; the
    defaults here are those of SGT improved. docs/method.md lists those of SGT as published.

    Attributes:
        score: whose input gradient ranks the pixels, see :func:`smoot.task.target_score`.
        reduction: of the gradient over the channels, see :func:`smoot.saliency.saliency_map`.
        saliency_pass: the forward pass that is differentiated: ``reuse`` takes the training-mode pass of the loss,
            ``eval`` an additional one in eval mode. With BatchNorm or dropout the two give different masks.
        fill: what replaces masked pixels, see :func:`smoot.masking.fill_masked`.
        fill_value: the constant of fill ``constant``.
        masked_channels: how many of an image's channels are masked, the first ones; None: all of them.
        masked_statistics: whether the masked forward pass writes to the model's buffers, such as the running
            statistics of normalisation layers. ``update`` is the behaviour of SGT's published code: the statistics
            describe a mixture of clean and masked images, which costs accuracy on clean test images. With ``keep``
            they describe clean images.
        consistency: what masked images should be answered with: the clean image's probabilities (``kl``, SGT), or
            the label (``cross_entropy``, which makes masking an augmentation).
        kl_weight: lambda, the weight of the consistency term, at least 0.
        detach_target: whether p(clean) is a constant in the KL term. SGT as published differentiates both sides.
        label_smoothing: of the cross-entropy term, in [0, 1]; of the default task only.
        channel_axis: the axis of the inputs that holds an image's channels, such as -1 for tokens ``(N, T, D)``; the
            other ones but the first are its pixels. Not used for ``(N, F)``.
        shared_dropout: whether the masked pass drops the same units as the clean one, so that the two differ by the
            masks alone. It then runs on the whole batch, images that are not masked included.

    Raises:
        ValueError: for a value that is not among these.
    """

    score: Score = "log_odds"
    reduction: Reduction = "mean_abs"
    saliency_pass: SaliencyPass = "reuse"
    fill: Fill = "uniform"
    fill_value: float = 0.0
    masked_channels: int | None = None
    masked_statistics: Statistics = "keep"
    consistency: Consistency = "kl"
    kl_weight: float = 1.0
    detach_target: bool = True
    label_smoothing: float = 0.0
    channel_axis: int = 1
    shared_dropout: bool = False

    def __post_init__(self) -> None:
        check_choice("score", self.score, get_args(Score))
        check_choice("reduction", self.reduction, get_args(Reduction))
        check_choice("saliency_pass", self.saliency_pass, get_args(SaliencyPass))
        check_choice("fill", self.fill, get_args(Fill))
        check_choice("masked_statistics", self.masked_statistics, get_args(Statistics))
        check_choice("consistency", self.consistency, get_args(Consistency))
        check_between("kl_weight", self.kl_weight, 0.0, torch.inf)
        if self.masked_channels is not None:
            check_count("masked_channels", self.masked_channels)
        check_between("label_smoothing", self.label_smoothing)
        if self.channel_axis == 0 or isinstance(self.channel_axis, bool) or not isinstance(self.channel_axis, int):
            raise ValueError(f"channel_axis is {self.channel_axis!r}: expected an axis other than 0, the batch's")


@dataclass(frozen=True)
class MaskedImages:
    """The masked copies of some images of a batch.

    Attributes:
        index: ``(M,)`` int64, their rows in the batch.
        mask: ``(M, *pixels)`` bool, True = masked.
        images: M images like the inputs, with masked pixels filled.
        drawn: ``(M,)`` bool, those that the plan asked to mask, where others stand beside them; None: all.
    """

    index: Tensor
    mask: Tensor
    images: Tensor
    drawn: Tensor | None = None


def task_of(guidance: Guidance, task: Task | None = None) -> Task:
    """The given task, or classification with the guidance's label smoothing.

    Raises:
        ValueError: if label smoothing is asked for beside a task of its own.
    """
    if task is None:
        return Classification(label_smoothing=guidance.label_smoothing)
    if guidance.label_smoothing:
        raise ValueError("label_smoothing is set in the guidance beside a task: set it in the task")
    return task


def num_masked(model: Model, inputs: Tensor, plan: MaskPlan) -> int | None:
    """Number of images to mask, or None where there is no masked pass.

    Of images that are answered together, at least two are masked. Beside other processes the plan alone decides
    whether there is a masked pass, so it may have no image to mask here.
    """
    if not plan.masks:
        return None
    check_wrapper(model)
    count = plan.num_images(len(inputs), 2 if images_are_coupled(unwrapped(model), inputs) else 1)
    return count if count or num_ranks() > 1 else None


def needs_gradient(plan: MaskPlan) -> bool:
    """Whether the plan ranks pixels by the input gradient."""
    return plan.ranking != "random"


def gradient_before_forward(
    model: Model, inputs: Tensor, targets: Tensor, plan: MaskPlan, guidance: Guidance, task: Task
) -> Tensor | None:
    """The input gradient of pass ``eval`` where all images are masked, else None.

    SGT takes it before the clean forward pass updates the running statistics. Where part of the images is masked,
    :func:`mask_images` takes it of those alone.
    """
    if guidance.saliency_pass != "eval" or not needs_gradient(plan) or plan.image_fraction < 1:
        return None
    return input_gradient(model, inputs, targets, score=guidance.score, task=task)


def gradient_from_graph(logits: Tensor, variable: Tensor, targets: Tensor, guidance: Guidance, task: Task) -> Tensor:
    """The input gradient of pass ``reuse``, from the graph between ``variable`` and ``logits``, which is kept."""
    score = task.scores(logits, targets, guidance.score).sum()
    (gradient,) = torch.autograd.grad(score, variable, retain_graph=True)
    return gradient


def mask_images(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    gradient: Tensor | None,
    plan: MaskPlan,
    guidance: Guidance,
    generator: torch.Generator | None = None,
    task: Task | None = None,
) -> MaskedImages:
    """Draws the images of a plan, and masks and fills their pixels.

    Args:
        model, inputs, targets, plan, guidance, task, generator: as for :func:`guided_loss`.
        gradient: input gradient of the whole batch; without one it is taken of the drawn images, in eval mode, if
            the plan needs it.

    Returns:
        The masked images. Where the plan has none for this batch, up to two stand in, without a masked pixel.
    """
    size, count, shape = len(inputs), num_masked(model, inputs, plan) or 0, _pixels(inputs, guidance)
    if count == 0:
        index = torch.arange(min(2, size), device=targets.device)
        if gradient is None and needs_gradient(plan):  # other processes take one now, and sharded models need all
            input_gradient(model, inputs[index], targets[index], score=guidance.score, task=task)
        blank = torch.zeros(shape, dtype=torch.bool, device=inputs.device)
        return MaskedImages(index, blank[index], inputs[index], torch.zeros_like(index, dtype=torch.bool))
    images, fraction = inputs, plan.fractions if isinstance(plan, PerImagePlan) else plan.mask_fraction
    if count == size:
        index = torch.arange(size, device=targets.device)
    else:
        index = torch.randperm(size, generator=generator, device=targets.device)[:count]
        images = images[index]
        gradient = None if gradient is None else gradient[index]
        fraction = fraction[index] if isinstance(fraction, Tensor) else fraction
    if gradient is None and needs_gradient(plan):
        gradient = input_gradient(model, images, targets[index], score=guidance.score, task=task)
    mask, filled = _masked(images, gradient, plan, fraction, guidance, generator)
    if guidance.shared_dropout and count < size:
        blank = torch.zeros(shape, dtype=torch.bool, device=inputs.device)
        every = torch.arange(size, device=index.device)
        drawn = torch.zeros_like(every, dtype=torch.bool).index_fill(0, index, True)
        return MaskedImages(every, blank.index_copy(0, index, mask), inputs.index_copy(0, index, filled), drawn)
    return MaskedImages(index, mask, filled)


def _pixels(inputs: Tensor, guidance: Guidance) -> tuple[int, ...]:
    """The shape of the inputs' masks."""
    shape = list(inputs.shape)
    if inputs.ndim > 2:
        if not -inputs.ndim < guidance.channel_axis < inputs.ndim:
            raise ValueError(
                f"channel_axis is {guidance.channel_axis} for inputs {tuple(inputs.shape)}: expected one of their "
                "axes, and not the batch's"
            )
        del shape[guidance.channel_axis]
    return tuple(shape)


def _masked(
    images: Tensor,
    gradient: Tensor | None,
    plan: MaskPlan,
    fraction: float | Tensor,
    guidance: Guidance,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """The mask ``(M, *pixels)`` of M images, and the images filled; the gradient is None for ranking ``random``."""
    axis = guidance.channel_axis
    draw = partial(
        fill_values, images, fill=guidance.fill, value=guidance.fill_value, channel_axis=axis, generator=generator
    )
    if gradient is not None and plan.max_effect is not None:
        values = draw()
        changes = (values - channels_first(images.detach(), axis)) * channels_first(gradient, axis)
        saliency = saliency_map(gradient, reduction=guidance.reduction, channel_axis=axis)
        mask = limited_mask(saliency, changes[:, : guidance.masked_channels].sum(1), plan.max_effect, fraction)
    else:
        mask, values = _mask(images, gradient, plan, fraction, guidance, generator), draw()
    return mask, replace_masked(images, mask, values, channel_axis=axis, num_channels=guidance.masked_channels)


def _mask(
    images: Tensor,
    gradient: Tensor | None,
    plan: MaskPlan,
    fraction: float | Tensor,
    guidance: Guidance,
    generator: torch.Generator | None,
) -> Tensor:
    """The mask of M images without regard to the effect of masking."""
    if gradient is None or plan.ranking == "random":
        return random_mask(_pixels(images, guidance), fraction, generator=generator, device=images.device)
    saliency = saliency_map(gradient, reduction=guidance.reduction, channel_axis=guidance.channel_axis)
    if plan.ranking == "protected":
        return protected_random_mask(saliency, plan.mask_fraction, plan.protected, generator=generator)
    return lowest_saliency_mask(-saliency if plan.ranking == "highest" else saliency, fraction)


@contextmanager
def drawn_again(guidance: Guidance, device: torch.device) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Remembers the random state before the block; what it gives makes a block that draws the same numbers again."""
    if not guidance.shared_dropout:
        yield nullcontext
        return
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"shared_dropout on {device.type}: expected inputs on cpu or cuda")
    devices = [device] if device.type == "cuda" else []
    states = torch.get_rng_state(), [torch.cuda.get_rng_state(place) for place in devices]

    @contextmanager
    def again() -> Iterator[None]:
        with torch.random.fork_rng(devices):
            torch.set_rng_state(states[0])
            for place, state in zip(devices, states[1], strict=True):
                torch.cuda.set_rng_state(state, place)
            yield

    yield again


def forward_masked(model: Model, masked: MaskedImages, guidance: Guidance) -> Tensor:
    """Logits of the masked images, from the model in the mode it is in."""
    with buffers_kept(model) if guidance.masked_statistics == "keep" else nullcontext():
        logits: Tensor = answer(model, masked.images)
    return logits
