"""The command line: fetched sets, manifests, what is wrong."""

import json
from pathlib import Path

import pytest
from tiny_idx import Checkout, content, sha256, write_files

from workbench.config import paths
from workbench.data import commands
from workbench.data.sets import load


def test_manifest_has_no_trace_of_when_or_from_where(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands.write_manifest("tiny", tmp_path / "first.json")
    monkeypatch.setenv("SMOOT_DATA_DIR", str(write_files(tmp_path / "mine")))
    monkeypatch.setattr(paths, "RAW", tmp_path / "other")
    commands.write_manifest("tiny", tmp_path / "second.json")
    text = (tmp_path / "first.json").read_text()
    assert (tmp_path / "second.json").read_text() == text
    manifest = json.loads(text)
    assert text == json.dumps(manifest, indent=2, sort_keys=True) + "\n"
    assert manifest["files"] == {n: {"bytes": len(b), "sha256": sha256(b)} for n, b in content().items()}
    assert manifest["sha256"] == load("tiny").sha256
    counts = [manifest[key] for key in ("train_images", "test_images", "num_classes", "image_shape")]
    assert counts == [6, 3, 3, [1, 4, 5]]
    assert (manifest["licence"], manifest["name"], manifest["region"]) == ("none", "tiny", "foreground")
    assert not {"source", "seed", "correlation"} & set(manifest)


def test_manifest_of_a_derived_set_names_its_source(checkout: Checkout, tmp_path: Path) -> None:
    checkout.derive(kind="shortcut", correlation=0.5, image_shape=None)
    commands.write_manifest("stacked", tmp_path / "stacked.json")
    manifest = json.loads((tmp_path / "stacked.json").read_text())
    assert manifest["source"] == {"name": "tiny", "sha256": load("tiny").sha256}
    assert (manifest["name"], manifest["title"], manifest["region"]) == ("stacked", "Stacked", "shortcut")
    assert (manifest["seed"], manifest["correlation"]) == (5, 0.5)
    assert manifest["sha256"] == load("stacked").sha256
    sizes = {name: entry["bytes"] for name, entry in manifest["files"].items()}
    assert sizes == {"train_images": 120, "train_labels": 6, "test_images": 60, "test_labels": 3, "test_regions": 60}
    counts = [manifest[key] for key in ("train_images", "test_images", "num_classes", "image_shape")]
    assert counts == [6, 3, 3, [1, 4, 5]]


def test_fetching_a_derived_set_fetches_its_source(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    checkout.derive()
    assert commands.main(["fetch", "stacked"]) == 0
    fetched, made = capsys.readouterr().out.splitlines()
    assert fetched.startswith("tiny: 4 files verified")
    assert made == "stacked: made from tiny whenever it is loaded"
    checkout.assert_whole()


def test_the_manifest_of_a_profile_lies_in_its_folder(checkout: Checkout) -> None:
    (checkout.root / "params.yaml").touch()
    assert commands.main(["manifest", "tiny", "--profile", "laptop"]) == 0
    assert (checkout.root / "data/manifest/laptop/tiny.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fetch", "tiny", "nope"], "unknown data set 'nope': expected one of tiny\n"),
        (["manifest", "nope"], "unknown data set 'nope': expected one of tiny\n"),
        (["manifest", "tiny", "--profile", "desk"], "unknown profile 'desk': expected one of laptop, smoke"),
    ],
)
def test_command_line_names_what_is_wrong(
    checkout: Checkout, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert commands.main(arguments) == 2
    assert capsys.readouterr().err.startswith(message)
    assert not checkout.raw.exists()  # nothing is fetched before all names are known


def test_command_line_when_nothing_serves(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SMOOT_DATA_DIR")
    assert commands.main(["fetch", "tiny"]) == 1
    assert capsys.readouterr().err.startswith("tiny: 4 files could not be had")
