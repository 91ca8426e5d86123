"""Decoding of idx files, digits and image folders."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny_idx import Checkout, content, write_files

from workbench.data import formats
from workbench.data import sets as data
from workbench.data.catalogue import describe


def folder_entry(root: Path, **changes: Any) -> dict[str, Any]:
    """An entry that makes ``tiny`` an image folder."""
    entry = {"kind": "image_folder", "root": str(root), "num_classes": None, "image_shape": None, "files": ...}
    return entry | changes


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Two classes, three training images and two test images of 6 x 8 pixels."""
    for count, file in enumerate(
        ("train/ant/1.png", "train/ant/2.png", "train/bee/1.jpg", "test/ant/1.png", "test/bee/1.png")
    ):
        target = tmp_path / "mine" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (0, 50 * count + 5, 9)).save(target)
    return tmp_path / "mine"


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


def test_image_folder(checkout: Checkout, image_folder: Path) -> None:
    checkout.describe(**folder_entry(image_folder))
    loaded = data.load("tiny")
    assert loaded.train_images.shape == (3, 3, 6, 8)
    train_images, train_labels, test_images, test_labels = formats.read_image_folder(describe("tiny"))[0]
    assert train_labels.tolist() == [0, 0, 1]
    assert test_labels.tolist() == [0, 1]
    assert loaded.num_classes == 2
    assert torch.equal(test_images[1, 1], torch.full((6, 8), 205 / 255))
    assert float(train_images[0, 0].max()) == 0
    before = loaded.sha256
    (image_folder / "train/ant/2.png").rename(image_folder / "train/ant/3.png")
    assert data.load("tiny").sha256 != before


def test_image_folder_in_grey_below_the_repository(checkout: Checkout, image_folder: Path) -> None:
    image_folder.rename(checkout.root / "mine")
    checkout.describe(**folder_entry(Path("mine"), num_classes=2, image_shape=[1, 6, 8]))
    assert data.load("tiny").train_images.shape == (3, 1, 6, 8)


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda mine: (mine / "test/cat").mkdir(), ValueError, "classes in one of train and test only: cat"),
        (
            lambda mine: Image.new("RGB", (7, 6)).save(mine / "test/bee/2.png"),
            ValueError,
            r"2\.png: the shape is \(3, 6, 7",
        ),
        (lambda mine: (mine / "train/bee/1.jpg").write_bytes(b"no image"), ValueError, r"1\.jpg: cannot be decoded"),
        (
            lambda mine: (mine / "test/ant/1.png").unlink(),
            FileNotFoundError,
            r"test/ant: no images: expected files ending",
        ),
        (
            lambda mine: (mine / "test").rename(mine / "tests"),
            FileNotFoundError,
            "no folder .*/mine/test: put your images",
        ),
    ],
)
def test_image_folder_that_is_wrong_is_named(
    checkout: Checkout, image_folder: Path, spoil: Callable[[Path], object], error: type[Exception], message: str
) -> None:
    checkout.describe(**folder_entry(image_folder))
    spoil(image_folder)
    with pytest.raises(error, match=message):
        data.load("tiny")
