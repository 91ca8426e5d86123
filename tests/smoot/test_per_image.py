"""The per-image schedule: each rule in closed form, bounds and visits, state, and the whole step."""

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smoot import Feedback, Guidance, SaliencyGuidedLoss
from smoot.masking import limited_mask, lowest_saliency_mask
from smoot.objective import MaskedAnswers, guided_loss
from smoot.per_image import (
    PUBLIC_CODE_BOUNDS,
    HeldOut,
    InformationLoss,
    NumberRule,
    PerImageSchedule,
    PublicCode,
    Staircase,
)
from smoot.saliency import Reduction
from smoot.scheduler import AdaptiveSchedule, ConstantSchedule, GapSchedule, MaskPlan, PerImagePlan

CPU = torch.device("cpu")
FEEDBACK = Feedback(0.5, 0.8, 2, 4)
ODDS = torch.tensor([[math.log(3), 0.0], [0.0, 0.0], [0.0, math.log(9)]])
"""Two classes: p = (3/4, 1/4), (1/2, 1/2), (1/10, 9/10)."""


def answers(masked: Tensor, **changed: Any) -> MaskedAnswers:
    """The answers to three images of a batch of four, of which the masked ones are given."""
    rows, targets = torch.tensor([0, 2, 3]), torch.tensor([0, 0, 1])
    return replace(MaskedAnswers(rows, ODDS, masked, targets, drawn=None, batch_size=4), **changed)


def learn(schedule: PerImageSchedule, index: Sequence[int] | Tensor, seen: MaskedAnswers) -> None:
    """The schedule's numbers change by what a batch answered."""
    schedule.learn(schedule.changes(torch.as_tensor(index), seen, FEEDBACK))


class Fixed:
    """A rule that changes every number by as much."""

    def __init__(self, *changes: float) -> None:
        self.changes = changes

    def change(self, answers: MaskedAnswers, feedback: Feedback) -> Tensor:
        return torch.tensor(self.changes)[: len(answers.rows)]

    def settings(self) -> tuple[float, ...]:
        return self.changes


# -- the rules


def test_information_loss_by_hand() -> None:
    masked = torch.stack([ODDS[0], torch.tensor([math.log(3), 0.0]), ODDS[0]])
    lost = torch.tensor([0.0, 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25), 0.0])
    lost[2] = 0.1 * math.log(0.1 / 0.75) + 0.9 * math.log(0.9 / 0.25)
    assert lost[1] == pytest.approx(0.1438, abs=1e-4) and lost[2] > 0.4
    change = InformationLoss(tau=0.2, rate=0.1).change(answers(masked), FEEDBACK)
    assert change.tolist() == pytest.approx([0.1, 0.1 * (1 - float(lost[1]) / 0.2), -0.1], abs=1e-6)
    follows = InformationLoss(tau=0.5, rate=0.1, follows_model=True)  # 0.5 * 0.5 * 0.8 = 0.2
    assert torch.allclose(follows.change(answers(masked), FEEDBACK), change, atol=1e-6)


def test_information_loss_settles_at_its_target() -> None:
    """An image that loses x nats with a share x of its pixels masked ends at the target."""
    schedule = PerImageSchedule(InformationLoss(tau=0.3, rate=0.05), 1, start=0.9)

    def logits(lost: float) -> Tensor:  # p(clean) = (1/2, 1/2), so the KL is -ln(2 sqrt(q (1 - q)))
        q = 0.5 + 0.5 * math.sqrt(1 - math.exp(-2 * lost))
        return torch.tensor([[math.log(q / (1 - q)), 0.0]])

    for _ in range(200):
        masked = logits(float(schedule.numbers[0]))
        learn(schedule, [0], MaskedAnswers(torch.tensor([0]), torch.zeros(1, 2), masked, torch.tensor([0]), None, 1))
    assert float(schedule.numbers[0]) == pytest.approx(0.3, abs=1e-3)


