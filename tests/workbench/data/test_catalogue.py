"""The entries of datasets.yaml: the committed ones are consistent, wrong ones are named."""

from typing import Any

import pytest
from tiny_idx import Checkout

from workbench.data import catalogue
from workbench.data import sets as data


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 2}, r"labels go from 0 to 2: expected 0 to 1 for 2 classes"),
        ({"image_shape": [1, 5, 4]}, r"tiny: image shape is \(1, 4, 5\): expected \(1, 5, 4\)"),
        ({"image_shape": [5, 4]}, r"datasets\.yaml, tiny: image_shape is \[5, 4\]: expected \[channels"),
        ({"kind": "zip"}, r"tiny: kind is 'zip': expected one of idx, scikit_learn, image_folder"),
        ({"licens": "x"}, r"tiny: unknown key 'licens': expected one of title, kind, licence"),
        ({"files": None}, r"tiny: a set of kind idx needs files, num_classes and image_shape"),
        ({"files": {"a": {"bytes": 3}}}, r"tiny: missing key 'sha256': needed are bytes, sha256"),
        ({"files": {"a": {"bytes": 3, "sha256": "ab"}}}, r"tiny: sha256 is 'ab': expected 64 hex"),
        ({"files": {"a": {"bytes": 0, "sha256": "0" * 64}}}, r"tiny: bytes is 0: expected a positive"),
        ({"packages": [{"registry": "x", "name": "n", "folder": "f"}]}, r"tiny: registry is 'x': expected"),
        ({"kind": "image_folder"}, r"tiny: root is missing: an image_folder needs the folder"),
    ],
)
def test_an_entry_that_is_wrong_is_named(checkout: Checkout, changes: dict[str, Any], message: str) -> None:
    checkout.describe(**changes)
    with pytest.raises(ValueError, match=message):
        data.load("tiny")


SHORTCUT = {"kind": "shortcut", "correlation": 0.9, "image_shape": [1, 4, 5]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "mnits"}, r"stacked: source is 'mnits', which is no data set: expected one of tiny$"),
        ({"source": "stacked"}, r"stacked: source is 'stacked', which is derived itself: expected one of tiny$"),
        ({"source": None}, r"stacked: source is '': a set of kind block needs the name of another set"),
        ({"source": ["tiny"]}, r"stacked: source is \['tiny'\]: a set of kind block needs the name"),
        ({"seed": None}, r"stacked: seed is None: a set of kind block needs a whole number from 0"),
        ({"seed": 0.5}, r"stacked: seed is 0\.5: a set of kind block needs a whole number"),
        ({"seed": True}, r"stacked: seed is True: a set of kind block needs a whole number"),
        ({"seed": -1}, r"stacked: seed is -1: a set of kind block needs a whole number from 0"),
        ({"correlation": 0.9}, r"stacked: correlation belongs to the kinds shortcut: a set of kind block has none"),
        ({"correlation": 0}, r"stacked: correlation belongs to the kinds shortcut: a set of kind block has none"),
        ({"root": "here"}, r"stacked: root belongs to the kinds idx, scikit_learn, image_folder: .* kind block"),
        ({"addresses": ["x"]}, r"stacked: addresses belongs to the kinds idx, .* a set of kind block has none"),
        (SHORTCUT | {"correlation": None}, r"stacked: correlation is missing: a set of kind shortcut needs"),
        (SHORTCUT | {"correlation": 1.1}, r"stacked: correlation is 1\.1: expected a number in \[0, 1\]"),
        (SHORTCUT | {"correlation": "half"}, r"stacked: correlation is 'half': expected a number in \[0, 1\]"),
        ({"image_shape": [1, 4, 5]}, r"stacked: image shape is \(1, 8, 5\): expected \(1, 4, 5\)"),
        ({"num_classes": 4}, r"stacked: 3 classes found: expected 4"),
    ],
)
def test_a_derived_entry_that_is_wrong_is_named(checkout: Checkout, changes: dict[str, Any], message: str) -> None:
    checkout.derive(**changes)
    with pytest.raises(ValueError, match=message):
        data.load("stacked")


@pytest.mark.parametrize("key", ["source", "seed", "correlation"])
def test_keys_of_a_derived_set_do_not_fit_a_stored_one(checkout: Checkout, key: str) -> None:
    checkout.describe(**{key: 1})
    with pytest.raises(ValueError, match=f"tiny: {key} belongs to the kinds .*shortcut: a set of kind idx has none"):
        catalogue.describe("tiny")


def test_the_region_follows_from_the_kind(checkout: Checkout) -> None:
    checkout.derive("stacked")
    checkout.derive("patched", **SHORTCUT)
    regions = {name: catalogue.describe(name).region for name in catalogue.known()}
    assert regions == {"tiny": "foreground", "stacked": "block", "patched": "shortcut"}


@pytest.mark.parametrize("source", ["mnist", "digits"])
def test_the_committed_derived_entries_belong_to_their_source(source: str) -> None:
    original = catalogue.describe(source)
    stacked, patched = (catalogue.describe(f"{kind}_{source}") for kind in ("block", "shortcut"))
    assert original.image_shape is not None
    channels, height, width = original.image_shape
    assert stacked.image_shape == (channels, 2 * height, width)
    assert patched.image_shape == original.image_shape
    assert stacked.num_classes == patched.num_classes == original.num_classes
    assert (stacked.source, patched.source, patched.correlation) == (source, source, 0.9)
    assert (stacked.region, patched.region, original.region) == ("block", "shortcut", "foreground")


def test_the_committed_entries_are_consistent() -> None:
    stored = ["cifar10_jpeg", "digits", "fashion_mnist", "image_folder", "mnist"]
    derived = ["block_digits", "block_mnist", "shortcut_digits", "shortcut_mnist"]
    assert catalogue.known() == sorted(stored + derived)
    assert [name for name in catalogue.known() if catalogue.describe(name).derived] == derived
    for name in ("mnist", "fashion_mnist"):
        dataset = catalogue.describe(name)
        assert dataset.image_shape == (1, 28, 28)
        sizes = [stored.bytes for stored in dataset.files.values()]
        assert sizes == [16 + 60000 * 784, 8 + 60000, 16 + 10000 * 784, 8 + 10000]
        assert all(address.endswith("{file}.gz") for address in dataset.addresses)
        assert len(dataset.addresses) >= 2 and dataset.packages
    ours, theirs = (catalogue.describe(name).files.values() for name in ("mnist", "fashion_mnist"))
    assert not {stored.sha256 for stored in ours} & {stored.sha256 for stored in theirs}


def test_cifar10_as_jpeg_files_is_a_folder_of_your_own_and_says_so() -> None:
    dataset = catalogue.describe("cifar10_jpeg")
    assert (dataset.kind, dataset.root) == ("image_folder", "data/raw/cifar10_jpeg")
    assert (dataset.num_classes, dataset.image_shape) == (10, (3, 32, 32))
    assert dataset.title == "CIFAR-10 (JPEG q75)"  # never to be taken for the published pixels
