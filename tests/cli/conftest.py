"""A folder of small photographs-to-be: two classes that differ in colour, of several sizes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COLOURS = {"blue": (40, 60, 200), "red": (200, 60, 40)}


def write_folder(root: Path, count: int, first: int = 0) -> Path:
    """``count`` noisy images of each colour, as PNG and JPEG, 36 to 43 pixels wide."""
    for label, (name, colour) in enumerate(COLOURS.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(first, first + count):
            noise = np.random.default_rng([label, index]).integers(-40, 41, (36, 36 + index % 8, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index:03}.{'png' if index % 2 else 'jpg'}")
    return root


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty images of each class, never changed."""
    return write_folder(tmp_path_factory.mktemp("images"), 20)


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes such a folder of a test's own; a name is that of a folder in it."""
    return lambda count=20, name="", first=0: write_folder(tmp_path / "own" / name, count, first)
