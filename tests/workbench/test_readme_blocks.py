from pathlib import Path

import pytest
from synthetic import Axes, lay_out

from smoot.workbench import paths, readme, storage

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
    storage.write_json({"curves_x": "Curves of x, A: what. More."}, plots / "captions.json")
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


def test_check_says_stale_once_and_writing_mends_it(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "README.md").write_text(BEFORE)
    assert readme.main(["--check"]) == 1
    said = capsys.readouterr().err
    assert said == "README.md is stale: `python -m smoot.workbench.readme` refreshes it\n"
    assert (root / "README.md").read_text() == BEFORE

    assert readme.main([]) == 0
    assert (root / "README.md").read_text() == AFTER
    assert readme.main(["--check"]) == 0
    assert capsys.readouterr().err == ""


def test_an_unclosed_block_is_one_line_and_changes_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "README.md").write_text("<!-- begin accuracy -->\n")
    assert readme.main([]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert (root / "README.md").read_text() == "<!-- begin accuracy -->\n"


def test_no_readme_is_an_error_that_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert readme.main(["--check"]) == 1
    assert str(paths.ROOT / "README.md") in capsys.readouterr().err
