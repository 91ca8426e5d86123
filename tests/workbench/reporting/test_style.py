import sys
from pathlib import Path

import matplotlib
import pytest
from PIL import Image

from workbench.config.methods import MethodEntry
from workbench.reporting import style


def sketch(*, picture: bool = False) -> matplotlib.figure.Figure:
    figure, grid = style.panels(1, 1, 2.0)
    if picture:
        grid[0][0].imshow([[number / 400 for number in range(400)]], aspect="auto")
    grid[0][0].plot([0, 1], [1, 3], color="#0173b2")
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


def test_saving_twice_gives_the_same_bytes_without_dates(tmp_path: Path) -> None:
    first = style.save(sketch(), tmp_path / "a.png").read_bytes()
    assert style.save(sketch(), tmp_path / "sub" / "b.png").read_bytes() == first
    assert not [word for word in (b"Software", b"Matplotlib", b"tIME", b"Time") if word in first]
    assert [file.name for file in (tmp_path / "sub").iterdir()] == ["b.png"]


def test_files_suit_a_readme_pictures_keep_their_colours_and_lines_need_few(tmp_path: Path) -> None:
    with Image.open(style.save(sketch(), tmp_path / "lines.png")) as lines:
        assert (lines.mode, lines.size) == ("P", (1125, 300))
    with Image.open(style.save(sketch(picture=True), tmp_path / "picture.png")) as shades:
        assert len(shades.convert("RGB").getcolors(10**7)) > 256


def test_nothing_stays_open_and_settings_outside_are_left_alone(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    style.save(sketch(), tmp_path / "a.png")
    assert dict(matplotlib.rcParams) == before
    if "matplotlib.pyplot" in sys.modules:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []


def test_methods_look_as_the_registry_says_and_else_neutral() -> None:
    entries = {"a": MethodEntry("A", "#123456", "s"), "b": MethodEntry("B"), "c": MethodEntry("C", colour="#654321")}
    assert style.method_looks(entries) == {
        "a": style.Look("A", "#123456", "s"),
        "b": style.Look("B", *style.NEUTRAL),
        "c": style.Look("C", "#654321", style.NEUTRAL[1]),
    }


def test_attributions_differ_and_look_the_same_whatever_stands_beside_them() -> None:
    looks = style.attribution_looks(["edges", "my_own"])
    assert len({(look.colour, look.marker) for look in looks.values()}) == len(looks) == 7
    assert style.attribution_looks(["edges"])["edges"] == looks["edges"]
    assert (looks["edges"].title, looks["my_own"].title) == ("Edges", "my_own")


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_panels_name_their_axes_at_the_left_and_where_nothing_is_below(count: int) -> None:
    figure, placed = style.tiles(count, 2, 1.0, 0.2)
    assert len(figure.axes) == count
    assert [left for _, left, _ in placed] == [place % 2 == 0 for place in range(count)]
    assert [lowest for _, _, lowest in placed] == [place >= count - 2 for place in range(count)]
