import sys
import time
from pathlib import Path

import matplotlib
import pytest
from PIL import Image

from workbench.reporting import style


def sketch(*, picture: bool = False) -> matplotlib.figure.Figure:
    figure, grid = style.panels(1, 1, 2.0)
    if picture:
        grid[0][0].imshow([[number / 400 for number in range(400)]], aspect="auto")
    grid[0][0].plot([0, 1], [1, 3], color=style.colours(["smoot"])["smoot"])
    grid[0][0].fill_between([0, 1], [0, 2], [2, 4], alpha=0.2)
    style.finish(grid[0][0], "Title", "x (s)", "y (%)")
    style.legend(figure, grid[0][0].lines)
    return figure


@pytest.mark.parametrize("count", [6, 7, 13])
@style.styled
def test_a_legend_is_never_cut_off(count: int) -> None:
    figure, ((axes,),) = style.panels(1, 1, 3.0)
    for number in range(count):
        axes.plot([0, 1], [number, 1], label=f"{'SMOOT' if count == 6 else 'a longer name of'} {number}")
    style.legend(figure, axes.lines)
    figure.canvas.draw()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width
    assert len(figure.legends[0].get_texts()) == count


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_saving_twice_gives_the_same_bytes_without_dates(tmp_path: Path, kind: str) -> None:
    first = style.save(sketch(), tmp_path / f"a.{kind}").read_bytes()
    time.sleep(1.1)
    assert style.save(sketch(), tmp_path / "sub" / f"b.{kind}").read_bytes() == first
    for word in (b"Software", b"Date", b"date>", b"matplotlib.org", b"Matplotlib v"):
        assert word not in first
    assert [file.name for file in (tmp_path / "sub").iterdir()] == [f"b.{kind}"]


def test_size_suits_a_readme(tmp_path: Path) -> None:
    with Image.open(style.save(sketch(), tmp_path / "a.png")) as picture:
        assert picture.size == (1125, 300)


def test_pictures_keep_their_colours_and_lines_need_few(tmp_path: Path) -> None:
    with Image.open(style.save(sketch(), tmp_path / "lines.png")) as lines:
        assert lines.mode == "P"
    with Image.open(style.save(sketch(picture=True), tmp_path / "picture.png")) as shades:
        assert len(shades.convert("RGB").getcolors(10**7)) > 256


def test_other_kinds_of_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot save a\.jpg: expected one of \.png, \.svg"):
        style.save(sketch(), tmp_path / "a.jpg")
    assert not list(tmp_path.iterdir())


def test_nothing_stays_open_in_pyplot(tmp_path: Path) -> None:
    style.save(sketch(), tmp_path / "a.png")
    if "matplotlib.pyplot" in sys.modules:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []


def test_settings_outside_are_left_alone(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    style.save(sketch(), tmp_path / "a.png")
    assert dict(matplotlib.rcParams) == before


def test_colours_are_fixed_by_name_and_distinct() -> None:
    known = ("plain", "random_mask", "sgt", "sgt_improved", "smoot")
    alone, together = style.colours(["smoot"]), style.colours([*known, "new", "newer"])
    assert alone["smoot"] == together["smoot"]
    assert len(set(together.values())) == 7
    assert len(set(style.markers([*known, "new", "newer"]).values())) == 7
