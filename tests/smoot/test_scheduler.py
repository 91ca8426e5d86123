"""Plans and schedules against the formulas, worked out by hand."""

import copy
import io
import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from states import copied, same

from smoot.feedback import AsyncFeedback, Feedback
from smoot.scheduler import (
    AdaptiveSchedule,
    ConstantSchedule,
    GapSchedule,
    MaskPlan,
    MaskSchedule,
    SequenceSchedule,
    fair_rounding,
)

# Three steps with unequal batch sizes: accuracy, cross-entropy, images; ten classes.
STEPS = [(0.2, 2.0, 10), (0.5, 0.9, 30), (0.8, 0.4, 20)]


def feedback(accuracy: float, loss: float, images: int, classes: int = 10) -> Feedback:
    return Feedback(accuracy=accuracy, loss=loss, num_classes=classes, num_images=images)


def schedule_after(steps: list[tuple[float, float, int]], **settings: Any) -> AdaptiveSchedule:
    schedule = AdaptiveSchedule(**settings)
    for step in steps:
        schedule.step(feedback(*step))
    return schedule


# -- plans


@pytest.mark.parametrize(
    ("fraction", "batch", "rounding", "at_least", "expected"),
    [
        (0.0, 64, 0.5, 1, 0),
        (1.0, 64, 0.5, 1, 64),
        (0.29, 100, 0.5, 1, 29),
        (0.5, 5, 0.5, 1, 3),  # floor(2.5 + 0.5)
        (0.49, 5, 0.5, 1, 2),
        (0.0235, 64, 0.5, 1, 2),
        (0.02, 64, 0.5, 1, 1),
        (0.007, 64, 0.5, 1, 0),
        (1.0, 1, 0.5, 1, 1),
        (0.5, 0, 0.5, 1, 0),
        (0.02, 64, 0.0, 2, 0),  # answered together, masked in pairs: 1.28 images are 0.64 pairs
        (0.02, 64, 0.5, 2, 2),
        (0.05, 64, 0.0, 2, 3),  # two and more are counted singly
        (1.0, 1, 0.0, 2, 1),  # the only image
        (0.5, 1, 0.4, 2, 0),
        (0.5, 1, 0.5, 2, 1),
    ],
)
def test_number_of_masked_images(fraction: float, batch: int, rounding: float, at_least: int, expected: int) -> None:
    assert MaskPlan().rounding == 0.5
    assert MaskPlan(image_fraction=fraction, rounding=rounding).num_images(batch, at_least) == expected


@pytest.mark.parametrize("at_least", [1, 2])
@pytest.mark.parametrize("batch", [1, 2, 3, 4, 7, 64])
@pytest.mark.parametrize("share", [0.013, 0.3, 0.5, 0.77])
def test_the_masked_images_of_many_steps_add_up_to_their_share(share: float, batch: int, at_least: int) -> None:
    """Weyl's sequence with the golden ratio: the error of a sum of n roundings is below log n."""
    schedule, masked, steps = ConstantSchedule(MaskPlan(image_fraction=share)), 0, 2000
    for step in range(steps):
        if step == steps // 2:  # from any step on, not from the first one only
            assert masked == pytest.approx(share * batch * step, abs=2 * math.log(step))
        masked += schedule.plan.num_images(batch, at_least)
        schedule.step(feedback(0.5, 1.0, batch))
    assert masked == pytest.approx(share * batch * steps, abs=2 * math.log(steps))


def test_schedules_move_the_rounding_from_step_to_step() -> None:
    plan = MaskPlan(image_fraction=0.5)
    for schedule in (ConstantSchedule(plan), SequenceSchedule([plan]), schedule_after([(0.5, 1.0, 8)])):
        first = schedule.plan.rounding
        second = schedule.step(feedback(0.5, 1.0, 8)).rounding
        assert (second - first) % 1 == pytest.approx((math.sqrt(5) - 1) / 2)


