"""Several processes that train one network, started by torchrun; in a process that is alone nothing of it happens.

Every process, a *rank*, has the same weights, order of images and schedule, reads its share of every batch, and draws
masks and dropout of its own. The gradients are averaged; what the history is made of are numbers of all ranks. The
first rank alone prints and writes.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Sampler

from smoot.parallel import num_ranks

T = TypeVar("T")
PATIENCE = 10.0  # seconds in which torchrun ends a process whose companions are gone
GONE = (
    "the other ranks are gone, and torchrun's summary on their node names the one that ended first: the same command "
    "with --resume goes on after the last finished epoch"
)
SEED_STEP = 15_485_863  # between the seeds of two ranks: more than there are epochs


def started() -> str:
    """How many processes torchrun says that it started, 1 without it."""
    return os.environ.get("WORLD_SIZE", "1")


def speaker() -> str:
    """What an error begins with, so that it is known whose it is."""
    return "" if started() == "1" else f"rank {os.environ.get('RANK', '?')} of {started()}: "


@contextmanager
def first_alone_prints() -> Iterator[None]:
    """Within the block nothing is printed but by the first rank."""
    if started() == "1" or os.environ.get("RANK") == "0":
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def check_alone(command: str) -> None:
    """Raises ValueError under torchrun."""
    if started() != "1":
        raise ValueError(
            f"WORLD_SIZE is {started()}, as torchrun sets it: smoot {command} is expected to be one process; give the "
            "command without torchrun"
        )


def check_batch_size(batch_size: int) -> None:
    """Raises ValueError unless all ranks have the same number of images in a batch, two or more as BatchNorm needs."""
    count = int(started())
    if batch_size % count or batch_size < 2 * count:
        raise ValueError(
            f"{batch_size} images in a batch of all ranks together: expected a multiple of {count}, the number of "
            f"ranks, and at least {2 * count}"
        )


def check_sync_batch_norm(device: torch.device) -> None:
    """Raises ValueError where torch has no batch statistics over several processes."""
    if device.type != "cuda":
        raise ValueError(f"torch has it on cuda only, and the device is {device.type}: leave this option out")


@contextmanager
def joined(device: torch.device) -> Iterator[torch.device]:
    """Within the block this process is one of those that torchrun started.

    If one of them fails, it alone says why; on another node, or if it was killed, one of the others says that it is
    gone. They wait for torchrun to end them, so that its summary names the one that failed, and then end by themselves.

    Args:
        device: its kind is that of all ranks.

    Yields:
        This rank's device.

    Raises:
        ValueError: if the devices cannot be shared.
    """
    if started() == "1":
        yield device
        return
    from torch.distributed.rendezvous import rendezvous  # not in every build of torch

    store, number, count = next(rendezvous("env://"))
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=number, world_size=count)
    try:
        yield own_device(device)
    except Exception as error:
        lost, first = _is_lost(error), _is_first_to_fail(store)
        if first and not lost:
            raise
        if first:
            print(f"error: {speaker()}{GONE}", file=sys.__stderr__, flush=True)
        time.sleep(PATIENCE)
        raise SystemExit(1) from None
    dist.destroy_process_group()


def own_device(device: torch.device) -> torch.device:
    """This rank's device of a kind; raises ValueError if it has none."""
    if device.type == "mps":
        raise ValueError("the device is mps: expected cuda or cpu, on which several processes can train one network")
    if device.type == "cpu":
        return device
    number, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= there:
        raise ValueError(
            f"LOCAL_RANK is {number}, and this node shows {there} GPUs: expected a GPU for each process; give torchrun "
            f"--nproc-per-node {there}"
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def rank() -> int:
    """The number of this process among those that train together, from 0."""
    return dist.get_rank() if num_ranks() > 1 else 0


def wrapped(network: nn.Module, *, sync_batch_norm: bool = False) -> nn.Module:
    """The network in the wrapper that averages gradients; as it is in a process that is alone.

    With ``sync_batch_norm`` the network's BatchNorm, changed in place, takes its statistics over all ranks.
    """
    if num_ranks() == 1:
        return network
    if sync_batch_norm:
        from timm.layers.norm_act import convert_sync_batchnorm  # which knows timm's own layers, unlike torch's

        network = convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    return DistributedDataParallel(network)


def share_buffers(network: nn.Module) -> None:
    """Give every rank the buffers of the first, so that all measure the same network."""
    for buffer in network.buffers() if num_ranks() > 1 else ():
        dist.broadcast(buffer, 0)


def own_seed(seed: int) -> int:
    """A seed of this rank's own; the first has the one that is given."""
    return seed + SEED_STEP * rank()


def gathered(value: T) -> list[T]:
    """The values of all ranks in their order, on every rank; each must call it."""
    values = [value] * num_ranks()
    if num_ranks() > 1:
        dist.all_gather_object(values, value)
    return values


def of_the_first(function: Callable[[], T]) -> T:
    """What a function gives on the first rank, on every rank; only the first calls it."""
    given = [function() if rank() == 0 else None]
    if num_ranks() > 1:
        dist.broadcast_object_list(given)
    return given[0]  # type: ignore[return-value]


class Shares(Sampler[list[T]]):
    """This rank's share of each batch: every item of as many ranks as there are; it may be empty."""

    def __init__(self, batches: Sampler[list[T]]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[list[T]]:
        return (batch[rank() :: num_ranks()] for batch in self.batches)


def _is_first_to_fail(store: Any) -> bool:
    """Whether no other rank of this node has said so far that it failed, as far as can be known."""
    try:
        return bool(store.add(f"failed on node {os.environ.get('GROUP_RANK')}", 1) == 1)
    except RuntimeError:  # what the store was on is gone
        return True


def _is_lost(error: Exception) -> bool:
    """Whether an error is that of a connection to another rank, which has ended."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))