def test_the_held_out_rule_by_hand() -> None:
    """Losses 0.29, 0.69, 0.11 of the three images against a held-out loss of 0.5."""
    rule, own = HeldOut(kappa=0.8, rate=0.1), [-math.log(0.75), math.log(2), -math.log(0.9)]
    measured = replace(FEEDBACK, held_out_loss=0.5)
    expected = [0.1 * max(-1.0, 1 - loss / 0.4) for loss in own]
    assert expected[0] > 0 > expected[1]
    assert rule.change(answers(ODDS), measured).tolist() == pytest.approx(expected, abs=1e-6)
    assert rule.change(answers(ODDS), FEEDBACK).tolist() == [0.0, 0.0, 0.0]
    assert rule.change(answers(ODDS), replace(FEEDBACK, held_out_loss=0.0)).tolist() == pytest.approx([-0.1] * 3)


def test_a_schedule_per_image_passes_on_what_is_measured() -> None:
    """The rule gets the held-out loss, a gap schedule of the images both; a saved state keeps it."""
    schedule, other = (
        PerImageSchedule(HeldOut(rate=0.1), 4, start=0.0, images=GapSchedule(MaskPlan(mask_fraction=0.5)))
        for _ in range(2)
    )
    assert schedule.measure(0.3, 0.4) == pytest.approx(0.25) == schedule.plan.image_fraction
    learn(schedule, range(4), answers(ODDS))
    assert schedule.numbers[0] == pytest.approx(0.1 * (1 + math.log(0.75) / 0.4))
    other.load_state_dict(schedule.state_dict())
    assert other.held_out_loss == 0.4 and other.plan == schedule.plan and other.numbers.equal(schedule.numbers)
    fixed = PerImageSchedule(HeldOut(), 4)
    assert fixed.measure(0.3, 0.4) == 1.0 and fixed.held_out_loss == 0.4
    with pytest.raises(FloatingPointError, match="diverged"):
        fixed.measure(0.3, math.nan)


def test_staircase_by_hand() -> None:
    masked = torch.tensor([[2.0, 1.0], [0.0, 1.0], [0.0, 1.0]])  # right, wrong, right
    change = Staircase(up=0.02, down=0.06).change(answers(masked), FEEDBACK)
    assert change.tolist() == pytest.approx([0.02, -0.06, 0.02])


def test_a_staircase_settles_where_it_is_right_as_often_as_it_should() -> None:
    """Kaernbach (1991): of images answered rightly with probability 1 - k, the mean of k is near 1 - down/(up+down)."""
    source = torch.Generator().manual_seed(0)
    schedule, index = PerImageSchedule(Staircase(up=0.01, down=0.03), 400, start=0.5), torch.arange(400)
    labels = torch.zeros(400, dtype=torch.int64)
    for _ in range(300):
        right = torch.rand(400, generator=source) < 1 - schedule.numbers
        masked = torch.stack([right.float(), 0.5 * torch.ones(400)], 1)
        learn(schedule, index, MaskedAnswers(index, torch.zeros(400, 2), masked, labels, None, 400))
    assert float(schedule.numbers.mean()) == pytest.approx(0.25, abs=0.01)


def test_the_rule_of_the_public_code_as_that_code_computes_it() -> None:
    """Its ``KLDivLoss(log_target=True, reduction="batchmean")`` on one image's log p and a one-hot target over N."""
    source = torch.Generator().manual_seed(1)
    clean, masked = 3 * torch.randn(8, 10, generator=source), 3 * torch.randn(8, 10, generator=source)
    labels = torch.randint(10, (8,), generator=source)
    divergence = nn.KLDivLoss(log_target=True, reduction="batchmean")
    expected = []
    for row in range(8):
        target = nn.functional.one_hot(labels[row], 10) / 500
        before, after = (divergence(logits[row].log_softmax(0), target) for logits in (clean, masked))
        expected.append(math.floor(5 * abs(float(after - before))))
    assert len(set(expected)) > 2
    seen = MaskedAnswers(torch.arange(8), clean, masked, labels, None, 500)
    assert (PublicCode(gain=5, num_pixels=1024).change(seen, FEEDBACK) * 1024).tolist() == expected


