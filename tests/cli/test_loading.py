"""Images read on the fly: right or refused, the same with any number of workers, and never all in memory."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from smoot.cli.decoding import read_image
from smoot.cli.folders import index_folder
from smoot.cli.loading import Loader, Reading, measure_sample, transform

CPU = torch.device("cpu")


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def deep_png() -> bytes:
    """A PNG of 2x1 pixels with 16 bits a channel, which Pillow would cut to 8."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(13))) + chunk(b"IEND", b"")


WHITE = Image.new("RGB", (8, 6), "white")
FRAMES = encoded(WHITE, "GIF", save_all=True, append_images=[Image.new("RGB", (8, 6), "black")])
REFUSED = {
    "16 bits": (deep_png(), "16 bits a channel: expected 8"),
    "16 bits, grey": (encoded(Image.new("I;16", (8, 6))), "Pillow's mode I;16: expected grey or RGB"),
    "alpha": (encoded(Image.new("RGBA", (8, 6), (0, 0, 0, 100))), "transparent in places: expected opaque"),
    "frames": (FRAMES, "2 frames: expected one"),
    "four colours": (encoded(WHITE.convert("CMYK"), "JPEG"), "Pillow's mode CMYK"),
    "cut off": (encoded(WHITE)[:-30], "cannot be decoded"),
    "text": (b"no image", r"cannot be decoded \(no known format\): expected an image file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_read_wrongly_is_refused_with_its_name(name: str, tmp_path: Path) -> None:
    content, words = REFUSED[name]
    (tmp_path / "7.png").write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        read_image(tmp_path / "7.png")
    assert str(caught.value).startswith(f"{tmp_path / '7.png'}: ")
    assert "\n" not in str(caught.value)


def test_pixels_are_those_that_a_viewer_shows(tmp_path: Path) -> None:
    pixels = np.arange(4 * 3 * 3, dtype=np.uint8).reshape(4, 3, 3)
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: a quarter clockwise shows it upright
    image.save(tmp_path / "turned.png", exif=exif)
    assert (read_image(tmp_path / "turned.png").permute(1, 2, 0).numpy() == np.rot90(pixels, -1)).all()
    image.convert("RGBA").save(tmp_path / "opaque.png")
    assert (read_image(tmp_path / "opaque.png").permute(1, 2, 0).numpy() == pixels).all()
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    assert (read_image(tmp_path / "grey.png").numpy() == pixels[None, ..., 0]).all()


def test_an_image_is_resized_by_its_shorter_side_and_its_centre_is_kept() -> None:
    wide = torch.zeros(3, 8, 24, dtype=torch.uint8)
    wide[:, :, 8:16] = 255
    assert transform(8)(wide).eq(1).all()
    assert transform(4)(wide).shape == (3, 4, 4)


def batches(folder: Path, workers: int, epoch: int) -> list[torch.Tensor]:
    loader = Loader(index_folder(folder)[0], Reading(16, CPU, 8, workers), seed=3)
    return [tensor for batch in loader.batches(epoch) for tensor in batch]


def test_order_and_augmentation_depend_on_seed_and_epoch_not_on_workers(folder: Path) -> None:
    torch.manual_seed(5)
    alone = batches(folder, 0, epoch=1)
    torch.manual_seed(6)
    shared = batches(folder, 2, epoch=1)
    assert len(alone) == len(shared) == 2 * 5
    assert all(torch.equal(a, b) for a, b in zip(alone, shared, strict=True))
    assert not torch.equal(alone[0], batches(folder, 0, epoch=2)[0])


def test_a_broken_image_is_refused_or_skipped_named_and_counted(make_folder: Callable[..., Path]) -> None:
    root = make_folder(4)
    spoilt = [root / "red" / name for name in ("001.png", "003.png")]
    for file in spoilt:
        file.write_bytes(b"no image")
    images = index_folder(root)[0]
    with pytest.raises(ValueError, match=r"001\.png: cannot be .* \(2 such files in this batch\); .* --skip-broken"):
        list(Loader(images, Reading(16, CPU)).batches())
    skipping = Loader(images, Reading(16, CPU, skip_broken=True))
    assert [len(labels) for _, labels in skipping.batches()] == [6]
    list(skipping.batches())  # a second time, the same two
    assert [message.partition(":")[0] for message in skipping.broken] == list(map(str, spoilt))


def test_a_sample_gives_size_mean_and_deviation(make_folder: Callable[..., Path]) -> None:
    root = make_folder(1)
    Image.new("RGB", (70, 100), (255, 0, 51)).save(root / "red" / "000.jpg", "PNG")
    Image.new("RGB", (200, 64), (0, 0, 51)).save(root / "blue" / "000.jpg", "PNG")
    found = measure_sample(index_folder(root)[0], seed=0, skip_broken=False)
    assert found.size == 64
    assert found.mean == (0.5, 0.0, 0.2)
    assert found.std == (0.5, 0.01, 0.01)
    for name in ("red", "blue"):
        (root / name / "000.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="none of 2 images could be decoded"):
        measure_sample(index_folder(root)[0], seed=0, skip_broken=True)
