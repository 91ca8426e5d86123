"""config.json: what the runs of a setting share, and what single methods set otherwise."""

import json
from pathlib import Path
from typing import Any

import pytest

from workbench.results import shared
from workbench.results.shared import Facts


def facts(method: str, *, seed: int = 0, code: str = "c", **training: Any) -> tuple[str, Facts]:
    """A run whose method sets some keys of the training otherwise."""
    config = {
        "profile": "laptop",
        "seed": seed,
        "dataset": {"name": "mnist", "mean": (0.25,), "train_images": 500},
        "backbone": {"name": "net"},
        "method": {"name": method, "plan": {"mask_fraction": 0.5}, "training": training, "dataset": {}},
        "training": {"epochs": 10, "rate": 1e-9} | training,
        "evaluation": {"fills": ("mean", "black")},
    }
    return method, Facts(config, {"smoot": code}, {"torch": "2.15.0"}, "d" * 64)


def test_what_is_written_comes_back_exactly_but_for_the_seed(root: Path) -> None:
    runs = [facts("long", seed=3, epochs=25), facts("plain", seed=3)]
    path = shared.update(runs, root)
    found = shared.read(root)
    for method, expected in runs:
        config = json.loads(json.dumps({key: value for key, value in expected.config.items() if key != "seed"}))
        assert found[method] == Facts(config, expected.code, expected.packages, expected.data)
    content = json.loads(path.read_text())
    assert content["training"] == {"epochs": 10, "rate": 1e-9}  # the profile's, whichever method comes first
    assert content["methods"]["long"]["training"] == {"epochs": 25}
    assert "seed" not in content and "name" not in content["methods"]["plain"]


@pytest.mark.parametrize("first", ["plain", "long"])
def test_methods_may_come_one_by_one(root: Path, first: str) -> None:
    runs = [facts("long", epochs=25), facts("plain")]
    once = shared.update(runs, root).read_bytes()
    runs.sort(key=lambda run: run[0] != first)
    (root / "often").mkdir()
    shared.update(runs[:1], root / "often")
    assert shared.read(root / "often")[first].config["training"]["epochs"] == {"plain": 10, "long": 25}[first]
    path = shared.update(runs[1:], root / "often", kept=[first])
    assert path.read_bytes() == once
    shared.update(runs[1:], root / "often")
    assert list(shared.read(root / "often")) == [runs[1][0]]  # without a run that stays, nothing of its method


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (facts("plain", code="e"), r"plain\.code\.smoot is 'e', but 'c' in other runs of this setting: make all"),
        (facts("plain", seed=1), None),
        (facts("plain", epochs=5), r"plain\.config\.method\.training\.epochs is 5, but None in other runs"),
        (facts("other", code="e"), r"\.code\.smoot is '.', but '.' in other runs"),
        (facts("other", epochs=5), None),
    ],
)
def test_runs_that_stay_must_have_been_made_alike(root: Path, other: tuple[str, Facts], message: str | None) -> None:
    path = shared.update([facts("plain")], root)
    before = path.read_bytes()
    if message is None:
        shared.update([other], root, kept=["plain"])
        return
    with pytest.raises(ValueError, match=message) as error:
        shared.update([other], root, kept=["plain"])
    assert str(path) in str(error.value) and path.read_bytes() == before
    shared.update([other], root)  # all of them again


def test_the_profiles_own_parameters_are_the_same_for_all(root: Path) -> None:
    (method, odd) = facts("odd")
    changed = Facts({**odd.config, "training": {"epochs": 11, "rate": 1e-9}}, odd.code, odd.packages, odd.data)
    with pytest.raises(ValueError, match=r"odd\.config\.training\.epochs is 11, but 10 in other runs"):
        shared.update([facts("plain"), (method, changed)], root)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"extra": 1}, "unknown key 'extra'"), ({"data": ...}, "key 'data' is"), ({"methods": ...}, "key 'methods' is")],
)
def test_a_spoilt_file_is_named(root: Path, change: dict[str, Any], message: str) -> None:
    path = shared.update([facts("plain")], root)
    content = {key: value for key, value in (json.loads(path.read_text()) | change).items() if value is not ...}
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as error:
        shared.read(root)
    assert str(path) in str(error.value)