def test_a_plan_that_cannot_mask_has_no_masked_pass() -> None:
    assert MaskPlan(mask_fraction=0.0).num_images(64) == 0
    assert MaskPlan(mask_fraction=1e-9).num_images(64) == 64  # the host does not know the number of pixels


# -- the running means


def test_competence_over_three_steps_by_hand() -> None:
    # The weights of the three steps are 0.81 * 10, 0.9 * 30 and 20 (times 0.1, which cancels).
    schedule = AdaptiveSchedule(decay=0.9)
    schedule.step(feedback(*STEPS[0]))
    assert schedule.accuracy == pytest.approx(0.2)  # the bias is corrected: no pull towards 0
    assert schedule.loss == pytest.approx(2.0)
    assert schedule.competence == pytest.approx(0.2 * (1 - 2.0 / 2.302585093))
    schedule.step(feedback(*STEPS[1]))
    assert schedule.accuracy == pytest.approx((9 * 0.2 + 30 * 0.5) / 39)
    assert schedule.loss == pytest.approx((9 * 2.0 + 30 * 0.9) / 39)
    plan = schedule.step(feedback(*STEPS[2]))
    assert schedule.accuracy == pytest.approx((1.62 + 13.5 + 16.0) / 55.1)
    assert schedule.loss == pytest.approx((16.2 + 24.3 + 8.0) / 55.1)
    expected = (31.12 / 55.1) * (1 - (48.5 / 55.1) / 2.302585093)
    assert schedule.competence == pytest.approx(expected)
    assert plan == schedule.plan and plan.image_fraction == schedule.competence
    assert plan.rounding == pytest.approx((0.5 + 3 * (math.sqrt(5) - 1) / 2) % 1)
    assert plan.num_images(100) == math.floor(100 * expected + plan.rounding)


def test_the_default_decay_is_095_and_no_decay_keeps_the_last_batch() -> None:
    weights = [0.95**2 * 10, 0.95 * 30, 20.0]
    expected = sum(w * a for w, (a, _, _) in zip(weights, STEPS, strict=True)) / sum(weights)
    assert schedule_after(STEPS).accuracy == pytest.approx(expected)
    forgetful = schedule_after(STEPS, decay=0.0)
    assert (forgetful.accuracy, forgetful.loss) == pytest.approx((0.8, 0.4))


def test_competence_at_its_ends() -> None:
    fresh = AdaptiveSchedule()
    assert (fresh.competence, fresh.accuracy, fresh.loss) == (0.0, 0.0, 0.0)
    assert fresh.plan.num_images(1024) == 0
    assert schedule_after([(0.1, math.log(10), 64)]).competence == pytest.approx(0.0, abs=1e-12)
    assert schedule_after([(0.9, 5.0, 64)]).competence == 0.0  # worse than chance, not negative
    for decay in (0.0, 0.5, 0.95, 0.999):  # rounding never lifts it above 1, which would be no fraction
        perfect = schedule_after([(1.0, 0.0, size) for size in (7, 64, 3, 1, 50)], decay=decay)
        assert perfect.competence == 1.0 and perfect.plan.num_images(64) == 64
    two_classes = AdaptiveSchedule()
    two_classes.step(feedback(0.75, 0.5 * math.log(2), 8, classes=2))
    assert two_classes.competence == pytest.approx(0.375)


# -- what the adaptive plan holds


def test_the_competence_replaces_the_image_fraction_alone() -> None:
    base = MaskPlan(image_fraction=0.9, mask_fraction=0.3, ranking="protected", protected=0.2)
    schedule = schedule_after(STEPS, base=base)
    assert 0 < schedule.competence < 1 and schedule.base == base
    assert schedule.plan == replace(base, image_fraction=schedule.competence, rounding=fair_rounding(3))


# -- the generalisation gap


