"""The loss of one batch against independent write-ups of what it should be."""

import copy
import io
import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoot.objective import Guidance, GuidedLoss, SaliencyGuidedLoss, guided_loss, kl_consistency
from smoot.scheduler import AdaptiveSchedule, ConstantSchedule, MaskPlan

SGT_PLAN = MaskPlan(image_fraction=1.0, pixels="fraction", mask_fraction=0.5)
SGT_GUIDANCE = Guidance(
    of="log_prob", reduction="signed_mean", saliency_pass="eval", fill="uniform", detach_target=False
)
NOTHING = MaskPlan(image_fraction=0.0)


@pytest.fixture
def no_input_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any call of ``torch.autograd.grad`` fails."""

    def refuse(*arguments: Any, **settings: Any) -> None:
        raise AssertionError("an input gradient was taken")

    monkeypatch.setattr(torch.autograd, "grad", refuse)


def gradients(model: nn.Module) -> list[Tensor]:
    return [parameter.grad for parameter in model.parameters()]


# -- the consistency term


def kl_by_hand(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_divergence_of_two_hand_made_answers(dtype: torch.dtype) -> None:
    clean = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]], dtype=dtype)  # (3/4, 1/4), (1/2, 1/2)
    masked = torch.tensor([[0.0, 0.0], [0.0, math.log(4.0)]], dtype=dtype)  # (1/2, 1/2), (1/5, 4/5)
    forward = (kl_by_hand([0.75, 0.25], [0.5, 0.5]) + kl_by_hand([0.5, 0.5], [0.2, 0.8])) / 2
    backward = (kl_by_hand([0.5, 0.5], [0.75, 0.25]) + kl_by_hand([0.2, 0.8], [0.5, 0.5])) / 2
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
        for image in range(64):
            one = slice(image, image + 1)
            assert kl_consistency(logits[one], masked[one]) >= -1e-6
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


@pytest.mark.parametrize("saliency_pass", ["reuse", "eval"])
@pytest.mark.parametrize("detach", [True, False])
def test_in_the_whole_loss_too(
    small_net: Callable[..., nn.Sequential], batch: Callable, detach: bool, saliency_pass: str
) -> None:
    guidance = Guidance(detach_target=detach, saliency_pass=saliency_pass, fill="constant")
    loss = guided_loss(small_net(), *batch(), MaskPlan(), guidance)
    loss.logits.retain_grad()
    (loss.total - F.cross_entropy(loss.logits, batch()[1])).backward()
    assert loss.consistency > 0.01
    assert (loss.logits.grad.abs().max() > 1e-4) == (not detach)


# -- plain training


@pytest.mark.parametrize(
    "plan",
    [NOTHING, MaskPlan(mask_fraction=0.0), MaskPlan(budget=0.0), MaskPlan(image_fraction=0.15)],
    ids=["no image", "no pixel", "no budget", "one image of eight"],
)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_plan_that_masks_nothing_is_cross_entropy_bit_for_bit(
    small_net: Callable[..., nn.Sequential],
    batch: Callable,
    recorded: Callable,
    no_input_gradient: None,
    plan: MaskPlan,
    smoothing: float,
) -> None:
    model, reference, (images, labels) = small_net(), small_net(), batch()
    with recorded(model) as calls:
        loss = guided_loss(model, images, labels, plan, Guidance(label_smoothing=smoothing))
    expected = F.cross_entropy(reference(images), labels, label_smoothing=smoothing)
    assert len(calls) == 1 and torch.equal(calls[0].inputs, images) and calls[0].training
    assert torch.equal(loss.total, expected) and torch.equal(loss.classification, expected.detach())
    loss.total.backward()
    expected.backward()
    pairs = zip(gradients(model), gradients(reference), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
    buffers = dict(reference.named_buffers())
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in model.named_buffers())
    assert loss.consistency == 0 and loss.masked_share == 0
    for unknown in (loss.masked_pixels, loss.information_loss, loss.flip_share, loss.cross_entropy_rise):
        assert unknown.isnan() and unknown.ndim == 0


def test_feedback_is_hard_label_accuracy_and_cross_entropy(batch: Callable) -> None:
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [3.0, 0.0, 0.0]])
    labels = torch.tensor([0, 1, 2, 1])
    for smoothing, plan in itertools.product((0.0, 0.2), (NOTHING, MaskPlan())):
        loss = guided_loss(nn.Identity(), logits, labels, plan, Guidance(label_smoothing=smoothing))
        feedback = loss.feedback
        assert feedback.accuracy == 0.5 and (feedback.num_classes, feedback.num_images) == (3, 4)
        log_prob = [
            2 - math.log(math.e**2 + 1 + math.e),
            1 - math.log(math.e + 2),
            -math.log(math.e + 2),
            -math.log(math.e**3 + 2),
        ]
        assert float(feedback.loss) == pytest.approx(-sum(log_prob) / 4, rel=1e-5)
        assert not feedback.loss.requires_grad


# -- number of forwards


@pytest.mark.parametrize(
    ("plan", "guidance", "expected"),
    [
        (SGT_PLAN, SGT_GUIDANCE, [("train", 8), ("eval", 8), ("train", 8)]),
        (SGT_PLAN, Guidance(), [("train", 8), ("train", 8)]),
        (MaskPlan(image_fraction=0.5), Guidance(), [("train", 8), ("train", 4)]),
        (
            MaskPlan(image_fraction=0.5),
            Guidance(saliency_pass="eval"),
            [("train", 8), ("eval", 4), ("train", 4)],
        ),
        (MaskPlan(budget=1.0), Guidance(), [("train", 8), ("train", 8)]),
        (MaskPlan(image_fraction=0.25), Guidance(), [("train", 8), ("train", 2)]),
        (MaskPlan(image_fraction=0.15), Guidance(), [("train", 8)]),  # M = 1: no masked pass
        (MaskPlan(ranking="random"), SGT_GUIDANCE, [("train", 8), ("train", 8)]),
        (
            MaskPlan(ranking="random"),
            Guidance(fill="worst_case", saliency_pass="eval"),
            [("train", 8), ("eval", 8), ("train", 8)],
        ),
    ],
)
def test_forwards_of_one_step(
    small_net: Callable[..., nn.Sequential],
    batch: Callable,
    recorded: Callable,
    plan: MaskPlan,
    guidance: Guidance,
    expected: list[tuple[str, int]],
) -> None:
    model = small_net()
    with recorded(model) as calls:
        guided_loss(model, *batch(8), plan, guidance)
    assert [("train" if call.training else "eval", len(call.inputs)) for call in calls] == expected


def test_random_masks_take_no_input_gradient(
    small_net: Callable[..., nn.Sequential], batch: Callable, no_input_gradient: None
) -> None:
    loss = guided_loss(small_net(), *batch(), MaskPlan(ranking="random"))
    assert loss.masked_share == 1 and loss.masked_pixels == 0.5


# -- SGT as published, written out on its own


def sgt_as_published(
    model: nn.Module, images: Tensor, labels: Tensor, noise: Tensor, *, saliency_first: bool
) -> Tensor:
    """Ismail et al. 2021, Algorithm 1, with a loop over the images and no code of ours."""
    rows = torch.arange(len(images))
    clean = None if saliency_first else model(images)
    variable = images.clone().requires_grad_()
    model.eval()
    true_class = torch.log(torch.softmax(model(variable), dim=1))[rows, labels]
    saliency = torch.autograd.grad(true_class.sum(), variable)[0].mean(dim=1)
    model.train()
    clean = model(images) if saliency_first else clean
    masked = images.clone()
    for image in range(len(images)):
        lowest = saliency[image].flatten().argsort()[: saliency[image].numel() // 2]
        low, high = images[image].min(), images[image].max()
        masked[image].view(3, -1)[:, lowest] = (low + noise[image] * (high - low)).view(3, -1)[:, lowest]
    p, q = torch.softmax(clean, dim=1), torch.softmax(model(masked), dim=1)
    divergence = (p * (p / q).log()).sum(dim=1).mean()
    return -p[rows, labels].log().mean() + divergence


@pytest.mark.parametrize("batch_norm", [True, False])
def test_the_sgt_plan_is_sgt_as_published(
    small_net: Callable[..., nn.Sequential], batch: Callable, generator: Callable, batch_norm: bool
) -> None:
    images, labels = batch(dtype=torch.float64)
    noise = torch.rand(images.shape, dtype=torch.float64, generator=generator(5))
    model = small_net(batch_norm=batch_norm, dropout=0.3, dtype=torch.float64)
    model(images)  # running statistics that are neither fresh nor those of the batch
    reference = copy.deepcopy(model)
    torch.manual_seed(0)
    # Without BatchNorm the order of clean and saliency pass cannot matter; with it, ours is clean first.
    expected = sgt_as_published(reference, images, labels, noise, saliency_first=not batch_norm)
    torch.manual_seed(0)
    loss = guided_loss(model, images, labels, SGT_PLAN, SGT_GUIDANCE, generator=generator(5))
    assert loss.consistency > 0.001
    torch.testing.assert_close(loss.total, expected)
    loss.total.backward()
    expected.backward()
    for ours, theirs in zip(gradients(model), gradients(reference), strict=True):
        torch.testing.assert_close(ours, theirs)
    buffers = dict(reference.named_buffers())
    for name, buffer in model.named_buffers():
        torch.testing.assert_close(buffer, buffers[name], msg=name)


def test_other_choices_are_other_losses(
    small_net: Callable[..., nn.Sequential], batch: Callable, generator: Callable
) -> None:
    """So the agreement above is no accident of a loss that ignores its settings."""

    def total(plan: MaskPlan, guidance: Guidance) -> float:
        model = small_net(seed=2)
        return guided_loss(model, *batch(), plan, guidance, generator=generator(5)).total.item()

    published = total(SGT_PLAN, SGT_GUIDANCE)
    assert total(SGT_PLAN, SGT_GUIDANCE) == published
    others = [
        total(SGT_PLAN, replace(SGT_GUIDANCE, reduction="mean_abs")),
        total(SGT_PLAN, replace(SGT_GUIDANCE, of="loss")),
        total(SGT_PLAN, replace(SGT_GUIDANCE, saliency_pass="reuse")),
        total(SGT_PLAN, replace(SGT_GUIDANCE, fill="mean")),
        total(SGT_PLAN, replace(SGT_GUIDANCE, kl_weight=2.0)),
        total(SGT_PLAN, replace(SGT_GUIDANCE, label_smoothing=0.1)),
        total(replace(SGT_PLAN, mask_fraction=0.3), SGT_GUIDANCE),
        total(replace(SGT_PLAN, image_fraction=0.5), SGT_GUIDANCE),
        total(replace(SGT_PLAN, ranking="protected", protected=0.2), SGT_GUIDANCE),
    ]
    assert all(abs(other - published) > 1e-5 for other in others)
    # ``detach_target`` changes the gradient, not the value.
    assert total(SGT_PLAN, replace(SGT_GUIDANCE, detach_target=True)) == published


# -- a partial, weighted, detached loss, written out on its own


def reused_loss_by_hand(
    model: nn.Module, images: Tensor, labels: Tensor, chosen: list[int], weight: float
) -> Tensor:
    """Half the pixels of the chosen images by magnitude, mean fill, log-odds from the training forward."""
    variable = images.clone().requires_grad_()
    clean = model(variable)
    p = clean.softmax(1)
    true = p.gather(1, labels[:, None]).squeeze(1)
    saliency = torch.autograd.grad((true / (1 - true)).log().sum(), variable, retain_graph=True)[0]
    masked = images[chosen].clone()
    for row, image in enumerate(chosen):
        lowest = saliency[image].abs().mean(0).flatten().argsort()[:18]
        for channel in range(3):
            masked[row, channel].view(-1)[lowest] = images[image, channel].mean()
    target = p[chosen].detach()
    q = model(masked).softmax(1)
    divergence = (target * (target / q).log()).sum()
    return F.cross_entropy(clean, labels) + weight * divergence / len(images)


@pytest.mark.parametrize("order", ["hardest", "easiest"])
def test_a_partial_plan_divides_by_the_whole_batch(
    small_net: Callable[..., nn.Sequential], batch: Callable, order: str
) -> None:
    images, _ = batch(dtype=torch.float64)
    model = small_net(dtype=torch.float64)
    with torch.no_grad():
        logits = copy.deepcopy(model)(images)
    labels = logits.argmax(1)  # every answer is right, so none of the easiest weighs 0
    probability = logits.softmax(1).amax(1)
    ranked = (probability / (1 - probability)).argsort(descending=order == "easiest").tolist()
    reference = copy.deepcopy(model)
    expected = reused_loss_by_hand(reference, images, labels, ranked[:4], 1.5)
    plan = MaskPlan(image_fraction=0.5, order=order)
    loss = guided_loss(model, images, labels, plan, Guidance(fill="mean", kl_weight=1.5))
    torch.testing.assert_close(loss.total, expected)
    assert loss.masked_share == 0.5 and loss.masked_pixels == 0.5
    loss.total.backward()
    expected.backward()
    for ours, theirs in zip(gradients(model), gradients(reference), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_loss_leaves_parameter_gradients_and_inputs_alone(
    small_net: Callable[..., nn.Sequential], batch: Callable
) -> None:
    for guidance in (Guidance(), SGT_GUIDANCE, Guidance(fill="worst_case")):
        model, (images, labels) = small_net(), batch()
        model[0].weight.grad = torch.full_like(model[0].weight, 7.0)
        kept = images.clone()
        loss = guided_loss(model, images, labels, MaskPlan(), guidance)
        assert (model[0].weight.grad == 7.0).all() and model[5].weight.grad is None
        assert torch.equal(images, kept) and not images.requires_grad
        assert all(module.training for module in model.modules())
        loss.total.backward()
        assert images.grad is None and model[5].weight.grad is not None


# -- which images and pixels, seen through the masked forward

# Inputs are their own logits (two classes); the log-odds of label 0 are 2, -1, 5, 0.5, -3, 1.
ROWS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [5.0, 0.0], [0.5, 0.0], [0.0, 3.0], [1.0, 0.0]])
LABELS = torch.zeros(6, dtype=torch.int64)


def seen(plan: MaskPlan, recorded: Callable, **settings: Any) -> tuple[Tensor, GuidedLoss]:
    """What the masked forward saw, and the loss. The fill is 9, so that it is easily recognised."""
    model = nn.Identity()
    with recorded(model) as calls:
        loss = guided_loss(
            model, ROWS.clone(), LABELS, plan, Guidance(fill="constant", fill_value=9.0), **settings
        )
    assert len(calls) == 2
    return calls[1].inputs, loss


@pytest.mark.parametrize(
    ("order", "expected", "share"),
    [("hardest", [4, 1, 3], 3 / 6), ("easiest", [2, 0, 5], 3 / 6)],
)
def test_the_ordered_images_are_masked(
    recorded: Callable, order: str, expected: list[int], share: float
) -> None:
    masked, loss = seen(MaskPlan(image_fraction=0.5, order=order), recorded)
    # |gradient| of the log-odds is 1 for both pixels: the tie goes to the first, which becomes 9.
    assert torch.equal(masked[:, 1], ROWS[expected, 1]) and (masked[:, 0] == 9).all()
    assert loss.masked_share.item() == pytest.approx(share)


def test_wrong_answers_among_the_easiest_are_masked_but_weigh_nothing(recorded: Callable) -> None:
    _, loss = seen(MaskPlan(image_fraction=1.0, order="easiest"), recorded)
    assert loss.masked_share.item() == pytest.approx(4 / 6)  # two of the six are answered wrongly
    expected = sum(
        kl_by_hand(
            [1 / (1 + math.exp(-z)), 1 / (1 + math.exp(z))], [1 / (1 + math.exp(-9)), 1 / (1 + math.exp(9))]
        )
        for z in (2.0, 5.0, 0.5, 1.0)
    )
    assert loss.consistency.item() == pytest.approx(expected / 6, rel=1e-4)
    assert loss.information_loss.item() == pytest.approx(expected / 4, rel=1e-4)


def test_random_images_are_distinct_and_follow_the_generator(recorded: Callable, generator: Callable) -> None:
    plan = MaskPlan(image_fraction=0.5, order="random", mask_fraction=0.4)  # one of two pixels
    masked, _ = seen(plan, recorded, generator=generator(3))
    again, _ = seen(plan, recorded, generator=generator(3))
    assert len(masked) == 3 and torch.equal(masked, again)
    draws = {tuple(seen(plan, recorded, generator=generator(seed))[0][:, 1].tolist()) for seed in range(20)}
    assert len(draws) > 5


def test_the_budget_keeps_the_largest_affordable_number_of_images(
    small_net: Callable[..., nn.Sequential], batch: Callable, generator: Callable
) -> None:
    model, (images, labels) = small_net(seed=4, dtype=torch.float64), batch(7, dtype=torch.float64)
    guidance = Guidance(fill="uniform", detach_target=True)

    def loss(budget: float | None, chosen: slice = slice(None)) -> GuidedLoss:
        plan = MaskPlan(mask_fraction=0.5, budget=budget)
        return guided_loss(copy.deepcopy(model), images, labels, plan, guidance, generator=generator(1))

    costs = divergences(copy.deepcopy(model), images, labels, generator(1))
    for budget in (0.25 * sum(costs) / 7, 0.5 * sum(costs) / 7, 2 * sum(costs) / 7, min(costs) / 8):
        sizes = [
            len(subset)
            for size in range(8)
            for subset in itertools.combinations(costs, size)
            if sum(subset) / 7 <= budget
        ]
        result = loss(budget)
        assert result.masked_share.item() == pytest.approx(max(sizes) / 7)
        assert result.consistency <= budget
    assert loss(None).consistency.item() == pytest.approx(sum(costs) / 7)


def divergences(model: nn.Module, images: Tensor, labels: Tensor, source: torch.Generator) -> list[float]:
    """KL of each image under bottom-half masks by log-odds magnitude and uniform noise."""
    variable = images.clone().requires_grad_()
    clean = model(variable)
    true = clean.softmax(1).gather(1, labels[:, None])
    saliency = torch.autograd.grad((true / (1 - true)).log().sum(), variable)[0].abs().mean(1).flatten(1)
    noise = torch.rand(images.shape, dtype=images.dtype, generator=source)
    low, high = images.flatten(1).amin(1), images.flatten(1).amax(1)
    noise = low.view(-1, 1, 1, 1) + noise * (high - low).view(-1, 1, 1, 1)
    mask = saliency <= saliency.sort(1).values[:, 17:18]
    masked = torch.where(mask.view(-1, 1, 6, 6), noise, images)
    with torch.no_grad():
        p, q = clean.softmax(1), model(masked).softmax(1)
        return (p * (p / q).log()).sum(1).tolist()


def test_what_masking_did_by_hand(recorded: Callable) -> None:
    """Identity model, both pixels of every image become 9, so every masked answer is (1/2, 1/2)."""
    _, loss = seen(MaskPlan(mask_fraction=1.0), recorded)
    p = [1 / (1 + math.exp(-z)) for z in (2.0, -1.0, 5.0, 0.5, -3.0, 1.0)]
    information = [kl_by_hand([a, 1 - a], [0.5, 0.5]) for a in p]
    assert loss.masked_share == 1 and loss.masked_pixels == 1
    assert loss.information_loss.item() == pytest.approx(sum(information) / 6, rel=1e-4)
    assert loss.consistency.item() == pytest.approx(sum(information) / 6, rel=1e-4)
    rise = sum(math.log(2) + math.log(a) for a in p) / 6
    assert loss.cross_entropy_rise.item() == pytest.approx(rise, rel=1e-4)
    assert loss.flip_share.item() == pytest.approx(2 / 6)  # equal logits answer class 0


def test_images_without_saliency_weigh_nothing_under_a_mass_plan() -> None:
    model = nn.Sequential(nn.Linear(3, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 2.0, 7.0], [0.0, 0.0, 0.0]]))
    inputs, labels = torch.rand(4, 3), torch.tensor([0, 1, 0, 1])
    loss = guided_loss(model, inputs, labels, MaskPlan(pixels="mass", mass=0.3, max_fraction=1.0))
    assert loss.masked_share == 1
    assert loss.masked_pixels.item() == pytest.approx(2 / 3)  # 1 + 2 of 10, exactly the mass
    with torch.no_grad():
        model[0].weight.zero_()
    loss = guided_loss(model, inputs, labels, MaskPlan(pixels="mass", mass=0.3))
    assert loss.masked_share == 0 and loss.consistency == 0 and loss.information_loss.isnan()
    assert loss.total.item() == pytest.approx(math.log(2))


def test_protected_pixels_are_never_filled(recorded: Callable) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(20, 2, bias=False))
    strength = (model[1].weight[0] - model[1].weight[1]).detach().abs()  # the log-odds' saliency, any image
    images, labels = torch.rand(16, 1, 4, 5), torch.zeros(16, dtype=torch.int64)
    plan = MaskPlan(mask_fraction=0.5, ranking="protected", protected=0.25)
    with recorded(model) as calls:
        guided_loss(model, images, labels, plan, Guidance(fill="constant", fill_value=9.0))
    changed = (calls[-1].inputs != images).flatten(1)
    assert (changed.sum(1) == 10).all()
    assert not changed[:, strength.topk(5).indices].any()
    assert changed.unique(dim=0).shape[0] > 10


def test_worst_case_fill_lowers_the_true_class(recorded: Callable) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(20, 2))
    images, labels = torch.rand(16, 1, 4, 5), torch.arange(16) % 2
    for ranking in ("saliency", "random"):
        with recorded(model) as calls:
            guided_loss(model, images, labels, MaskPlan(ranking=ranking), Guidance(fill="worst_case"))
        with torch.no_grad():
            before, after = model(images), model(calls[1].inputs)
        rows = torch.arange(16)
        before, after = (z[rows, labels] - z[rows, 1 - labels] for z in (before, after))
        assert (after < before).all()


# -- shapes, types, randomness


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(4, 3, 5, 6), (4, 2, 7), (4, 9)])
@pytest.mark.parametrize(
    "plan",
    [
        MaskPlan(),
        MaskPlan(pixels="mass", mass=0.3),
        MaskPlan(ranking="protected", protected=0.2),
        MaskPlan(ranking="random", image_fraction=0.5),
    ],
    ids=["fraction", "mass", "protected", "random"],
)
@pytest.mark.parametrize("fill", ["uniform", "mean", "constant", "worst_case"])
def test_every_kind_of_input_trains(
    linear: Callable[..., nn.Sequential],
    shape: tuple[int, ...],
    dtype: torch.dtype,
    plan: MaskPlan,
    fill: str,
) -> None:
    model = linear(shape, dtype=dtype)
    inputs, labels = torch.randn(shape).to(dtype), torch.tensor([2, 0, 1, 2])
    for guidance in (Guidance(fill=fill), Guidance(fill=fill, saliency_pass="eval", detach_target=False)):
        loss = guided_loss(model, inputs, labels, plan, guidance)
        assert loss.total.dtype == torch.float32 and loss.total.isfinite() and loss.consistency > 0
        loss.total.backward()
        assert all(gradient.isfinite().all() for gradient in gradients(model))


def test_a_generator_fixes_the_loss_and_spares_the_global_state(
    small_net: Callable[..., nn.Sequential], batch: Callable, generator: Callable
) -> None:
    plan = MaskPlan(image_fraction=0.5, ranking="protected", protected=0.1)
    state = torch.get_rng_state()
    results = [
        guided_loss(copy.deepcopy(model), *batch(), plan, generator=generator(seed)).total.item()
        for model in [small_net()]
        for seed in (0, 0, 1)
    ]
    assert results[0] == results[1] != results[2]
    torch.manual_seed(0)
    before = small_net()
    state = torch.get_rng_state()
    guided_loss(before, *batch(), plan, generator=generator(0))
    assert torch.equal(torch.get_rng_state(), state)


# -- the drop-in


def test_the_drop_in_equals_the_function_and_feeds_its_schedule(
    small_net: Callable[..., nn.Sequential], batch: Callable, generator: Callable
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
        assert schedule.state_dict() == twin.state_dict() and schedule.competence > 0
        assert (ours.masked_share > 0) == (step > 0)  # feedback decides the next plan, not this one


@pytest.mark.parametrize("how", ["eval", "no_grad", "inference_mode"])
def test_outside_training_it_is_cross_entropy_and_learns_nothing(
    small_net: Callable[..., nn.Sequential], batch: Callable, recorded: Callable, how: str
) -> None:
    criterion = SaliencyGuidedLoss(AdaptiveSchedule(images="all"), Guidance(label_smoothing=0.1))
    model, (images, labels) = small_net().eval(), batch()
    if how == "eval":
        criterion.eval()
    guard = {"eval": torch.enable_grad, "no_grad": torch.no_grad, "inference_mode": torch.inference_mode}
    before = criterion.schedule.state_dict()
    with recorded(model) as calls, guard[how]():
        loss = criterion(model, images, labels)
        expected = F.cross_entropy(model(images), labels, label_smoothing=0.1)
    assert len(calls) == 2  # one of them is the line above
    assert torch.equal(loss.total, expected) and loss.masked_share == 0
    assert criterion.schedule.state_dict() == before
    criterion.train()
    assert criterion(model, images, labels).masked_share == 1


def test_a_saved_drop_in_goes_on_as_if_it_had_never_stopped(
    small_net: Callable[..., nn.Sequential], batch: Callable, generator: Callable
) -> None:
    model, (images, labels) = small_net(), batch()
    labels = small_net()(images).argmax(1).detach()
    criterion = SaliencyGuidedLoss(AdaptiveSchedule(), generator=generator(1))
    for _ in range(2):
        criterion(model, images, labels)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "criterion": criterion.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    other, twin = SaliencyGuidedLoss(AdaptiveSchedule(), generator=generator(7)), small_net(seed=9)
    twin.load_state_dict(saved["model"])
    other.load_state_dict(saved["criterion"])
    assert other.schedule.plan == criterion.schedule.plan != AdaptiveSchedule().plan
    criterion.generator, other.generator = generator(3), generator(3)
    assert torch.equal(criterion(model, images, labels).total, other(twin, images, labels).total)


def test_a_drop_in_with_a_constant_schedule_saves_and_loads() -> None:
    criterion = SaliencyGuidedLoss(ConstantSchedule())
    SaliencyGuidedLoss(ConstantSchedule()).load_state_dict(criterion.state_dict())
    adaptive = SaliencyGuidedLoss(AdaptiveSchedule())
    with pytest.raises(ValueError, match="no state"):
        criterion.load_state_dict(adaptive.state_dict())
    with pytest.raises(ValueError, match="keys"):
        adaptive.load_state_dict(criterion.state_dict())


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
    [
        (AdaptiveSchedule(), Guidance()),
        (AdaptiveSchedule(images="budget"), Guidance(fill="worst_case")),
        (ConstantSchedule(SGT_PLAN), SGT_GUIDANCE),
    ],
    ids=["smoot", "budget", "sgt"],
)
def test_the_drop_in_learns_a_toy_problem(schedule: Any, guidance: Guidance, generator: Callable) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)
    )
    schedule = copy.deepcopy(schedule)
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
