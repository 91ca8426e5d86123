"""Guided training: from a run's configuration and images to its best weights and its history.

Every random state derives from (seed, epoch, purpose). So a checkpoint after an epoch needs no random state, and a
run that was killed and resumed ends with the same weights to the last bit. Plain training, SGT and SMOOT
differ in the mask schedule and the guidance only, not in the loop.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoot.checks import is_out_of_memory
from smoot.feedback import Feedback
from smoot.objective import GuidedLoss
from smoot.parallel import averaged, summed
from smoot.per_image import PerImageSchedule
from smoot.scheduler import AdaptiveSchedule, ConstantSchedule, GapSchedule, MaskPlan, MaskSchedule, SequenceSchedule
from smoot.step import guided_backward
from workbench.config.run import RunConfig, TrainingConfig
from workbench.data.sets import Split, check_images
from workbench.training import checkpoints, parallel
from workbench.training.erasing import erase
from workbench.training.inference import predict, share_correct
from workbench.training.networks import create_backbone, pick_device
from workbench.training.plain import Report, create_optimizer, shuffled_batches, steps_per_epoch
from workbench.training.probe import first_order_change

Row = dict[str, float]
STEP_MEANS = ("total", "classification", "consistency", "masked_share")
TURNS = 10  # of the training images, one in so many is held out at a time
MASKED_MEANS = ("masked_pixels", "information_loss", "flip_share", "cross_entropy_rise")


class TrainingDiverged(RuntimeError):
    """The loss became NaN or infinite; the message names the step and the last good checkpoint."""


class BatchTooLarge(RuntimeError):
    """A step does not fit into memory; the message names the batch and what to change."""


@dataclass
class TrainState:
    """What changes during training; a checkpoint holds all of it.

    Attributes:
        network, optimizer: what is trained, and its optimiser.
        rate: the learning-rate schedule, stepped once per batch.
        schedule: decides what is masked.
        history: one row per epoch: see :func:`train_epoch`; accuracy and loss (nats) in eval mode on the validation
            images and on as many training images; with a number per image their mean and the largest, as fractions of
            the pixels, else NaN.
        best: weights of the epoch with the highest validation accuracy so far, the earliest of equals.
        parallel: the network in the wrapper that adds up the gradients of several processes; None in one process.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    rate: torch.optim.lr_scheduler.LRScheduler
    schedule: MaskSchedule
    history: list[Row]
    best: dict[str, Tensor]
    parallel: nn.Module | None = None


def fit(config: RunConfig, part: Split, num_classes: int, checkpoint: Path, report: Report) -> TrainState:
    """Train a run to its end; the test split is out of reach.

    Args:
        config: the run.
        part: training images, and the validation images that decide which epoch is the best.
        num_classes: number of classes.
        checkpoint: file that is replaced after every epoch; training goes on from it if it exists and is whole.
        report: called as ``report(epoch, loss=..., accuracy=..., masked=...)`` after every epoch: training loss in
            nats, validation accuracy, share of masked images.

    Returns:
        The finished run, with its best weights in ``best``.

    Raises:
        ValueError: for images or labels out of range.
        TrainingDiverged: names the step and the last good checkpoint.
        BatchTooLarge: if a step does not fit into memory.
    """
    check_images(part.train_images, part.train_labels, num_classes)
    state = create_state(config, part.train_images.shape[1:], num_classes, len(part.train_images))
    device = next(state.network.parameters()).device
    if content := checkpoints.load(checkpoint, device):
        restore(state, content)
    state.parallel = parallel.wrapped(state.network)
    images, labels = part.train_images.to(device), part.train_labels.to(device)
    validation = part.validation_images.to(device), part.validation_labels.to(device)
    steering = part.steering_images.to(device), part.steering_labels.to(device)
    for epoch in range(len(state.history) + 1, config.training.epochs + 1):
        try:
            row = train_epoch(state, images, labels, config, epoch=epoch)
        except TrainingDiverged as error:
            last = f"{checkpoint} holds epoch {epoch - 1}" if state.history else "there is no checkpoint yet"
            raise TrainingDiverged(f"{config.network}, seed {config.seed}, {error}; {last}") from None
        parallel.share_buffers(state.network)
        row["validation_accuracy"], row["validation_loss"] = _validate(state.network, *validation, config)
        seen = images[: len(validation[0])], labels[: len(validation[0])]
        row["trained_accuracy"], row["trained_loss"] = _validate(state.network, *seen, config)
        if config.method.adaptive is not None and config.method.adaptive.feedback == "validation":
            state.schedule.step(
                Feedback(row["validation_accuracy"], row["validation_loss"], num_classes, len(validation[0]))
            )
        if isinstance(state.schedule, GapSchedule | PerImageSchedule) and config.method.measured:
            compared = _compared(images, labels, steering, config, epoch)
            state.schedule.measure(*(_validate(state.network, *part, config)[1] for part in compared))
        if row["validation_accuracy"] > max((past["validation_accuracy"] for past in state.history), default=-1.0):
            state.best = {name: tensor.detach().clone() for name, tensor in state.network.state_dict().items()}
        state.history.append(row | _numbers(state.schedule))
        if parallel.rank() == 0:
            _save(state, checkpoint)
        report(epoch, loss=row["total"], accuracy=row["validation_accuracy"], masked=row["masked_share"])
    return state


