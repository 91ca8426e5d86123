import base64
from html.parser import HTMLParser
from pathlib import Path

import pytest
from synthetic import Axes, lay_out, write_results

from workbench.config import files, paths
from workbench.reporting import style
from workbench.stages import report, tables

VOID = {"meta", "img"}


class Outline(HTMLParser):
    """Checks that tags nest, and keeps pictures and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.sources: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.sources += [value or "" for key, value in attrs if key in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def plots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_results(lay_out(tmp_path, monkeypatch, Axes(seeds=(0, 1))), pictures=False)
    folder = paths.ProfilePaths("laptop").plots
    figure, grid = style.panels(1, 1, 1.0)
    grid[0][0].plot([1, 2])
    style.save(figure, folder / "curves_x.png")
    files.write_json({"curves_x": 'Curves of a & b, "both" < 1.'}, folder / "captions.json")
    return folder


def test_one_file_holds_verdict_tables_and_figures(plots: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["--profile", "laptop"]) == 0
    path = paths.ROOT / "figures" / "laptop" / "report.html"
    assert capsys.readouterr().out.strip() == str(path)
    outline = Outline()
    outline.feed(path.read_text(encoding="utf-8"))

    assert outline.open == []
    built = tables.build_all("laptop")
    assert outline.seen.count("table") == len(built)
    for table in built.values():
        assert table.title.replace("`", "") in outline.text
        for text in table.display.to_numpy().ravel():
            assert text in outline.text
    assert outline.seen.count("li") == 4  # accuracy, two gaps and the judge's
    assert 'Curves of a & b, "both" < 1.' in outline.text
    (picture,) = outline.sources  # nothing is fetched from elsewhere
    assert base64.b64decode(picture.removeprefix("data:image/png;base64,")) == (plots / "curves_x.png").read_bytes()


def test_little_markdown() -> None:
    assert report.rich("**A**, *b* < `c`.\n\n- one\n- *two*\n") == (
        "<p><strong>A</strong>, <em>b</em> &lt; <code>c</code>.</p>\n<ul><li>one</li><li><em>two</em></li></ul>"
    )


@pytest.mark.parametrize("name", ["captions.json", "curves_x.png"])
def test_missing_figures_are_named(plots: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (plots / name).unlink()
    assert report.main([]) == 1
    said = capsys.readouterr().err
    assert str(plots / name) in said
    assert "dvc repro figures" in said
    assert not (paths.ROOT / "figures" / "laptop" / "report.html").exists()


def test_an_unknown_profile_is_one_line(plots: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["--profile", "desk"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("unknown profile 'desk': expected one of laptop, smoke")
    assert said.count("\n") == 1
