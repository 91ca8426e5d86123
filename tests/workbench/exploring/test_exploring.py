"""The committed networks and the views of them: what the notebooks rest on."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from workbench.exploring import views, widgets
from workbench.exploring.committed import METHODS, WEIGHTS, load_committed, own_image, sample_images, settings
from workbench.exploring.pictures import overlaid

SETTING = "fashion_mnist-two_conv_small"
LARGEST = 1_000_000  # bytes of one file
PNG = b"\x89PNG"


def test_the_card_lists_every_file_with_its_hash() -> None:
    card = (WEIGHTS / "README.md").read_text("utf-8")
    listed = dict(re.findall(r"^\| `(.*?)` \|.*`([0-9a-f]{64})` \|$", card, re.MULTILINE))
    files = {file.relative_to(WEIGHTS).as_posix(): file for file in WEIGHTS.rglob("*.safetensors")}
    assert listed == {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}
    assert max(file.stat().st_size for file in files.values()) < LARGEST
    assert len(files) == len(settings()) * len(METHODS) + 1


@pytest.mark.parametrize("setting", settings())
def test_a_committed_network_gives_the_answers_of_its_results(setting: str) -> None:
    from workbench.config.paths import ProfilePaths
    from workbench.results.samples import samples_in

    for method in METHODS:
        samples = samples_in(ProfilePaths("laptop").results / setting)[method]
        with torch.no_grad():
            answers = load_committed(setting, method)(torch.from_numpy(samples.images)).argmax(1)
        assert (answers.numpy() == samples.predictions).mean() >= 0.9  # one of ten may be a close call in float16


def test_a_map_glows_where_it_is_high_and_elsewhere_shows_the_image() -> None:
    saliency = torch.zeros(4, 4)
    saliency[0, 0] = 1.0  # 16 times the mean
    shown = overlaid(torch.full((3, 4, 4), 0.5), saliency)
    torch.testing.assert_close(shown[:, 0, 0], torch.tensor([1.0, 0.65, 0.1]))
    torch.testing.assert_close(shown[:, 1, 1], torch.full((3,), 0.5 * 0.55))


def test_every_view_is_a_picture_the_same_each_time(tmp_path: Path) -> None:
    Image.fromarray(np.arange(60 * 40 * 3, dtype=np.uint8).reshape(60, 40, 3)).save(tmp_path / "own.png")
    for view in (
        lambda: views.compare(SETTING, "plain", "plain", 0),
        lambda: views.masked(SETTING, "smoot", 9, 0.5, "at random", "uniform"),
        lambda: views.compare_own(SETTING, "sgt", "smoot", str(tmp_path / "own.png")),
    ):
        first = view().data
        assert first.startswith(PNG)
        assert view().data == first
    assert views.drawn(SETTING, 0.3, 0.5, 0.2).data != views.drawn(SETTING, 0.3, 0.3, 0.2).data


def test_an_own_image_is_made_grey_and_cropped_to_its_middle(tmp_path: Path) -> None:
    pixels = np.zeros((28, 84, 3), np.uint8)
    pixels[:, 28:56] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    image = own_image(tmp_path / "wide.png", SETTING)
    assert image.shape == (1, *sample_images(SETTING)[0].shape[1:])
    assert image.eq(1).all()


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no committed network of mnist-vit, plain: expected one of block_mnist-"):
        load_committed("mnist-vit", "plain")
    with pytest.raises(FileNotFoundError, match=r"no\.png is missing"):
        own_image(tmp_path / "no.png", SETTING)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match=r"text\.png cannot be read"):
        own_image(tmp_path / "text.png", SETTING)


def test_controls_start_with_what_the_views_take() -> None:
    for controls in (widgets.comparison(), widgets.masks(), widgets.shares(), widgets.own("missing.png")):
        given = {child.description: child.value for child in controls.children[:-1]}
        assert given["setting"] == SETTING
