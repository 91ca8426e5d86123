"""Folders of images: ``train/CLASS/FILE`` and ``test/CLASS/FILE``, read right or refused with the file's name.

What is no image by its name (another suffix, a hidden file, a folder) is left out, and `left_out` names it. A file
whose pixels would not be what a viewer shows is refused: see :mod:`smoot.cli.decoding`. All pixels are kept in memory,
as the other sets' are, so a folder that would not fit is refused before the second image is read.
"""

import hashlib
import math
import os
from pathlib import Path

import psutil
import torch
from torch import Tensor

from smoot.cli.decoding import IMAGE_SUFFIXES, decode, read_bytes
from workbench.config import paths
from workbench.data.catalogue import DataSet
from workbench.data.formats import Arrays, Files, StoredFile

PARTS = ("train", "test")


def read_image_folder(dataset: DataSet) -> tuple[Arrays, Files]:
    """The images in ``train/CLASS`` and ``test/CLASS``; classes are numbered by their sorted names.

    There is one digest per class folder, over the names and bytes of its images.

    Raises:
        ValueError: if a class is in one part only, or an image is broken, of another size, or not shown by its
            pixels alone; names the file. If all images would not fit in memory.
        FileNotFoundError: if a folder is absent or holds no classes or no images.
    """
    classes, root = class_names(dataset), image_root(dataset)
    files = {(part, name): _image_files(root / part / name) for part in PARTS for name in classes}
    first = files["train", classes[0]][0]
    shape = dataset.image_shape or tuple(decode(first, read_bytes(first)).shape)
    _check_memory(dataset.name, sum(map(len, files.values())), shape)
    parts: list[Tensor] = []
    stored: dict[str, StoredFile] = {}
    for part in PARTS:
        images: list[Tensor] = []
        labels: list[int] = []
        for label, name in enumerate(classes):
            decoded, stored[f"{part}/{name}"] = _read_class(files[part, name], shape)
            images += decoded
            labels += [label] * len(decoded)
        parts += [torch.stack(images).float().div_(255), torch.tensor(labels)]
    return (parts[0], parts[1], parts[2], parts[3]), stored


def image_root(dataset: DataSet) -> Path:
    """The folder that holds ``train`` and ``test`` of an image folder."""
    return paths.ROOT / dataset.root


def class_names(dataset: DataSet) -> list[str]:
    """The class folders of an image folder, sorted, the same in ``train`` and ``test``; hidden ones are none."""
    found = {}
    for part in PARTS:
        folder = image_root(dataset) / part
        if not os.path.isdir(folder):
            raise FileNotFoundError(
                f"{dataset.name}: no folder {folder}: put your images there as {part}/CLASS/FILE, "
                f"or set its root in {paths.DATASETS_FILE.name}"
            )
        found[part] = [entry.name for entry in _entries(folder) if _is_class(entry)]
    if found["train"] != found["test"]:
        odd = ", ".join(sorted(set(found["train"]) ^ set(found["test"])))
        raise ValueError(f"{dataset.name}: classes in one of train and test only: {odd}: expected the same in both")
    if not found["train"]:
        raise FileNotFoundError(f"{dataset.name}: no class folders in {image_root(dataset)}: expected train/CLASS/FILE")
    return found["train"]


def left_out(dataset: DataSet) -> list[str]:
    """What lies in an image folder and is not read, as paths below its root, sorted."""
    root, classes = image_root(dataset), class_names(dataset)
    found = [entry for part in PARTS for entry in _entries(root / part) if not _is_class(entry)]
    found += [
        entry for part in PARTS for name in classes for entry in _entries(root / part / name) if not _is_image(entry)
    ]
    return sorted(entry.relative_to(root).as_posix() for entry in found)


def _entries(folder: Path) -> list[Path]:
    """What a folder holds, sorted by name."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise ValueError(f"{folder}: cannot be read ({error.strerror}): expected a folder that you may read") from None


def _is_class(entry: Path) -> bool:
    return not entry.name.startswith(".") and os.path.isdir(entry)


def _is_image(entry: Path) -> bool:
    """Whether an entry of a class is to be read, by its name."""
    return not entry.name.startswith(".") and entry.suffix.lower() in IMAGE_SUFFIXES


def _image_files(folder: Path) -> list[Path]:
    """The images of one class, sorted by name."""
    if not (files := list(filter(_is_image, _entries(folder)))):
        raise FileNotFoundError(f"{folder}: no images: expected files ending in {', '.join(IMAGE_SUFFIXES)}")
    return files


def _check_memory(name: str, count: int, shape: tuple[int, ...]) -> None:
    """Refuse a folder whose images, as float32 and once more while they are put in order, would not fit."""
    needed, free = 2 * 4 * count * math.prod(shape), psutil.virtual_memory().available
    if needed > free:
        raise ValueError(
            f"{name}: {count} images of {shape} take {needed / 1e9:.1f} GB of memory, of which {free / 1e9:.1f} GB are "
            "free: expected fewer or smaller images, for the pipeline keeps all of them in memory; the command smoot "
            "train reads a folder batch by batch"
        )


def _read_class(files: list[Path], shape: tuple[int, ...]) -> tuple[list[Tensor], StoredFile]:
    """The images of one class as (C, H, W) bytes, in the order of their names, and the digest of all of them."""
    images, digest, size = [], hashlib.sha256(), 0
    for file in files:
        content = read_bytes(file)
        digest.update(f"{hashlib.sha256(content).hexdigest()}  {file.name}\n".encode(errors="surrogateescape"))
        size += len(content)
        images.append(decode(file, content, shape))
    return images, StoredFile(size, digest.hexdigest())
