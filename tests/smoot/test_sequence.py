"""A schedule that was fixed beforehand."""

import pytest

from smoot.scheduler import Feedback, MaskPlan
from smoot.sequence import SequenceSchedule

PLANS = [MaskPlan(image_fraction=share) for share in (0.0, 0.5, 1.0)]


def test_one_plan_a_step_and_the_last_one_for_good() -> None:
    schedule, seen = SequenceSchedule(PLANS), []
    for accuracy in (0.1, 0.9, 0.0, 1.0, 0.5):
        seen.append(schedule.plan)
        assert schedule.step(Feedback(accuracy, 1.0, 10, 8)) is schedule.plan
    assert seen == [*PLANS, PLANS[-1], PLANS[-1]]


def test_a_loaded_state_goes_on_where_it_was() -> None:
    first, second = SequenceSchedule(PLANS), SequenceSchedule(PLANS)
    first.step(Feedback(0.5, 1.0, 10, 8))
    second.load_state_dict(first.state_dict())
    assert second.plan == PLANS[1]


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="plans is empty: expected at least one"):
        SequenceSchedule([])
    with pytest.raises(ValueError, match=r"keys \['accuracy'\]: expected \['steps'\]"):
        SequenceSchedule(PLANS).load_state_dict({"accuracy": 1.0})
