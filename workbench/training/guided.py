"""Training: one epoch, and one run that can be taken up again.

Every random state derives from (seed, epoch, purpose), so a checkpoint after an epoch holds no random
state, and a run that was killed and taken up again ends with the same weights to the last bit.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoot.modes import evaluation_mode, out_of_memory
from smoot.objective import GuidedLoss
from smoot.probe import first_order_change
from smoot.scheduler import Feedback, MaskPlan, MaskSchedule
from smoot.step import guided_backward
from workbench.config import paths
from workbench.config.profile import RunConfig, TrainingConfig
from workbench.data import sets as data
from workbench.runner.pool import Report
from workbench.training.devices import pick_device
from workbench.training.erasing import erase
from workbench.training.models import create_backbone
from workbench.training.schedules import create_schedule

Row = dict[str, float]
OF_ALL = ("total", "classification", "consistency", "masked_share")
OF_MASKED = ("masked_pixels", "information_loss", "flip_share", "cross_entropy_rise")


class TrainingDiverged(RuntimeError):
    """The loss became NaN or infinite; the message names the step and the last good checkpoint."""


class BatchTooLarge(RuntimeError):
    """A step does not fit into memory; the message names the batch and what to change."""


@dataclass
class TrainState:
    """What changes during training; a checkpoint holds all of it.

    Attributes:
        network: the network in training.
        optimizer: its optimiser.
        rate: the learning-rate schedule, stepped once a batch.
        schedule: decides what is masked.
        history: one row an epoch, see :func:`train_epoch`.
        best: weights of the best epoch on the validation images.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    rate: torch.optim.lr_scheduler.LRScheduler
    schedule: MaskSchedule
    history: list[Row]
    best: dict[str, Tensor]


