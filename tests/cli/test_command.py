"""The command from end to end on a small folder: what it prints, writes and refuses."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import smoot
import smoot.cli
from smoot.cli import checkpoints, main, weights
from smoot.cli.folders import split_folder
from smoot.cli.recipe import Method
from smoot.cli.training import criterion_of

SMALL = ("-b", "test_resnet", "--epochs", "3", "--batch-size", "14", "--image-size", "32", "--workers", "0")
Captured = pytest.CaptureFixture[str]


def training(folder: Path, target: Path, *more: str) -> list[str]:
    return ["train", str(folder), *SMALL, "--learning-rate", "0.01", "-o", str(target), *more]


def report(captured: Captured) -> dict[str, Any]:
    """The one object on stdout."""
    found: dict[str, Any] = json.loads(captured.readouterr().out)
    return found


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("weights") / "smoot.safetensors"
    assert main(training(folder, target, "--quiet", "--seed", "1")) == 0
    return target


def test_training_reports_every_epoch_and_learns_two_colours(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    target = tmp_path / "n.safetensors"
    assert main(training(folder, target, "--json", "--seed", "1", "--skip-broken")) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found["images"] == {"training": 28, "steering": 4, "validation": 4, "test": 4}
    assert [row["epoch"] for row in found["epochs"]] == [1, 2, 3]
    assert found["epochs"][0]["masked_share"] == 0  # the gap is measured after the epoch
    gaps = [row["gap"] for row in found["epochs"]]
    for gap, row in zip(gaps, found["epochs"][1:], strict=False):  # rounded to whole images of a batch
        assert row["masked_share"] == pytest.approx(gap, abs=1 / 14)
    assert found["epochs"][-1]["cross_entropy"] < found["epochs"][0]["cross_entropy"]
    assert found["test"]["images"] == 4
    assert found["skipped"] == []
    assert 0 < found["waiting_share"] < 1
    card = weights.read(target)[0]
    assert (card.backbone, card.classes, card.method) == ("test_resnet", ("blue", "red"), "smoot")
    assert card.epoch == found["best_epoch"]
    assert card.schedule == tuple(row["masked_share"] for row in found["epochs"][: card.epoch])
    assert len(re.findall(r"^epoch \d/3: cross-entropy .* masked, gap .* accuracy", printed.err, re.MULTILINE)) == 3
    assert [file.name for file in tmp_path.iterdir()] == ["n.safetensors"]


def test_an_interrupted_training_goes_on_to_the_same_weights(
    folder: Path, trained: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "n.safetensors"
    save = checkpoints.save

    def interrupted(*arguments: Any) -> None:
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "save", interrupted)
        assert main(training(folder, target, "--seed", "1")) == 130
    assert "the last finished epoch is kept: go on with --resume" in capsys.readouterr().err
    assert weights.read(target)[0].epoch == 1
    assert main(training(folder, target, "--seed", "1")) == 2
    assert "exists: choose another, or pass --overwrite or --resume" in capsys.readouterr().err
    assert main(training(folder, target, "--seed", "1", "--resume")) == 0
    assert target.read_bytes() == trained.read_bytes()


@pytest.mark.parametrize("method", Method)
def test_each_method_is_a_loss_that_the_package_names(method: Method) -> None:
    criterion = criterion_of(method, torch.device("cpu"), 0)
    plan, guidance = criterion.schedule.plan, criterion.guidance
    expected = {
        Method.PLAIN: (0.0, None, "mean_abs", "keep"),
        Method.SGT: (1.0, 0.5, "signed_mean", "update"),
        Method.SMOOT: (0.0, 0.2, "signed_mean", "keep"),
        Method.RANDOM_MASK: (1.0, 0.5, "mean_abs", "keep"),
    }[method]
    assert (plan.image_fraction, guidance.reduction, guidance.masked_statistics) == (expected[0], *expected[2:])
    assert expected[1] in (None, plan.mask_fraction)
    assert isinstance(criterion.schedule, smoot.GapSchedule) == (method == Method.SMOOT)
    assert (plan.ranking == "random") == (method == Method.RANDOM_MASK)


def test_evaluation_measures_the_test_images_beside_chance(folder: Path, trained: Path, capsys: Captured) -> None:
    command = ["evaluate", str(trained), str(folder), "--judge", str(trained), "--workers", "0", "--quiet"]
    assert main([*command, "--json"]) == 0
    found = report(capsys)
    assert found["which"] == "the test images of its training"
    assert found["answers"]["images"] == found["noise"]["images"] == 4 == len(split_folder(folder, 1).parts["test"])
    low, high = found["answers"]["accuracy_interval_95"]
    assert low <= found["answers"]["accuracy"] <= high
    assert found["saliency"]["images"] == round(4 * found["answers"]["accuracy"])
    for kind in ("network", "random", "edges"):
        one = found["saliency"][kind]
        assert (one["own_gap_mean"], one["own_gap_black"]) == (one["judge_gap_mean"], one["judge_gap_black"])
        assert -1 <= one["own_gap_mean"] <= 1
    assert found["saliency"]["random"]["gini"] == pytest.approx(2**0.5 - 1, abs=0.02)  # of |normal| variables
    assert main([*command, "--map-images", "0"]) == 0
    assert "accuracy" in capsys.readouterr().out


def test_another_folder_is_measured_whole(trained: Path, make_folder: Callable[..., Path], capsys: Captured) -> None:
    root = make_folder(3)
    assert main(["evaluate", str(trained), str(root), "--workers", "0", "--quiet"]) == 0
    assert "images: 6, all images: its training had other files" in capsys.readouterr().out
    (root / "red").rename(root / "green")
    assert main(["evaluate", str(trained), str(root), "--quiet"]) == 1
    assert "the folder has other classes than smoot was trained on (green, red)" in capsys.readouterr().err


def test_an_explanation_is_a_picture_with_a_panel_for_each_network(
    folder: Path, trained: Path, tmp_path: Path, capsys: Captured
) -> None:
    images = [str(folder / "red" / "001.png"), str(folder / "blue" / "000.jpg")]
    widths = []
    for count in (1, 2):
        picture = tmp_path / f"{count}.png"
        command = ["explain", *[str(trained)] * count, *images, "-o", str(picture), "--class", "red", "--json"]
        assert main([*command, "--smooth", "2"]) == 0
        found = report(capsys)
        assert [row["image"] for row in found["explanations"]] == ["001.png"] * count + ["000.jpg"] * count
        assert {row["class"] for row in found["explanations"]} == {"red"}
        with Image.open(picture) as drawn:
            widths.append(drawn.width)
    assert widths[0] * 4 == widths[1] * 3  # image, networks, random map


def wrong_usage(folder: Path, weights_file: Path) -> dict[str, tuple[list[str], str]]:
    image = str(folder / "red" / "001.png")
    return {
        "no command": (["draw"], "No such command"),
        "no folder": (["train", str(folder / "nowhere")], "does not exist"),
        "backbone": (["train", str(folder), "-b", "resnet8000"], "unknown backbone 'resnet8000'"),
        "method": (["train", str(folder), "-m", "sgd"], "'sgd' is not one of"),
        "output": (["train", str(folder), "-o", "weights.pt"], r"ending in \.safetensors"),
        "device": (["explain", str(weights_file), image, "--device", "tpu"], "device 'tpu' is not available"),
        "no image": (["explain", str(weights_file)], r"one file of weights \(\.safetensors\) and one image"),
        "picture": (["explain", str(weights_file), image, "-o", "maps.docx"], r"ending in \.png"),
    }


@pytest.mark.parametrize("name", wrong_usage(Path(), Path()))
def test_wrong_usage_ends_with_2(name: str, folder: Path, trained: Path, capsys: Captured) -> None:
    arguments, words = wrong_usage(folder, trained)[name]
    assert main(arguments) == 2
    assert re.search(words, " ".join(capsys.readouterr().err.split()))


def test_failed_work_ends_with_1_and_leaves_nothing(
    make_folder: Callable[..., Path], trained: Path, tmp_path: Path, capsys: Captured
) -> None:
    root, target = make_folder(20), tmp_path / "n.safetensors"
    assert main(["explain", str(trained), str(trained.parent / "smoot.safetensors"), str(root / "red" / "001.png"),
                 "--class", "green", "-o", str(tmp_path / "m.png")]) == 1  # fmt: skip
    assert "knows no class 'green': expected one of blue, red" in capsys.readouterr().err
    for file in (root / "red").iterdir():
        file.write_bytes(b"no image")
    assert main(training(root, target, "--quiet")) == 1
    assert re.search(r"error: .*\.(png|jpg): cannot be decoded .*--skip-broken$", capsys.readouterr().err.strip())
    assert [file.name for file in tmp_path.iterdir()] == ["own"]


def test_without_its_extra_the_command_says_what_to_install(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoot.cli, "find_spec", lambda name: None if name in ("timm", "typer") else object())
    assert main(["train"]) == 1
    told = capsys.readouterr().err.splitlines()
    assert told == ["error: the command smoot needs timm, typer: pip install 'smoot-saliency[images]'"]
