from html.parser import HTMLParser
from pathlib import Path

import pytest
from synthetic import Axes, lay_out, write_results

from workbench.__main__ import main
from workbench.config import files, paths
from workbench.reporting import style
from workbench.stages import pages, report, tables

BEGIN = "<!-- begin accuracy -->\n"
BEFORE = f"# Title\n\n{BEGIN}old\n\nolder\n<!-- end accuracy -->\ntext\n"
AFTER = f"# Title\n\n{BEGIN}| a |\n<!-- end accuracy -->\ntext\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    lay_out(tmp_path, monkeypatch, Axes())
    folders, plots = tmp_path / "figures/laptop/tables", tmp_path / "figures/laptop/plots"
    folders.mkdir(parents=True)
    plots.mkdir()
    (folders / "accuracy.md").write_text("| a |\n")
    (plots / "curves_x.png").write_bytes(b"png")
    files.write_json({"curves_x": "Curves of x, A: what. More."}, plots / "captions.json")
    (tmp_path / "docs").mkdir()
    for document in pages.DOCUMENTS:
        (tmp_path / document).write_text(AFTER)
    monkeypatch.setattr(pages, "drawn", lambda: "<svg/>")
    (tmp_path / pages.DIAGRAM).write_text("<svg/>")
    (tmp_path / pages.INDEX).write_text(pages.index())
    return tmp_path


def test_blocks_are_filled_and_the_rest_is_left(root: Path) -> None:
    assert pages.filled(BEFORE) == pages.filled(AFTER) == AFTER


@pytest.mark.parametrize("document", pages.DOCUMENTS)
def test_a_figure_becomes_an_image_with_its_caption_found_from_the_documents_folder(root: Path, document: str) -> None:
    address = ("../" if document.startswith("docs/") else "") + "figures/laptop/plots/curves_x.png"
    filled = pages.filled("<!-- begin curves_x -->\n<!-- end curves_x -->\n", document)
    figure = f"![Curves of x, A]({address})\n\n*Curves of x, A: what. More.*\n"
    assert filled == f"<!-- begin curves_x -->\n{figure}<!-- end curves_x -->\n"


def test_the_index_shows_every_figure_with_its_caption_and_names_every_table(root: Path) -> None:
    (root / "figures/laptop/tables/accuracy.md").write_text("**Accuracy, A.** Facts.\n\n| a |\n")
    index = pages.index()
    picture = '<img src="laptop/plots/curves_x.png" width="600" alt="Curves of x, A"></a>'
    assert f"{picture}\n\nCurves of x, A: what. More.\n" in index
    assert "[Accuracy, A](laptop/tables/accuracy.md)" in index


def test_another_profile(root: Path) -> None:
    (root / "paper").mkdir()
    (root / "paper" / "params.yaml").write_text("profile: paper\n")
    target = root / "figures" / "paper" / "tables" / "cost.md"
    target.parent.mkdir(parents=True)
    target.write_text("| c |\n")
    assert "| c |" in pages.filled("<!-- begin paper/cost -->\n<!-- end paper/cost -->\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- begin speed -->\n<!-- end speed -->", "X: unknown block 'speed': neither .*speed.md nor .*speed.png"),
        ("<!-- begin desk/cost -->\n<!-- end desk/cost -->", "unknown profile 'desk'"),
        ("a\n<!-- begin accuracy -->\n", "X: block 'accuracy' is not closed: add <!-- end accuracy -->"),
        ("a\n<!-- end accuracy -->\n", "X, line 2: found <!-- end accuracy -->: expected a begin before it"),
        *(
            (f"{BEGIN}<!-- {wrong} -->\n", f"X, line 2: found <!-- {wrong} -->: expected the end of 'accuracy'")
            for wrong in ("begin accuracy", "end curves_x")
        ),
    ],
)
def test_bad_markers_are_named_with_their_document(root: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        pages.filled(text, "X")


def test_check_names_stale_documents_and_writing_mends_them(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stale = pages.DOCUMENTS[:3]
    for document in stale:
        (root / document).write_text(BEFORE)
    assert main(["readme", "--check"]) == 1
    lines = [f"{document} is stale: `python -m workbench readme` refreshes it\n" for document in stale]
    assert capsys.readouterr().err == "".join(lines)
    assert all((root / document).read_text() == BEFORE for document in stale)

    assert main(["readme"]) == 0
    assert all((root / document).read_text() == AFTER for document in pages.DOCUMENTS)
    assert main(["readme", "--check"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("document", pages.DOCUMENTS[1:])
def test_a_bad_or_missing_document_changes_none(root: Path, document: str, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "README.md").write_text(BEFORE)
    for spoil in (lambda file: file.write_text("<!-- begin accuracy -->\n"), Path.unlink):
        spoil(root / document)
        assert main(["readme"]) == 2
        told = capsys.readouterr().err
        assert document in told and told.count("\n") == 1
        assert (root / "README.md").read_text() == BEFORE


class Outline(HTMLParser):
    """Keeps the tags, the addresses of pictures and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.sources, self.text = list[str](), list[str](), ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [address for key, address in attrs if key in ("src", "href") and address and address[0] != "#"]

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


def test_the_report_holds_figures_first_then_tables_and_links_to_all(plots: Path) -> None:
    path = report.write_report("laptop")
    assert path == paths.ROOT / "figures" / "laptop" / "report.html"
    page = Outline(path.read_text(encoding="utf-8"))

    built = tables.build_all("laptop")
    notes = {table.note for table in built.values() if table.note}
    assert page.tags.count("table") == sum(len(table.pieces) for table in built.values())
    assert page.tags.count("section") == 1 + len(built) + len(notes)
    for table in built.values():
        assert table.title.replace("`", "") in page.text
        for text in table.display.to_numpy().ravel():
            assert text in page.text
    assert page.tags.count("li") == page.tags.count("section")
    assert page.text.index("Curves of a & b") < page.text.rindex(built["summary"].title)
    assert 'Curves of a & b, "both" < 1.' in page.text
    assert page.sources == ["plots/curves_x.png"]  # nothing is fetched from elsewhere
    assert (path.parent / page.sources[0]).is_file()
    first = path.read_bytes()
    assert report.write_report("laptop").read_bytes() == first


def test_figures_come_in_reading_order_and_those_that_the_report_lacks_are_named(plots: Path) -> None:
    for name in ("curves_x.png", "captions.json"):
        (plots / name).unlink()
        with pytest.raises(FileNotFoundError, match=rf"{name} is missing: `dvc repro figures` makes it"):
            report.write_report("laptop")
        assert not (paths.ROOT / "figures" / "laptop" / "report.html").exists()
    names = ["curves_b", "overlays_z", "unknown", "curves_a", "growth"]
    files.write_json(dict.fromkeys(names, "What."), plots / "captions.json")
    assert list(report.captions(plots)) == ["overlays_z", "curves_a", "curves_b", "growth", "unknown"]
