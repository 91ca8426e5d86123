"""Decoding of idx files and digits."""

import pytest
import torch
from tiny_idx import Checkout, content, write_files

from workbench.data import formats
from workbench.data import sets as data
from workbench.data.catalogue import describe


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x1f\x8b\x08\x01rest", id="compressed"),
        pytest.param(content()["train-images-idx3-ubyte"][:-1], id="a pixel short"),
        pytest.param(content()["train-labels-idx1-ubyte"], id="labels"),
        pytest.param(b"\0\0\x0d\x03" + content()["train-images-idx3-ubyte"][4:], id="floats"),
        pytest.param(b"\0\0\x08\x03" + b"\0\0\0\x01" * 2 + b"\0\0\0\0", id="no pixels"),
    ],
)
def test_a_file_that_is_no_idx_file_of_images_is_named(checkout: Checkout, stored: bytes) -> None:
    write_files(checkout.raw, train_images=stored)
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte or .*: expected idx files of bytes"):
        formats.read_idx(describe("tiny"))


def test_digits_are_every_fifth_for_the_test() -> None:
    from sklearn.datasets import load_digits

    arrays, bundle = formats.read_digits(describe("digits"))[0], load_digits()
    train_images, _, test_images, test_labels = arrays
    assert train_images.shape == (1437, 1, 8, 8)
    assert test_images.shape == (360, 1, 8, 8)
    assert test_labels.tolist() == bundle.target[::5].tolist()
    assert torch.equal(test_images[7, 0].double(), torch.from_numpy(bundle.images[35]) / 16)
    assert torch.equal(train_images[4, 0].double(), torch.from_numpy(bundle.images[6]) / 16)
    assert train_images.max() == 1


def test_other_digits_than_ours_are_refused(checkout: Checkout) -> None:
    checkout.describe(kind="scikit_learn", files=dict.fromkeys(("images", "target"), "0" * 64))
    with pytest.raises(ValueError, match=r"tiny, images: expected SHA-256 0{64}, found 8f26b2bd"):
        data.load("tiny")