def test_the_quirks_of_the_public_code_can_be_mended_one_by_one() -> None:
    masked = torch.tensor([[0.0, 0.0], [math.log(3), 0.0], [0.0, 0.0]])
    lost = [math.log(0.75 / 0.5), math.log(0.5 / 0.75), math.log(0.9 / 0.5)]  # of the labels' log p
    for mended, expected in (
        ({}, [4, 4, 5]),
        ({"signed": True}, [4, -4, 5]),
        ({"signed": True, "whole": False}, [10 * value for value in lost]),
    ):
        rule = PublicCode(gain=10, num_pixels=100, of_label=True, **mended)
        assert (rule.change(answers(masked), FEEDBACK) * 100).tolist() == pytest.approx(expected), mended


def test_the_numbers_of_the_public_code_grow_within_their_bounds() -> None:
    schedule = PerImageSchedule(PublicCode(), 2, start=150 / 1024, bounds=PUBLIC_CODE_BOUNDS)
    index, labels = torch.tensor([0, 1]), torch.tensor([0, 0])
    masked = torch.tensor([[0.0, 200.0], [0.0, 0.0]])  # the first differs by about 100 nats in the mean
    used = []
    for _ in range(5):
        used.append((schedule.plan_for(index, CPU).fractions * 1024).tolist())
        learn(schedule, index, MaskedAnswers(index, torch.zeros(2, 2), masked, labels, None, 2))
    assert used == [[0, 0], [0, 0], [100, 100], [450, 150], [900, 150]]


@pytest.mark.parametrize("rule", [Staircase(), PublicCode()])
def test_rules_that_need_a_label_refuse_other_targets(rule: NumberRule) -> None:
    with pytest.raises(ValueError, match="one class label per image"):
        rule.change(answers(ODDS, targets=torch.rand(3, 2)), FEEDBACK)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: InformationLoss(tau=0.0), "tau is 0.0"),
        (lambda: InformationLoss(rate=1.5), "rate is 1.5"),
        (lambda: InformationLoss(tau=math.inf), "tau is inf"),
        (lambda: Staircase(up=-0.1), "up is -0.1"),
        (lambda: Staircase(down=0.0), "down is 0.0"),
        (lambda: PublicCode(gain=math.nan), "gain is nan"),
        (lambda: PublicCode(num_pixels=0), "num_pixels is 0"),
        (lambda: PerImageSchedule(Staircase(), 0), "num_images is 0"),
        (lambda: PerImageSchedule(Staircase(), 4, start=2.0), "start is 2.0"),
        (lambda: PerImageSchedule(Staircase(), 4, bounds=()), "bounds is empty"),
        (lambda: PerImageSchedule(Staircase(), 4, bounds=[(0.5, 0.4)]), "bounds is 0.4"),
    ],
)
def test_bad_settings_are_named(make: Callable[[], Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()


# -- the schedule


def test_only_the_images_that_were_masked_move() -> None:
    schedule = PerImageSchedule(Fixed(0.1, -0.1, 0.3), 6, start=0.5)
    learn(schedule, [5, 0, 2, 1], answers(ODDS))
    assert schedule.numbers.tolist() == pytest.approx([0.5, 0.8, 0.4, 0.5, 0.5, 0.6])


def test_images_beside_the_drawn_ones_do_not_move() -> None:
    schedule = PerImageSchedule(Fixed(0.1, 0.2, 0.3), 4, start=0.5)
    learn(schedule, range(4), answers(ODDS, drawn=torch.tensor([True, False, True])))
    assert schedule.numbers.tolist() == pytest.approx([0.6, 0.5, 0.5, 0.8])


def test_an_image_that_is_seen_twice_moves_by_the_mean() -> None:
    schedule = PerImageSchedule(Fixed(0.1, 0.3), 2, start=0.5)
    learn(schedule, [1, 1], answers(ODDS[:2], rows=torch.tensor([0, 1])))
    assert schedule.numbers.tolist() == pytest.approx([0.5, 0.7])
    assert schedule.state_dict()["visits"].tolist() == [0, 1]


def test_the_other_schedule_decides_how_many_images() -> None:
    schedule = PerImageSchedule(Staircase(), 4, images=AdaptiveSchedule(MaskPlan(ranking="random")))
    assert schedule.plan.image_fraction == 0 and schedule.plan.ranking == "random"
    schedule.step(Feedback(1.0, 0.0, 4, 8))
    plan = schedule.plan_for(torch.tensor([2]), CPU)
    assert isinstance(plan, PerImagePlan) and plan.image_fraction == 1
    assert plan.fractions.tolist() == [pytest.approx(0.2)]


def test_a_saved_schedule_goes_on_as_if_it_had_never_stopped() -> None:
    rule, file = Fixed(0.1, -0.1, 0.3), io.BytesIO()
    one, other = (PerImageSchedule(rule, 6, start=0.5, images=AdaptiveSchedule()) for _ in range(2))
    learn(one, [5, 0, 2, 1], answers(ODDS))
    one.step(FEEDBACK)
    torch.save(one.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other.numbers, one.numbers) and other.plan == one.plan
    for schedule in (one, other):
        learn(schedule, [5, 0, 2, 1], answers(ODDS))
    torch.testing.assert_close(other.state_dict(), one.state_dict(), rtol=0, atol=0, equal_nan=True)
    for strange in (
        PerImageSchedule(Fixed(0.1, -0.1, 0.4), 6, start=0.5, images=AdaptiveSchedule()),
        PerImageSchedule(rule, 7, start=0.5, images=AdaptiveSchedule()),
        PerImageSchedule(rule, 6, start=0.5),
    ):
        before = strange.numbers.clone()
        with pytest.raises(ValueError, match="saved"):
            strange.load_state_dict(one.state_dict())
        assert torch.equal(strange.numbers, before)


@pytest.mark.parametrize(
    ("index", "error", "named"),
    [
        (torch.tensor([0, 6]), ValueError, r"index lies in \[0, 6\]"),
        (torch.tensor([-1, 0]), ValueError, r"index lies in \[-1, 0\]"),
        (torch.tensor([0.0, 1.0]), TypeError, "index is torch.float32"),
        ([0, 1], TypeError, "index is list"),
    ],
)
def test_a_bad_index_is_named(index: Any, error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=named):
        PerImageSchedule(Staircase(), 6).plan_for(index, CPU)


def test_protected_pixels_and_a_number_per_image_are_refused() -> None:
    schedule = PerImageSchedule(Staircase(), 6, images=ConstantSchedule(MaskPlan(ranking="protected", protected=0.1)))
    with pytest.raises(ValueError, match="ranking 'protected'"):
        schedule.plan_for(torch.tensor([0]), CPU)


# -- the whole step


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))