def test_the_gap_by_hand() -> None:
    base = MaskPlan(mask_fraction=0.2)
    schedule = GapSchedule(base)
    assert schedule.plan == replace(base, image_fraction=0.0)
    assert schedule.measure(0.3, 0.4) == pytest.approx(0.25)
    expected = replace(base, image_fraction=schedule.gap, rounding=fair_rounding(1))
    assert schedule.step(feedback(0.5, 1.0, 8)) == expected
    assert schedule.measure(0.5, 0.4) == 0.0  # none: the training images are the harder ones
    assert schedule.measure(0.0, 0.4) == 1.0
    assert schedule.measure(0.0, 0.0) == 0.0


@pytest.mark.parametrize(
    ("losses", "error"),
    [((math.nan, 1.0), FloatingPointError), ((1.0, math.inf), FloatingPointError), ((-1.0, 1.0), ValueError)],
)
def test_bad_losses_leave_the_gap_as_it_was(losses: tuple[float, float], error: type[Exception]) -> None:
    schedule = GapSchedule()
    schedule.measure(0.5, 1.0)
    with pytest.raises(error):
        schedule.measure(*losses)
    assert schedule.gap == 0.5


# -- state


PLANS = [MaskPlan(image_fraction=share) for share in (0.0, 0.5, 1.0)]
MAKERS: dict[str, Callable[[], MaskSchedule]] = {
    "constant": ConstantSchedule,
    "another plan": lambda: ConstantSchedule(MaskPlan(mask_fraction=0.25)),
    "sequence": lambda: SequenceSchedule(PLANS),
    "another sequence": lambda: SequenceSchedule(PLANS[1:]),
    "adaptive": AdaptiveSchedule,
    "gap": GapSchedule,
    "another gap": lambda: GapSchedule(MaskPlan(max_effect=0.5)),
    "another decay": lambda: AdaptiveSchedule(decay=0.5),
    "another lag": lambda: AdaptiveSchedule(lag=3),
    "another base": lambda: AdaptiveSchedule(MaskPlan(ranking="random")),
}


@pytest.mark.parametrize("made", MAKERS)
@pytest.mark.parametrize("saved", MAKERS)
def test_a_state_loads_into_its_own_kind_of_schedule_only(saved: str, made: str) -> None:
    state, schedule = MAKERS[saved]().state_dict(), MAKERS[made]()
    if saved == made:
        schedule.load_state_dict(state)
        return
    before = schedule.state_dict()
    with pytest.raises(ValueError, match="saved"):
        schedule.load_state_dict(state)
    assert same(schedule.state_dict(), before)


def test_feedback_of_no_images_counts_for_nothing() -> None:
    schedule = schedule_after(STEPS)
    competence = schedule.competence
    schedule.step(feedback(math.nan, math.nan, 0))
    assert schedule.competence == competence


@pytest.mark.parametrize("kind", [AdaptiveSchedule, GapSchedule])
def test_a_saved_schedule_goes_on_as_if_it_had_never_stopped(kind: type[MaskSchedule]) -> None:
    one, other, file = kind(), kind(), io.BytesIO()
    if isinstance(one, GapSchedule):
        one.measure(0.3, 0.5)
    one.step(feedback(*STEPS[0]))
    torch.save(one.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert other.plan == one.plan and other.plan.image_fraction > 0
    assert one.step(feedback(*STEPS[1])) == other.step(feedback(*STEPS[1]))
    assert same(one.state_dict(), other.state_dict())


def test_the_saved_state_is_a_copy() -> None:
    schedule = schedule_after(STEPS[:1])
    saved = schedule.state_dict()
    kept = copied(saved)
    schedule.step(feedback(*STEPS[1]))
    assert same(saved, kept)
    for value in schedule.state_dict().values():
        value.zero_()
    assert schedule.accuracy > 0


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (feedback(math.nan, 1.0, 4), FloatingPointError),
        (feedback(0.5, math.inf, 4), FloatingPointError),
        (feedback(93.0, 1.0, 4), ValueError),
        (feedback(0.5, -1.0, 4), ValueError),
        (feedback(0.5, 1.0, 4, classes=7), ValueError),
    ],
)
def test_refused_feedback_leaves_the_schedule_as_it_was(bad: Feedback, error: type[Exception]) -> None:
    schedule = schedule_after(STEPS)
    before = schedule.state_dict()
    with pytest.raises(error):
        schedule.step(bad)
    assert same(schedule.state_dict() | {"steps": before["steps"]}, before)


