"""Which images and pixels the guided loss masks, and what it reports, on hand-made logits."""

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smoot.objective import Guidance
from smoot.objective import GuidedLoss, guided_loss
from smoot.scheduler import MaskPlan


def kl_by_hand(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


# Inputs are their own logits (two classes); the log-odds of label 0 are 2, -1, 5, 0.5, -3, 1.
ROWS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [5.0, 0.0], [0.5, 0.0], [0.0, 3.0], [1.0, 0.0]])
LABELS = torch.zeros(6, dtype=torch.int64)


def seen(plan: MaskPlan, recorded: Callable, **settings: Any) -> tuple[Tensor, GuidedLoss]:
    """What the masked forward saw, and the loss. The fill is 9, so that it is easily recognised."""
    model = nn.Identity()
    with recorded(model) as calls:
        loss = guided_loss(model, ROWS.clone(), LABELS, plan, Guidance(fill="constant", fill_value=9.0), **settings)
    assert len(calls) == 2
    return calls[1].inputs, loss


@pytest.mark.parametrize(
    ("order", "expected", "share"),
    [("hardest", [4, 1, 3], 3 / 6), ("easiest", [2, 0, 5], 3 / 6)],
)
def test_the_ordered_images_are_masked(recorded: Callable, order: str, expected: list[int], share: float) -> None:
    masked, loss = seen(MaskPlan(image_fraction=0.5, order=order), recorded)
    # |gradient| of the log-odds is 1 for both pixels: the tie goes to the first, which becomes 9.
    assert torch.equal(masked[:, 1], ROWS[expected, 1]) and (masked[:, 0] == 9).all()
    assert loss.masked_share.item() == pytest.approx(share)


def test_wrong_answers_among_the_easiest_are_masked_but_weigh_nothing(recorded: Callable) -> None:
    _, loss = seen(MaskPlan(image_fraction=1.0, order="easiest"), recorded)
    assert loss.masked_share.item() == pytest.approx(4 / 6)  # two of the six are answered wrongly
    expected = sum(
        kl_by_hand([1 / (1 + math.exp(-z)), 1 / (1 + math.exp(z))], [1 / (1 + math.exp(-9)), 1 / (1 + math.exp(9))])
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


def test_the_plans_largest_share_of_pixels_holds() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(10, 2))
    inputs, labels = torch.rand(4, 1, 10), torch.tensor([0, 1, 0, 1])
    for most, expected in ((0.0, 0), (0.35, 3), (0.8, 8), (1.0, 10)):
        loss = guided_loss(model, inputs, labels, MaskPlan(pixels="mass", mass=1.0, max_fraction=most))
        if expected:
            assert loss.masked_pixels.item() == pytest.approx(expected / 10)
        else:
            assert loss.masked_share == 0


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


def test_the_highest_ranking_masks_what_the_lowest_leaves(recorded: Callable) -> None:
    model, kept = nn.Flatten(), []
    inputs = torch.rand(4, 1, 2, 5, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    network = nn.Sequential(model, nn.Linear(10, 3))
    guidance = Guidance(fill="constant", fill_value=9.0)
    for ranking in ("saliency", "highest"):
        with recorded(network) as calls:
            guided_loss(network, inputs, LABELS[:4], MaskPlan(mask_fraction=0.5, ranking=ranking), guidance)
        kept.append(calls[1].inputs != 9)
    assert torch.equal(kept[0], ~kept[1])


def test_masked_images_asked_for_their_labels() -> None:
    guidance = Guidance(fill="constant", fill_value=9.0, consistency="cross_entropy", kl_weight=0.5)
    loss = guided_loss(nn.Identity(), ROWS.clone(), LABELS, MaskPlan(mask_fraction=0.4), guidance)
    # The first logit becomes 9; the second stays.
    asked = torch.stack([torch.log1p(torch.exp(row[1] - 9.0)) for row in ROWS])
    assert loss.consistency.item() == pytest.approx(asked.mean().item(), rel=1e-4)
    assert loss.total.item() == pytest.approx((loss.classification + 0.5 * asked.mean()).item(), rel=1e-5)
    assert loss.information_loss.item() != pytest.approx(loss.consistency.item(), rel=1e-2)


def test_the_worst_case_is_the_same_whichever_sign_the_score_has(generator: Callable) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(10, 3))
    inputs = torch.rand(4, 1, 2, 5, generator=torch.Generator().manual_seed(0))
    by_score = [
        guided_loss(
            network, inputs, LABELS[:4], MaskPlan(), Guidance(of=of, fill="worst_case"), generator=generator(1)
        ).total.item()
        for of in ("log_prob", "loss")
    ]
    assert by_score[0] == pytest.approx(by_score[1], rel=1e-5)
