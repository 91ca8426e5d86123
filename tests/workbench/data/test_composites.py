"""Blocks, shortcut patches and mosaics, against grids drawn by hand and against loops over images."""

from collections import Counter

import pytest
import torch
from scipy.stats import binomtest, chi2_contingency, chisquare
from tiny_runs import draws
from torch import Tensor

from workbench.data import composites


def drawing(*rows: str) -> Tensor:
    """Pixels drawn with # for one and . for nothing."""
    return torch.tensor([[float(sign == "#") for sign in row] for row in rows])


def numbered(count: int, *pixels: int, channels: int = 1) -> Tensor:
    """Images whose pixels are all different, in [0, 1)."""
    shape = (count, channels, *pixels)
    return torch.arange(torch.Size(shape).numel()).reshape(shape) / torch.Size(shape).numel()


def test_the_null_block_is_the_outline_of_a_box_of_20_for_mnist_with_lines_of_2() -> None:
    expected = drawing("........", ".######.", ".#....#.", ".#....#.", ".#....#.", ".#....#.", ".######.", "........")
    assert torch.equal(composites.null_block(8, 8), expected)
    lines = torch.ones(20, 20)
    lines[2:18, 2:18] = 0
    assert torch.equal(composites.null_block(28, 28), torch.nn.functional.pad(lines, (4, 4, 4, 4)))


def test_a_block_is_the_image_the_other_one_is_null_and_the_region_tells_them_apart() -> None:
    images = numbered(40, 6, 5, channels=3).double()
    stacked, regions = composites.block_images(images, generator=draws())
    assert (stacked.shape, regions.shape, regions.dtype) == ((40, 3, 12, 5), (40, 12, 5), torch.bool)
    null, half = composites.null_block(6, 5).expand(3, 6, 5).double(), torch.ones(6, 5, dtype=torch.bool)
    on_top = regions[:, 0, 0].tolist()
    for top, image, made, region in zip(on_top, images, stacked, regions, strict=True):
        assert torch.equal(made, torch.cat([image, null] if top else [null, image], dim=1))
        assert torch.equal(region, torch.cat([half, ~half] if top else [~half, half]))
    assert set(on_top) == {True, False}
    stacked.zero_()
    assert torch.equal(images, numbered(40, 6, 5, channels=3).double()), "the images are left as they are"


def test_top_and_below_are_as_likely() -> None:
    _, regions = composites.block_images(torch.zeros(5000, 1, 2, 2), generator=draws())
    assert binomtest(int(regions[:, 0, 0].sum()), 5000, 0.5).pvalue > 0.01


def test_places_of_patches_drawn_by_hand() -> None:
    first, second, third = composites.shortcut_places(3, 4, 2).float()
    assert torch.equal(first, drawing("#.", "..", "..", ".."))
    assert torch.equal(second, drawing(".#", "..", "..", ".."))
    assert torch.equal(third, drawing("..", "..", "..", "#."))


@pytest.mark.parametrize(
    ("classes", "height", "width", "side"),
    [(10, 28, 28, 4), (14, 28, 28, 4), (16, 8, 8, 1), (4, 21, 13, 1), (3, 1, 3, 1)],
)
def test_patches_are_squares_on_the_border_that_do_not_touch_each_other(
    classes: int, height: int, width: int, side: int
) -> None:
    places = composites.shortcut_places(classes, height, width)
    assert places.shape == (classes, height, width)
    assert int(places.sum(0).max()) == 1
    for place in places:
        rows, columns = place.nonzero().unbind(1)
        assert int(place.sum()) == side * side
        assert int(rows.max() - rows.min()) == int(columns.max() - columns.min()) == side - 1
        assert int(rows.min()) == 0 or int(rows.max()) == height - 1


def test_the_patch_is_white_at_its_class_and_nothing_else_changes() -> None:
    images, labels = numbered(60, 14, 14, channels=2), torch.arange(60) % 5
    made, regions, shown = composites.shortcut_images(images, labels, 5, correlation=0.5, generator=draws())
    assert torch.equal(regions, composites.shortcut_places(5, 14, 14)[shown])
    assert torch.equal(regions.flatten(1).sum(1), torch.full((60,), 4))
    patch = regions[:, None].expand_as(images)
    assert bool((made[patch] == 1).all())
    assert torch.equal(made[~patch], images[~patch])
    assert float(images.max()) < 1
    assert shown.dtype == torch.int64


