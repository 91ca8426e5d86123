"""The documents as a web site: nothing that they link to is missing, and MkDocs has nothing to say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.config import paths
from workbench.stages import site

ROOT = Path(__file__).parents[3]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text('[method](docs/method.md#x) <img src="a.png"> ```[none](none.md)```\n')
    (tmp_path / "docs" / "method.md").write_text("[back](../README.md) [web](https://example.org/x)\n")
    (tmp_path / "a.png").write_bytes(b"png")
    (tmp_path / "b.png").write_bytes(b"png")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    return tmp_path


def test_documents_come_with_what_they_link_to_and_no_more(root: Path) -> None:
    assert site.collect(root / "runs") == 3
    found = sorted(file.relative_to(root / "runs").as_posix() for file in (root / "runs").rglob("*.*"))
    assert found == ["README.md", "a.png", "docs/method.md"]


def test_a_link_that_leads_nowhere_is_named(root: Path) -> None:
    (root / "docs" / "method.md").write_text("[gone](gone.md)\n")
    with pytest.raises(FileNotFoundError, match=r"docs/method\.md links to gone\.md: expected the path of a file"):
        site.collect(root / "runs")


def test_mkdocs_builds_the_site_without_a_warning(tmp_path: Path) -> None:
    """With the repository's own documents; in a folder that looks like the repository, so that runs/ stays as it is."""
    for name in ("mkdocs.yml", "smoot", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    site.collect(tmp_path / "runs" / "docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(tmp_path / "mkdocs.yml")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0 and "WARNING" not in built.stderr, built.stderr
    page = (tmp_path / "runs" / "site" / "docs" / "api.html").read_text(encoding="utf-8")
    assert "SaliencyGuidedLoss" in page and ":class:" not in page
    assert '<script src="http' not in page and "fonts.g" not in page
