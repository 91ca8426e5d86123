"""Data sets as tensors: values, splits, manifests, the command line."""

import json
from pathlib import Path

import pytest
import torch
from tiny_idx import Checkout, content, sha256, write_files

from smoot.workbench import data, paths


def test_load_fetches_and_gives_the_stored_values(checkout: Checkout) -> None:
    loaded = data.load("tiny")
    stored = content()
    assert loaded.train_images.shape == (6, 1, 4, 5)
    assert loaded.test_images.shape == (3, 1, 4, 5)
    assert loaded.train_images.dtype == torch.float32
    pixels = torch.tensor(list(stored["t10k-images-idx3-ubyte"][16:]))
    assert torch.equal(loaded.test_images.flatten(), pixels / 255)
    assert loaded.train_labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert loaded.test_labels.dtype == torch.int64
    assert loaded.num_classes == 3
    lines = "".join(f"{sha256(stored[name])}  {name}\n" for name in sorted(stored))
    assert loaded.sha256 == sha256(lines.encode())


def test_load_is_quiet_when_the_files_are_there(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    write_files(checkout.raw)
    data.load("tiny")
    assert capsys.readouterr() == ("", "")


def test_load_replaces_a_broken_file(checkout: Checkout) -> None:
    write_files(checkout.raw, train_labels=b"broken")
    assert data.load("tiny").train_labels.tolist() == [0, 1, 2, 0, 1, 2]
    checkout.assert_whole()


def test_fetch_to_another_folder(checkout: Checkout, tmp_path: Path) -> None:
    report = data.fetch("tiny", raw=tmp_path / "elsewhere")
    assert report.folder == tmp_path / "elsewhere" / "tiny"
    assert {file.name for file in report.folder.iterdir()} == set(content())
    assert not checkout.raw.exists()


def numbered(total: int = 100) -> data.ImageData:
    """Images whose pixels are their number, labels that are their number modulo 4."""
    images = torch.arange(total).float().reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    labels = torch.arange(total) % 4
    return data.ImageData("numbered", images, labels, images[:4], labels[:4], 4, "0" * 64)


def test_split_is_disjoint_and_consistent() -> None:
    drawn = data.split(numbered(), train_images=60, validation_images=30, seed=3)
    assert len(drawn.train_index) == 60
    assert len(drawn.validation_index) == 30
    assert len(set(drawn.train_index.tolist()) | set(drawn.validation_index.tolist())) == 90
    assert torch.equal(drawn.train_images[:, 0, 0, 0].long(), drawn.train_index)
    assert torch.equal(drawn.validation_images[:, 0, 1, 1].long(), drawn.validation_index)
    assert torch.equal(drawn.train_labels, drawn.train_index % 4)
    assert torch.equal(drawn.validation_labels, drawn.validation_index % 4)


def test_split_depends_on_the_seed_only_and_more_images_contain_fewer() -> None:
    first = data.split(numbered(), train_images=20, validation_images=30, seed=3)
    torch.rand(7)
    more = data.split(numbered(), train_images=60, validation_images=30, seed=3)
    assert torch.equal(first.validation_index, more.validation_index)
    assert torch.equal(first.train_index, more.train_index[:20])
    other = data.split(numbered(), train_images=20, validation_images=30, seed=4)
    assert not torch.equal(first.train_index, other.train_index)


def test_split_of_all_that_remains() -> None:
    drawn = data.split(numbered(), train_images=None, validation_images=30, seed=0)
    assert len(drawn.train_labels) == 70
    assert len(data.split(numbered(), train_images=100, validation_images=0, seed=0).train_labels) == 100


@pytest.mark.parametrize(("train", "validation"), [(71, 30), (0, 30), (None, 100), (10, -1), (-5, 10)])
def test_split_of_more_than_there_are_is_refused(train: int | None, validation: int) -> None:
    with pytest.raises(ValueError, match=f"numbered: {train} training and {validation} validation .* the 100 of"):
        data.split(numbered(), train_images=train, validation_images=validation, seed=0)


def test_manifest_has_no_trace_of_when_or_from_where(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data.write_manifest("tiny", tmp_path / "first.json")
    monkeypatch.setenv("SMOOT_DATA_DIR", str(write_files(tmp_path / "mine")))
    monkeypatch.setattr(paths, "RAW", tmp_path / "other")
    checkout.describe(addresses=[])
    data.write_manifest("tiny", tmp_path / "second.json")
    text = (tmp_path / "first.json").read_text()
    assert (tmp_path / "second.json").read_text() == text
    manifest = json.loads(text)
    assert text == json.dumps(manifest, indent=2, sort_keys=True) + "\n"
    assert manifest["files"] == {n: {"bytes": len(b), "sha256": sha256(b)} for n, b in content().items()}
    assert manifest["sha256"] == data.load("tiny").sha256
    counts = [manifest[key] for key in ("train_images", "test_images", "num_classes", "image_shape")]
    assert counts == [6, 3, 3, [1, 4, 5]]
    assert (manifest["licence"], manifest["name"]) == ("none", "tiny")


def test_command_line(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout.root / "params.yaml").touch()
    assert data.main(["fetch", "tiny"]) == 0
    assert "tiny: 4 files verified in data/raw/tiny, served by file://" in capsys.readouterr().out
    assert data.main(["manifest", "tiny", "--profile", "laptop"]) == 0
    assert (checkout.root / "data/manifest/laptop/tiny.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["fetch", "tiny", "nope"], 2, "unknown data set 'nope': expected one of tiny\n"),
        (["manifest", "nope"], 2, "unknown data set 'nope': expected one of tiny\n"),
        (
            ["manifest", "tiny", "--profile", "desk"],
            2,
            "unknown profile 'desk': expected one of laptop, smoke",
        ),
    ],
)
def test_command_line_names_what_is_wrong(
    checkout: Checkout, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    assert data.main(arguments) == code
    assert capsys.readouterr().err.startswith(message)
    assert not checkout.raw.exists()  # nothing is fetched before all names are known


def test_command_line_when_nothing_serves(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    checkout.describe(addresses=[])
    assert data.main(["fetch", "tiny"]) == 1
    assert capsys.readouterr().err.startswith("tiny: 4 of 4 files could not be had")
