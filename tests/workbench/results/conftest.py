"""Tables are written below a root of the test's own."""

from pathlib import Path

import pytest

from workbench.config import paths


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    return tmp_path
