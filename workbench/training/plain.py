"""Plain training by cross-entropy, for the networks that measure others: judges and retrained networks."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.config.run import JudgeConfig, RetrainingConfig, TrainingConfig
from workbench.training.randomness import drawn_seed, seeded

Transform = Callable[[Tensor, torch.Generator], Tensor]
Report = Callable[..., None]
FitSettings = TrainingConfig | JudgeConfig | RetrainingConfig  # epochs, batch size, learning rate, weight decay


def fit_plain(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    settings: FitSettings,
    *,
    seed: int,
    transform: Transform | None = None,
    report: Report | None = None,
) -> None:
    """Train a network in place: AdamW, half a cosine from the learning rate to zero, cross-entropy.

    Order, dropout and ``transform`` depend on the seed alone, not on the images: two trainings with one seed see
    the same images in the same order.

    Args:
        network: left in eval mode.
        images: ``(N, C, H, W)`` on the network's device.
        labels: ``(N,)`` int64.
        seed: of all draws.
        transform: changes each batch before the network sees it, e.g. erases parts; called as
            ``transform(batch, generator)``.
        report: called as ``report(epoch, loss=mean loss in nats)`` after every epoch.

    Raises:
        FloatingPointError: if the mean loss of an epoch is not finite.
    """
    optimizer, rate = create_optimizer(network, settings, len(images))
    order = torch.Generator().manual_seed(seed)
    draws = torch.Generator(images.device).manual_seed(drawn_seed(order))
    with seeded(seed, images.device):
        for epoch in range(1, settings.epochs + 1):
            network.train()
            losses = []
            for rows in shuffled_batches(len(images), settings.batch_size, order):
                batch, targets = images[rows.to(images.device)], labels[rows.to(images.device)]
                loss = F.cross_entropy(network(transform(batch, draws) if transform else batch), targets)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                rate.step()
                losses.append(loss.detach())
            mean = float(torch.stack(losses).mean())
            if not math.isfinite(mean):
                raise FloatingPointError(
                    f"epoch {epoch}: the loss is {mean}: expected a finite number; "
                    f"lower the learning rate, now {settings.learning_rate:g}"
                )
            if report:
                report(epoch, loss=mean)
    network.eval()


def create_optimizer(
    network: nn.Module, settings: FitSettings, num_images: int, *, warmup_epochs: int = 0
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW, and its learning rate: a linear warm-up, then half a cosine to zero; step it once per batch.

    Or Adadelta, with a learning rate that stays after the warm-up.
    """
    decays = getattr(settings, "optimizer", "adamw") == "adamw"
    kind = torch.optim.AdamW if decays else torch.optim.Adadelta
    optimizer = kind(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    steps = steps_per_epoch(num_images, settings.batch_size)
    warmup, total = warmup_epochs * steps, settings.epochs * steps

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        if not decays:
            return 1.0
        return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def steps_per_epoch(num_images: int, batch_size: int) -> int:
    """How many batches :func:`shuffled_batches` gives."""
    return max(1, num_images // batch_size)


def shuffled_batches(
    num_images: int, batch_size: int, order: torch.Generator, *, shuffled: bool = True
) -> list[Tensor]:
    """Row indices of one epoch in random order; an incomplete last batch is dropped unless it is the only one."""
    rows = torch.randperm(num_images, generator=order) if shuffled else torch.arange(num_images)
    batches = rows.split(batch_size)
    return [rows for rows in batches if len(rows) == batch_size] or [batches[0]]
