"""Image tensors of MNIST's idx files, scikit-learn's digits and folders of image files, and sets made from these."""

import hashlib
import io
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from workbench.config import paths
from workbench.data.catalogue import DataSet, Region, StoredFile, content_sha256
from workbench.data.composites import block_images, shortcut_images

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp")


@dataclass(frozen=True, eq=False)
class ImageData:
    """A whole data set: images (N, C, H, W) float32 in [0, 1], labels (N,) int64, a digest of its content.

    ``test_regions`` (N, H, W) bool is where the evidence in each test image lies, if that is known exactly.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    num_classes: int
    sha256: str
    test_regions: Tensor | None = None


Files = Mapping[str, StoredFile]


def read_idx(path: Path) -> Tensor:
    """The unsigned bytes of an idx file in the shape that its header states.

    Raises:
        ValueError: if the file is no idx file of unsigned bytes, or its size contradicts its header.
    """
    content = bytearray(path.read_bytes())
    if len(content) < 4 or content[:3] != b"\0\0\x08" or len(content) < 4 + 4 * content[3]:
        raise ValueError(f"{path}: starts with {bytes(content[:4]).hex()!r}: expected an idx file of bytes (000008..)")
    start = 4 + 4 * content[3]
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    if len(content) - start != math.prod(shape) or not math.prod(shape):
        raise ValueError(f"{path}: {len(content) - start} values: expected those of the shape {shape} in its header")
    return torch.frombuffer(content, dtype=torch.uint8, offset=start).reshape(shape)


def idx_data(dataset: DataSet, folder: Path) -> tuple[ImageData, Files]:
    """A set in the four files of MNIST."""
    parts = []
    for part in ("train", "t10k"):
        images = read_idx(folder / f"{part}-images-idx3-ubyte").unsqueeze(1)
        parts += [images.float().div_(255), read_idx(folder / f"{part}-labels-idx1-ubyte").long()]
    return _assembled(dataset, parts, dataset.files)


def digits_data(dataset: DataSet) -> tuple[ImageData, Files]:
    """The digits bundled with scikit-learn; every fifth image, from the first on, is a test image.

    Raises:
        ValueError: if the installed scikit-learn bundles other bytes.
    """
    from sklearn.datasets import load_digits

    bundle = load_digits()
    images = torch.from_numpy(bundle.images).to(torch.uint8)
    labels = torch.from_numpy(bundle.target).to(torch.uint8)
    for file, values in (("images", images), ("target", labels)):
        content = values.numpy().tobytes()
        found = StoredFile(len(content), hashlib.sha256(content).hexdigest())
        if found != dataset.files[file]:
            raise ValueError(f"{dataset.name}, {file}: expected {dataset.files[file]}, found {found} in scikit-learn")
    test = torch.arange(len(labels)) % 5 == 0
    scaled, labels = images.unsqueeze(1).float() / 16, labels.long()
    return _assembled(dataset, [scaled[~test], labels[~test], scaled[test], labels[test]], dataset.files)


def folder_data(dataset: DataSet) -> tuple[ImageData, Files]:
    """The image files in ``train/CLASS`` and ``test/CLASS``; classes are numbered by their sorted names.

    The digests are one a class folder, over the names and bytes of its images.

    Raises:
        ValueError: if a class is in one part only, or an image is broken or of another size.
        FileNotFoundError: if a folder is absent or holds no images.
    """
    classes = class_names(dataset)
    shape = dataset.image_shape
    parts: list[Tensor] = []
    stored: dict[str, StoredFile] = {}
    for part in ("train", "test"):
        images: list[Tensor] = []
        labels: list[int] = []
        for label, name in enumerate(classes):
            decoded, stored[f"{part}/{name}"] = _read_class(folder_root(dataset) / part / name, shape)
            shape = shape or _shape(decoded[0])
            images += decoded
            labels += [label] * len(decoded)
        parts += [torch.stack(images).float().div_(255), torch.tensor(labels)]
    return _assembled(dataset, parts, stored, len(classes))


def derived_data(dataset: DataSet, source: ImageData) -> tuple[ImageData, Files]:
    """A set made from another one, with exact regions; the test part's shortcuts are independent of its labels.

    The digests are those of pixels, labels and regions as bytes, so they change with the code that makes them.
    """
    generator = torch.Generator().manual_seed(dataset.seed or 0)
    compose = partial(_composed, dataset.region, num_classes=source.num_classes, generator=generator)
    train_images, _ = compose(source.train_images, source.train_labels, correlation=dataset.correlation or 0.0)
    test_images, test_regions = compose(source.test_images, source.test_labels, correlation=0.0)
    parts = {"train_images": train_images, "train_labels": source.train_labels}
    parts |= {"test_images": test_images, "test_labels": source.test_labels}
    stored = {name: _as_bytes(values) for name, values in (parts | {"test_regions": test_regions}).items()}
    data, _ = _assembled(dataset, list(parts.values()), stored, source.num_classes)
    return replace(data, test_regions=test_regions), stored


def _composed(
    region: Region, images: Tensor, labels: Tensor, *, num_classes: int, correlation: float, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Images made from others, and where the evidence in them lies."""
    if region == "block":
        return block_images(images, generator=generator)
    made, regions, _ = shortcut_images(images, labels, num_classes, correlation=correlation, generator=generator)
    return made, regions


