"""Which images and pixels the guided loss masks, and what it reports, on hand-made logits."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smoot.coupling import images_are_coupled
from smoot.guidance import Guidance, MaskedImages, mask_images
from smoot.objective import GuidedLoss, guided_loss, loss_with_masks
from smoot.scheduler import MaskPlan

# Inputs are their own logits (two classes); the log-odds of label 0 are 2, -1, 5, 0.5, -3, 1.
ROWS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [5.0, 0.0], [0.5, 0.0], [0.0, 3.0], [1.0, 0.0]])
LABELS = torch.zeros(6, dtype=torch.int64)


def seen(plan: MaskPlan, recorded: Callable, **settings: Any) -> tuple[Tensor, GuidedLoss]:
    """What the masked forward saw, and the loss. The fill is 9, so that it is easily recognised."""
    model = nn.Identity()
    images_are_coupled(model, ROWS)  # tried once, before
    with recorded(model) as calls:
        loss = guided_loss(model, ROWS.clone(), LABELS, plan, Guidance(fill="constant", fill_value=9.0), **settings)
    assert len(calls) == 2
    return calls[1].inputs, loss


def test_random_images_are_distinct_and_follow_the_generator(recorded: Callable, generator: Callable) -> None:
    plan = MaskPlan(image_fraction=0.5, mask_fraction=0.4)  # one of two pixels
    masked, loss = seen(plan, recorded, generator=generator(3))
    drawn = torch.randperm(6, generator=generator(3))[:3]
    # |gradient| of the log-odds is 1 for both pixels: the tie goes to the first, which becomes 9.
    assert torch.equal(masked[:, 1], ROWS[drawn, 1]) and (masked[:, 0] == 9).all()
    assert loss.masked_share.item() == pytest.approx(3 / 6)


def test_random_images_are_equally_likely(generator: Callable) -> None:
    source, counts = generator(0), torch.zeros(6)
    for _ in range(800):
        masked = mask_images(
            nn.Identity(), ROWS, LABELS, None, MaskPlan(image_fraction=0.3, ranking="random"), Guidance(), source
        )
        assert len(set(masked.index.tolist())) == 2
        counts[masked.index] += 1
    assert (counts / 800 - 2 / 6).abs().max() < 0.067  # four standard errors


def test_all_images_need_no_draw(generator: Callable) -> None:
    source = generator(0)
    before = source.get_state()
    masked = mask_images(nn.Identity(), ROWS, LABELS, ROWS, MaskPlan(), Guidance(fill="mean"), source)
    assert masked.index.tolist() == list(range(6))
    assert torch.equal(source.get_state(), before)


def test_images_without_a_masked_pixel_weigh_nothing(recorded: Callable) -> None:
    _, loss = seen(MaskPlan(mask_fraction=0.2), recorded)  # 0.4 of two pixels is none
    assert loss.masked_share == 0 and loss.consistency == 0 and loss.information_loss.isnan()
    assert torch.equal(loss.total.detach(), loss.classification)


def test_only_images_with_a_masked_pixel_count() -> None:
    mask = torch.tensor([[True, False], [True, True], [False, False], [True, False], [False, False], [False, True]])
    filled = MaskedImages(torch.arange(6), mask, torch.where(mask, 9.0, ROWS))
    loss = loss_with_masks(ROWS, filled.images, LABELS, filled, Guidance())
    p, q = ROWS.softmax(1), filled.images.softmax(1)
    divergence = (p * (p / q).log()).sum(1)[mask.any(1)]
    assert loss.masked_share.item() == pytest.approx(4 / 6) and loss.masked_pixels.item() == pytest.approx(5 / 8)
    assert loss.consistency.item() == pytest.approx(divergence.sum().item() / 6, rel=1e-4)
    assert loss.information_loss.item() == pytest.approx(divergence.mean().item(), rel=1e-4)


def test_what_masking_did_by_hand(recorded: Callable) -> None:
    """Identity model, both pixels of every image become 9, so every masked answer is (1/2, 1/2)."""
    _, loss = seen(MaskPlan(mask_fraction=1.0), recorded)
    p = [1 / (1 + math.exp(-z)) for z in (2.0, -1.0, 5.0, 0.5, -3.0, 1.0)]
    information = sum(a * math.log(2 * a) + (1 - a) * math.log(2 * (1 - a)) for a in p) / 6
    assert loss.masked_share == 1 and loss.masked_pixels == 1
    assert loss.information_loss.item() == pytest.approx(information, rel=1e-4)
    assert loss.consistency.item() == pytest.approx(information, rel=1e-4)
    rise = sum(math.log(2) + math.log(a) for a in p) / 6
    assert loss.cross_entropy_rise.item() == pytest.approx(rise, rel=1e-4)
    assert loss.flip_share.item() == pytest.approx(2 / 6)  # equal logits answer class 0


def test_protected_pixels_are_never_filled(recorded: Callable) -> None:
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


def test_the_highest_ranking_masks_what_the_lowest_leaves(recorded: Callable) -> None:
    kept, inputs = [], torch.rand(4, 1, 2, 5)
    network = nn.Sequential(nn.Flatten(), nn.Linear(10, 3))
    guidance = Guidance(fill="constant", fill_value=9.0)
    images_are_coupled(network, inputs)
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
