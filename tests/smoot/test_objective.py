"""The loss of one batch: consistency term, plain training, number of forwards, kinds of input."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from published import SGT_GUIDANCE, SGT_PLAN
from states import gradients, same
from torch import nn

from smoot import Guidance, MaskPlan
from smoot.objective import guided_loss, kl_consistency

NOTHING = MaskPlan(image_fraction=0.0)


@pytest.fixture
def no_input_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any call of ``torch.autograd.grad`` fails."""

    def refuse(*arguments: Any, **settings: Any) -> None:
        raise AssertionError("an input gradient was taken")

    monkeypatch.setattr(torch.autograd, "grad", refuse)


# -- the consistency term


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_divergence_of_two_hand_made_answers(dtype: torch.dtype) -> None:
    clean = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]], dtype=dtype)  # (3/4, 1/4), (1/2, 1/2)
    masked = torch.tensor([[0.0, 0.0], [0.0, math.log(4.0)]], dtype=dtype)  # (1/2, 1/2), (1/5, 4/5)
    forward = (0.75 * math.log(1.5) + 0.25 * math.log(0.5) + 0.5 * math.log(2.5) + 0.5 * math.log(0.625)) / 2
    backward = (0.5 * math.log(2 / 3) + 0.5 * math.log(2) + 0.2 * math.log(0.4) + 0.8 * math.log(1.6)) / 2
    assert abs(forward - backward) > 0.005  # the direction matters, and is this one:
    assert kl_consistency(clean, masked).item() == pytest.approx(forward, rel=1e-5)
    assert kl_consistency(masked, clean).item() == pytest.approx(backward, rel=1e-5)
    assert kl_consistency(clean, masked).dtype == dtype


def test_the_divergence_is_zero_on_equal_logits_and_never_negative() -> None:
    logits = torch.randn(64, 10) * 5
    assert kl_consistency(logits, logits).item() == 0.0
    assert kl_consistency(logits, logits + 3.0).item() == pytest.approx(0.0, abs=1e-6)  # a shift is no change
    for spread in (1e-3, 0.1, 1.0, 30.0):
        masked = logits + spread * torch.randn(64, 10)
        for pair in zip(logits.split(1), masked.split(1), strict=True):
            assert kl_consistency(*pair) >= -1e-6
    assert kl_consistency(logits, -logits) > 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [100.0, 1e4, 1e30])
def test_extreme_logits_give_finite_loss_and_gradient(size: float, dtype: torch.dtype) -> None:
    clean = torch.tensor([[size, -size, 0.0], [0.0, 0.0, size]], dtype=dtype, requires_grad=True)
    masked = torch.tensor([[-size, size, 0.0], [0.0, 0.0, size]], dtype=dtype, requires_grad=True)
    loss = kl_consistency(clean, masked, detach_target=False)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(size, rel=0.01)  # the mean of 2 * size and 0
    loss.backward()
    assert clean.grad.isfinite().all() and masked.grad.isfinite().all()


@pytest.mark.parametrize("detach", [True, False])
def test_the_clean_side_gets_a_gradient_only_if_it_is_not_detached(detach: bool) -> None:
    clean = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    masked = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    kl_consistency(clean, masked, detach_target=detach).backward()
    p, q = clean.detach().softmax(1), masked.detach().softmax(1)
    torch.testing.assert_close(masked.grad, (q - p) / 3)
    if detach:
        assert clean.grad is None
    else:
        ratio = (p / q).log()
        torch.testing.assert_close(clean.grad, p * (ratio - (p * ratio).sum(1, keepdim=True)) / 3)


# -- plain training


@pytest.mark.parametrize(
    "plan",
    [NOTHING, MaskPlan(mask_fraction=0.0), MaskPlan(image_fraction=0.1)],
    ids=["no image", "no pixel", "less than half a pair of images"],
)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_plan_that_masks_nothing_is_cross_entropy_bit_for_bit(
    small_net: Callable, batch: Callable, recorded: Callable, no_input_gradient: None, plan: MaskPlan, smoothing: float
) -> None:
    model, reference, (images, labels) = small_net(), small_net(), batch()
    with recorded(model) as calls:
        loss = guided_loss(model, images, labels, plan, Guidance(label_smoothing=smoothing))
    expected = F.cross_entropy(reference(images), labels, label_smoothing=smoothing)
    assert len(calls) == 1 and torch.equal(calls[0].inputs, images) and calls[0].training
    assert torch.equal(loss.total, expected) and torch.equal(loss.classification, expected.detach())
    loss.total.backward()
    expected.backward()
    torch.testing.assert_close(gradients(model), gradients(reference), rtol=0, atol=0)
    assert same(model.state_dict(), reference.state_dict())
    assert loss.consistency == 0 and loss.masked_share == 0
    for unknown in (loss.masked_pixels, loss.information_loss, loss.flip_share, loss.cross_entropy_rise):
        assert unknown.isnan() and unknown.ndim == 0