def shown_classes(correlation: float, count: int = 20000) -> tuple[Tensor, Tensor]:
    """Labels of four classes, and the classes that their patches show."""
    images, labels = torch.zeros(count, 1, 2, 2), torch.arange(count) % 4
    return labels, composites.shortcut_images(images, labels, 4, correlation=correlation, generator=draws())[2]


@pytest.mark.parametrize(("correlation", "chance"), [(0.9, 0.925), (0.5, 0.625), (1.0, 1.0)])
def test_how_often_the_patch_shows_the_label_and_the_other_classes_as_often(correlation: float, chance: float) -> None:
    labels, shown = shown_classes(correlation)
    right, *wrong = ((shown - labels) % 4).bincount(minlength=4).tolist()
    assert binomtest(right, len(labels), chance).pvalue > 0.01
    assert sum(wrong) == 0 or chisquare(wrong).pvalue > 0.01


def test_patches_without_correlation_are_independent_of_the_label_and_uniform() -> None:
    labels, shown = shown_classes(0)
    counts = (labels * 4 + shown).bincount(minlength=16).reshape(4, 4)
    assert chi2_contingency(counts.numpy()).pvalue > 0.01
    assert chisquare(counts.sum(0).numpy()).pvalue > 0.01


def test_tiles_hold_an_image_of_their_label_and_a_mosaic_four_classes() -> None:
    labels = torch.tensor([0] * 50 + [3] * 5 + [4] + [6] * 20 + [8] * 24)[torch.randperm(100, generator=draws(1))]
    images = numbered(100, 2, 3, channels=2)
    grids, tile_labels = composites.mosaics(images, labels, count=500, generator=draws())
    assert (grids.shape, tile_labels.shape) == ((500, 2, 4, 6), (500, 4))
    regions = composites.tile_regions(2, 3)  # row by row
    seen = set()
    for grid, row in zip(grids, tile_labels.tolist(), strict=True):
        assert len(set(row)) == 4
        for label, region in zip(row, regions, strict=True):
            index = round(float(grid[0][region][0]) * 100)
            assert torch.equal(grid[:, region].reshape(2, 2, 3), images[index])
            assert int(labels[index]) == label
            seen.add(index)
    assert len(seen) == 100
    assert len(set(map(tuple, tile_labels.tolist()))) > 100  # of 5 * 4! orders
    counts = Counter(tile_labels.flatten().tolist())
    assert all(binomtest(counts[label], 500, 0.8).pvalue > 0.01 for label in (0, 3, 4, 6, 8))


def test_images_of_a_class_are_as_likely_as_each_other() -> None:
    labels = torch.tensor([0, 0, 0, 1, 2, 3])
    grids, tile_labels = composites.mosaics(numbered(6, 1, 1), labels, count=3000, generator=draws())
    drawn = (grids.flatten(1)[tile_labels == 0] * 6).round().long().bincount()
    assert len(drawn) == 3
    assert chisquare(drawn.numpy()).pvalue > 0.01


def test_regions_of_tiles_drawn_by_hand() -> None:
    expected = [
        drawing("###...", "###...", "......", "......"),
        drawing("...###", "...###", "......", "......"),
        drawing("......", "......", "###...", "###..."),
        drawing("......", "......", "...###", "...###"),
    ]
    assert torch.equal(composites.tile_regions(2, 3).float(), torch.stack(expected))


def test_a_seed_is_a_set_and_the_global_generator_is_left_alone() -> None:
    images, labels = numbered(50, 7, 7), torch.arange(50) % 5
    state = torch.get_rng_state()

    def made(seed: int) -> list[Tensor]:
        generator = draws(seed)
        stacked, _ = composites.block_images(images, generator=generator)
        patched, *_ = composites.shortcut_images(images, labels, 5, correlation=0.5, generator=generator)
        return [stacked, patched, composites.mosaics(images, labels, count=9, generator=generator)[0]]

    first, again, other = made(3), made(3), made(4)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
