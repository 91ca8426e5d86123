from pathlib import Path

import pytest
from synthetic import Axes, lay_out

from workbench.config import files, paths
from workbench.stages import readme

BEFORE = "# Title\n\n<!-- begin accuracy -->\nold\n\nolder\n<!-- end accuracy -->\ntext\n"
AFTER = "# Title\n\n<!-- begin accuracy -->\n| a |\n<!-- end accuracy -->\ntext\n"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    lay_out(tmp_path, monkeypatch, Axes())
    tables, plots = tmp_path / "figures/laptop/tables", tmp_path / "figures/laptop/plots"
    tables.mkdir(parents=True)
    plots.mkdir()
    (tables / "accuracy.md").write_text("| a |\n")
    (plots / "curves_x.png").write_bytes(b"png")
    files.write_json({"curves_x": "Curves of x, A: what. More."}, plots / "captions.json")
    (tmp_path / "docs").mkdir()
    for document in readme.DOCUMENTS:
        (tmp_path / document).write_text(AFTER)
    return tmp_path


def test_blocks_are_filled_and_the_rest_is_left(root: Path) -> None:
    assert readme.filled(BEFORE) == AFTER
    assert readme.filled(AFTER) == AFTER


def test_a_figure_becomes_an_image_with_its_caption() -> None:
    text = readme.filled("<!-- begin curves_x -->\n<!-- end curves_x -->\n")
    assert text.splitlines()[1:-1] == [
        "![Curves of x, A](figures/laptop/plots/curves_x.png)",
        "",
        "*Curves of x, A: what. More.*",
    ]


@pytest.mark.parametrize("document", readme.DOCUMENTS)
def test_a_figure_is_found_from_the_folder_of_the_document(root: Path, document: str) -> None:
    text = readme.filled("<!-- begin curves_x -->\n<!-- end curves_x -->\n", document)
    address = text.partition("](")[2].partition(")")[0]
    assert ((root / document).parent / address).resolve() == root / "figures/laptop/plots/curves_x.png"
    assert address.startswith("../") == document.startswith("docs/")


def test_another_profile(root: Path) -> None:
    (root / "paper").mkdir()
    (root / "paper" / "params.yaml").write_text("profile: paper\n")
    target = root / "figures" / "paper" / "tables" / "cost.md"
    target.parent.mkdir(parents=True)
    target.write_text("| c |\n")
    assert "| c |" in readme.filled("<!-- begin paper/cost -->\n<!-- end paper/cost -->\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- begin speed -->\n<!-- end speed -->", "unknown block 'speed': neither .*speed.md nor .*speed.png"),
        ("<!-- begin desk/cost -->\n<!-- end desk/cost -->", "unknown profile 'desk'"),
        ("a\n<!-- begin accuracy -->\n", "block 'accuracy' is not closed: add <!-- end accuracy -->"),
        ("a\n<!-- end accuracy -->\n", "line 2: found <!-- end accuracy -->: expected a begin before it"),
        (
            "<!-- begin accuracy -->\n<!-- begin accuracy -->\n",
            "line 2: found <!-- begin accuracy -->: expected the end of 'accuracy'",
        ),
        (
            "<!-- begin accuracy -->\n<!-- end curves_x -->\n",
            "line 2: found <!-- end curves_x -->: expected the end of 'accuracy'",
        ),
    ],
)
def test_bad_markers(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        readme.filled(text)


@pytest.mark.parametrize("document", ["README.md", "docs/replication.md"])
def test_an_error_names_the_document(document: str) -> None:
    for text in ("<!-- begin speed -->\n<!-- end speed -->\n", "<!-- end accuracy -->\n", "<!-- begin accuracy -->\n"):
        with pytest.raises(ValueError, match=f"^{document}[:,] "):
            readme.filled(text, document)


@pytest.mark.parametrize("document", readme.DOCUMENTS)
def test_check_says_stale_once_and_writing_mends_it(
    root: Path, document: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / document).write_text(BEFORE)
    assert readme.main(["--check"]) == 1
    said = capsys.readouterr().err
    assert said == f"{document} is stale: `python -m workbench.stages.readme` refreshes it\n"
    assert (root / document).read_text() == BEFORE

    assert readme.main([]) == 0
    assert (root / document).read_text() == AFTER
    assert readme.main(["--check"]) == 0
    assert capsys.readouterr().err == ""


def test_every_stale_document_is_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for document in readme.DOCUMENTS[1:3]:
        (root / document).write_text(BEFORE)
    assert readme.main(["--check"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(" ")[0] for line in said] == list(readme.DOCUMENTS[1:3])


def test_an_error_in_one_document_is_one_line_and_changes_none(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "README.md").write_text(BEFORE)
    (root / "docs/deviations.md").write_text("<!-- begin accuracy -->\n")
    assert readme.main([]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert (root / "README.md").read_text() == BEFORE
    assert (root / "docs/deviations.md").read_text() == "<!-- begin accuracy -->\n"


@pytest.mark.parametrize("document", readme.DOCUMENTS)
def test_a_missing_document_is_an_error_that_names_it(
    root: Path, document: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / document).unlink()
    assert readme.main([]) == 1
    assert str(paths.ROOT / document) in capsys.readouterr().err
    assert not (root / document).exists()
