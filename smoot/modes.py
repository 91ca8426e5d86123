"""Modes of a network for the length of a block: all submodules in eval mode, or running statistics kept.

And how a lack of memory is told from other errors.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Every submodule in eval mode inside the block, each in its own mode again afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def statistics_kept(model: nn.Module) -> Iterator[None]:
    """Normalisation layers in training mode use the batch's statistics inside the block but do not record them.

    Running means and variances, and the count of batches, stay as they are.
    """
    tracking = [module for module in model.modules() if isinstance(module, _NormBase) and module.track_running_stats]
    tracking = [module for module in tracking if module.training]
    for module in tracking:
        module.track_running_stats = False
    try:
        yield
    finally:
        for module in tracking:
            module.track_running_stats = True


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an accelerator's or the CPU's allocator had no more."""
    told = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in told or "can't allocate memory" in told
