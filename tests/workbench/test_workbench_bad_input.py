"""Bad calls of the workbench, one row each: one clear error that names the value and what is allowed."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo  # an optimiser imports it, and it must find the functions of torch that are replaced here
from clear_errors import Row, assert_clear
from tiny_runs import draws, fresh, run, silent, split

from workbench.config.run import DatasetConfig, ModelConfig
from workbench.data import sets as data
from workbench.data.composites import block_images, mosaics, shortcut_images
from workbench.training.guided import fit
from workbench.training.networks import create_backbone, load_weights, pick_device


def built(architecture: str, shape: tuple[int, int, int] = (3, 32, 32), **config: Any) -> Callable[[], Any]:
    """Builds a backbone for data of as many channels as the images have."""
    pixels = DatasetConfig("some", 1, (0.0,) * shape[0], (1.0,) * shape[0])
    return lambda: create_backbone(
        ModelConfig("net", architecture, **config), pixels, image_shape=shape, num_classes=10
    )


def shallow(**changes: Any) -> Callable[[], Any]:
    """Fits a run with another split; what else is wrong with images is in test_sets.py."""
    return lambda: fit(run(), replace(split(run()), **changes), 10, Path("never written"), silent)


VIT = "vit_tiny_patch16_224"
MODELS = [
    Row("architecture", built("resnet999"), ("'resnet999'", "two_conv, two_conv_small or a timm model")),
    Row("misspelt", built("vit_tiny"), ("'vit_tiny'", "a timm model such as")),
    Row("an unknown option", built("resnet18", options={"widths": [8]}), ("{'widths': [8]}", "do not fit", "'widths'")),
    Row("an option's type", built("resnet18", options={"layers": "two"}), ("{'layers': 'two'}", "do not fit")),
    Row("odd heads", built(VIT, options={"num_heads": 5}), ("'num_heads': 5", "do not fit", "divisible")),
    Row("options of two_conv", built("two_conv", options={"hidden": 3}), ("two_conv takes no options",)),
    Row("stem of two_conv", built("two_conv_small", stem="small"), ("two_conv_small takes no options, stem",)),
    Row("two_conv pretrained", built("two_conv", pretrained=True), ("two_conv takes no options, stem or weights",)),
    *(
        Row(f"small stem of {name}", built(name, stem="small"), ("stem 'small'", "ResNets only", name, "'original'"))
        for name in (VIT, "convnext_atto", "regnetx_002")
    ),
    Row("size", built("resnet18", (3, 32, 41), stem="small"), ("(32, 41)", "up to 40 pixels", "use 'original'")),
    Row("too small for two_conv", built("two_conv", (1, 28, 5)), ("28x5 pixels", "two 3x3 convolutions")),
    Row(
        "channels",
        lambda: create_backbone(ModelConfig("net", "two_conv"), run().dataset, image_shape=(3, 28, 28), num_classes=10),
        ("datasets.digits", "have 1 and 1 numbers", "expected 3, one per channel"),
    ),
    Row("device", lambda: pick_device("cuda"), ("'cuda' is not available", "this machine has cpu", "'auto'")),
    Row("another device", lambda: pick_device("mps"), ("'mps' is not available", "this machine has cpu", "'auto'")),
    Row("a device there is not", lambda: pick_device("tpu"), ("'tpu' is not available", "this machine has cpu")),
    Row("device of a run", lambda: fresh(run(training={"device": "cuda"})), ("'cuda' is not available", "'auto'")),
]
DATA = [
    Row("data set to load", lambda: data.load("cifar1000"), ("'cifar1000'", "fashion_mnist", "digits")),
    Row(
        "more images than there are",
        lambda: split(run(dataset={"train_images": 1400})),
        ("1400 training, 40 validation, 0 development and 40 steering images", "no more than the 1437"),
    ),
    Row("labels", shallow(train_labels=torch.full((72,), 10)), ("labels go from 10 to 10", "expected 0 to 9")),
]


def blocks(images: torch.Tensor) -> Callable[[], Any]:
    return lambda: block_images(images, generator=draws())


def patched(correlation: Any = 0.9, classes: int = 3, **changes: torch.Tensor) -> Callable[[], Any]:
    """Puts a shortcut on three images of three classes."""
    given = {"images": torch.zeros(3, 1, 4, 4), "labels": torch.arange(3)} | changes
    return lambda: shortcut_images(**given, num_classes=classes, correlation=correlation, generator=draws())


def tiled(count: Any = 2, labels: Any = (0, 1, 2, 3)) -> Callable[[], Any]:
    """Makes mosaics of four images."""
    images = torch.zeros(4, 1, 4, 4)
    return lambda: mosaics(images, torch.tensor(labels), count=count, generator=draws())


COMPOSED = [
    Row("no channels", blocks(torch.zeros(3, 4, 4)), ("images have the shape (3, 4, 4)", "expected (N, C, H, W)")),
    Row("bytes", blocks(torch.zeros(3, 1, 4, 4).byte()), ("torch.uint8", "floating point", "images.float() / 255")),
    Row("correlation above 1", patched(1.5), ("correlation is 1.5", "expected a number in [0, 1]")),
    Row("correlation below 0", patched(-0.1), ("correlation is -0.1", "expected a number in [0, 1]")),
    Row("correlation NaN", patched(math.nan), ("correlation is nan", "expected a number in [0, 1]")),
    Row("correlation in words", patched("0.9"), ("correlation is '0.9'", "expected a number in [0, 1]")),
    Row("more patches than fit", patched(classes=9), ("num_classes is 9", "expected 1 to 8", "1x1", "4x4 pixels")),
    Row("labels of too few patches", patched(classes=2), ("labels go from 0 to 2", "expected 0 to 1 for 2 classes")),
    Row("negative labels of patches", patched(labels=torch.tensor([0, -1, 2])), ("from -1 to 2", "expected 0 to 2")),
    Row("labels of other images", patched(labels=torch.arange(4)), ("torch.int64 (4,)", "expected torch.int64 (3,)")),
    Row("labels in halves", patched(labels=torch.ones(3)), ("torch.float32 (3,)", "expected torch.int64 (3,)")),
    Row("no mosaics", tiled(0), ("count is 0", "expected a whole number of at least 1")),
    Row("half a mosaic", tiled(0.5), ("count is 0.5", "expected a whole number of at least 1")),
    Row("mosaics of three classes", tiled(labels=(0, 1, 2, 2)), ("labels hold 3 different", "expected at least 4")),
    Row("mosaics of other labels", tiled(labels=(0, 1, 2)), ("torch.int64 (3,)", "expected torch.int64 (4,)")),
]

LOST = Row(
    "weights",
    lambda: load_weights(fresh(run()).network, Path("nowhere/0.safetensors")),
    ("nowhere/0.safetensors is missing", "train this run first"),
    FileNotFoundError,
)


@pytest.mark.parametrize("row", [*MODELS, *DATA, *COMPOSED, LOST], ids=lambda row: row.name)
def test_a_call_that_cannot_work_is_one_clear_error(row: Row, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(row.error) as caught:
        row.call()
    assert_clear(caught.value, row.error, row.words)
