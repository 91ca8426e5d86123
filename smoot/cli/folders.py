"""A folder of images by class: what is in it, and which images train, steer, choose the epoch and test.

An index holds names and labels as two arrays, so that 200,000 images take megabytes; pixels are read later.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from smoot.cli.decoding import IMAGE_SUFFIXES
from smoot.cli.files import shown

Part = Literal["training", "steering", "validation", "test"]
HELD_OUT = 0.1  # of a class's images, for each part other than the training images
VALIDATION_FOLDERS = ("val", "valid", "validation")


@dataclass(frozen=True)
class Images:
    """Some images below a folder.

    Attributes:
        folder: that holds one folder per class.
        classes: names of the class folders, sorted.
        names: ``(M,)`` file names in the class folder, as bytes.
        labels: ``(M,)`` int64, the number of each image's class.
    """

    folder: Path
    classes: tuple[str, ...]
    names: NDArray[np.bytes_]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path:
        """The file of an image."""
        return Path(self.folder, self.classes[self.labels[index]], os.fsdecode(self.names[index]))

    def take(self, index: NDArray[Any]) -> "Images":
        """The images with these numbers, in this order."""
        return replace(self, names=self.names[index], labels=self.labels[index])

    def some(self, count: int, seed: int) -> "Images":
        """At most ``count`` images, drawn at random."""
        return self.take(np.random.default_rng(seed).permutation(len(self))[:count])


@dataclass(frozen=True)
class Split:
    """The images of a folder by what they are used for.

    Attributes:
        parts: the images of each part; those for the test may be none.
        digest: SHA-256 of all names by part and class, to recognise the same folder.
        left_out: number of files in class folders that are no images by their names.
    """

    parts: Mapping[Part, Images]
    digest: str
    left_out: int

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their labels."""
        return self.parts["training"].classes


def split_folder(folder: Path, seed: int) -> Split:
    """Index a folder and split it, the same way whenever seed and files are the same.

    The images of each class are ordered by the SHA-256 of seed and name; the first tenth steers the mask schedule, the
    second chooses the epoch, the third is the test. Where ``train`` has ``val`` or ``test`` beside it these folders
    decide: ``val`` is halved into steering and validation images, and without it both come from ``train``.

    Raises:
        ValueError: for fewer than two classes, classes that differ between the folders, or too few images.
    """
    validation = next((name for name in VALIDATION_FOLDERS if (folder / name).is_dir()), None)
    test = "test" if (folder / "test").is_dir() else None
    if (folder / "train").is_dir() and (validation or test):
        found = {name: index_folder(folder / name) for name in ("train", validation, test) if name}
        parts = _given_parts(found, validation, test, seed)
    else:
        found = {"": index_folder(folder)}
        training, *held_out = _shares(found[""][0], (HELD_OUT, HELD_OUT, HELD_OUT), seed)
        parts = {"training": training, "steering": held_out[0], "validation": held_out[1], "test": held_out[2]}
    _check_parts(folder, parts)
    return Split(parts, _digest(found), sum(left_out for _, left_out in found.values()))


def index_folder(folder: Path) -> tuple[Images, int]:
    """All images in the class folders of a folder, and the number of files there that are none by their names.

    Raises:
        ValueError: if there are fewer than two classes, or one without images.
    """
    classes = sorted(entry.name for entry in _entries(folder) if entry.is_dir() and not entry.name.startswith("."))
    if len(classes) < 2:
        raise ValueError(
            f"{shown(folder)}: {len(classes)} class folder{'' if classes else 's'}: expected at least two, as "
            "FOLDER/CLASS/FILE, or FOLDER/train/CLASS/FILE beside FOLDER/val or FOLDER/test"
        )
    names, left_out = [], 0
    for name in classes:
        files = [entry.name for entry in _entries(folder / name)]
        kept = sorted(file for file in files if not file.startswith(".") and file.lower().endswith(IMAGE_SUFFIXES))
        if not kept:
            raise ValueError(f"{shown(folder / name)}: no images: expected files ending in {', '.join(IMAGE_SUFFIXES)}")
        names.append(np.array([os.fsencode(file) for file in kept]))
        left_out += len(files) - len(kept)
    labels = np.repeat(np.arange(len(classes)), [len(kept) for kept in names])
    return Images(folder, tuple(classes), np.concatenate(names), labels), left_out


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise ValueError(
            f"{shown(folder)}: cannot be read ({error.strerror}): expected a folder that you may read"
        ) from None


def _given_parts(
    found: Mapping[str, tuple[Images, int]], validation: str | None, test: str | None, seed: int
) -> dict[Part, Images]:
    """The parts where the folder has ``train`` and others."""
    training = found["train"][0]
    for name, (images, _) in found.items():
        if images.classes != training.classes:
            odd = ", ".join(sorted(set(images.classes) ^ set(training.classes)))
            raise ValueError(f"classes in one of train and {name} only: {shown(odd)}: expected the same in both")
    if validation:
        steering, chooses = _shares(found[validation][0], (0.5,), seed)
    else:
        training, steering, chooses = _shares(training, (HELD_OUT, HELD_OUT), seed)
    tested = found[test][0] if test else training.take(np.arange(0))
    return {"training": training, "steering": steering, "validation": chooses, "test": tested}


def _shares(images: Images, shares: tuple[float, ...], seed: int) -> list[Images]:
    """What is left of the images, then a share of each class for each of ``shares``, rounded to whole images."""
    parts: list[list[NDArray[Any]]] = [[] for _ in range(len(shares) + 1)]
    for label, name in enumerate(images.classes):
        own = np.flatnonzero(images.labels == label)
        order = own[np.argsort([_draw(seed, name, bytes(images.names[index])) for index in own])]
        ends = np.cumsum([int(share * len(own) + 0.5) for share in shares])
        *held_out, rest = np.split(order, ends)
        for part, chosen in zip(parts, [rest, *held_out], strict=True):
            part.append(np.sort(chosen))
    return [images.take(np.concatenate(part)) for part in parts]


def _draw(seed: int, class_name: str, name: bytes) -> bytes:
    return hashlib.sha256(b"%d %s/%s" % (seed, os.fsencode(class_name), name)).digest()


def _check_parts(folder: Path, parts: Mapping[Part, Images]) -> None:
    training = parts["training"]
    counts = np.bincount(training.labels, minlength=len(training.classes))
    short = [name for name, count in zip(training.classes, counts, strict=True) if not count]
    empty = [name for name in ("steering", "validation") if not len(parts[name])]
    if short or empty:
        what = f"training images of {shown(', '.join(short))}" if short else f"{empty[0]} images"
        raise ValueError(f"{shown(folder)}: too few images, no {what} after the split: expected ten or more of a class")


def _digest(found: Mapping[str, tuple[Images, int]]) -> str:
    digest = hashlib.sha256()
    for part, (images, _) in found.items():
        for label, name in zip(images.labels, images.names, strict=True):
            digest.update(b"%s/%s/%s\n" % (part.encode(), os.fsencode(images.classes[label]), bytes(name)))
    return digest.hexdigest()
