"""The drop-in for anyone's training loop: a criterion that owns its schedule and feeds it back."""

from typing import Any

import torch
from torch import Tensor, nn

from smoot.guidance import Guidance
from smoot.objective import GuidedLoss, guided_loss
from smoot.scheduler import AdaptiveSchedule, MaskPlan, MaskSchedule
from smoot.step import guided_backward

# SMOOT's default: of the candidates of studies/choice that decide how many images are masked, the first by the rule
# written there; docs/method.md tells the rest. The competence replaces the plan's share of images.
PLAN = MaskPlan(mask_fraction=0.5)
GUIDANCE = Guidance()


class SaliencyGuidedLoss(nn.Module):
    """The drop-in: a criterion that owns its schedule and feeds it back.

    ``criterion = SaliencyGuidedLoss()``, then in the loop
    ``loss = criterion(model, images, labels).total`` and ``loss.backward()``. In ``eval()`` or under
    ``torch.no_grad()`` it is plain cross-entropy and the schedule learns nothing. Its ``state_dict`` holds
    the schedule's state.

    Args:
        schedule: hands out the plans; without one it is SMOOT's, ``AdaptiveSchedule(PLAN)``.
        guidance: what is not scheduled; without one it is SMOOT's ``GUIDANCE`` if the schedule is, else ``Guidance()``.
        generator: source of the random images and fills, on the inputs' device.
    """

    def __init__(
        self,
        schedule: MaskSchedule | None = None,
        guidance: Guidance | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        own = GUIDANCE if schedule is None else Guidance()
        self.schedule: MaskSchedule = AdaptiveSchedule(PLAN) if schedule is None else schedule
        self.guidance = own if guidance is None else guidance
        self.generator = generator

    def forward(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> GuidedLoss:
        """The guided loss of one batch; see :func:`smoot.objective.guided_loss` for shapes and errors."""
        learning = self.training and torch.is_grad_enabled()
        loss = guided_loss(model, inputs, targets, self._plan(learning), self.guidance, generator=self.generator)
        if learning:
            self.schedule.step(loss.feedback)
        return loss

    def backward(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> GuidedLoss:
        """The guided loss of one batch with its backward done, for less: see :func:`smoot.step.guided_backward`.

        Use it in place of ``criterion(...)`` and ``total.backward()``: the same gradients are added to the
        parameters' ``.grad``, and the schedule learns the same.
        """
        loss = guided_backward(
            model, inputs, targets, self._plan(self.training), self.guidance, generator=self.generator
        )
        if self.training:
            self.schedule.step(loss.feedback)
        return loss

    def _plan(self, learning: bool) -> MaskPlan:
        return self.schedule.plan if learning else MaskPlan(image_fraction=0.0)

    def get_extra_state(self) -> dict[str, Any]:
        """The schedule's state, as part of ``state_dict()``."""
        return self.schedule.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Hands a loaded state to the schedule."""
        self.schedule.load_state_dict(state)
