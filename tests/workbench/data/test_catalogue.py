"""The entries of datasets.yaml: the committed ones are consistent, wrong ones are named."""

import re
from typing import Any

import pytest
from tiny_idx import Checkout
from torchvision import datasets

from workbench.config import paths
from workbench.data import catalogue
from workbench.data import sets as data
from workbench.data.catalogue import describe

PACKAGE = {"registry": "npm", "name": "a", "version": "1.0", "folder": "package"}
NOT_IDX = {"files": ..., "num_classes": 10, "image_shape": [3, 32, 32]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 2}, r"tiny: 3 classes found: expected 2"),
        ({"num_classes": 4}, r"tiny: 3 classes found: expected 4"),
        ({"image_shape": [1, 5, 4]}, r"tiny: image shape is \(1, 4, 5\): expected \(1, 5, 4\)"),
        ({"image_shape": [5, 4]}, r"datasets\.yaml, tiny: image_shape is \[5, 4\]: expected \[channels"),
        ({"kind": "zip"}, r"tiny\.kind is 'zip': expected 'idx' or 'cifar' or 'scikit_learn' or 'image_folder'"),
        ({"licens": "x"}, r"tiny: unknown key 'licens': expected name, title, kind, licence"),
        ({"licence": ...}, r"tiny: key 'licence' is missing"),
        ({"files": ...}, r"tiny: files is missing: a set of kind idx needs it"),
        ({"files": {"a": "ab"}}, r"tiny: files\.a is 'ab': expected a SHA-256 in 64 hexadecimal digits"),
        ({"packages": [{"registry": "x", "name": "n", "folder": "f"}]}, r"tiny\.packages\[0\]\.registry is 'x': exp"),
        ({"torchvision": "CIFAR10"}, r"tiny: torchvision is 'CIFAR10': expected one of MNIST, FashionMNIST$"),
        (NOT_IDX | {"kind": "cifar"}, r"tiny: torchvision is .*: expected one of CIFAR10, CIFAR100$"),
        (NOT_IDX | {"kind": "image_folder"}, r"tiny: root is missing: a set of kind image_folder needs it"),
        ({"source": "x"}, r"tiny: source belongs to the kinds block, shortcut: a set of kind idx has none"),
        ({"correlation": 1}, r"tiny: correlation belongs to the kinds shortcut: a set of kind idx has none"),
        *(
            ({"files": {file: "0" * 64}}, rf"files holds {re.escape(repr(file))}: expected the name of a file, without")
            for file in ("../evil", "/evil", "a/b", ".hidden", "-x", "")
        ),
        *(
            ({"packages": [PACKAGE | {key: value}]}, rf"packages\[0\]: {key} is {re.escape(repr(value))}: expected")
            for key, value in (("name", "--eval"), ("name", "../x"), ("version", ";id"), ("folder", "../../etc"))
        ),
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
        ({"source": ...}, r"stacked: source is missing: a set of kind block needs it"),
        ({"seed": ...}, r"stacked: seed is missing: a set of kind block needs it"),
        ({"seed": 0.5}, r"stacked\.seed is 0\.5: expected a whole number"),
        ({"seed": -1}, r"stacked: seed is -1: expected a whole number from 0"),
        ({"correlation": 0.9}, r"stacked: correlation belongs to the kinds shortcut: a set of kind block has none"),
        ({"root": "here"}, r"stacked: root belongs to the kinds image_folder: a set of kind block has none"),
        ({"files": {"a": "0" * 64}}, r"stacked: files belongs to the kinds idx, scikit_learn: .* block has none"),
        (SHORTCUT | {"correlation": ...}, r"stacked: correlation is missing: a set of kind shortcut needs it"),
        (SHORTCUT | {"correlation": 1.1}, r"stacked: correlation is 1\.1: expected a number in \[0, 1\]"),
        ({"image_shape": [1, 4, 5]}, r"stacked: image shape is \(1, 8, 5\): expected \(1, 4, 5\)"),
    ],
)
def test_a_derived_entry_that_is_wrong_is_named(checkout: Checkout, changes: dict[str, Any], message: str) -> None:
    checkout.derive(**changes)
    with pytest.raises(ValueError, match=message):
        data.load("stacked")


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
    stored = ["caltech101", "cifar10", "cifar100", "cifar10_jpeg", "digits", "fashion_mnist", "image_folder", "mnist"]
    derived = ["block_digits", "block_mnist", "shortcut_digits", "shortcut_mnist"]
    assert catalogue.known() == sorted(stored + derived)
    assert [name for name in catalogue.known() if catalogue.describe(name).derived] == derived
    for name, known, shape, classes in (
        ("mnist", datasets.MNIST, (1, 28, 28), 10),
        ("fashion_mnist", datasets.FashionMNIST, (1, 28, 28), 10),
        ("cifar10", datasets.CIFAR10, (3, 32, 32), 10),
        ("cifar100", datasets.CIFAR100, (3, 32, 32), 100),
    ):
        dataset = catalogue.describe(name)
        assert (dataset.image_shape, dataset.num_classes) == (shape, classes)
        assert catalogue.torchvision_class(dataset) is known
        if dataset.kind == "idx":
            assert [f"{file}.gz" for file in dataset.files] == [file for file, _ in known.resources]
            assert dataset.packages


@pytest.mark.parametrize("name", ["; touch X", "../../../evil", "a b", "a-b", ""])
def test_a_hostile_name_of_a_data_set_is_refused(checkout: Checkout, name: str) -> None:
    checkout.derive(name)
    with pytest.raises(ValueError, match=rf"a data set has the name {re.escape(repr(name))}: expected letters, digits"):
        describe("tiny")


@pytest.mark.parametrize("content", [b"a: [", b"\xff", b"a: 2024-13-45", b"[" * 5000])
def test_a_broken_catalogue_is_named(checkout: Checkout, content: bytes) -> None:
    paths.DATASETS_FILE.write_bytes(content)
    with pytest.raises(ValueError, match=r"data/datasets\.yaml is not YAML: ") as caught:
        describe("tiny")
    assert type(caught.value) is ValueError
