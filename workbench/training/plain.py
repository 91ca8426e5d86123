"""Plain training by cross-entropy, for the networks that measure others: judges and retrained ones."""

import math
from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.training.randomness import drawn_seed, seeded

Change = Callable[[Tensor, torch.Generator], Tensor]


class FitSettings(Protocol):
    """What a plain training needs to know."""

    @property
    def epochs(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...


def fit_plain(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    settings: FitSettings,
    *,
    seed: int,
    change: Change | None = None,
    report: Callable[[int, float], None] | None = None,
) -> None:
    """Trains a network in place: AdamW, half a cosine from the learning rate to zero, cross-entropy.

    Order, dropout and ``change`` depend on the seed alone, not on the images: two trainings with one seed see
    the same images in the same order. A last batch that is not full is left out, unless it is the only one.

    Args:
        network: left in eval mode.
        images: ``(N, C, H, W)`` on the network's device.
        labels: ``(N,)`` int64.
        settings: epochs, batch size, learning rate, weight decay.
        seed: of all draws.
        change: makes a batch's images what the network sees, such as erased ones.
        report: called as ``report(epoch, mean loss in nats)`` after every epoch.

    Raises:
        FloatingPointError: if the loss of an epoch is not finite.
    """
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    total = settings.epochs * max(1, len(images) // settings.batch_size)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / total)))
    order = torch.Generator().manual_seed(seed)
    draws = torch.Generator(images.device).manual_seed(drawn_seed(order))
    with seeded(seed, images.device):
        for epoch in range(1, settings.epochs + 1):
            network.train()
            losses = []
            for rows in _batches(len(images), settings.batch_size, order):
                batch, answers = images[rows.to(images.device)], labels[rows.to(images.device)]
                loss = F.cross_entropy(network(change(batch, draws) if change else batch), answers)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                rate.step()
                losses.append(loss.detach())
            _finish_epoch(epoch, losses, settings, report)
    network.eval()


def _batches(num_images: int, batch_size: int, order: torch.Generator) -> list[Tensor]:
    batches = torch.randperm(num_images, generator=order).split(batch_size)
    return [rows for rows in batches if len(rows) == batch_size] or [batches[0]]


def _finish_epoch(
    epoch: int, losses: list[Tensor], settings: FitSettings, report: Callable[[int, float], None] | None
) -> None:
    """Refuses a diverged epoch, and reports a sound one."""
    mean = float(torch.stack(losses).mean())
    if not math.isfinite(mean):
        raise FloatingPointError(
            f"epoch {epoch}: the loss is {mean}: expected a finite number; "
            f"lower the learning rate, now {settings.learning_rate:g}"
        )
    if report:
        report(epoch, mean)
