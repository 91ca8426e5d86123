"""One image file as pixels: what a viewer would show, or an error that names the file.

The rules are those of the workbench's image folders: up to 8 bits a channel, opaque, one frame, at most 2^26 pixels,
the orientation that a camera noted applied. Nothing is decoded before its header is known to be allowed.
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
    content = _content(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about metadata that is not used
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as image:
                problem = next(_problems(image, content), "")
                if not problem:
                    upright = ImageOps.exif_transpose(image)
                    problem = "transparent in places: expected opaque pixels" if _is_transparent(upright) else ""
                    pixels = np.array(upright.convert("RGB"))
    except Exception as error:  # Pillow's parsers raise whatever damaged or hostile bytes lead them to
        unknown = isinstance(error, UnidentifiedImageError)  # whose message names a place in memory
        reason = "no known format" if unknown else " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{shown(file)}: cannot be decoded ({reason}): expected an image file") from None
    if problem:
        raise ValueError(f"{shown(file)}: {problem}")
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _content(file: Path) -> bytes:
    if not os.path.isfile(file):
        raise ValueError(f"{shown(file)}: no regular file: expected an image file")
    try:
        return file.read_bytes()
    except OSError as error:
        raise ValueError(
            f"{shown(file)}: cannot be read ({error.strerror}): expected a file that you may read"
        ) from None


def _problems(image: Image.Image, content: bytes) -> Iterator[str]:
    """Why an image that is not decoded yet must not be, as its header says."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        yield f"{width}x{height} pixels: expected at most {MAX_PIXELS:,} in one image"
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