def test_a_constant_schedule_learns_nothing() -> None:
    plan = MaskPlan(mask_fraction=0.3)
    schedule: MaskSchedule = ConstantSchedule(plan)
    assert schedule.step(feedback(*STEPS[0])) is plan and schedule.plan is plan
    assert ConstantSchedule().plan == MaskPlan()


def test_one_plan_per_step_and_then_the_last_one() -> None:
    schedule = SequenceSchedule(PLANS)
    for accuracy, plan in zip((0.1, 0.9, 0.0, 1.0, 0.5), (*PLANS, PLANS[-1], PLANS[-1]), strict=True):
        assert replace(schedule.plan, rounding=0.5) == plan
        assert schedule.step(feedback(accuracy, 1.0, 8)) == schedule.plan


# -- feedback that is still being copied


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every feedback comes as if from a device that the host does not wait for."""

    class Late(AsyncFeedback):
        def __init__(self, feedback: Feedback) -> None:
            super().__init__(feedback)
            self.delayed = True

    monkeypatch.setattr("smoot.scheduler.AsyncFeedback", Late)


def told(step: int) -> Feedback:
    return Feedback(accuracy=0.1 * (step + 1), loss=2.0 - 0.3 * step, num_classes=10, num_images=8 + step)


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("lag", [1, 3])
def test_feedback_from_a_device_counts_so_many_steps_late_and_not_one_is_lost(lag: int) -> None:
    schedule, reference = AdaptiveSchedule(lag=lag), AdaptiveSchedule()
    competences = []
    for step in range(6):
        schedule.step(told(step))
        competences.append(schedule.competence)
    assert competences[:lag] == [0.0] * lag
    for step in range(6 - lag):
        reference._update_means(AsyncFeedback(told(step)))
        assert competences[step + lag] == reference.competence > 0


@pytest.mark.usefixtures("late")
def test_a_checkpoint_holds_the_feedback_that_does_not_count_yet() -> None:
    whole, first, second = AdaptiveSchedule(lag=2), AdaptiveSchedule(lag=2), AdaptiveSchedule(lag=2)
    for step in range(6):
        whole.step(told(step))
        (first if step < 3 else second).step(told(step))
        if step == 2:
            state = first.state_dict()
            assert state["pending"].flatten().tolist() == pytest.approx([0.2, 1.7, 9, 10, 0.3, 1.4, 10, 10])
            second.load_state_dict(state)
    assert same(second.state_dict(), whole.state_dict())
    assert second.plan == whole.plan


def test_copies_carry_the_feedback_that_does_not_count_yet() -> None:
    schedule = AdaptiveSchedule()
    schedule._pending.append(AsyncFeedback.from_checkpoint(0.5, 1.0, 8, 10))
    for twin in (copy.deepcopy(schedule), pickle.loads(pickle.dumps(schedule))):
        assert same(twin.state_dict(), schedule.state_dict())
        assert twin._pending[0].delayed and twin._pending[0].read() == (0.5, 1.0, 8.0)


def test_tensors_of_the_host_count_at_once_whatever_the_lag() -> None:
    schedule = AdaptiveSchedule(lag=7)
    schedule.step(Feedback(accuracy=torch.tensor(0.5), loss=torch.tensor(1.0), num_classes=10, num_images=8))
    assert isinstance(schedule.plan.image_fraction, float)
    assert schedule.competence == pytest.approx(0.5 * (1 - 1 / math.log(10)))
    assert not schedule.state_dict()["pending"].any()
