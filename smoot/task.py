"""What a model is asked and how its answers are scored: one class, or several labels, per image or per pixel.

A task turns logits and targets into what the objective needs: the loss, each image's score (whose input gradient is
the saliency), the divergence between the answers to an image and to its masked copy, and the accuracy that a schedule
learns from. Logits are ``(N, C)`` or, with one answer per pixel, ``(N, C, *places)``; what counts per place is
averaged over the places of an image. Everything is computed at least in float32.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from smoot.checks import (
    at_least_float32,
    check_answers,
    check_between,
    check_choice,
    check_inputs,
    check_labels,
)

Model = Callable[..., Any]
Score = Literal["logit", "log_prob", "log_odds"]
Summary = Literal["mean", "sum", "none"]
NO_LABEL = -(2**31)
"""Given to torch for no ignored label, in place of its -100, so that -100 is an error as any label out of range."""


class Task(Protocol):
    """What the objective asks of a task with N images."""

    @property
    def reduction(self) -> Summary:
        """How the loss sums up the images."""

    def check(self, logits: Any, targets: Tensor) -> Tensor:
        """Returns the logits if they fit the targets; raises TypeError or ValueError otherwise."""

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The training loss in nats: 0-d or, with reduction ``none``, ``(N,)``."""

    def plain_loss(self, logits: Tensor, targets: Tensor, loss: Tensor) -> Tensor:
        """The mean loss without weights and smoothing, 0-d, which schedules learn from; given the training loss."""

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Each image's loss without weights and smoothing, ``(N,)``."""

    def scores(self, logits: Tensor, targets: Tensor, score: Score) -> Tensor:
        """Each image's score for its own targets, ``(N,)``."""

    def divergences(self, logits: Tensor, masked_logits: Tensor) -> Tensor:
        """KL(p(clean) || p(masked)) of each image in nats, ``(N,)``."""

    def accuracy(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Share of right answers, 0-d in [0, 1]."""

    def changed(self, logits: Tensor, masked_logits: Tensor) -> Tensor:
        """How much of each image's answer differs between the two, ``(N,)`` in [0, 1]."""

    def num_images(self, targets: Tensor) -> int | Tensor:
        """Number of images that count."""

    def num_classes(self, logits: Tensor) -> int:
        """C, where ``ln C`` is the loss of a guess; at least 2."""

    def loss_ranks_as(self, score: Score, targets: Tensor) -> bool:
        """Whether the input gradients of an image's loss and score differ by a negative factor only."""


@dataclass(frozen=True, eq=False)
class Classification:
    """One class per image or per pixel; the arguments are those of ``torch.nn.CrossEntropyLoss``.

    Targets are int64 labels ``(N,)`` or ``(N, *places)``, or class probabilities shaped like the logits (mixup,
    CutMix). With probabilities y the score is ``sum_c y_c * score_c``, a schedule learns from KL(y || p), which is 0
    for a perfect answer, and the accuracy is the probability that y gives to the answered class.

    Attributes:
        weight: ``(C,)``, of the classes in the loss; on the device of the logits, or it is copied at every step.
        ignore_index: label of images or places that do not count in loss and accuracy; None if there are none
            (torch's -100 must be given). An image without any label is ranked by the class that the model gives it.
        label_smoothing: of the loss, in [0, 1].
        reduction: ``mean``; with one answer per image also ``sum``, or ``none`` for a loss per image.

    Raises:
        ValueError: for a value that is not among these.
    """

    weight: Tensor | None = None
    ignore_index: int | None = None
    label_smoothing: float = 0.0
    reduction: Summary = "mean"

    def __post_init__(self) -> None:
        check_between("label_smoothing", self.label_smoothing)
        check_choice("reduction", self.reduction, get_args(Summary))
        if self.weight is not None and (self.weight.ndim != 1 or not self.weight.is_floating_point()):
            raise ValueError(f"weight is {self.weight.dtype} {tuple(self.weight.shape)}: expected floats (C,)")

    def check(self, logits: Any, targets: Tensor) -> Tensor:
        answers = check_answers(logits, len(targets))
        probabilities = targets.is_floating_point() and targets.ndim > 1
        if not probabilities and targets.dtype != torch.int64:
            raise TypeError(
                f"targets are {targets.dtype} {tuple(targets.shape)}: expected class labels as an int64 tensor of "
                "shape (N,), or class probabilities (N, C)"
            )
        _check_shape(targets, answers.shape if probabilities else answers.shape[:1] + answers.shape[2:], answers)
        if self.weight is not None and len(self.weight) != answers.shape[1]:
            raise ValueError(f"weight has {len(self.weight)} entries: expected {answers.shape[1]}, one per class")
        if self.reduction != "mean" and answers.ndim > 2:
            raise ValueError(f"reduction is {self.reduction!r} with one answer per pixel: expected 'mean'")
        if targets.device.type == "cpu":
            self._check_values(targets, answers.shape[1])
        return answers

    def _check_values(self, targets: Tensor, classes: int) -> None:
        if targets.is_floating_point():
            sums = targets.sum(1)
            if bool((targets < 0).any()) or not torch.allclose(sums, torch.ones_like(sums), atol=1e-2):
                raise ValueError("targets are no class probabilities: expected numbers >= 0 that add up to 1")
            return
        check_labels(targets if self.ignore_index is None else targets[targets != self.ignore_index], classes)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        logits = at_least_float32(logits)
        return F.cross_entropy(
            logits,
            targets.to(logits.dtype) if targets.is_floating_point() else targets,
            weight=None if self.weight is None else self.weight.to(logits),
            ignore_index=self._ignored,
            label_smoothing=self.label_smoothing,
            reduction=self.reduction,
        )

    def plain_loss(self, logits: Tensor, targets: Tensor, loss: Tensor) -> Tensor:
        if targets.is_floating_point():
            return self.losses(logits, targets).mean()
        if self.weight is None and not self.label_smoothing and self.reduction == "mean":
            return loss
        return F.cross_entropy(at_least_float32(logits), targets, ignore_index=self._ignored)

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        logits = at_least_float32(logits)
        if targets.is_floating_point():
            return _per_image(F.kl_div(logits.log_softmax(1), targets.to(logits.dtype), reduction="none").sum(1))
        losses = F.cross_entropy(logits, targets, ignore_index=self._ignored, reduction="none")
        return _per_image(losses, None if self.ignore_index is None else targets != self.ignore_index)

    def scores(self, logits: Tensor, targets: Tensor, score: Score) -> Tensor:
        if targets.is_floating_point():
            return _per_image((class_scores(logits, score) * targets).sum(1))
        if self.ignore_index is None:
            return _per_image(target_score(logits, targets, score))
        labelled = targets != self.ignore_index
        labelled = labelled | ~labelled.reshape(len(targets), -1).any(1).view(-1, *[1] * (targets.ndim - 1))
        labels = torch.where(targets != self.ignore_index, targets, logits.detach().argmax(1))
        return _per_image(target_score(logits, labels, score), labelled)

    def divergences(self, logits: Tensor, masked_logits: Tensor) -> Tensor:
        return _per_image(kl_divergences(logits, masked_logits))

    def accuracy(self, logits: Tensor, targets: Tensor) -> Tensor:
        answers = logits.argmax(1)
        if targets.is_floating_point():
            return at_least_float32(targets.gather(1, answers.unsqueeze(1))).mean()
        right = (answers == targets).to(at_least_float32(logits).dtype)
        if self.ignore_index is None:
            return right.mean()
        labelled = targets != self.ignore_index
        return (right * labelled).sum() / labelled.sum().clamp(min=1)

    def changed(self, logits: Tensor, masked_logits: Tensor) -> Tensor:
        return _per_image((masked_logits.argmax(1) != logits.argmax(1)).to(at_least_float32(logits).dtype))

    def num_images(self, targets: Tensor) -> int | Tensor:
        if self.ignore_index is None or targets.is_floating_point():
            return len(targets)
        return (targets != self.ignore_index).reshape(len(targets), -1).any(1).sum()

    def num_classes(self, logits: Tensor) -> int:
        return logits.shape[1]

    def loss_ranks_as(self, score: Score, targets: Tensor) -> bool:
        plain = self.weight is None and self.ignore_index is None and not self.label_smoothing
        return plain and self.reduction == "mean" and score != "logit" and targets.ndim == 1

    @property
    def _ignored(self) -> int:
        return NO_LABEL if self.ignore_index is None else self.ignore_index


@dataclass(frozen=True, eq=False)
class MultiLabel:
    """Several labels per image, each present or absent; the arguments are those of ``torch.nn.BCEWithLogitsLoss``.

    Logits and targets are ``(N, C)`` or ``(N, C, *places)``, targets floating point in [0, 1]. The loss is the mean
    binary cross-entropy over images and labels. The score is the mean log-odds of the right answers, and the divergence
    the mean over labels of the KL between the two Bernoulli distributions. For the schedule a label is a question with
    two answers, so C is 2.

    Attributes:
        weight, pos_weight: ``(C,)``, of the labels, and of those that are present.
        reduction: ``mean``, or ``none`` for a loss per image (its mean over labels).

    Raises:
        ValueError: for an unknown reduction.
    """

    weight: Tensor | None = None
    pos_weight: Tensor | None = None
    reduction: Summary = "mean"

    def __post_init__(self) -> None:
        check_choice("reduction", self.reduction, ("mean", "none"))

    def check(self, logits: Any, targets: Tensor) -> Tensor:
        answers = check_answers(logits, len(targets), least=1)
        for name, weight in (("weight", self.weight), ("pos_weight", self.pos_weight)):
            if weight is not None and weight.shape != answers.shape[1:2]:
                raise ValueError(f"{name} has shape {tuple(weight.shape)}: expected ({answers.shape[1]},)")
        if not targets.is_floating_point():
            raise TypeError(f"targets are {targets.dtype}: expected floating point in [0, 1], 1 = label present")
        _check_shape(targets, answers.shape, answers)
        if targets.device.type == "cpu" and not bool(((targets >= 0) & (targets <= 1)).all()):
            raise ValueError(f"targets lie in [{targets.min():g}, {targets.max():g}]: expected numbers in [0, 1]")
        return answers

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        logits = at_least_float32(logits)
        losses = F.binary_cross_entropy_with_logits(
            logits,
            targets.to(logits.dtype),
            weight=self._shaped(self.weight, logits),
            pos_weight=self._shaped(self.pos_weight, logits),
            reduction=self.reduction,
        )
        return _per_image(losses) if self.reduction == "none" else losses

    def plain_loss(self, logits: Tensor, targets: Tensor, loss: Tensor) -> Tensor:
        unchanged = self.weight is None and self.pos_weight is None and self.reduction == "mean"
        return loss if unchanged else self.losses(logits, targets).mean()

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        logits = at_least_float32(logits)
        return _per_image(F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none"))

    def scores(self, logits: Tensor, targets: Tensor, score: Score) -> Tensor:
        sign = 2 * at_least_float32(targets) - 1
        right = sign * at_least_float32(logits)
        return _per_image(F.logsigmoid(right) if score == "log_prob" else right)

    def divergences(self, logits: Tensor, masked_logits: Tensor) -> Tensor:
        clean, after = at_least_float32(logits), at_least_float32(masked_logits)
        present = clean.sigmoid() * (F.logsigmoid(clean) - F.logsigmoid(after))
        absent = (-clean).sigmoid() * (F.logsigmoid(-clean) - F.logsigmoid(-after))
        return _per_image(present + absent)

    def accuracy(self, logits: Tensor, targets: Tensor) -> Tensor:
        return ((logits > 0) == (targets > 0.5)).to(at_least_float32(logits).dtype).mean()

    def changed(self, logits: Tensor, masked_logits: Tensor) -> Tensor:
        return _per_image(((logits > 0) != (masked_logits > 0)).to(at_least_float32(logits).dtype))

    def num_images(self, targets: Tensor) -> int | Tensor:
        return len(targets)

    def num_classes(self, logits: Tensor) -> int:
        return 2

    def loss_ranks_as(self, score: Score, targets: Tensor) -> bool:
        return False

    @staticmethod
    def _shaped(weight: Tensor | None, logits: Tensor) -> Tensor | None:
        return None if weight is None else weight.to(logits).view(-1, *[1] * (logits.ndim - 2))


def target_score(logits: Tensor, targets: Tensor, score: Score = "log_odds") -> Tensor:
    """The score of each image's target class, whose input gradient is the saliency.

    With logits z and target y: ``logit`` is z_y; ``log_prob`` is log p_y, as in SGT (Ismail et al. 2021,
    Algorithm 1); ``log_odds`` is log(p_y / (1 - p_y)), which is z_y minus the logsumexp of the other logits. The
    gradient of log p_y is that of the log-odds times (1 - p_y): both rank an image's pixels alike, but the gradient
    of the log-odds does not vanish as p_y approaches 1.

    Args:
        logits: ``(N, C)``, C >= 2; half precision is raised to float32.
        targets: ``(N,)`` int64.
        score: ``logit`` | ``log_prob`` | ``log_odds``.

    Returns:
        ``(N,)``, differentiable.

    Raises:
        ValueError: for an unknown score.
    """
    check_choice("score", score, get_args(Score))
    logits = at_least_float32(logits)
    index = targets.unsqueeze(1)
    true_logit = logits.gather(1, index).squeeze(1)
    if score == "logit":
        return true_logit
    if score == "log_odds":
        return true_logit - logits.scatter(1, index, -torch.inf).logsumexp(1)
    return logits.log_softmax(1).gather(1, index).squeeze(1)


def class_scores(logits: Tensor, score: Score) -> Tensor:
    """:func:`smoot.saliency.target_score` of every class at once, shaped like the logits ``(N, C, *places)``.

    The log-odds need the logsumexp of the other classes. Without the largest logit it is computed anew; without
    another one it is the log of a difference in which nothing cancels, because the largest term stays.
    """
    logits = at_least_float32(logits)
    if score == "logit":
        return logits
    if score == "log_prob":
        return logits.log_softmax(1)
    largest, top = logits.max(1, keepdim=True)
    terms = (logits - largest).exp()
    others = (terms.sum(1, keepdim=True) - terms).clamp(min=0.5).log() + largest
    return logits - others.scatter(1, top, logits.scatter(1, top, -torch.inf).logsumexp(1, keepdim=True))


def kl_divergences(logits: Tensor, masked_logits: Tensor) -> Tensor:
    """KL(p(clean) || p(masked)) over the classes of ``(N, C, *places)``, at least in float32: ``(N, *places)``."""
    target = at_least_float32(logits).log_softmax(1)
    return F.kl_div(at_least_float32(masked_logits).log_softmax(1), target, reduction="none", log_target=True).sum(1)


def answer(model: Model, inputs: Tensor) -> Any:
    """What the model returns, or its ``.logits`` where it returns an output object."""
    output = model(inputs)
    return output if isinstance(output, Tensor) else getattr(output, "logits", output)


def check_batch(inputs: Tensor, targets: Tensor) -> None:
    """Raises TypeError or ValueError unless inputs and targets are tensors of one batch; values as ``check_inputs``."""
    check_inputs(inputs)
    if not isinstance(targets, Tensor):
        raise TypeError(f"targets are {type(targets).__name__}: expected a tensor, such as int64 class labels (N,)")
    if targets.ndim == 0 or len(targets) != len(inputs):
        raise ValueError(
            f"targets have shape {tuple(targets.shape)}: expected ({len(inputs)},), one label per image, or what "
            f"the task takes for {len(inputs)} images"
        )


def _per_image(values: Tensor, counted: Tensor | None = None) -> Tensor:
    """Means of ``(N, *places)`` over the counted places: ``(N,)``, 0 where none is counted."""
    if counted is not None:
        flat = counted.reshape(len(values), -1).to(values.dtype)
        return (values.reshape(len(values), -1) * flat).sum(1) / flat.sum(1).clamp(min=1)
    return values if values.ndim == 1 else values.flatten(1).mean(1)


def _check_shape(targets: Tensor, expected: torch.Size, logits: Tensor) -> None:
    if targets.shape != expected:
        raise ValueError(
            f"targets have shape {tuple(targets.shape)}: expected {tuple(expected)} for the model's logits "
            f"{tuple(logits.shape)}; one answer per image needs logits ({len(logits)}, C)"
        )