def create_state(config: RunConfig, image_shape: tuple[int, ...], num_classes: int, num_images: int) -> TrainState:
    """A freshly initialised run on the device of its configuration."""
    training = config.training
    torch.manual_seed(config.seed_for("initialisation"))
    network = create_backbone(config.backbone, config.dataset, image_shape=image_shape, num_classes=num_classes)
    network = network.to(pick_device(training.device))
    if training.channels_last:
        network = network.to(memory_format=torch.channels_last)
    if training.sync_batch_norm:
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    if training.compile:
        network.compile()
    optimizer, rate = create_optimizer(network, training, num_images, warmup_epochs=training.warmup_epochs)
    num_steps = training.epochs * steps_per_epoch(num_images, training.batch_size)
    return TrainState(network, optimizer, rate, create_schedule(config, num_steps, num_images), [], {})


def create_schedule(config: RunConfig, num_steps: int, num_images: int) -> MaskSchedule:
    """The mask schedule of a run.

    Args:
        config: its method, and the seed of a shuffled sequence.
        num_steps: of the whole training, over which a sequence is stretched.
        num_images: in the training set.
    """
    method = config.method
    if method.gap is not None:
        return GapSchedule(method.plan)
    if method.per_image is not None:
        return method.per_image.schedule(num_images, method.plan)
    if method.adaptive is not None:
        return AdaptiveSchedule(method.plan, decay=method.adaptive.decay)
    if method.sequence is None:
        return ConstantSchedule(method.plan)
    fractions, rankings = method.sequence.image_fractions, method.sequence.rankings or (method.plan.ranking,)
    places = torch.arange(num_steps)
    if method.sequence.shuffled:
        places = torch.randperm(num_steps, generator=torch.Generator().manual_seed(config.seed_for("schedule")))
    return SequenceSchedule(
        [
            replace(
                method.plan,
                image_fraction=fractions[place * len(fractions) // num_steps],
                ranking=rankings[step % len(rankings)],
            )
            for step, place in enumerate(places.tolist())
        ]
    )


def train_epoch(state: TrainState, images: Tensor, labels: Tensor, config: RunConfig, *, epoch: int) -> Row:
    """Train one epoch, in place.

    Args:
        state: the run; network, optimiser and schedules are stepped.
        images: ``(N, C, H, W)`` in [0, 1], on the network's device.
        labels: ``(N,)`` int64.
        config: batch size, precision, clipping and guidance.
        epoch: 1-based; together with the seed it decides order, dropout, masks and fills.

    Returns:
        Means over the epoch: total, classification and consistency loss in nats, training accuracy, the planned
        image fraction, the competence, and the effect of masking (see ``GuidedLoss``); and, after the last step, the
        first-order change of log p that masks make on the last batch (see :mod:`workbench.training.probe`). NaN where
        nothing was masked or the schedule has no competence.

    Raises:
        TrainingDiverged: if the loss is not finite.
        BatchTooLarge: if a step does not fit into memory.
    """
    state.network.train()
    torch.manual_seed(config.seed_for("dropout", epoch) + parallel.rank())
    draws = torch.Generator(images.device).manual_seed(config.seed_for("masks", epoch) + parallel.rank())
    order = torch.Generator().manual_seed(config.seed_for("order", epoch))
    steps: list[Tensor] = []
    planned: list[tuple[float, float]] = []
    every_step = config.method.adaptive is None or config.method.adaptive.feedback == "training"
    batches = shuffled_batches(len(images), config.training.batch_size, order, shuffled=config.training.shuffled)
    for step, chosen in enumerate(batches):
        rows = parallel.own_share(chosen[~_left_out(chosen, config, epoch)]).to(images.device)
        owners = _owners(rows, config, order)
        plan = state.schedule.plan
        if isinstance(state.schedule, PerImageSchedule):
            plan = state.schedule.plan_for(owners, images.device)
        planned.append((plan.image_fraction, getattr(state.schedule, "competence", math.nan)))
        try:
            batch = _augmented(images[rows], config.training, draws)
            loss = _optimise(state, batch, labels[rows], plan, config, draws)
            steps.append(_step_numbers(loss))
            if images.device.type == "cpu":
                _check_finite(steps[-1][:1], epoch, step)
            if every_step:
                _learn(state.schedule, loss, owners)
        except FloatingPointError as error:
            raise TrainingDiverged(f"epoch {epoch}, step {step}: {error}") from None
    numbers = torch.stack(steps)
    _check_finite(numbers[:, 0].cpu(), epoch)  # on an accelerator a check per step would wait for it
    numbers = parallel.of_all_ranks(numbers).cpu().double()
    change = first_order_change(state.network, images[rows], labels[rows], plan, config.method.guidance, draws)
    return _epoch_row(numbers, planned, epoch) | {
        "first_order_change": float(parallel.of_all_ranks(change).cpu().nanmean())
    }


def _augmented(images: Tensor, training: TrainingConfig, draws: torch.Generator) -> Tensor:
    """The images of a batch as a step sees them: rectangles of noise over some, if the configuration says so."""
    if not training.erase_probability:
        return images
    return erase(images, probability=training.erase_probability, fills=[("uniform", 0.0)], generator=draws)


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
            network = state.network if state.parallel is None else state.parallel
            loss = guided_backward(network, images, labels, plan, config.method.guidance, generator=draws)
        except ValueError as error:  # a diverged network's saliency is refused before there is a loss
            with torch.no_grad():
                if torch.isfinite(state.network(images)).all():
                    raise
            raise FloatingPointError(f"the network's answers are not finite: {error}") from None
        except RuntimeError as error:
            if is_out_of_memory(error):
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
    """Raise unless the losses ``(S,)`` of the steps from ``first`` on are all finite."""
    for step in (~torch.isfinite(totals)).nonzero().flatten().tolist():
        raise TrainingDiverged(f"epoch {epoch}, step {first + step}: the loss is {float(totals[step])}")


def _step_numbers(loss: GuidedLoss) -> Tensor:
    """The numbers of one step on the device, unsynchronised: STEP_MEANS, MASKED_MEANS, accuracy."""
    accuracy = torch.as_tensor(loss.feedback.accuracy)
    return torch.stack([getattr(loss, name).detach() for name in STEP_MEANS + MASKED_MEANS] + [accuracy])


def _epoch_row(steps: Tensor, planned: list[tuple[float, float]], epoch: int) -> Row:
    """Means over the steps ``(S, numbers)``; the effects of masking are weighted by the share of masked images."""
    row: Row = {"epoch": epoch, "accuracy": float(steps[:, -1].mean())}
    row |= {name: float(steps[:, index].mean()) for index, name in enumerate(STEP_MEANS)}
    weight = steps[:, STEP_MEANS.index("masked_share")]
    for index, name in enumerate(MASKED_MEANS, start=len(STEP_MEANS)):
        masked = steps[:, index].where(weight > 0, 0.0)
        row[name] = float((masked * weight).sum() / weight.sum())
    row["image_fraction"] = sum(fraction for fraction, _ in planned) / len(planned)
    row["competence"] = sum(competence for _, competence in planned) / len(planned)
    return row


def _owners(rows: Tensor, config: RunConfig, draws: torch.Generator) -> Tensor:
    """The images whose numbers the images of a batch are masked by: themselves, but for a control."""
    if config.method.per_image is None or not config.method.per_image.shuffled:
        return rows
    return rows[torch.randperm(len(rows), generator=draws).to(rows.device)]


def _learn(schedule: MaskSchedule, loss: GuidedLoss, owners: Tensor) -> None:
    """The schedule's feedback of one step."""
    feedback = averaged(loss.feedback)
    schedule.step(feedback)
    if isinstance(schedule, PerImageSchedule):
        schedule.learn(summed(schedule.changes(owners, loss.answers, feedback)))


def _left_out(rows: Tensor, config: RunConfig, epoch: int) -> Tensor:
    """Which training images an epoch leaves out, so that the generalisation gap can be measured on them."""
    turns = config.method.gap is not None and config.method.gap.held_out == "turns"
    return (rows % TURNS == epoch % TURNS) if turns else torch.zeros_like(rows, dtype=torch.bool)


def _compared(
    images: Tensor, labels: Tensor, steering: tuple[Tensor, Tensor], config: RunConfig, epoch: int
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The images, and their labels, between which the gap is measured: trained on, and held out."""
    left_out = _left_out(torch.arange(len(images), device=images.device), config, epoch)
    held = (images[left_out], labels[left_out]) if left_out.any() else steering
    trained = (~left_out).nonzero().flatten()[: len(held[0])]
    return (images[trained], labels[trained]), held


def _numbers(schedule: MaskSchedule) -> Row:
    """Mean and largest of the numbers per image."""
    numbers = schedule.numbers if isinstance(schedule, PerImageSchedule) else torch.tensor([torch.nan])
    return {"number_mean": float(numbers.mean()), "number_largest": float(numbers.max())}


def _validate(network: nn.Module, images: Tensor, labels: Tensor, config: RunConfig) -> tuple[float, ...]:
    """Accuracy and cross-entropy on the validation images."""
    logits = predict(network, images, batch_size=config.evaluation.batch_size)
    return parallel.of_the_first(share_correct(logits, labels), float(F.cross_entropy(logits, labels)))


def _save(state: TrainState, checkpoint: Path) -> None:
    content = {
        "network": state.network.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "rate": state.rate.last_epoch,
        "schedule": state.schedule.state_dict(),
        "history": state.history,
        "best": state.best,
    }
    checkpoints.save(content, checkpoint)


def restore(state: TrainState, content: dict[str, Any]) -> None:
    """Put the content of a checkpoint into a run."""
    state.network.load_state_dict(content["network"])
    state.optimizer.load_state_dict(content["optimizer"])
    state.rate.last_epoch = content["rate"]
    state.schedule.load_state_dict(content["schedule"])
    state.history, state.best = content["history"], content["best"]
