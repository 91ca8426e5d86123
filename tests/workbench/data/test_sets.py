"""Data sets as tensors: values, splits, derived sets, images that no network can be trained on."""

from dataclasses import replace

import pytest
import torch
from scipy.stats import binomtest
from tiny_idx import Checkout, content, sha256, write_files
from tiny_runs import draws
from torch import Tensor

from workbench.data import sets as data
from workbench.data.composites import shortcut_places


def fixed_order(size: int) -> Tensor:
    """The order of so many images, which is the same for everybody."""
    return torch.randperm(size, generator=draws(0))


def test_the_first_images_show_all_classes_whatever_the_order_of_the_files(checkout: Checkout) -> None:
    images, labels = torch.rand(1000, 1, 4, 5), torch.arange(10).repeat_interleave(100)
    sets = data._in_fixed_order((images, labels, images[::2], labels[::2]))
    assert all(len(found[:60].unique()) == 10 for found in sets[1::2])
    assert torch.equal(sets[0], images[fixed_order(1000)]) and torch.equal(sets[1], labels[fixed_order(1000)])
    assert torch.equal(sets[2], images[::2][fixed_order(500)]) and torch.equal(sets[3], labels[::2][fixed_order(500)])


def test_load_fetches_and_gives_the_stored_values(checkout: Checkout) -> None:
    loaded, stored = data.load("tiny"), content()
    assert (loaded.train_images.shape, loaded.test_images.shape) == ((6, 1, 4, 5), (3, 1, 4, 5))
    pixels = torch.tensor(list(stored["t10k-images-idx3-ubyte"][16:])).view(3, 1, 4, 5) / 255
    assert loaded.test_images.dtype == torch.float32 and torch.equal(loaded.test_images, pixels[fixed_order(3)])
    assert torch.equal(loaded.train_labels, torch.tensor([0, 1, 2, 0, 1, 2])[fixed_order(6)])
    assert (loaded.test_labels.dtype, loaded.num_classes) == (torch.int64, 3)
    lines = "".join(f"{sha256(stored[name])}  {name}\n" for name in sorted(stored))
    assert loaded.sha256 == sha256(lines.encode())


def test_load_replaces_a_broken_file(checkout: Checkout) -> None:
    write_files(checkout.raw, train_labels=b"broken")
    assert torch.equal(data.load("tiny").train_labels, torch.tensor([0, 1, 2, 0, 1, 2])[fixed_order(6)])
    checkout.assert_whole()


def numbered(total: int = 100) -> data.ImageData:
    """Images whose pixels are their number, labels that are their number modulo 4."""
    images = torch.arange(total).float().reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    labels = torch.arange(total) % 4
    return data.ImageData("numbered", images, labels, images[:4], labels[:4], 4, "0" * 64)


def test_parts_of_a_split_are_disjoint_and_consistent_and_steering_images_stand_beside_the_others() -> None:
    asked = {"train_images": 40, "validation_images": 30, "development_images": 10, "seed": 3}
    without, drawn = data.split(numbered(), **asked), data.split(numbered(), steering_images=20, **asked)
    for name in ("train_index", "validation_index", "development_index"):
        assert torch.equal(getattr(without, name), getattr(drawn, name))
    for name, count in {"train": 40, "validation": 30, "steering": 20}.items():
        images, labels, index = (getattr(drawn, f"{name}_{part}") for part in ("images", "labels", "index"))
        assert len(index) == count
        assert torch.equal(images[:, 0, 1, 0].long(), index) and torch.equal(labels, index % 4)
    indices = (drawn.train_index, drawn.validation_index, drawn.development_index, drawn.steering_index)
    assert torch.cat(indices).sort().values.tolist() == list(range(100))


def test_split_depends_on_the_seed_only_and_more_images_contain_fewer() -> None:
    first = data.split(numbered(), train_images=20, validation_images=30, seed=3)
    torch.rand(7)
    more = data.split(numbered(), train_images=60, validation_images=30, seed=3)
    assert torch.equal(first.validation_index, more.validation_index)
    assert torch.equal(first.train_index, more.train_index[:20])
    other = data.split(numbered(), train_images=20, validation_images=30, seed=4)
    assert not torch.equal(first.train_index, other.train_index)


def test_split_of_all_that_remains() -> None:
    drawn = data.split(numbered(), train_images=None, validation_images=30, seed=0)
    assert len(drawn.train_labels) == 70
    assert len(data.split(numbered(), train_images=100, validation_images=0, seed=0).train_labels) == 100


@pytest.mark.parametrize(("train", "validation"), [(71, 30), (0, 30), (None, 100), (10, -1), (-5, 10)])
def test_split_of_more_than_there_are_is_refused(train: int | None, validation: int) -> None:
    with pytest.raises(ValueError, match=f"numbered: {train} training, {validation} validation, 0 .* the 100 of"):
        data.split(numbered(), train_images=train, validation_images=validation, seed=0)


def test_a_set_of_blocks_holds_its_source_and_where_it_is(checkout: Checkout) -> None:
    checkout.derive()
    source, stacked = data.load("tiny"), data.load("stacked")
    assert source.test_regions is None and stacked.test_regions is not None
    assert stacked.train_images.shape == (6, 1, 8, 5)
    assert torch.equal(stacked.train_labels, source.train_labels)
    assert torch.equal(stacked.test_labels, source.test_labels)
    own = stacked.test_images[:, 0][stacked.test_regions].reshape(3, 1, 4, 5)
    assert torch.equal(own, source.test_images)


