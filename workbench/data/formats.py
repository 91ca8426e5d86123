"""Decoding of stored files to arrays: idx files (MNIST), batches of CIFAR, scikit-learn's digits, folders of images."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from workbench.config import paths
from workbench.data.catalogue import DataSet, torchvision_class

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp")


@dataclass(frozen=True)
class StoredFile:
    """Size and SHA-256 of the uncompressed content of a file, or of several."""

    bytes: int
    sha256: str


Arrays = tuple[Tensor, Tensor, Tensor, Tensor]  # training images, training labels, test images, test labels
Files = Mapping[str, StoredFile]


def read_idx(dataset: DataSet) -> tuple[Arrays, Files]:
    """A set in ``data/raw/NAME``, in four files that are named as those of MNIST.

    Raises:
        ValueError: if a file is no idx file of unsigned bytes, or its size contradicts its header.
    """
    from torchvision.datasets import mnist

    folder = paths.RAW / dataset.name
    arrays: list[Tensor] = []
    for part in ("train", "t10k"):
        images, labels = folder / f"{part}-images-idx3-ubyte", folder / f"{part}-labels-idx1-ubyte"
        try:
            arrays += [mnist.read_image_file(images).unsqueeze(1).float().div_(255), mnist.read_label_file(labels)]
        except (AssertionError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"{images} or {labels.name}: expected idx files of bytes as those of MNIST") from error
    files = {name: StoredFile((folder / name).stat().st_size, digest) for name, digest in dataset.files.items()}
    return (arrays[0], arrays[1], arrays[2], arrays[3]), files


def read_cifar(dataset: DataSet) -> tuple[Arrays, Files]:
    """CIFAR-10 or CIFAR-100 (its 100 fine labels) in ``data/raw/NAME``, as published for Python, batch by batch.

    torchvision checks the MD5 of every batch before it opens one.
    """
    known, folder = torchvision_class(dataset), paths.RAW / dataset.name
    arrays: list[Tensor] = []
    for part in (known(folder, train=True), known(folder, train=False)):
        pixels = torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous()
        arrays += [pixels.float().div_(255), torch.tensor(part.targets)]
    files = {}
    for name, _ in (*known.train_list, *known.test_list):
        content = (folder / known.base_folder / name).read_bytes()
        files[name] = StoredFile(len(content), hashlib.sha256(content).hexdigest())
    return (arrays[0], arrays[1], arrays[2], arrays[3]), files


def read_digits(dataset: DataSet) -> tuple[Arrays, Files]:
    """The digits bundled with scikit-learn; every fifth image, from the first on, is a test image.

    Raises:
        ValueError: if the installed scikit-learn bundles other bytes.
    """
    from sklearn.datasets import load_digits

    bundle = load_digits()
    images = torch.from_numpy(bundle.images).to(torch.uint8)
    labels = torch.from_numpy(bundle.target).to(torch.uint8)
    files = {"images": stored_tensor(images), "target": stored_tensor(labels)}
    for file, found in files.items():
        if found.sha256 != dataset.files[file]:
            raise ValueError(
                f"{dataset.name}, {file}: expected SHA-256 {dataset.files[file]}, found {found.sha256} in scikit-learn"
            )
    test = torch.arange(len(labels)) % 5 == 0
    scaled, labels = images.unsqueeze(1).float() / 16, labels.long()
    return (scaled[~test], labels[~test], scaled[test], labels[test]), files


def read_image_folder(dataset: DataSet) -> tuple[Arrays, Files]:
    """The images in ``train/CLASS`` and ``test/CLASS``; classes are numbered by their sorted names.

    There is one digest per class folder, over the names and bytes of its images.

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
            decoded, stored[f"{part}/{name}"] = _read_class(image_root(dataset) / part / name, shape)
            shape = shape or tuple(decoded[0].shape)
            images += decoded
            labels += [label] * len(decoded)
        parts += [torch.stack(images).float().div_(255), torch.tensor(labels)]
    return (parts[0], parts[1], parts[2], parts[3]), stored


def image_root(dataset: DataSet) -> Path:
    """The folder that holds ``train`` and ``test`` of an image folder."""
    return paths.ROOT / dataset.root


def class_names(dataset: DataSet) -> list[str]:
    """The class folders of an image folder, sorted, the same in ``train`` and ``test``."""
    found = {}
    for part in ("train", "test"):
        folder = image_root(dataset) / part
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


def stored_tensor(values: Tensor) -> StoredFile:
    """Size and SHA-256 of images in [0, 1], labels or regions as unsigned bytes; in chunks, to save memory."""
    digest = hashlib.sha256()
    for chunk in values.split(4096):
        levels = (chunk * 255).round() if chunk.is_floating_point() else chunk
        digest.update(levels.to(torch.uint8).numpy().tobytes())
    return StoredFile(values.numel(), digest.hexdigest())


def content_sha256(files: Files) -> str:
    """One digest of a whole set: the SHA-256 of the lines ``SHA256  NAME``, sorted by name."""
    lines = (f"{files[name].sha256}  {name}\n" for name in sorted(files))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _read_class(folder: Path, shape: tuple[int, ...] | None) -> tuple[list[Tensor], StoredFile]:
    """The images of one class as (C, H, W) bytes, in the order of their names, and the digest of all of them."""
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise FileNotFoundError(f"{folder}: no images: expected files ending in {', '.join(IMAGE_SUFFIXES)}")
    images, digest, size = [], hashlib.sha256(), 0
    for file in files:
        content = file.read_bytes()
        digest.update(f"{hashlib.sha256(content).hexdigest()}  {file.name}\n".encode())
        size += len(content)
        image = _decode(file, content, grey=shape is not None and shape[0] == 1)
        shape = shape or tuple(image.shape)
        if tuple(image.shape) != shape:
            raise ValueError(f"{file}: the shape is {tuple(image.shape)}: expected {shape}, as of the others")
        images.append(image)
    return images, StoredFile(size, digest.hexdigest())


def _decode(file: Path, content: bytes, grey: bool) -> Tensor:
    """The pixels of one image file as bytes, (C, H, W)."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            pixels = np.array(image.convert("L" if grey else "RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError(f"{file}: cannot be decoded ({error}): expected an image file") from error
    return torch.from_numpy(pixels).reshape(*pixels.shape[:2], -1).permute(2, 0, 1)