def _as_bytes(values: Tensor) -> StoredFile:
    """Size and digest of images in [0, 1], labels or regions as unsigned bytes; in chunks, to save memory."""
    digest = hashlib.sha256()
    for chunk in values.split(4096):
        levels = (chunk * 255).round() if chunk.is_floating_point() else chunk
        digest.update(levels.to(torch.uint8).numpy().tobytes())
    return StoredFile(values.numel(), digest.hexdigest())


def folder_root(dataset: DataSet) -> Path:
    """Where an image folder's ``train`` and ``test`` are."""
    return paths.ROOT / dataset.root


def class_names(dataset: DataSet) -> list[str]:
    """The class folders of an image folder, the same in ``train`` and ``test``."""
    found = {}
    for part in ("train", "test"):
        folder = folder_root(dataset) / part
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{dataset.name}: no folder {folder}: put your images there as {part}/CLASS/FILE, "
                f"or set its root in {paths.DATASETS_FILE.name}"
            )
        found[part] = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    if found["train"] != found["test"]:
        odd = ", ".join(sorted(set(found["train"]) ^ set(found["test"])))
        raise ValueError(f"{dataset.name}: classes in one of train and test only: {odd}: expected the same in both")
    return found["train"]


def _shape(image: Tensor) -> tuple[int, int, int]:
    """Channels, height and width."""
    channels, height, width = image.shape
    return channels, height, width


def _read_class(folder: Path, shape: tuple[int, int, int] | None) -> tuple[list[Tensor], StoredFile]:
    """The images of one class as (C, H, W) bytes, in the order of their names, and what they are in bytes."""
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise FileNotFoundError(f"{folder}: no images: expected files ending in {', '.join(IMAGE_SUFFIXES)}")
    images, digest, size = [], hashlib.sha256(), 0
    for file in files:
        content = file.read_bytes()
        digest.update(f"{hashlib.sha256(content).hexdigest()}  {file.name}\n".encode())
        size += len(content)
        image = _decoded(file, content, grey=shape is not None and shape[0] == 1)
        shape = shape or _shape(image)
        if _shape(image) != shape:
            raise ValueError(f"{file}: (channels, height, width) is {_shape(image)}: expected {shape}, as the others")
        images.append(image)
    return images, StoredFile(size, digest.hexdigest())


def _decoded(file: Path, content: bytes, grey: bool) -> Tensor:
    """The pixels of one image file as bytes, (C, H, W)."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            pixels = np.array(image.convert("L" if grey else "RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError(f"{file}: cannot be decoded ({error}): expected an image file") from error
    return torch.from_numpy(pixels).reshape(*pixels.shape[:2], -1).permute(2, 0, 1)


def _assembled(dataset: DataSet, parts: list[Tensor], files: Files, num_classes: int = 0) -> tuple[ImageData, Files]:
    """The data set of training images and labels, test images and labels, if they are what its entry says."""
    classes = dataset.num_classes or num_classes
    if num_classes not in (0, classes):
        raise ValueError(f"{dataset.name}: {num_classes} classes found: expected {classes}")
    for images, labels in (parts[:2], parts[2:]):
        check_images(images, labels, classes)
        if dataset.image_shape not in (None, _shape(images[0])):
            raise ValueError(f"{dataset.name}: image shape is {_shape(images[0])}: expected {dataset.image_shape}")
    train_images, train_labels, test_images, test_labels = parts
    sha256 = content_sha256(files)
    return (
        ImageData(dataset.name, train_images, train_labels, test_images, test_labels, classes, sha256),
        files,
    )


def check_images(images: Tensor, labels: Tensor, num_classes: int) -> None:
    """Refuse what no network can be trained on.

    Raises:
        ValueError: naming the value, and what is allowed.
    """
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes}: expected at least 2")
    if images.ndim != 4:
        raise ValueError(f"images have the shape {tuple(images.shape)}: expected (N, C, H, W)")
    if images.numel() == 0:
        raise ValueError(f"images of the shape {tuple(images.shape)} are empty: expected at least one pixel")
    if not images.is_floating_point():
        raise ValueError(f"images are {images.dtype}: expected floating point, such as images.float() / 255")
    if labels.shape != images.shape[:1]:
        raise ValueError(f"labels have the shape {tuple(labels.shape)}: expected ({len(images)},), one an image")
    if labels.dtype != torch.int64:
        raise ValueError(f"labels are {labels.dtype}: expected torch.int64")
    if not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        found = f"{int(labels.min())} to {int(labels.max())}"
        raise ValueError(f"labels go from {found}: expected 0 to {num_classes - 1} for {num_classes} classes")
    finite = torch.isfinite(images).flatten(1).all(1)
    if not bool(finite.all()):
        broken = (~finite).nonzero().flatten().tolist()
        raise ValueError(f"{len(broken)} images hold NaN or infinity, first image {broken[0]}: expected finite")
