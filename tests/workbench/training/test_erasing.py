"""Random erasing: what is erased, how often, and what stands there."""

import math

import pytest
import torch
from tiny_runs import draws
from torch import Tensor

from workbench.training.erasing import AREA, ASPECT, erase, erasing_mask


def is_rectangle(mask: Tensor) -> bool:
    """Whether the True pixels of ``(H, W)`` are all of their bounding box."""
    rows, columns = mask.any(1), mask.any(0)
    filled = int(rows.sum()) * int(columns.sum()) == int(mask.sum())
    runs = [len(line.nonzero()) == int(line.nonzero()[-1] - line.nonzero()[0]) + 1 for line in (rows, columns)]
    return filled and all(runs)


def test_half_of_the_masks_are_one_rectangle_and_half_single_pixels() -> None:
    masks = erasing_mask((4000, 28, 28), generator=draws())
    assert masks.dtype == torch.bool
    rectangles = torch.tensor([bool(mask.any()) and is_rectangle(mask) for mask in masks])
    assert float(rectangles.double().mean()) == pytest.approx(0.5, abs=0.03)
    assert float(masks[~rectangles].double().mean()) == pytest.approx(0.475, abs=0.02)  # mean of 0 to 0.95
    shares = masks[~rectangles].double().mean((1, 2))
    assert shares.min() < 0.02 and 0.9 < shares.max() < 1


def test_rectangles_have_the_asked_areas_and_aspects() -> None:
    masks = erasing_mask((6000, 40, 40), generator=draws(1))
    boxes = masks[[bool(mask.sum() > 1) and is_rectangle(mask) for mask in masks]]
    heights, widths = boxes.any(2).sum(1).double(), boxes.any(1).sum(1).double()
    whole = (heights < 40) & (widths < 40)  # sides longer than the image were cut
    share = (heights * widths / 1600)[whole]
    assert share.max() <= AREA[1] + 0.03 and share.min() < 0.04
    aspect = (heights / widths)[whole & (heights * widths > 100)]
    assert aspect.min() > ASPECT[0] * 0.85 and aspect.max() < ASPECT[1] * 1.15
    assert float(aspect.log().mean()) == pytest.approx(sum(map(math.log, ASPECT)) / 2, abs=0.05)
    for side in (heights, widths):
        assert side.min() >= 1 and side.max() <= 40


def test_rectangles_lie_anywhere() -> None:
    masks = erasing_mask((6000, 9, 9), generator=draws(2))
    often = masks.double().mean(0)
    assert often.min() > 0.2
    assert torch.allclose(often, often.flip(0), atol=0.05) and torch.allclose(often, often.flip(1), atol=0.05)


def test_only_the_asked_share_of_images_is_changed() -> None:
    images = torch.rand(3000, 1, 6, 6, generator=draws(3)) * 0.5 + 0.25
    for probability in (0.0, 0.3, 1.0):
        changed = erase(images, probability=probability, fills=[("constant", 0.0)], generator=draws(4))
        share = (changed != images).flatten(1).any(1).double().mean()
        assert float(share) == pytest.approx(probability, abs=0.035)  # a mask of few pixels may be empty
    assert (images >= 0.25).all()


def test_each_image_gets_one_of_the_fills_in_every_channel() -> None:
    images = torch.full((2000, 2, 6, 6), 0.5)
    changed = erase(images, probability=1.0, fills=[("constant", 0.0), ("constant", 0.9)], generator=draws(5))
    erased = changed != 0.5
    assert torch.equal(erased[:, 0], erased[:, 1])
    for value in (0.0, 0.9):
        of_value = (changed == torch.tensor(value)).flatten(1).any(1)
        assert float(of_value.double().mean()) == pytest.approx(0.5, abs=0.05)
    both = (changed == 0).flatten(1).any(1) & (changed == torch.tensor(0.9)).flatten(1).any(1)
    assert not both.any()


def test_the_draw_follows_the_generator_and_nothing_else() -> None:
    images = torch.rand(50, 1, 8, 8)
    fills = [("constant", 0.0), ("uniform", 0.0)]
    torch.manual_seed(1)
    first = erase(images, probability=0.75, fills=fills, generator=draws(8))
    torch.manual_seed(2)
    assert torch.equal(erase(images, probability=0.75, fills=fills, generator=draws(8)), first)
    assert not torch.equal(erase(images, probability=0.75, fills=fills, generator=draws(9)), first)


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match=r"probability is 1\.5"):
        erase(torch.rand(1, 1, 2, 2), probability=1.5, fills=[("constant", 0.0)], generator=draws())
    with pytest.raises(ValueError, match="fills is empty"):
        erase(torch.rand(1, 1, 2, 2), probability=0.5, fills=[], generator=draws())
