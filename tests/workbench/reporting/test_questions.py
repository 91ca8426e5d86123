from pathlib import Path
from typing import Any

import pytest
import yaml
from synthetic import Axes, lay_out

from workbench.reporting.questions import Study, load_study

WHOLE: dict[str, Any] = {"title": "What matters in a mask", "exhibits": ["comparison", "oracle"], "reference": "plain"}
WHOLE |= {"note": "Ten seeds.", "compared": ["smoot", "plain"]}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    lay_out(tmp_path, monkeypatch, Axes())
    return tmp_path


def written(root: Path, block: Any) -> Study | None:
    """The study of a profile with this block."""
    file = root / "params.yaml"
    params = yaml.safe_load(file.read_text()) | {"study": block}
    file.write_text(yaml.safe_dump(params, sort_keys=False))
    return load_study("laptop")


def test_the_block_as_dataclasses_a_short_one_and_none(root: Path) -> None:
    exhibits, compared = ("comparison", "oracle"), ("smoot", "plain")
    assert written(root, WHOLE) == Study("What matters in a mask", exhibits, "plain", "Ten seeds.", compared)
    short = {"title": "t", "exhibits": ["oracle"], "reference": "plain"}
    assert written(root, short) == Study("t", ("oracle",), "plain")
    assert written(root, None) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference": "erm"}, r"study.reference names 'erm': expected one of plain, sgt, smoot"),
        ({"compared": ["smoot", "erm"]}, r"study.compared names 'erm': expected one of plain, sgt, smoot"),
        ({"compared": ["smoot", "smoot"]}, r"compared is \['smoot', 'smoot'\]: expected at least one, and none"),
        ({"exhibits": []}, r"exhibits is \[\]: expected at least one"),
        ({"exhibits": ["forest"]}, r"study.exhibits\[0\] is 'forest': expected 'log' or 'comparison' or 'oracle'"),
        ({"titel": "t"}, r"params.yaml: study: unknown key 'titel': expected title, exhibits"),
        *(({key: ...}, f"study: key '{key}' is missing") for key in ("title", "exhibits", "reference")),
    ],
)
def test_a_wrong_block_says_what_is_wrong(root: Path, change: dict[str, Any], message: str) -> None:
    block = {key: value for key, value in (WHOLE | change).items() if value is not ...}
    with pytest.raises(ValueError, match=message):
        written(root, block)
