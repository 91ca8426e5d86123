"""Several processes that train one model: one feedback for all of them, and one synchronisation per step.

Every rank must mask under the same plan, or their passes no longer match. So the criterion averages the feedback over
the ranks before the schedule sees it. The loss's forward passes go through the wrapper of DistributedDataParallel,
which prepares the synchronisation of gradients; what needs none goes through the module inside.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from smoot.feedback import Feedback, on_device
from smoot.modes import submodules
from smoot.task import Model


def num_ranks(group: dist.ProcessGroup | None = None) -> int:
    """Number of processes that train together: 1 without an initialised process group."""
    return dist.get_world_size(group) if dist.is_available() and dist.is_initialized() else 1


def averaged(feedback: Feedback, group: dist.ProcessGroup | None = None) -> Feedback:
    """The feedback of all ranks as one: means weighted by images, the same on every rank.

    One small all-reduce; with NCCL the host does not wait for it. Every rank must call it once per step; a rank
    without images counts with ``num_images=0``.
    """
    if num_ranks(group) == 1:
        return feedback
    device = feedback.loss.device if isinstance(feedback.loss, Tensor) else torch.device("cpu")
    accuracy, loss, size = (
        on_device(value, device) for value in (feedback.accuracy, feedback.loss, feedback.num_images)
    )
    sums = torch.stack([torch.where(size > 0, accuracy * size, 0.0), torch.where(size > 0, loss * size, 0.0), size])
    dist.all_reduce(sums, group=group)
    total = sums[2].clamp(min=1)
    return replace(feedback, accuracy=sums[0] / total, loss=sums[1] / total, num_images=sums[2])


def summed(values: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """The sum of a tensor over all ranks, in place; every rank must call it."""
    if num_ranks(group) > 1:
        dist.all_reduce(values, group=group)
    return values


def unwrapped(model: Model) -> Model:
    """The module inside a DistributedDataParallel, compiled or not; any other model as it is."""
    inner = getattr(model, "_orig_mod", model)
    return inner.module if isinstance(inner, DistributedDataParallel) else model


@contextmanager
def unsynchronised(model: Model) -> Iterator[None]:
    """Within the block a backward pass only accumulates gradients; the next one outside synchronises them all."""
    with ExitStack() as stack:
        for wrapper in _wrappers(model):
            stack.enter_context(wrapper.no_sync())
        yield


def check_wrapper(model: Model) -> None:
    """Raises ValueError for a wrapper whose assumptions a guided step breaks.

    A static graph takes the backward pass to the images for the step's own, and then leaves gradients unsynchronised.
    """
    if any(wrapper.static_graph for wrapper in _wrappers(model)):
        raise ValueError(
            "the model is a DistributedDataParallel with static_graph=True, but a guided step has backward passes "
            "that it does not expect: make it with static_graph=False"
        )
    if any(wrapper._join_config.enable for wrapper in _wrappers(model)):
        raise ValueError(
            "DistributedDataParallel.join() does not know of the criterion's all-reduce: in place of join() give every "
            "rank as many batches, of which some may be empty"
        )


def _wrappers(model: Model) -> list[DistributedDataParallel]:
    """Every DistributedDataParallel in a model; there is none without a process group."""
    if not (dist.is_available() and dist.is_initialized()):
        return []
    return [module for module in submodules(model) if isinstance(module, DistributedDataParallel)]
