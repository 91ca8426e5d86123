"""What a process does otherwise when several train one network together: nothing if it is alone.

Every process, a *rank*, has the same weights, the same order of images and the same schedule, takes its share of every
batch, and draws masks, fills and dropout of its own; the gradients are averaged. Numbers that the schedule or the
history is made of are those of all ranks.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from smoot.parallel import num_ranks
from workbench.config.run import RunConfig


def rank() -> int:
    """The number of this process among those that train together, from 0."""
    return dist.get_rank() if num_ranks() > 1 else 0


def wrapped(network: nn.Module) -> nn.Module | None:
    """The network in the wrapper that averages gradients; None in a process that is alone."""
    return DistributedDataParallel(network) if num_ranks() > 1 else None


def own_share(rows: Tensor) -> Tensor:
    """The rows of a batch that are this rank's: every one of as many ranks as there are."""
    return rows[rank() :: num_ranks()] if num_ranks() > 1 else rows


def of_all_ranks(numbers: Tensor) -> Tensor:
    """The numbers of all ranks one below the other, ``(ranks · S, …)``; of a process that is alone as they are."""
    if num_ranks() == 1:
        return numbers
    numbers = numbers.reshape(1) if numbers.ndim == 0 else numbers
    parts = [torch.empty_like(numbers) for _ in range(num_ranks())]
    dist.all_gather(parts, numbers.contiguous())
    return torch.cat(parts)


def of_the_first(*numbers: float) -> tuple[float, ...]:
    """The numbers of the first rank, on every rank: what is decided by them is decided alike."""
    given = [numbers]
    if num_ranks() > 1:
        dist.broadcast_object_list(given)
    return given[0]


def share_buffers(network: nn.Module) -> None:
    """Give every rank the buffers of the first, so that all measure the same network."""
    for buffer in network.buffers() if num_ranks() > 1 else ():
        dist.broadcast(buffer, 0)


def check(config: RunConfig, num_images: int) -> None:
    """Refuse what several processes cannot share.

    Raises:
        ValueError: names the parameter, and what it may be.
    """
    if config.training.devices == 1:
        return
    if config.method.gap is not None and config.method.gap.held_out == "turns":
        raise ValueError(
            f"method {config.method.name!r} leaves out training images in turns, so that ranks have unequal shares: "
            "expected held_out steering, or training.devices 1"
        )
    if config.method.per_image is not None and config.method.per_image.rule == "public_code":
        raise ValueError(
            f"method {config.method.name!r} has the number of images in a batch in its formula, and a rank sees only a "
            "share of them: expected another rule, or training.devices 1"
        )
    if num_images < config.training.batch_size:
        raise ValueError(
            f"batch_size is {config.training.batch_size}: expected at most the {num_images} training images, for "
            f"{config.training.devices} devices share whole batches"
        )
