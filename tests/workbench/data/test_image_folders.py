"""Folders of images: what is read, what is left out and named, and what is refused with its name."""

import io
import json
import os
import random
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_idx import Checkout

from smoot.cli.decoding import decode
from workbench.data import commands, image_folders
from workbench.data import sets as data
from workbench.data.catalogue import describe


def folder_entry(root: Path, **changes: Any) -> dict[str, Any]:
    """An entry that makes ``tiny`` an image folder."""
    entry = {"kind": "image_folder", "root": str(root), "num_classes": None, "image_shape": None, "files": ...}
    return entry | changes


@pytest.fixture
def image_folder(checkout: Checkout, tmp_path: Path) -> Path:
    """The folder of ``tiny``: two classes, three training images and two test images of 6 x 8 pixels."""
    for count, file in enumerate(
        ("train/ant/1.png", "train/ant/2.png", "train/bee/1.jpg", "test/ant/1.png", "test/bee/1.png")
    ):
        target = tmp_path / "mine" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (0, 50 * count + 5, 9)).save(target)
    checkout.describe(**folder_entry(tmp_path / "mine"))
    return tmp_path / "mine"


def test_image_folder(image_folder: Path) -> None:
    (train_images, train_labels, test_images, test_labels), _ = image_folders.read_image_folder(describe("tiny"))
    assert train_images.shape == (3, 3, 6, 8)
    assert train_labels.tolist() == [0, 0, 1]
    assert test_labels.tolist() == [0, 1]
    assert torch.equal(test_images[1, 1], torch.full((6, 8), 205 / 255))
    assert float(train_images[0, 0].max()) == 0
    loaded = data.load("tiny")
    assert loaded.num_classes == 2
    assert loaded.train_images[:, 1].amax((1, 2)).sort().values.tolist() == train_images[:, 1].amax((1, 2)).tolist()
    before = loaded.sha256
    (image_folder / "train/ant/2.png").rename(image_folder / "train/ant/3.png")
    assert data.load("tiny").sha256 != before


def test_image_folder_in_grey_below_the_repository(checkout: Checkout, image_folder: Path) -> None:
    image_folder.rename(checkout.root / "mine")
    checkout.describe(**folder_entry(Path("mine"), num_classes=2, image_shape=[1, 6, 8]))
    assert data.load("tiny").train_images.shape == (3, 1, 6, 8)


NO_FILE = r"train/bee/0\.png: no regular file: expected an image file"
SPOILT: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "one part": (lambda mine: (mine / "test/cat").mkdir(), ValueError, "classes in one of train and test only: cat"),
    "another size": (
        lambda mine: Image.new("RGB", (7, 6)).save(mine / "test/bee/2.png"),
        ValueError,
        r"2\.png: the shape is \(3, 6, 7",
    ),
    "text": (lambda mine: (mine / "train/bee/1.jpg").write_bytes(b"text"), ValueError, r"1\.jpg: cannot be decoded"),
    "no image": (
        lambda mine: (mine / "test/ant/1.png").unlink(),
        FileNotFoundError,
        "test/ant: no images: expected files ending",
    ),
    "no test": (
        lambda mine: (mine / "test").rename(mine / "tests"),
        FileNotFoundError,
        "no folder .*/mine/test: put your images",
    ),
    "no classes": (
        lambda mine: [shutil.rmtree(folder) for folder in mine.glob("*/*")],
        FileNotFoundError,
        "tiny: no class folders in .*/mine: expected train/CLASS/FILE",
    ),
    "pipe": (lambda mine: os.mkfifo(mine / "train/bee/0.png"), ValueError, NO_FILE),
    "folder": (lambda mine: (mine / "train/bee/0.png").mkdir(), ValueError, NO_FILE),
    "loop": (lambda mine: (mine / "train/bee/0.png").symlink_to("0.png"), ValueError, NO_FILE),
    "link to nowhere": (lambda mine: (mine / "train/bee/0.png").symlink_to("nowhere"), ValueError, NO_FILE),
}


@pytest.mark.parametrize(("spoil", "error", "message"), SPOILT.values(), ids=SPOILT)
def test_image_folder_that_is_wrong_is_named(
    image_folder: Path, spoil: Callable[[Path], object], error: type[Exception], message: str
) -> None:
    spoil(image_folder)
    with pytest.raises(error, match=message):
        data.load("tiny")


# -- what is left out


