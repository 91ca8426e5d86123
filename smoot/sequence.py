"""A schedule that was fixed beforehand: one plan a step, whatever happens."""

from collections.abc import Sequence
from typing import Any

from smoot.scheduler import Feedback, MaskPlan


class SequenceSchedule:
    """Hands out given plans one after the other: time ramps, replayed shares, masks in turn.

    The control for everything adaptive: a schedule that knows nothing but the time.

    Args:
        plans: one a step, at least one; the last one is repeated for steps beyond.

    Raises:
        ValueError: without a plan.
    """

    def __init__(self, plans: Sequence[MaskPlan]) -> None:
        if not plans:
            raise ValueError("plans is empty: expected at least one MaskPlan")
        self.plans = tuple(plans)
        self._steps = 0

    @property
    def plan(self) -> MaskPlan:
        """The plan of the next batch."""
        return self.plans[min(self._steps, len(self.plans) - 1)]

    def step(self, feedback: Feedback) -> MaskPlan:
        """Goes on to the next plan; what the feedback says changes nothing."""
        self._steps += 1
        return self.plan

    def state_dict(self) -> dict[str, Any]:
        """The number of steps done."""
        return {"steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up a saved state; other keys than ours are an error."""
        if set(state) != {"steps"}:
            raise ValueError(f"state has keys {sorted(state)}: expected ['steps']")
        self._steps = state["steps"]
