"""Data sets as tensors: loaded, checked, and split for training."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from workbench.data import formats
from workbench.data.catalogue import DataSet, describe
from workbench.data.composites import block_images, check_labels, image_dimensions, shortcut_images
from workbench.data.download import is_complete, obtain
from workbench.data.image_folders import read_image_folder

READERS: dict[str, Callable[[DataSet], tuple[formats.Arrays, formats.Files]]] = {
    "idx": formats.read_idx,
    "cifar": formats.read_cifar,
    "scikit_learn": formats.read_digits,
    "image_folder": read_image_folder,
}


@dataclass(frozen=True, eq=False)
class ImageData:
    """A whole data set, its images in an order that is the same for everybody.

    Attributes:
        name: its key in ``data/datasets.yaml``.
        train_images: ``(N, C, H, W)`` float32 in [0, 1].
        train_labels: ``(N,)`` int64 in 0 to K - 1.
        test_images: ``(M, C, H, W)`` float32 in [0, 1].
        test_labels: ``(M,)`` int64.
        num_classes: K.
        sha256: one digest of the content.
        test_regions: ``(M, H, W)`` bool, where the evidence in each test image lies; ``None`` if that is not known.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    num_classes: int
    sha256: str
    test_regions: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Split:
    """Disjoint draws from a training part, and their positions in it."""

    train_images: Tensor
    train_labels: Tensor
    validation_images: Tensor
    validation_labels: Tensor
    train_index: Tensor
    validation_index: Tensor
    development_index: Tensor
    steering_images: Tensor
    steering_labels: Tensor
    steering_index: Tensor


def load(name: str) -> ImageData:
    """A whole data set; downloaded first if ``data/raw`` does not hold it, made if it is a derived one.

    Raises:
        ValueError: if there is no such set, or its content is not what its entry says.
        FileNotFoundError: if the folder of an image folder is absent or empty.
        DataUnavailable: if it must be downloaded and no source has it.
    """
    return load_with_files(describe(name))[0]


@lru_cache(maxsize=1)
def load_once(name: str) -> ImageData:
    """`load`, and keep the set for the next call: for processes that train many runs on one data set."""
    return load(name)


def load_with_files(dataset: DataSet) -> tuple[ImageData, formats.Files]:
    """`load`, and size and SHA-256 of each file (of a derived set: of each tensor) behind ``ImageData.sha256``."""
    if dataset.derived:
        return _derive(dataset, load(dataset.source))
    if dataset.kind in ("idx", "cifar") and not is_complete(dataset):
        print(obtain(dataset))
    arrays, files = READERS[dataset.kind](dataset)
    return _assemble(dataset, _in_fixed_order(arrays), files), files


def split(
    data: ImageData,
    *,
    train_images: int | None,
    validation_images: int,
    seed: int,
    development_images: int = 0,
    steering_images: int = 0,
    label_noise: float = 0.0,
) -> Split:
    """Draw disjoint validation, training, development and steering images from the training part.

    All are taken from one permutation per seed: first the validation images, then the training images, the
    development images from its end, the steering images before them. So a larger training set contains the smaller
    ones of the same seed.

    Args:
        data: the whole set.
        train_images: how many; ``None`` takes all that are left.
        validation_images: how many.
        seed: of the permutation and of the label noise.
        development_images: how many.
        steering_images: how many.
        label_noise: share of the training labels, in [0, 1], each replaced by another class.

    Raises:
        ValueError: if more images are asked for than there are.
    """
    total, others = len(data.train_labels), (validation_images, development_images, steering_images)
    reserved = sum(others)
    wanted = total - reserved if train_images is None else train_images
    if min(others) < 0 or wanted < 1 or wanted + reserved > total:
        raise ValueError(
            f"{data.name}: {train_images} training, {validation_images} validation, {development_images} development "
            f"and {steering_images} steering images asked for: expected at least 1, 0, 0 and 0, and no more than the "
            f"{total} of the training part together"
        )
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    validation, train = order[:validation_images], order[validation_images : validation_images + wanted]
    steering, development = order[total - development_images - steering_images :].split(
        [steering_images, development_images]
    )
    images, labels = data.train_images, data.train_labels
    noisy = _with_noise(labels[train], label_noise, data.num_classes, seed)
    return Split(
        train_images=images[train],
        train_labels=noisy,
        validation_images=images[validation],
        validation_labels=labels[validation],
        train_index=train,
        validation_index=validation,
        development_index=development,
        steering_images=images[steering],
        steering_labels=labels[steering],
        steering_index=steering,
    )


