"""One masked step tried on a few images, so that a model which cannot take part is refused before training starts."""

import torch
from torch import Tensor

from smoot.coupling import untouched
from smoot.guidance import Guidance
from smoot.modes import submodules
from smoot.objective import guided_loss
from smoot.parallel import check_wrapper, unwrapped
from smoot.scheduler import MaskPlan
from smoot.task import Model, Task

TRIED_IMAGES = 4
REMEDIES = (
    (
        "inplace operation",
        "an in-place operation overwrites what a gradient needs: build the model with inplace=False, and do not "
        "change the images in its forward (`x = x - mean` in place of `x -= mean`)",
    ),
    (
        "in-place operation",
        "an in-place operation changes the images: build the model with inplace=False, and do not change the images "
        "in its forward (`x = x - mean` in place of `x -= mean`)",
    ),
    (
        "Checkpointing is not compatible",
        "reentrant activation checkpointing does not give input gradients: use torch.utils.checkpoint with "
        "use_reentrant=False",
    ),
    (
        "does not require grad",
        "no gradient reaches the images: a part of the model runs under torch.no_grad() or detaches its input; freeze "
        "parameters with requires_grad_(False) instead",
    ),
    (
        "not have been used",
        "no gradient reaches the images: a part of the model detaches its input, or ignores it; freeze parameters "
        "with requires_grad_(False) instead of torch.no_grad()",
    ),
)


def check_step(
    model: Model, inputs: Tensor, targets: Tensor, guidance: Guidance | None = None, *, task: Task | None = None
) -> None:
    """Raises unless the model can take a guided step: forward, input gradient, masked forward, backward.

    Model, gradients and random number generators are left as they were.

    Args:
        model, inputs, targets, guidance, task: as for :func:`smoot.objective.guided_loss`; the first images are tried.

    Raises:
        TypeError, ValueError: for bad input, as :func:`smoot.objective.guided_loss`.
        RuntimeError: if the model cannot give input gradients or parameter gradients, with what to change.
    """
    check_wrapper(model)
    model = unwrapped(model)
    few, labels = (value[:TRIED_IMAGES].detach() if isinstance(value, Tensor) else value for value in (inputs, targets))
    draws = torch.Generator(few.device).manual_seed(0) if isinstance(few, Tensor) else None
    parameters = [value for module in submodules(model) for value in module.parameters(recurse=False)]
    trained = [value for value in parameters if value.requires_grad]
    try:
        device = few.device if isinstance(few, Tensor) else torch.device("cpu")
        with untouched(model, device), torch.enable_grad():
            loss = guided_loss(model, few, labels, MaskPlan(), guidance, task=task, generator=draws)
            if trained and not hasattr(trained[0], "device_mesh"):  # sharded parameters get theirs by backward() alone
                torch.autograd.grad(loss.total.sum(), trained, allow_unused=True)
    except RuntimeError as error:
        for words, remedy in REMEDIES:
            if words in str(error):
                raise RuntimeError(f"the model cannot be trained by its saliency: {remedy}") from error
        raise
