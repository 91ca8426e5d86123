"""Folders of images: what is found, how it is split, and what is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from smoot.cli.folders import Images, index_folder, split_folder

MakeFolder = Callable[..., Path]


def paths(images: Images) -> set[Path]:
    return {images.path(index) for index in range(len(images))}


def test_every_image_is_found_once_with_its_class_and_the_rest_is_counted(make_folder: MakeFolder) -> None:
    root = make_folder(5)
    (root / "red" / "notes.txt").touch()
    (root / "red" / ".hidden.png").touch()
    (root / ".cache").mkdir()
    images, left_out = index_folder(root)
    assert images.classes == ("blue", "red")
    assert paths(images) == {*root.glob("*/0*.png"), *root.glob("*/0*.jpg")}
    assert [images.path(index).parent.name for index in range(10)] == [images.classes[label] for label in images.labels]
    assert left_out == 2


def test_a_split_uses_every_image_once_and_is_stratified(folder: Path) -> None:
    split = split_folder(folder, seed=0)
    assert {name: np.bincount(part.labels).tolist() for name, part in split.parts.items()} == {
        "training": [14, 14],
        "steering": [2, 2],
        "validation": [2, 2],
        "test": [2, 2],
    }
    found = [paths(part) for part in split.parts.values()]
    assert set().union(*found) == paths(index_folder(folder)[0])
    assert sum(map(len, found)) == 40


def test_a_split_depends_on_seed_and_names_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    split = split_folder(folder, seed=0)
    moved = split_folder(Path(shutil.copytree(folder, tmp_path / "moved")), seed=0)
    assert moved.digest == split.digest
    assert all((moved.parts[part].names == images.names).all() for part, images in split.parts.items())
    other = split_folder(folder, seed=1)
    assert paths(other.parts["test"]) != paths(split.parts["test"])
    (tmp_path / "moved" / "red" / "new.png").touch()
    assert split_folder(tmp_path / "moved", seed=0).digest != split.digest


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("train", "val", "test"), (20, 10, 10, 20)),
        (("train", "test"), (16, 2, 2, 20)),
        (("train", "valid"), (20, 10, 10, 0)),
    ],
)
def test_folders_for_parts_decide(given: tuple[str, ...], expected: tuple[int, ...], make_folder: MakeFolder) -> None:
    for place, name in enumerate(given):
        root = make_folder(20, name, first=100 * place).parent
    split = split_folder(root, seed=0)
    assert tuple(len(split.parts[part]) // 2 for part in ("training", "steering", "validation", "test")) == expected
    first = {"training": "train", "validation": given[1] if "v" in given[1] else "train", "test": "test"}
    assert all(part.folder.name == first[name] for name, part in split.parts.items() if name in first and len(part))


def test_a_folder_that_cannot_be_used_is_refused(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder(3)
    with pytest.raises(ValueError, match=r"own: too few images, no steering images .* expected ten or more of a class"):
        split_folder(root, seed=0)
    (root / "green").mkdir()
    with pytest.raises(ValueError, match=r"green: no images: expected files ending in \.png, \.jpg"):
        index_folder(root)
    with pytest.raises(ValueError, match=r"red: 0 class folders: expected at least two"):
        index_folder(root / "red")
    with pytest.raises(ValueError, match="cannot be read"):
        index_folder(tmp_path / "nowhere")
    make_folder(9, "train")
    shutil.rmtree(make_folder(9, "test") / "red")
    (root / "test" / "grey").mkdir()
    shutil.copy(root / "red" / "000.jpg", root / "test" / "grey")
    with pytest.raises(ValueError, match="classes in one of train and test only: grey, red"):
        split_folder(root, seed=0)
