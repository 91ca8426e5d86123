from pathlib import Path
from typing import Any

import pytest
import yaml
from synthetic import Axes, lay_out

from workbench.reporting.questions import Study, load_study

WHOLE: dict[str, Any] = {
    "title": "What matters in a mask",
    "exhibits": ["comparison", "oracle"],
    "reference": "plain",
    "note": "Ten seeds.",
    "compared": ["smoot", "plain"],
}


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


def test_the_block_as_dataclasses(root: Path) -> None:
    found = written(root, WHOLE)
    assert found == Study(
        title="What matters in a mask",
        exhibits=("comparison", "oracle"),
        reference="plain",
        note="Ten seeds.",
        compared=("smoot", "plain"),
    )


def test_an_ordinary_profile_has_none_and_a_short_block_will_do(root: Path) -> None:
    assert written(root, None) is None
    found = written(root, {"title": "t", "exhibits": ["oracle"], "reference": "plain"})
    assert found == Study("t", ("oracle",), "plain")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference": "erm"}, r"study.reference names 'erm': expected one of plain, sgt, smoot"),
        ({"compared": ["smoot", "erm"]}, r"study.compared names 'erm': expected one of plain, sgt, smoot"),
        ({"compared": ["smoot", "smoot"]}, r"compared is \['smoot', 'smoot'\]: expected at least one, and none"),
        ({"exhibits": []}, r"exhibits is \[\]: expected at least one"),
        ({"exhibits": ["forest"]}, r"study.exhibits\[0\] is 'forest': expected 'log' or 'comparison' or 'oracle'"),
        ({"titel": "t"}, r"params.yaml: study: unknown key 'titel': expected title, exhibits"),
    ],
)
def test_a_wrong_block_says_what_is_wrong(root: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        written(root, WHOLE | change)


@pytest.mark.parametrize("key", ["title", "exhibits", "reference"])
def test_a_missing_key_is_named(root: Path, key: str) -> None:
    with pytest.raises(ValueError, match=f"study: key '{key}' is missing"):
        written(root, {name: value for name, value in WHOLE.items() if name != key})
