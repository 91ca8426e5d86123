"""The entries of datasets.yaml: the committed ones are consistent, wrong ones are named."""

from typing import Any

import pytest
from tiny_idx import Checkout

from smoot.workbench import catalogue, data


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


def test_the_committed_entries_are_consistent() -> None:
    assert catalogue.known() == ["digits", "fashion_mnist", "image_folder", "mnist"]
    for name in ("mnist", "fashion_mnist"):
        dataset = catalogue.describe(name)
        assert dataset.image_shape == (1, 28, 28)
        sizes = [stored.bytes for stored in dataset.files.values()]
        assert sizes == [16 + 60000 * 784, 8 + 60000, 16 + 10000 * 784, 8 + 10000]
        assert all(address.endswith("{file}.gz") for address in dataset.addresses)
        assert len(dataset.addresses) >= 2 and dataset.packages
    ours, theirs = (catalogue.describe(name).files.values() for name in ("mnist", "fashion_mnist"))
    assert not {stored.sha256 for stored in ours} & {stored.sha256 for stored in theirs}
