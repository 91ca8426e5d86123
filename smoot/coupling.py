"""Whether an image's answer depends on the other images of its batch, found out by trying the model once.

Batch statistics couple images: an image's gradient of the batch's loss then holds its effect on the others' loss too.
Where no coupling shows, the gradient of the loss ranks pixels as that of the score does, and may be used for it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm

from smoot.modes import buffers_kept, roots, submodules
from smoot.parallel import unsynchronised
from smoot.task import Model, answer

TRIED_IMAGES = 4
_known: "WeakKeyDictionary[object, dict[tuple[bool, ...], bool]]" = WeakKeyDictionary()


def images_are_coupled(model: Model, inputs: Tensor) -> bool:
    """Whether the model, in the mode it is in, answers an image differently beside other images.

    Tried on the first images of the first batch: the gradient of half of the answers with respect to the other half
    of the images must be 0, and no buffer may change, as running statistics do. The answer is remembered for each
    model and mode. Torch's layers with batch statistics count in any case, since a gate that starts at 0 can hide
    them. The model's buffers and the random number generators are left as they were.

    Args:
        model: maps inputs to logits ``(N, C, ...)``.
        inputs: ``(N, C, *pixels)`` or ``(N, F)``, at least one image.
    """
    held, modules = roots(model), submodules(model)
    if any(has_batch_statistics(module) for module in modules):
        return True
    key, modes = held[0] if held else None, tuple([module.training for module in modules])
    known = _known.setdefault(key, {}) if key is not None else {}
    if modes not in known:
        known[modes] = _coupling_shows(model, inputs)
    return known[modes]


def has_batch_statistics(module: nn.Module) -> bool:
    """Whether a layer of torch normalises by statistics of the batch in the mode it is in."""
    if isinstance(module, _InstanceNorm) or not isinstance(module, _NormBase):
        return False
    return module.training or module.running_mean is None


def _coupling_shows(model: Model, inputs: Tensor) -> bool:
    images = inputs.detach()[:TRIED_IMAGES]
    images = images if len(images) > 1 else torch.cat([images, images.flip(-1)])
    half = len(images) // 2
    with untouched(model, inputs.device), torch.enable_grad():
        before = [buffer.clone() for module in submodules(model) for buffer in module.buffers(recurse=False)]
        variable = images.clone().requires_grad_()
        logits = answer(model, variable)
        after = [buffer for module in submodules(model) for buffer in module.buffers(recurse=False)]
        if len(before) != len(after) or not all(map(torch.equal, before, after)):
            return True
        if not isinstance(logits, Tensor) or not logits.requires_grad or len(logits) != len(images):
            return True  # what is wrong with this model is for other checks to say
        answers = logits[:half].flatten(1).float()
        weights = torch.linspace(1.0, 2.0, answers.shape[1], device=answers.device)
        (gradient,) = torch.autograd.grad((answers * weights).sum(), variable, allow_unused=True)
    return gradient is None or bool(torch.count_nonzero(gradient[half:]))


@contextmanager
def untouched(model: Model, device: torch.device) -> Iterator[None]:
    """A block that leaves the model's buffers and the random number generators as they were.

    The model runs uncompiled, and a DistributedDataParallel in it does not prepare for a backward pass.
    """
    devices = [device] if device.type == "cuda" else []
    with (
        unsynchronised(model),
        buffers_kept(model),
        torch.random.fork_rng(devices),
        torch.compiler.set_stance("force_eager"),
    ):
        yield