def test_a_derived_set_is_one_set_until_its_seed_changes(checkout: Checkout) -> None:
    checkout.derive()
    first = data.load("stacked")
    torch.rand(7)
    assert torch.equal(data.load("stacked").train_images, first.train_images)
    assert data.load("stacked").sha256 == first.sha256 != data.load("tiny").sha256
    checkout.derive(seed=6)
    assert data.load("stacked").sha256 != first.sha256


def test_the_digest_of_a_derived_set_is_over_pixels_labels_and_regions(checkout: Checkout) -> None:
    checkout.derive()
    stacked = data.load("stacked")
    lines = ""
    for name in ("test_images", "test_labels", "test_regions", "train_images", "train_labels"):
        scale = 255 if name.endswith("images") else 1
        held = bytes(round(scale * value) for value in getattr(stacked, name).flatten().tolist())
        lines += f"{sha256(held)}  {name}\n"
    assert stacked.sha256 == sha256(lines.encode())


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("block_digits", "26c17c44a57e0da026153b36ef36c0d5f7552fe4c03fe4f78bb96b93c3495865"),
        ("shortcut_digits", "367b4945c4ffede57fc94aec0a2dd41067e3bebc031f26919094309f5a237c02"),
    ],
)
def test_derived_sets_are_the_ones_that_results_were_made_with(name: str, digest: str) -> None:
    assert data.load(name).sha256 == digest


def test_shortcuts_go_with_the_label_in_training_and_not_in_the_test() -> None:
    digits, patched = data.load("digits"), data.load("shortcut_digits")
    places = shortcut_places(10, 8, 8)  # of one pixel each
    assert patched.test_regions is not None
    assert bool((patched.test_regions[:, None] == places).flatten(2).all(2).any(1).all())
    for part, chance in (("train", 0.91), ("test", 0.1)):
        place = places[getattr(digits, f"{part}_labels")]
        before, after = (getattr(source, f"{part}_images")[:, 0][place] == 1 for source in (digits, patched))
        assert binomtest(int(after[~before].sum()), int((~before).sum()), chance).pvalue > 0.01


def test_development_images_are_the_same_however_many_are_trained_on() -> None:
    drawn = data.split(numbered(), train_images=20, validation_images=30, development_images=40, seed=3)
    more = data.split(numbered(), train_images=30, validation_images=30, development_images=40, seed=3)
    assert len(drawn.development_index) == 40 and torch.equal(drawn.development_index, more.development_index)
    with pytest.raises(ValueError, match="31 training, 30 validation, 40 development and 0 steering images asked for"):
        data.split(numbered(), train_images=31, validation_images=30, development_images=40, seed=3)


def test_development_images_stand_in_for_the_test_split() -> None:
    asked = {"train_images": 20, "validation_images": 30, "development_images": 40, "label_noise": 0.5, "seed": 3}
    found = data.development(numbered(), **asked)
    index = data.split(numbered(), **asked).development_index
    assert torch.equal(found.test_images[:, 0, 0, 0].long(), index)
    assert torch.equal(found.test_labels, index % 4)  # true labels
    known = replace(numbered(), test_regions=torch.ones(4, 2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="regions are known for the test images only"):
        data.development(known, **asked)


def test_label_noise_changes_so_many_training_labels_to_other_classes() -> None:
    clean = data.split(numbered(), train_images=60, validation_images=30, seed=3)
    noisy = data.split(numbered(), train_images=60, validation_images=30, seed=3, label_noise=0.2)
    changed = noisy.train_labels != clean.train_labels
    assert int(changed.sum()) == 12
    assert noisy.train_labels.min() >= 0 and noisy.train_labels.max() < 4
    assert torch.equal(noisy.validation_labels, clean.validation_labels)
    assert torch.equal(noisy.train_images, clean.train_images)


PAIR = torch.tensor([0, 1])
IMAGES = torch.zeros(2, 1, 3, 3)


@pytest.mark.parametrize(
    ("images", "labels", "classes", "message"),
    [
        (IMAGES, PAIR, 1, "num_classes is 1: expected at least 2"),
        (IMAGES[:, 0], PAIR, 2, r"shape \(2, 3, 3\): expected \(N, C, H, W\)"),
        (IMAGES[:0], PAIR[:0], 2, r"shape \(0, 1, 3, 3\): expected .*at least one pixel"),
        (IMAGES.byte(), PAIR, 2, "images are torch.uint8: expected floating"),
        (IMAGES, PAIR[:1], 2, r"labels are torch.int64 \(1,\): expected torch.int64 \(2,\)"),
        (IMAGES, PAIR.float(), 2, r"labels are torch.float32 \(2,\): expected torch.int64"),
        (IMAGES, 2 * PAIR, 2, "labels go from 0 to 2: expected 0 to 1"),
        (IMAGES, 2 * PAIR - 1, 2, "labels go from -1 to 1: expected 0 to 1"),
        (torch.tensor([0.0, torch.nan]).reshape(2, 1, 1, 1), PAIR, 2, "1 images hold NaN .* image 1"),
        (IMAGES + torch.inf, PAIR, 2, "2 images hold NaN or infinity"),
    ],
)
def test_images_that_cannot_be_trained_on_are_named(images: Tensor, labels: Tensor, classes: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data.check_images(images, labels, classes)
