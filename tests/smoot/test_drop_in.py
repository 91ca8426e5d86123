"""The drop-in criterion: feeding back, evaluation, saving and loading, and training with it."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from published import SGT_GUIDANCE, SGT_PLAN
from states import copied, same
from torch import Tensor, nn

from smoot import AdaptiveSchedule, ConstantSchedule, Guidance, SaliencyGuidedLoss, guided_loss


def test_the_drop_in_equals_the_function_and_feeds_its_schedule(
    small_net: Callable, batch: Callable, generator: Callable
) -> None:
    guidance, schedule = Guidance(kl_weight=0.7), AdaptiveSchedule(decay=0.5)
    twin = AdaptiveSchedule(decay=0.5)
    criterion = SaliencyGuidedLoss(schedule, guidance, generator=generator(2))
    source = generator(2)
    model, reference = small_net(), small_net()
    images = batch(8)[0]
    labels = small_net()(images).argmax(1).detach()  # right from the start, so competence is above 0
    for step in range(3):
        ours = criterion(model, images, labels)
        theirs = guided_loss(reference, images, labels, twin.plan, guidance, generator=source)
        twin.step(theirs.feedback)
        assert torch.equal(ours.total, theirs.total)
        assert schedule.plan == twin.plan and schedule.competence > 0
        assert (ours.masked_share > 0) == (step > 0)  # feedback decides the next plan, not this one


def test_another_schedule_comes_with_the_same_guidance() -> None:
    schedule = ConstantSchedule(SGT_PLAN)
    assert SaliencyGuidedLoss(schedule).schedule is schedule
    assert SaliencyGuidedLoss(schedule).guidance == Guidance(reduction="signed_mean", fill="mean")
    assert SaliencyGuidedLoss(guidance=SGT_GUIDANCE).guidance is SGT_GUIDANCE


# -- measuring the gap


def test_the_gap_is_that_of_the_cross_entropies_in_eval_mode() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Dropout(0.5), nn.Linear(12, 4))
    images, labels = torch.rand(30, 3, 2, 2), torch.arange(30) % 4
    kept, criterion = copied(model.state_dict()), SaliencyGuidedLoss()
    answers = copy.deepcopy(model).eval()(images).detach()
    labels[:18] = answers[:18].argmax(1)  # so that there is a gap
    training = [(images[:10], labels[:10]), (images[10:18], labels[10:18])]
    gap = criterion.measure(model, training, [(images[18:], labels[18:], "more")])
    expected = 1 - float(F.cross_entropy(answers[:18], labels[:18]) / F.cross_entropy(answers[18:], labels[18:]))
    assert 0 < gap == pytest.approx(expected, rel=1e-6)
    assert criterion.schedule.plan.image_fraction == gap
    assert model.training and same(model.state_dict(), kept)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_gap_decides_how_many_are_masked(small_net: Callable, batch: Callable) -> None:
    criterion, model, (images, labels) = SaliencyGuidedLoss(), small_net(), batch(8)
    assert criterion(model, images, labels).masked_share == 0
    criterion.schedule.measure(0.25, 1.0)
    masked = [float(criterion(model, images, labels).masked_share) for _ in range(4)]
    assert sum(masked) / 4 == pytest.approx(0.75, abs=0.04)


def test_what_no_gap_can_be_measured_from_is_refused(small_net: Callable, batch: Callable) -> None:
    model, data = small_net(), [batch(4)]
    with pytest.raises(TypeError, match="only a GapSchedule or PerImageSchedule reads losses"):
        SaliencyGuidedLoss(AdaptiveSchedule()).measure(model, data, data)
    with pytest.raises(ValueError, match="4 training and 0 validation images: expected some of each"):
        SaliencyGuidedLoss().measure(model, data, [])


def test_a_gap_that_is_never_measured_is_said(
    small_net: Callable, batch: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smoot.criterion.UNMEASURED", 2)
    criterion, model, (images, labels) = SaliencyGuidedLoss(), small_net(), batch(4)
    criterion(model, images, labels)
    with pytest.warns(UserWarning, match="nothing was masked in 2 steps.*criterion.measure"):
        criterion(model, images, labels)
    criterion.measure(model, [(images, labels)], [(images, labels)])
    assert criterion.schedule.unmeasured_steps == 0
    resumed = SaliencyGuidedLoss()
    resumed.load_state_dict(criterion.state_dict())
    assert resumed.schedule.unmeasured_steps == 0


@pytest.mark.parametrize("how", ["eval", "no_grad", "inference_mode"])
def test_outside_training_it_is_cross_entropy_and_learns_nothing(
    small_net: Callable, batch: Callable, recorded: Callable, how: str
) -> None:
    criterion = SaliencyGuidedLoss(ConstantSchedule(), Guidance(label_smoothing=0.1))
    model, (images, labels) = small_net().eval(), batch()
    if how == "eval":
        criterion.eval()
    guard = {"eval": torch.enable_grad, "no_grad": torch.no_grad, "inference_mode": torch.inference_mode}
    with recorded(model) as calls, guard[how]():
        loss = criterion(model, images, labels)
        expected = F.cross_entropy(model(images), labels, label_smoothing=0.1)
    assert len(calls) == 2  # one of them is the line above
    assert torch.equal(loss.total, expected) and loss.masked_share == 0
    assert criterion.schedule.state_dict()["steps"] == 0
    criterion.train()
    model.train()
    assert criterion(model, images, labels).masked_share == 1


def bright_corner(size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noise images (N, 1, 6, 6) with one of the four corners brighter: the label is which."""
    source = torch.Generator().manual_seed(seed)
    images = torch.rand(size, 1, 6, 6, generator=source)
    labels = torch.randint(4, (size,), generator=source)
    for image, label in enumerate(labels.tolist()):
        top, left = 3 * (label // 2), 3 * (label % 2)
        images[image, 0, top : top + 3, left : left + 3] += 0.7
    return images, labels


@pytest.mark.parametrize(
    ("schedule", "guidance"),
    [(AdaptiveSchedule(), Guidance()), (ConstantSchedule(SGT_PLAN), SGT_GUIDANCE)],
    ids=["smoot", "sgt"],
)
def test_the_drop_in_learns_a_toy_problem(schedule: Any, guidance: Guidance, generator: Callable) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))
    criterion = SaliencyGuidedLoss(schedule, guidance, generator=generator(0))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    shares = []
    for step in range(60):
        loss = criterion(model, *bright_corner(32, step))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        shares.append(loss.masked_share.item())
    criterion.eval()
    with torch.no_grad():
        images, labels = bright_corner(200, 1000)
        result = criterion(model.eval(), images, labels)
    assert result.total < 0.5 * math.log(4)
    assert result.feedback.accuracy > 0.85
    assert max(shares) > 0.5
    if isinstance(schedule, AdaptiveSchedule):
        assert shares[0] == 0 and schedule.competence > 0.3
    else:
        assert set(shares) == {1.0}