def test_what_is_left_out_is_counted_and_named(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = data.load("tiny")
    commands.write_manifest("tiny", tmp_path / "before.json")
    for part in ("train", "test"):
        (image_folder / part / ".ipynb_checkpoints").mkdir()
        Image.new("RGB", (8, 6)).save(image_folder / part / ".ipynb_checkpoints" / "1.png")
    (image_folder / "train/ant/.hidden.png").write_bytes(b"")
    (image_folder / "train/ant/notes.txt").write_text("")
    (image_folder / "train/ant/more").mkdir()
    Image.new("RGB", (8, 6)).save(image_folder / "test/bee/1.bmp")
    (image_folder / "test/README.md").touch()
    left = ["test/.ipynb_checkpoints", "test/README.md", "test/bee/1.bmp", "train/.ipynb_checkpoints"]
    left += ["train/ant/.hidden.png", "train/ant/more", "train/ant/notes.txt"]
    assert image_folders.left_out(describe("tiny")) == left
    after = data.load("tiny")
    assert after.sha256 == before.sha256 and torch.equal(after.train_images, before.train_images)
    commands.write_manifest("tiny", tmp_path / "after.json")
    manifests = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("before", "after")]
    assert manifests[1].pop("left_out") == {"count": 7, "first": left}
    assert manifests[0] == manifests[1]
    told = f"tiny: 7 left out, no images by their names: {', '.join(left)}\n"
    assert capsys.readouterr().err == told
    assert commands.main(["fetch", "tiny"]) == 0
    assert capsys.readouterr().err == told


# -- what is read right


PIXELS = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)


def load_with(folder: Path, name: str, content: bytes) -> torch.Tensor:
    """The images of ``train/ant`` when its first file is another one."""
    (folder / "train/ant/1.png").unlink()
    (folder / "train/ant" / name).write_bytes(content)
    arrays, _ = image_folders.read_image_folder(describe("tiny"))
    return arrays[0][:2]


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    packed = io.BytesIO()
    image.save(packed, kind, **options)
    return packed.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_noted_orientation_is_applied(image_folder: Path, orientation: int) -> None:
    turns: dict[int, Callable[[Any], Any]] = {  # from what is stored to what a viewer shows
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p, -1),
        7: lambda p: np.rot90(p, 2).transpose(1, 0, 2),
        8: lambda p: np.rot90(p, 1),
    }
    stored = PIXELS if orientation < 5 else np.ascontiguousarray(PIXELS.transpose(1, 0, 2))
    noted = Image.Exif()
    noted[0x0112] = orientation
    content = encoded(Image.fromarray(stored), exif=noted.tobytes())
    found = load_with(image_folder, "1.png", content)[0]
    expected = torch.from_numpy(turns[orientation](stored).copy()).permute(2, 0, 1) / 255
    assert torch.equal(found, expected)


@pytest.mark.parametrize(("mode", "kind"), [("1", "png"), ("L", "png"), ("P", "png"), ("RGBA", "png"), ("RGB", "jpeg")])
def test_an_opaque_image_is_read_as_pillow_decodes_it(image_folder: Path, mode: str, kind: str) -> None:
    content = encoded(Image.fromarray(PIXELS).convert(mode), kind)
    found = load_with(image_folder, f"1.{kind}", content)[0]
    shown = Image.open(io.BytesIO(content)).convert("RGB")
    assert torch.equal(found, torch.from_numpy(np.array(shown)).permute(2, 0, 1) / 255)


# -- what is refused


