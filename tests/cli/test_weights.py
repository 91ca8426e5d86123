"""Weights with their card: what is saved is loaded, and anything else is refused in a sentence."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from smoot.cli import checkpoints, networks, weights
from smoot.cli.trained import load_trained

CARD = weights.Card("test_resnet", ("a", "b"), 32, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), "smoot", 7, 3, (0.0, 0.1, 0.2))
CPU = torch.device("cpu")


def test_a_network_comes_back_as_it_was(tmp_path: Path) -> None:
    network = networks.build(CARD)
    weights.save(network, CARD, tmp_path / "deep" / "n.safetensors")
    loaded = load_trained(tmp_path / "deep" / "n.safetensors", CPU)
    assert loaded.card == CARD
    assert loaded.name == "n"
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded.network(images), network.eval()(images))
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["n.safetensors"]


def test_pixels_are_standardised_inside_the_network() -> None:
    pixels = torch.rand(2, 3, 32, 32)
    network = networks.build(CARD)
    given = (pixels - torch.tensor(CARD.mean).view(3, 1, 1)) / torch.tensor(CARD.std).view(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(network(pixels), network.backbone(given))


def card(**changes: Any) -> str:
    return json.dumps(asdict(CARD) | changes)


HOSTILE = {
    "text": (None, "no such weights"),
    "no card": ({}, "no card in its metadata"),
    "no JSON": ({"smoot": "{"}, "no such weights"),
    "a list": ({"smoot": "[]"}, "its card is no mapping"),
    "deep": ({"smoot": "[" * 100_000}, "no such weights"),
    "an unknown key": ({"smoot": card(command="rm")}, "unexpected keyword argument 'command'"),
    "another type": ({"smoot": card(image_size="32")}, "impossible image_size"),
    "huge": ({"smoot": card(image_size=10**9)}, "impossible image_size"),
    "one class": ({"smoot": card(classes=["a"])}, "impossible classes"),
    "no deviation": ({"smoot": card(std=[0.2, 0.0, 0.2])}, "impossible std"),
    "an address": ({"smoot": card(backbone="hf-hub:someone/model")}, "unknown backbone 'hf-hub:someone/model'"),
    "other tensors": ({"smoot": card()}, "tensors do not fit the network that its card describes"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_other_files_are_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    metadata, words = HOSTILE[name]
    file = tmp_path / "w.safetensors"
    if metadata is None:
        file.write_text("no weights")
    else:
        save_file({"x": torch.zeros(1)}, file, metadata)
    with pytest.raises(ValueError, match=words) as caught:
        load_trained(file, CPU)
    assert str(caught.value).startswith(str(file))
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_file_and_an_unfit_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"w\.safetensors is missing"):
        load_trained(tmp_path / "w.safetensors", CPU)
    with pytest.raises(ValueError, match="test_vit does not take images of 33x33 pixels"):
        networks.build(replace(CARD, backbone="test_vit", image_size=33))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: networks.check_backbone("resnet8000"), "unknown backbone 'resnet8000': .* such as .*resnet"),
        (lambda: networks.check_backbone("nf_resnet26", pretrained=True), "no pretrained weights"),
        (lambda: networks.pick_device("tpu"), "device 'tpu' is not available: this machine has .*cpu"),
    ],
)
def test_a_name_that_is_none_is_refused(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


def test_weights_that_cannot_be_fetched_are_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    create = networks.timm.create_model

    def offline(*arguments: Any, pretrained: bool = False, **options: Any) -> nn.Module:
        if pretrained:
            raise OSError("no route to host\nand more")
        return create(*arguments, **options)

    monkeypatch.setattr(networks.timm, "create_model", offline)
    with pytest.raises(ValueError, match=r"could not be fetched \(no route to host\): connect to the internet"):
        networks.build(CARD, pretrained=True)


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    file, parts = tmp_path / "c", {"network": nn.Linear(2, 2)}
    with pytest.raises(ValueError, match="nothing to resume"):
        checkpoints.read(file, {})
    checkpoints.save(file, {"seed": 0, "epochs": 3}, parts, [{"epoch": 1}])
    twin = {"network": nn.Linear(2, 2)}
    assert checkpoints.restore(checkpoints.read(file, {"seed": 0, "epochs": 3}), twin) == [{"epoch": 1}]
    assert torch.equal(twin["network"].weight, parts["network"].weight)
    with pytest.raises(ValueError, match=r"of a training with epochs 3 \(now 4\): resume with the same settings"):
        checkpoints.read(file, {"seed": 0, "epochs": 4})
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"is no checkpoint .*: remove it and train anew"):
        checkpoints.read(file, {"seed": 0, "epochs": 3})