IMAGES = torch.rand(5, 1, 6, 6, generator=torch.Generator().manual_seed(2))
LABELS = torch.tensor([0, 1, 2, 0, 1])
INDEX = torch.tensor([7, 3, 0, 9, 4])


@pytest.mark.parametrize("way", ["forward", "backward"])
def test_each_image_is_masked_by_its_own_number(way: str, recorded: Callable) -> None:
    schedule, model = PerImageSchedule(Fixed(0.1, 0.1, 0.1, 0.1, 0.1), 10, bounds=[(0.0, 1.0)]), net()
    schedule.learn(torch.stack([torch.linspace(-0.2, 0.7, 10), torch.ones(10)]))
    numbers = schedule.numbers.clone()
    assert numbers.tolist() == pytest.approx(torch.linspace(0, 0.9, 10).tolist())
    criterion = SaliencyGuidedLoss(schedule, Guidance(fill="constant", fill_value=5.0))
    with recorded(model) as calls:
        loss = getattr(criterion, way)(model, IMAGES, LABELS, index=INDEX)
    masked = (calls[-1].inputs == 5).flatten(1).sum(1)
    assert masked.tolist() == [math.floor(float(numbers[index]) * 36 + 0.5) for index in INDEX]
    assert loss.masked_share == 0.8  # one of the five has the number 0
    expected = numbers.clone()
    expected[INDEX] += 0.1
    assert torch.allclose(schedule.numbers, expected)