def test_feedback_is_hard_label_accuracy_and_cross_entropy(batch: Callable) -> None:
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [3.0, 0.0, 0.0]])
    labels = torch.tensor([0, 1, 2, 1])
    log_normalisers = [math.log(math.e**2 + 1 + math.e), *[math.log(math.e + 2)] * 2, math.log(math.e**3 + 2)]
    expected = (sum(log_normalisers) - 2 - 1) / 4  # the true logits are 2, 1, 0, 0
    for smoothing, plan in itertools.product((0.0, 0.2), (NOTHING, MaskPlan())):
        feedback = guided_loss(nn.Identity(), logits, labels, plan, Guidance(label_smoothing=smoothing)).feedback
        assert feedback.accuracy == 0.5 and (feedback.num_classes, feedback.num_images) == (3, 4)
        assert float(feedback.loss) == pytest.approx(expected, rel=1e-5)
        assert not feedback.loss.requires_grad


# -- number of forwards


@pytest.mark.parametrize(
    ("plan", "guidance", "expected"),
    [
        (SGT_PLAN, SGT_GUIDANCE, [("eval", 8), ("train", 8), ("train", 8)]),
        (SGT_PLAN, Guidance(), [("train", 8), ("train", 8)]),
        (MaskPlan(image_fraction=0.5), Guidance(), [("train", 8), ("train", 4)]),
        (MaskPlan(image_fraction=0.5), Guidance(saliency_pass="eval"), [("train", 8), ("eval", 4), ("train", 4)]),
        (MaskPlan(image_fraction=0.25), Guidance(), [("train", 8), ("train", 2)]),
        (MaskPlan(image_fraction=0.1), Guidance(), [("train", 8)]),  # 0.4 pairs: no masked pass
        (MaskPlan(ranking="random"), SGT_GUIDANCE, [("train", 8), ("train", 8)]),
    ],
)
def test_forwards_of_one_step(
    small_net: Callable, batch: Callable, recorded: Callable, plan: MaskPlan, guidance: Guidance, expected: Any
) -> None:
    model = small_net()
    with recorded(model) as calls:
        guided_loss(model, *batch(8), plan, guidance)
    assert [("train" if call.training else "eval", len(call.inputs)) for call in calls] == expected


def test_random_masks_take_no_input_gradient(small_net: Callable, batch: Callable, no_input_gradient: None) -> None:
    loss = guided_loss(small_net(), *batch(), MaskPlan(ranking="random"))
    assert loss.masked_share == 1 and loss.masked_pixels == 0.5


# -- shapes, types, randomness


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(4, 3, 5, 6), (4, 2, 7), (4, 9)])
@pytest.mark.parametrize(
    "plan",
    [MaskPlan(), MaskPlan(ranking="protected", protected=0.2), MaskPlan(ranking="random", image_fraction=0.5)],
    ids=["saliency", "protected", "random"],
)
@pytest.mark.parametrize("fill", ["uniform", "mean", "constant"])
def test_every_kind_of_input_trains(
    linear: Callable[..., nn.Sequential], shape: tuple[int, ...], dtype: torch.dtype, plan: MaskPlan, fill: str
) -> None:
    model = linear(shape, dtype=dtype)
    inputs, labels = torch.randn(shape).to(dtype), torch.tensor([2, 0, 1, 2])
    for guidance in (Guidance(fill=fill), Guidance(fill=fill, saliency_pass="eval", detach_target=False)):
        loss = guided_loss(model, inputs, labels, plan, guidance)
        assert loss.total.dtype == torch.float32 and loss.total.isfinite() and loss.consistency > 0
        loss.total.backward()
        assert all(gradient.isfinite().all() for gradient in gradients(model))


def test_a_generator_fixes_the_loss_and_spares_the_global_state(
    small_net: Callable, batch: Callable, generator: Callable
) -> None:
    plan, models = MaskPlan(image_fraction=0.5, ranking="protected", protected=0.1), [small_net() for _ in range(3)]
    state = torch.get_rng_state()
    first, again, other = (
        guided_loss(model, *batch(), plan, generator=generator(seed)).total
        for model, seed in zip(models, (0, 0, 1), strict=True)
    )
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), state)