def development(data: ImageData, **arguments: Any) -> ImageData:
    """The data set with its development images in place of the test part.

    Args:
        data: the whole set.
        **arguments: as for `split`.

    Raises:
        ValueError: as `split`; also for a set whose regions are known for the test images only.
    """
    if data.test_regions is not None:
        raise ValueError(f"{data.name}: its regions are known for the test images only: leave out development_images")
    index = split(data, **arguments).development_index
    return replace(data, test_images=data.train_images[index], test_labels=data.train_labels[index])


def check_images(images: Tensor, labels: Tensor, num_classes: int) -> None:
    """Refuse images and labels that no network can be trained on.

    Raises:
        ValueError: names the value, and what is expected.
    """
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes}: expected at least 2")
    check_labels(labels, image_dimensions(images)[0], num_classes)
    finite = torch.isfinite(images).flatten(1).all(1)
    if not bool(finite.all()):
        broken = (~finite).nonzero().flatten().tolist()
        raise ValueError(f"{len(broken)} images hold NaN or infinity, first image {broken[0]}: expected finite")


def _with_noise(labels: Tensor, share: float, num_classes: int, seed: int) -> Tensor:
    """Labels ``(N,)``, a share of them replaced by another class."""
    draws = torch.Generator().manual_seed(seed + 1)
    wrong = torch.rand(len(labels), generator=draws).argsort()[: round(share * len(labels))]
    noisy = labels.clone()
    noisy[wrong] = (labels[wrong] + torch.randint(1, num_classes, (len(wrong),), generator=draws)) % num_classes
    return noisy


def _derive(dataset: DataSet, source: ImageData) -> tuple[ImageData, formats.Files]:
    """A set made from another one, with exact regions; in the test part a shortcut is independent of the label.

    The digests are those of pixels, labels and regions as bytes, so they change with the code that makes them.
    """
    generator = torch.Generator().manual_seed(dataset.seed or 0)

    def compose(images: Tensor, labels: Tensor, correlation: float) -> tuple[Tensor, Tensor]:
        if dataset.kind == "block":
            return block_images(images, generator=generator)
        classes = source.num_classes
        return shortcut_images(images, labels, classes, correlation=correlation, generator=generator)[:2]

    train, _ = compose(source.train_images, source.train_labels, dataset.correlation or 0.0)
    test, regions = compose(source.test_images, source.test_labels, 0.0)
    arrays = (train, source.train_labels, test, source.test_labels)
    names = ("train_images", "train_labels", "test_images", "test_labels", "test_regions")
    files = {name: formats.stored_tensor(values) for name, values in zip(names, (*arrays, regions), strict=True)}
    return replace(_assemble(dataset, arrays, files), test_regions=regions), files


def _in_fixed_order(arrays: formats.Arrays) -> formats.Arrays:
    """Both parts in an order that their number of images decides alone: the first images show all classes."""
    orders = [torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)) for labels in arrays[1::2]]
    train_images, train_labels, test_images, test_labels = arrays
    return train_images[orders[0]], train_labels[orders[0]], test_images[orders[1]], test_labels[orders[1]]


def _assemble(dataset: DataSet, arrays: formats.Arrays, files: formats.Files) -> ImageData:
    """The data set, if classes, shape and values are what its entry says."""
    found = 1 + max(int(labels.max()) for labels in arrays[1::2])
    classes = dataset.num_classes or found
    if found != classes:
        raise ValueError(f"{dataset.name}: {found} classes found: expected {classes}")
    for images, labels in (arrays[:2], arrays[2:]):
        check_images(images, labels, classes)
        if dataset.image_shape not in (None, shape := tuple(images[0].shape)):
            raise ValueError(f"{dataset.name}: image shape is {shape}: expected {dataset.image_shape}")
    return ImageData(dataset.name, *arrays, num_classes=classes, sha256=formats.content_sha256(files))