def create_state(config: RunConfig, image_shape: tuple[int, int, int], num_classes: int, num_images: int) -> TrainState:
    """A freshly initialised run on the device of its configuration."""
    training = config.training
    torch.manual_seed(config.stream("initialisation"))
    network = create_backbone(config.backbone, config.dataset, image_shape=image_shape, num_classes=num_classes)
    network = network.to(pick_device(training.device))
    if training.channels_last:
        network = network.to(memory_format=torch.channels_last)
    if training.compile:
        network.compile()
    optimizer = torch.optim.AdamW(network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    per_epoch = max(1, num_images // training.batch_size)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, _cosine(training, per_epoch))
    return TrainState(network, optimizer, rate, create_schedule(config, training.epochs * per_epoch), [], {})


def train_epoch(state: TrainState, images: Tensor, labels: Tensor, config: RunConfig, *, epoch: int) -> Row:
    """Trains one epoch, in place.

    Args:
        state: the run; network, optimiser and schedules are stepped.
        images: ``(N, C, H, W)`` in [0, 1], on the network's device.
        labels: ``(N,)`` int64.
        config: batch size, precision, clipping and guidance.
        epoch: 1-based; decides order, dropout and fills together with the seed.

    Returns:
        Means over the epoch: total, classification and consistency loss in nats, training accuracy, the
        planned image fraction, the competence, and what masking did (see ``GuidedLoss``); after the last step the
        first-order change of log p by such masks on the last batch (see :mod:`smoot.probe`). NaN where nothing
        was masked or the schedule has no competence.

    Raises:
        TrainingDiverged: if the loss is not finite.
        BatchTooLarge: if a step does not fit into memory.
    """
    state.network.train()
    torch.manual_seed(config.stream("dropout", epoch))
    draws = torch.Generator(images.device).manual_seed(config.stream("masks", epoch))
    steps: list[Tensor] = []
    planned: list[tuple[float, float]] = []
    learns = config.method.adaptive is None or config.method.adaptive.feedback == "training"
    for step, order in enumerate(_batches(len(images), config, epoch)):
        rows = order.to(images.device)
        plan = state.schedule.plan
        planned.append((plan.image_fraction, getattr(state.schedule, "competence", math.nan)))
        try:
            loss = _optimise(state, _augmented(images[rows], config, draws), labels[rows], plan, config, draws)
            steps.append(_numbers(loss))
            if images.device.type == "cpu":
                _check_finite(steps[-1][:1], epoch, step)
            if learns:
                state.schedule.step(loss.feedback)
        except FloatingPointError as error:
            raise TrainingDiverged(f"epoch {epoch}, step {step}: {error}") from None
    numbers = torch.stack(steps).cpu().double()
    _check_finite(numbers[:, 0], epoch)  # an accelerator is not asked after every step
    changed = first_order_change(
        state.network, images[rows], labels[rows], plan, config.method.guidance, generator=draws
    )
    return _epoch_row(numbers, planned, epoch) | {"first_order_change": float(changed)}


def fit(config: RunConfig, split: data.Split, num_classes: int, checkpoint: Path, report: Report) -> TrainState:
    """Trains a run to its end, from its last checkpoint if there is one; the test split is not in reach.

    Args:
        config: the run.
        split: training and validation images; the best epoch is the one of highest validation accuracy,
            the earlier one among equals.
        num_classes: number of classes.
        checkpoint: file that is replaced after every epoch.
        report: called as ``report(epoch, loss=..., accuracy=..., masked=...)`` after every epoch.

    Returns:
        The finished run, with its best weights in ``best``.

    Raises:
        TrainingDiverged: names the step and the last good checkpoint.
    """
    data.check_images(split.train_images, split.train_labels, num_classes)
    shape = split.train_images.shape[1:]
    state = create_state(config, (shape[0], shape[1], shape[2]), num_classes, len(split.train_images))
    if checkpoint.exists():
        _restore(state, checkpoint)
    device = next(state.network.parameters()).device
    images, labels = split.train_images.to(device), split.train_labels.to(device)
    validation = split.validation_images.to(device), split.validation_labels.to(device)
    for epoch in range(len(state.history) + 1, config.training.epochs + 1):
        try:
            row = train_epoch(state, images, labels, config, epoch=epoch)
        except TrainingDiverged as error:
            last = f"{checkpoint} holds epoch {epoch - 1}" if checkpoint.exists() else "there is no checkpoint yet"
            raise TrainingDiverged(f"{config.cell}, seed {config.seed}, {error}; {last}") from None
        row["validation_accuracy"], row["validation_loss"] = _validate(state.network, *validation, config)
        if config.method.adaptive is not None and config.method.adaptive.feedback == "validation":
            known = Feedback(row["validation_accuracy"], row["validation_loss"], num_classes, len(validation[0]))
            state.schedule.step(known)
        if row["validation_accuracy"] > max((past["validation_accuracy"] for past in state.history), default=-1.0):
            state.best = {name: tensor.detach().clone() for name, tensor in state.network.state_dict().items()}
        state.history.append(row)
        _save(state, checkpoint)
        report(epoch, loss=row["total"], accuracy=row["validation_accuracy"], masked=row["masked_share"])
    return state


def _cosine(training: TrainingConfig, per_epoch: int) -> Callable[[int], float]:
    """The learning rate's share at each step: a linear warm-up, then half a cosine to zero."""
    warmup, total = training.warmup_epochs * per_epoch, training.epochs * per_epoch

    def share(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))

    return share


def _augmented(images: Tensor, config: RunConfig, draws: torch.Generator) -> Tensor:
    """The images ``(B, C, H, W)``, with parts of some of them erased if the configuration asks for it."""
    probability = config.training.erase_probability
    if not probability:
        return images
    return erase(images, probability=probability, fills=[("uniform", 0.0)], generator=draws)


def _batches(num_images: int, config: RunConfig, epoch: int) -> list[Tensor]:
    """Shuffled row indices; a last batch that is not full is left out, unless it is the only one."""
    order = torch.Generator().manual_seed(config.stream("order", epoch))
    batches = torch.randperm(num_images, generator=order).split(config.training.batch_size)
    return [rows for rows in batches if len(rows) == config.training.batch_size] or [batches[0]]


def _optimise(
    state: TrainState,
    images: Tensor,
    labels: Tensor,
    plan: MaskPlan,
    config: RunConfig,
    draws: torch.Generator,
) -> GuidedLoss:
    """One step of the optimiser on the guided loss."""
    training = config.training
    state.optimizer.zero_grad(set_to_none=True)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=training.precision == "bf16"):
        try:
            loss = guided_backward(state.network, images, labels, plan, config.method.guidance, generator=draws)
        except ValueError as error:  # a diverged network's saliency is refused before there is a loss
            with torch.no_grad():
                if torch.isfinite(state.network(images)).all():
                    raise
            raise FloatingPointError(f"the network's answers are not finite: {error}") from None
        except RuntimeError as error:
            if out_of_memory(error):
                raise BatchTooLarge(_too_large(images, training)) from None
            raise
    if training.clip_norm is not None:
        nn.utils.clip_grad_norm_(state.network.parameters(), training.clip_norm)
    state.optimizer.step()
    state.rate.step()
    return loss


