"""Modes of a model for the length of a ``with`` block: eval mode, and running statistics that stay as they are."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm


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

    Running means and variances, and the number of batches seen, stay as they are.
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


def uses_batch_statistics(model: nn.Module) -> bool:
    """Whether an image's logits depend on the other images of its batch, as with BatchNorm in training mode."""
    return any(
        isinstance(module, _NormBase) and (module.training or module.running_mean is None)
        for module in model.modules()
        if not isinstance(module, _InstanceNorm)
    )
