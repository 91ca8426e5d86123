"""The drop-in for any training loop: a criterion that owns its schedule and gives it feedback."""

from typing import Any

import torch
from torch import Tensor, nn

from smoot.objective import Guidance, GuidedLoss, guided_loss
from smoot.scheduler import AdaptiveSchedule, MaskPlan, MaskSchedule
from smoot.step import guided_backward

NO_MASKS = MaskPlan(image_fraction=0.0)


class SaliencyGuidedLoss(nn.Module):
    """A criterion that owns its schedule and gives it feedback; by default it trains with SMOOT.

    Create ``criterion = SaliencyGuidedLoss()``, then call in the loop
    ``loss = criterion(model, images, labels).total`` and ``loss.backward()``. In ``eval()`` or under
    ``torch.no_grad()`` the loss is plain cross-entropy and the schedule learns nothing. ``state_dict()`` holds the
    state of the schedule.

    Args:
        schedule: gives the plans; by default ``AdaptiveSchedule()``.
        guidance: how images are masked and compared; by default ``Guidance()``.
        generator: source of the random images, pixels and fills, on the inputs' device.
    """

    def __init__(
        self,
        schedule: MaskSchedule | None = None,
        guidance: Guidance | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.schedule: MaskSchedule = AdaptiveSchedule() if schedule is None else schedule
        self.guidance = Guidance() if guidance is None else guidance
        self.generator = generator

    def forward(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> GuidedLoss:
        """The guided loss of one batch; see :func:`smoot.objective.guided_loss` for shapes and errors."""
        learning = self.training and torch.is_grad_enabled()
        plan = self.schedule.plan if learning else NO_MASKS
        loss = guided_loss(model, inputs, targets, plan, self.guidance, generator=self.generator)
        if learning:
            self.schedule.step(loss.feedback)
        return loss

    def backward(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> GuidedLoss:
        """The guided loss of one batch with its gradients, in fewer passes; see :func:`smoot.step.guided_backward`.

        Replaces ``criterion(...)`` and ``total.backward()``: it adds the same gradients to the parameters' ``.grad``
        and gives the schedule the same feedback.
        """
        plan = self.schedule.plan if self.training else NO_MASKS
        loss = guided_backward(model, inputs, targets, plan, self.guidance, generator=self.generator)
        if self.training:
            self.schedule.step(loss.feedback)
        return loss

    def get_extra_state(self) -> dict[str, Any]:
        """The schedule's state, as part of ``state_dict()``."""
        return self.schedule.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Hands a loaded state to the schedule."""
        self.schedule.load_state_dict(state)
