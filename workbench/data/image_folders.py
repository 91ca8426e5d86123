"""Folders of images: ``train/CLASS/FILE`` and ``test/CLASS/FILE``, read right or refused with the file's name.

What is no image by its name (another suffix, a hidden file, a folder) is left out, and `left_out` names it. A file
whose pixels would not be what a viewer shows is refused: more than 8 bits a channel, transparency, several frames.
The orientation that a camera noted is applied. Nothing is decoded before its size is known to be allowed.
"""

import hashlib
import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from workbench.config import paths
from workbench.data.catalogue import DataSet
from workbench.data.formats import Arrays, Files, StoredFile

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp")
PARTS = ("train", "test")
MODES = ("1", "L", "P", "LA", "PA", "RGB", "RGBA")  # grey or RGB, up to 8 bits a channel
PNG_DEPTH = 24  # the byte of a PNG that says how many bits a channel has
MAX_PIXELS = 2**26  # of one image; a larger one is taken for an attack or a mistake


def read_image_folder(dataset: DataSet) -> tuple[Arrays, Files]:
    """The images in ``train/CLASS`` and ``test/CLASS``; classes are numbered by their sorted names.

    There is one digest per class folder, over the names and bytes of its images.

    Raises:
        ValueError: if a class is in one part only, or an image is broken, of another size, or not shown by its
            pixels alone; names the file.
        FileNotFoundError: if a folder is absent or holds no classes or no images.
    """
    classes = class_names(dataset)
    shape = dataset.image_shape
    parts: list[Tensor] = []
    stored: dict[str, StoredFile] = {}
    for part in PARTS:
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


def _read_class(folder: Path, shape: tuple[int, ...] | None) -> tuple[list[Tensor], StoredFile]:
    """The images of one class as (C, H, W) bytes, in the order of their names, and the digest of all of them."""
    files = list(filter(_is_image, _entries(folder)))
    if not files:
        raise FileNotFoundError(f"{folder}: no images: expected files ending in {', '.join(IMAGE_SUFFIXES)}")
    images, digest, size = [], hashlib.sha256(), 0
    for file in files:
        content = _content(file)
        digest.update(f"{hashlib.sha256(content).hexdigest()}  {file.name}\n".encode(errors="surrogateescape"))
        size += len(content)
        images.append(_decode(file, content, shape))
        shape = shape or tuple(images[0].shape)
    return images, StoredFile(size, digest.hexdigest())


def _content(file: Path) -> bytes:
    """The bytes of a file; a folder, a pipe or a link to nowhere of an image's name is refused before it is opened."""
    if not os.path.isfile(file):
        raise ValueError(f"{file}: no regular file: expected an image file, or another name")
    try:
        return file.read_bytes()
    except OSError as error:
        raise ValueError(f"{file}: cannot be read ({error.strerror}): expected a file that you may read") from None


def _decode(file: Path, content: bytes, shape: tuple[int, ...] | None) -> Tensor:
    """The pixels of one image file as bytes, (C, H, W)."""
    grey = shape is not None and shape[0] == 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as image:
                problem = next(_problems(image, content, shape), "")
                if not problem:
                    upright = ImageOps.exif_transpose(image)
                    problem = "transparent in places: expected opaque pixels" if _is_transparent(upright) else ""
                    pixels = np.array(upright.convert("L" if grey else "RGB"))
    except Exception as error:  # Pillow's parsers raise whatever damaged or hostile bytes lead them to
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{file}: cannot be decoded ({reason}): expected an image file") from None
    if problem:
        raise ValueError(f"{file}: {problem}")
    found = (1 if grey else 3, *pixels.shape[:2])
    if shape is not None and found != shape:
        raise ValueError(f"{file}: the shape is {found}: expected {shape}, as of the others")
    return torch.from_numpy(pixels).reshape(*pixels.shape[:2], -1).permute(2, 0, 1)


def _problems(image: Image.Image, content: bytes, shape: tuple[int, ...] | None) -> Iterator[str]:
    """Why an image that is not decoded yet must not be, as its header says."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        yield f"{width}x{height} pixels: expected at most {MAX_PIXELS:,} in one image"
    if shape is not None and sorted(image.size) != sorted(shape[1:]):  # an orientation may turn it
        yield f"the shape is {(1 if shape[0] == 1 else 3, height, width)}: expected {shape}, as of the others"
    if getattr(image, "n_frames", 1) > 1:
        yield f"{image.n_frames} frames: expected one image in a file"  # type: ignore[attr-defined]
    if image.mode not in MODES:
        yield f"pixels of Pillow's mode {image.mode}: expected grey or RGB with 8 bits a channel; convert it"
    if image.format == "PNG" and content[PNG_DEPTH] > 8:
        yield f"{content[PNG_DEPTH]} bits a channel: expected 8; convert it"


def _is_transparent(image: Image.Image) -> bool:
    """Whether some pixel is not opaque."""
    if image.mode not in ("LA", "PA", "RGBA") and "transparency" not in image.info:
        return False
    alpha = np.array(image.convert("RGBA").getchannel("A"))
    return bool((alpha < 255).any())