def test_the_same_number_for_all_is_a_constant_schedule() -> None:
    model, losses = net(), []
    for schedule in (PerImageSchedule(Staircase(), 10, start=0.25), ConstantSchedule(MaskPlan(mask_fraction=0.25))):
        criterion = SaliencyGuidedLoss(schedule, generator=torch.Generator().manual_seed(0))
        losses.append(criterion(model, IMAGES, LABELS, index=INDEX).total)
    assert torch.equal(*losses)


def test_an_index_is_needed_and_must_fit() -> None:
    criterion, model = SaliencyGuidedLoss(PerImageSchedule(Staircase(), 10)), net()
    with pytest.raises(TypeError, match="index is missing"):
        criterion(model, IMAGES, LABELS)
    with pytest.raises(ValueError, match="index holds 4 numbers for 5 images"):
        criterion.backward(model, IMAGES, LABELS, index=INDEX[:4])
    model.eval()
    with torch.no_grad():
        criterion(model, IMAGES, LABELS)  # evaluation needs none


def test_state_of_the_criterion_holds_the_numbers() -> None:
    one, other = (SaliencyGuidedLoss(PerImageSchedule(Staircase(), 10)) for _ in range(2))
    one(net(), IMAGES, LABELS, index=INDEX)
    other.load_state_dict(one.state_dict())
    assert torch.equal(other.schedule.numbers, one.schedule.numbers)
    assert len(set(one.schedule.numbers.tolist())) > 1


# -- the rule without a memory


@pytest.mark.parametrize("way", ["forward", "backward"])
def test_the_limit_on_the_effect_by_hand(way: str, recorded: Callable) -> None:
    """Of a linear model the first-order effect is exact: each pixel moves the score by weight * change."""
    model = nn.Linear(6, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.0] * 6]))
    inputs = torch.tensor([[1.0] * 6, [0.1] * 6])  # effects: 0.1, 0.2, 0.3, ... and a tenth of them
    schedule = ConstantSchedule(MaskPlan(mask_fraction=0.9, max_effect=0.61))
    criterion = SaliencyGuidedLoss(schedule, Guidance(score="log_odds", fill="constant", fill_value=0.0))
    with recorded(model) as calls:
        getattr(criterion, way)(model, inputs, torch.tensor([0, 1]))
    assert (calls[-1].inputs == 0).sum(1).tolist() == [3, 5]  # 0.1 + 0.2 + 0.3; all that the fraction allows


@pytest.mark.parametrize(("reduction", "masked"), [("mean_abs", [0, 1, 2]), ("signed_mean", [1, 3])])
def test_the_limit_on_the_effect_counts_in_the_order_of_the_ranking(
    reduction: Reduction, masked: list[int], recorded: Callable
) -> None:
    model = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.1, -0.2, 0.3, -0.4], [0.0] * 4]))
    settings = Guidance(score="log_odds", fill="constant", fill_value=0.0, reduction=reduction)
    with recorded(model) as calls:
        guided_loss(model, torch.ones(1, 4), torch.tensor([0]), MaskPlan(mask_fraction=1.0, max_effect=0.61), settings)
    assert (calls[-1].inputs[0] == 0).nonzero().flatten().tolist() == masked  # effects of 0.6 in both orders


def test_without_an_effect_all_pixels_are_masked_and_above_the_limit_none() -> None:
    saliency, effects = torch.rand(3, 4, 4), torch.ones(3, 4, 4)
    assert torch.equal(limited_mask(saliency, 0 * effects, 0.0, 0.5), lowest_saliency_mask(saliency, 0.5))
    assert not limited_mask(saliency, effects, 0.99).any()
    assert torch.equal(limited_mask(saliency, -effects, 5.5), lowest_saliency_mask(saliency, 5 / 16))


def test_only_the_first_channels_are_masked(recorded: Callable) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(27, 3))
    images, settings = torch.rand(2, 3, 3, 3), Guidance(fill="constant", fill_value=7.0, masked_channels=1)
    with recorded(model) as calls:
        guided_loss(model, images, torch.tensor([0, 1]), MaskPlan(mask_fraction=1.0), settings)
    seen = calls[-1].inputs
    assert (seen[:, 0] == 7).all() and torch.equal(seen[:, 1:], images[:, 1:])