def png(width: int, height: int, depth: int, kind: int, rows: bytes) -> bytes:
    """A PNG from its header and compressed rows, whatever they are."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">2I5B", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def half_clear() -> Image.Image:
    image = Image.fromarray(PIXELS).convert("RGBA")
    image.putpixel((3, 2), (0, 0, 0, 254))
    return image


BLACK, WHITE = Image.new("RGB", (8, 6)), Image.new("RGB", (8, 6), "white")
PALETTE, GREY_16 = WHITE.convert("P"), Image.new("I;16", (8, 6), 40000)
CLEAR = PALETTE.getpixel((0, 0))
TWO = {"save_all": True, "append_images": [WHITE]}
REFUSED = {
    "grey of 16 bits": ("1.png", encoded(GREY_16), "pixels of Pillow's mode I;16: expected grey"),
    "colour of 16 bits": ("1.png", png(8, 6, 16, 2, (b"\0" + bytes(8 * 6)) * 6), "16 bits a channel: expected 8"),
    "CMYK": ("1.jpg", encoded(BLACK.convert("CMYK"), "JPEG"), "pixels of Pillow's mode CMYK: expected grey"),
    "a transparent pixel": ("1.png", encoded(half_clear()), "transparent in places: expected opaque"),
    "a transparent colour": ("1.png", encoded(PALETTE, transparency=CLEAR), "transparent in places: expected opaque"),
    "frames of a GIF": ("1.gif", encoded(BLACK, "GIF", **TWO), "2 frames: expected one image in a file"),
    "frames of a PNG": ("1.png", encoded(BLACK, "PNG", **TWO), "2 frames: expected one image in a file"),
    "frames of a WebP": ("1.webp", encoded(BLACK, "WEBP", **TWO), "2 frames: expected one image in a file"),
    "a bomb of 400 million pixels": ("1.png", png(20000, 20000, 8, 2, b""), "cannot be decoded (Image size"),
    "a bomb of 100 million pixels": ("1.png", png(10000, 10000, 8, 2, b""), "cannot be decoded (Image size"),
    "a bomb of 70 million pixels": ("1.png", png(8400, 8400, 8, 2, b""), "8400x8400 pixels: expected at most 67"),
    "half a file": ("1.png", encoded(WHITE)[:45], "cannot be decoded ("),
    "another size, not decoded": ("2.png", png(9, 6, 8, 2, b""), "the shape is (3, 6, 9): expected (3, 6, 8)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_image_that_would_be_read_wrongly_is_refused_with_its_name(image_folder: Path, name: str) -> None:
    file, content, told = REFUSED[name]
    if file == "2.png":
        (image_folder / "train/ant/2.png").unlink()
        Image.new("RGB", (8, 6)).save(image_folder / "train/ant/0.png")
    with pytest.raises(ValueError) as caught:
        load_with(image_folder, file, content)
    message = str(caught.value)
    assert message.startswith(f"{image_folder}/train/ant/{file}: {told}") and "\n" not in message
    assert type(caught.value) is ValueError
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_a_folder_that_does_not_fit_in_memory_is_refused(image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five images of 144 numbers of four bytes, held twice, in 5,760 bytes."""
    for free in (5760, 5759):
        monkeypatch.setattr(image_folders.psutil, "virtual_memory", lambda free=free: SimpleNamespace(available=free))
        if free == 5760:
            assert len(data.load("tiny").train_labels) == 3
    words = r"^tiny: 5 images of \(3, 6, 8\) take 0\.0 GB of memory, of which 0\.0 GB are free: expected fewer"
    with pytest.raises(ValueError, match=words):
        data.load("tiny")


def test_a_class_that_is_a_loop_is_no_class(image_folder: Path) -> None:
    for part in ("train", "test"):
        (image_folder / part / "cat").symlink_to(image_folder / part / "cat")
    assert image_folders.class_names(describe("tiny")) == ["ant", "bee"]
    assert image_folders.left_out(describe("tiny")) == ["test/cat", "train/cat"]


@pytest.mark.parametrize("place", ["train/ant", "train/ant/1.png"])
def test_what_may_not_be_read_is_named(image_folder: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, function: Callable[[Path], Any]) -> Any:
        if path == image_folder / place:
            raise PermissionError(13, "Permission denied", str(path))
        return function(path)

    for name in ("iterdir", "read_bytes"):
        function = getattr(Path, name)
        monkeypatch.setattr(Path, name, lambda path, function=function: refuse(path, function))
    with pytest.raises(ValueError, match=rf"{place}: cannot be read \(Permission denied\): expected a"):
        data.load("tiny")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
def test_damaged_images_are_read_or_refused_in_one_sentence(tmp_path: Path, kind: str) -> None:
    whole, draws, refused = encoded(Image.fromarray(PIXELS), kind), random.Random(0), 0
    for _ in range(200):
        damaged = bytearray(whole)
        for _ in range(draws.randint(1, 4)):
            damaged[draws.randrange(len(whole))] = draws.randrange(256)
        try:
            assert decode(Path("x"), bytes(damaged), (3, 6, 8)).shape == (3, 6, 8)
        except ValueError as error:
            refused += 1
            assert type(error) is ValueError and str(error).startswith("x: ")
    assert refused > 20
