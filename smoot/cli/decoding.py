"""One image file as pixels: what a viewer would show, or an error that names the file.

Up to 8 bits a channel, opaque, one frame, at most 2^26 pixels; the orientation that a camera noted is applied. Nothing
is decoded before its header is known to be allowed. The workbench reads its image folders by the same rules.
"""

import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from smoot.cli.files import shown

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp")
MODES = ("1", "L", "P", "LA", "PA", "RGB", "RGBA")  # grey or RGB, up to 8 bits a channel
PNG_DEPTH = 24  # the byte of a PNG that says how many bits a channel has
MAX_PIXELS = 2**26  # of one image; a larger one is taken for an attack or a mistake


def read_image(file: Path) -> Tensor:
    """The pixels of an image file, ``(3, H, W)`` uint8; a grey image has three equal channels.

    Raises:
        ValueError: if the file cannot be read or decoded, or its pixels would not be what a viewer shows.
    """
    return decode(file, read_bytes(file))


def read_bytes(file: Path) -> bytes:
    """The bytes of a file; a folder, a pipe or a link to nowhere of an image's name is refused before it is opened.

    Raises:
        ValueError: if it is no file, or cannot be read.
    """
    if not os.path.isfile(file):
        raise ValueError(f"{shown(file)}: no regular file: expected an image file, or another name")
    try:
        return file.read_bytes()
    except OSError as error:
        raise ValueError(
            f"{shown(file)}: cannot be read ({error.strerror}): expected a file that you may read"
        ) from None


def decode(file: Path, content: bytes, shape: tuple[int, ...] | None = None) -> Tensor:
    """The pixels of an image file as bytes, ``(C, H, W)``.

    Args:
        file: named in errors.
        content: of the file.
        shape: that the pixels must have, whose first number says whether they are grey; any, in colour, if None.

    Raises:
        ValueError: if the content cannot be decoded, or its pixels would not be what a viewer shows.
    """
    grey = shape is not None and shape[0] == 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about metadata that is not used
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as image:
                problem = next(_problems(image, content, shape), "")
                if not problem:
                    upright = ImageOps.exif_transpose(image)
                    problem = "transparent in places: expected opaque pixels" if _is_transparent(upright) else ""
                    pixels = np.array(upright.convert("L" if grey else "RGB"))
    except Exception as error:  # Pillow's parsers raise whatever damaged or hostile bytes lead them to
        unknown = isinstance(error, UnidentifiedImageError)  # whose message names a place in memory
        reason = "no known format" if unknown else " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{shown(file)}: cannot be decoded ({reason}): expected an image file") from None
    if not problem and shape is not None and (found := (1 if grey else 3, *pixels.shape[:2])) != shape:
        problem = f"the shape is {found}: expected {shape}, as of the others"
    if problem:
        raise ValueError(f"{shown(file)}: {problem}")
    return torch.from_numpy(pixels).reshape(*pixels.shape[:2], -1).permute(2, 0, 1).contiguous()


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
    if image.mode not in ("LA", "PA", "RGBA") and "transparency" not in image.info:
        return False
    return bool((np.array(image.convert("RGBA").getchannel("A")) < 255).any())
