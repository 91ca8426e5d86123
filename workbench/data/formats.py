"""Decoding of stored files to arrays: idx files (MNIST), batches of CIFAR, scikit-learn's digits."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.config import paths
from workbench.data.catalogue import DataSet, torchvision_class


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
