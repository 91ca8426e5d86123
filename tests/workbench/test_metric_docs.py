"""The page of measures: sections parsed from source, errors that name what is missing, stale or not."""

import subprocess
import sys
from pathlib import Path

import pytest

from smoot.workbench import metric_docs, paths

SOURCE = '''
"""A module that cannot be imported, only read."""
import nothing_of_this_name


def hits(saliency):
    """Share of hits, see :func:`smoot.metrics.misses` and
    :class:`Curve`.

    More about it.

    Formula:
        ``a / b``
        with b > 0.

    Range:
        [0, 1].
    Better:
        higher.
    Not a section but a sentence.
    Source:
        A & B 2020.
    Fails when:
        b is 0. As :func:`misses`.

    Args:
        saliency: ``(N, H, W)``.

    Returns:
        ``(N,)``.
    """


def silent(saliency):
    return saliency


def short(saliency):
    """Says little.

    Formula:
        a
    Better:
    Source:
        A 2020.
    """
'''
ENTRY = """### hits

Share of hits, see `misses` and `Curve`. (`smoot.own`)

- **Formula.** `a / b` with b > 0.
- **Range.** [0, 1].
- **Better.** Higher.
- **Source.** A & B 2020.
- **Fails when.** B is 0. As `misses`."""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one measure of one group."""
    (tmp_path / "smoot").mkdir()
    (tmp_path / "smoot" / "own.py").write_text(SOURCE)
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(metric_docs, "GROUPS", {"Placing": "\nWhere it is.\n", "Empty": "\nNone yet.\n"})
    monkeypatch.setattr(metric_docs, "MEASURES", (("Placing", "smoot.own:hits"),))
    return tmp_path


def test_a_measure_is_its_summary_and_sections(root: Path) -> None:
    assert metric_docs.entry_text("smoot.own:hits") == ENTRY


def test_arguments_are_parsed_but_not_shown(root: Path) -> None:
    sections = metric_docs.parsed(metric_docs.docstring("smoot.own:hits"))
    assert sections["Args"] == "saliency: ``(N, H, W)``." and sections["Returns"] == "``(N,)``."
    assert "(N, H, W)" not in metric_docs.page() and "More about it" not in metric_docs.page()
    assert "Not a section" not in metric_docs.page()


def test_the_page_has_a_heading_a_group(root: Path) -> None:
    lines = metric_docs.page().splitlines()
    headings = [line for line in lines if line.startswith("#")]
    assert headings == [f"# {metric_docs.TITLE}", "## Placing", "### hits", "## Empty"]
    assert lines[lines.index("## Placing") + 2] == "Where it is."


@pytest.mark.parametrize(
    ("group", "entry", "message"),
    [
        ("Placing", "smoot.other:hits", r"smoot\.other:hits: .*other\.py does not exist"),
        ("Placing", "smoot.own:misses", r"smoot\.own:misses: .*no function 'misses' with a docstring"),
        ("Placing", "smoot.own:silent", r"smoot\.own:silent: .*no function 'silent' with a docstring"),
        ("Placing", "smoot.own:short", "smoot.own:short: its docstring lacks Range, Better, Fails when: expected"),
        ("Colour", "smoot.own:hits", r"unknown groups \['Colour'\] in MEASURES: expected Placing, Empty"),
    ],
)
def test_what_is_missing_is_named(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    group: str,
    entry: str,
    message: str,
) -> None:
    monkeypatch.setattr(metric_docs, "MEASURES", ((group, entry),))
    with pytest.raises(ValueError, match=message):
        metric_docs.page()
    assert metric_docs.main([]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (root / "docs" / "metrics.md").exists()


def test_check_says_stale_once_and_writing_mends_it(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = root / "docs" / "metrics.md"
    assert metric_docs.main(["--check"]) == 1
    assert capsys.readouterr().err == (
        "docs/metrics.md is stale: `python -m smoot.workbench.metric_docs` refreshes it\n"
    )
    assert not target.exists()
    assert metric_docs.main([]) == 0 and target.read_text() == metric_docs.page()
    assert metric_docs.main(["--check"]) == 0 and capsys.readouterr().err == ""

    target.write_text(target.read_text() + "by hand\n")
    assert metric_docs.main(["--check"]) == 1 and target.read_text().endswith("by hand\n")
    capsys.readouterr()
    assert metric_docs.main([]) == 0 and target.read_text() == metric_docs.page()


def test_the_committed_page_is_that_of_the_docstrings(capsys: pytest.CaptureFixture[str]) -> None:
    assert metric_docs.main(["--check"]) == 0, capsys.readouterr().err


def test_every_measure_of_the_core_is_on_the_page() -> None:
    import smoot.curves
    import smoot.metrics

    public = {
        f"{module.__name__}:{name}"
        for module in (smoot.curves, smoot.metrics)
        for name, value in vars(module).items()
        if not name.startswith("_") and callable(value) and getattr(value, "__module__", "") == module.__name__
        if not isinstance(value, type)
    }
    assert public - {entry for _, entry in metric_docs.MEASURES} == set()
    assert len(public) == 8


def test_the_page_is_written_without_importing_what_measures() -> None:
    code = (
        "import sys\nfrom smoot.workbench import metric_docs\nbefore = set(sys.modules)\nmetric_docs.page()\n"
        "print(*{name for name in set(sys.modules) - before if name.startswith('smoot')})\n"
        "print(*{'timm', 'torchvision', 'captum', 'torchmetrics'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=paths.ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == "\n\n"