def _too_large(images: Tensor, training: TrainingConfig) -> str:
    """What to do about a batch that does not fit into memory."""
    size, shape = len(images), "x".join(map(str, images.shape[1:]))
    cheaper = "" if training.precision == "bf16" else ", or set training.precision to bf16"
    return (
        f"a step with {size} images of {shape} does not fit into the memory of {images.device}: "
        f"lower training.batch_size, now {training.batch_size}, to {max(2, size // 2)} or less{cheaper}"
    )


def _check_finite(totals: Tensor, epoch: int, first: int = 0) -> None:
    """Raises unless the losses ``(S,)`` of the steps from ``first`` on are all finite."""
    for step in (~torch.isfinite(totals)).nonzero().flatten().tolist():
        raise TrainingDiverged(f"epoch {epoch}, step {first + step}: the loss is {float(totals[step])}")


def _numbers(loss: GuidedLoss) -> Tensor:
    """The numbers of one step in the order OF_ALL, OF_MASKED, accuracy, on the device: nothing waits for them."""
    accuracy = torch.as_tensor(loss.feedback.accuracy)
    return torch.stack([getattr(loss, name).detach() for name in OF_ALL + OF_MASKED] + [accuracy])


def _epoch_row(steps: Tensor, planned: list[tuple[float, float]], epoch: int) -> Row:
    """Means over the steps ``(S, numbers)``; what masking did is weighted by the masked share."""
    row = {"epoch": float(epoch), "accuracy": float(steps[:, -1].mean())}
    row |= {name: float(steps[:, index].mean()) for index, name in enumerate(OF_ALL)}
    weight = steps[:, OF_ALL.index("masked_share")]
    for index, name in enumerate(OF_MASKED, start=len(OF_ALL)):
        masked = steps[:, index].where(weight > 0, 0.0)
        row[name] = float((masked * weight).sum() / weight.sum())
    row["image_fraction"] = sum(fraction for fraction, _ in planned) / len(planned)
    row["competence"] = sum(competence for _, competence in planned) / len(planned)
    return row


def _validate(network: nn.Module, images: Tensor, labels: Tensor, config: RunConfig) -> tuple[float, float]:
    """Accuracy and cross-entropy on the validation images."""
    size = config.evaluation.batch_size
    with evaluation_mode(network), torch.no_grad():
        logits = torch.cat([network(part) for part in images.split(size)])
    return float((logits.argmax(1) == labels).double().mean()), float(F.cross_entropy(logits, labels))


def _save(state: TrainState, checkpoint: Path) -> None:
    content: dict[str, Any] = {
        "network": state.network.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "rate": state.rate.last_epoch,
        "schedule": state.schedule.state_dict(),
        "history": state.history,
        "best": state.best,
    }
    with paths.replacing(checkpoint) as temporary:
        torch.save(content, temporary)


def _restore(state: TrainState, checkpoint: Path) -> None:
    device = next(state.network.parameters()).device
    content = torch.load(checkpoint, map_location=device, weights_only=True)
    state.network.load_state_dict(content["network"])
    state.optimizer.load_state_dict(content["optimizer"])
    state.rate.last_epoch = content["rate"]
    state.schedule.load_state_dict(content["schedule"])
    state.history, state.best = content["history"], content["best"]
