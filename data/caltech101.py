"""Make the image folder `caltech101` of photographs from Caltech-101.

    python data/caltech101.py SOURCE

SOURCE is the folder with one folder of photographs per class: of the originals ``101_ObjectCategories``, which
``torchvision.datasets.Caltech101(ROOT, download=True)`` puts below ROOT/caltech101, or a copy of them with smaller
images, of at least 96 pixels on the shorter side.

The rule: the `CLASSES` classes with most photographs, without background and without the second cut of the faces. Of
each class the first `LIMIT` photographs by name, every fifth of them for testing. Each is cropped to its middle square
and resized to 96 x 96 pixels, bicubic, and kept as a PNG file.
"""

import sys
from pathlib import Path

from PIL import Image, ImageOps

CLASSES, LIMIT, TEST_EVERY, SIZE = 16, 120, 5, 96
LEFT_OUT = ("BACKGROUND_Google", "Faces_easy")
TARGET = Path(__file__).parent / "raw" / "caltech101"


def photographs(source: Path) -> dict[str, list[Path]]:
    """The files of the largest classes by name, first those with most files; of equals the first by name.

    Raises:
        ValueError: if there are fewer classes.
    """
    found = {folder.name: sorted(folder.glob("*.jpg")) for folder in sorted(source.iterdir()) if folder.is_dir()}
    known = {name: files for name, files in found.items() if files and name not in LEFT_OUT}
    if len(known) < CLASSES:
        raise ValueError(f"{source} holds {len(known)} classes of photographs: expected at least {CLASSES}")
    largest = sorted(known, key=lambda name: -len(known[name]))[:CLASSES]
    return {name: known[name] for name in largest}


def square(file: Path) -> Image.Image:
    """The middle square of a photograph, resized.

    Raises:
        ValueError: if it is smaller than that.
    """
    with Image.open(file) as image:
        if min(image.size) < SIZE:
            raise ValueError(f"{file} has {image.size[0]}x{image.size[1]} pixels: expected {SIZE} on each side")
        return ImageOps.fit(image.convert("RGB"), (SIZE, SIZE), Image.Resampling.BICUBIC)


def main(source: Path) -> None:
    """Write the image folder, and print what it holds."""
    for name, files in photographs(source).items():
        for number, file in enumerate(files[:LIMIT]):
            part = "train" if number % TEST_EVERY else "test"
            folder = TARGET / part / name.lower()
            folder.mkdir(parents=True, exist_ok=True)
            square(file).save(folder / f"{file.stem}.png")
    counts = {part: len(list((TARGET / part).glob("*/*.png"))) for part in ("train", "test")}
    print(f"{counts['train']} photographs for training and {counts['test']} for testing in {TARGET}")


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("expected the folder with one folder of photographs per class: see the file's first lines")
    main(Path(sys.argv[1]))
