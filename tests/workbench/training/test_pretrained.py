"""Weights that a network starts from: the known ones, or a refusal."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from workbench.config import paths
from workbench.config.run import DatasetConfig, ModelConfig
from workbench.data.sets import ImageData
from workbench.training import pretrained
from workbench.training.networks import create_backbone, load_network, save_weights

NAME = "test_efficientnet"
PIXELS = DatasetConfig("some", 1, mean=(0.5,) * 3, std=(0.5,) * 3)
CONFIG = ModelConfig("net", NAME, pretrained=True)


def published(folder: Path, seed: int = 0) -> nn.Module:
    """A network whose weights lie where those of other people are looked for."""
    torch.manual_seed(seed)
    network = timm.create_model(NAME)
    (folder / "weights").mkdir(exist_ok=True)
    save_weights(network.state_dict(), folder / "weights" / f"{NAME}.safetensors")
    return network


def started(classes: int = 5, channels: int = 3) -> nn.Module:
    network = create_backbone(CONFIG, PIXELS, image_shape=(channels, 32, 32), num_classes=classes)
    return network.get_submodule("backbone")


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    monkeypatch.setattr(paths, "RAW", tmp_path)
    network = published(tmp_path)
    monkeypatch.setattr(pretrained, "KNOWN", {NAME: pretrained.digest(network)})
    return network


def test_a_network_starts_from_the_known_weights_and_an_own_last_layer(known: nn.Module) -> None:
    torch.manual_seed(1)
    first = started().state_dict()
    torch.manual_seed(2)
    second = started().state_dict()
    own = {name for name in first if not torch.equal(first[name], second[name])}
    assert own == {"classifier.weight", "classifier.bias"}
    for name, value in known.state_dict().items():
        assert name.startswith("classifier.") or torch.equal(value, first[name]), name
    assert first["classifier.weight"].shape[0] == 5


def test_other_weights_are_refused_with_both_digests(known: nn.Module, tmp_path: Path) -> None:
    other = published(tmp_path, seed=3)
    with pytest.raises(ValueError, match="expected") as refused:
        started()
    assert pretrained.digest(known) in str(refused.value)
    assert pretrained.digest(other) in str(refused.value)


def test_every_weight_but_those_of_the_last_layer_is_in_the_digest(known: nn.Module) -> None:
    before = pretrained.digest(known)
    for name, tensor in known.state_dict().items():
        kept = tensor.clone()
        tensor.view(-1)[-1] += 1
        assert (pretrained.digest(known) == before) == name.startswith("classifier."), name
        tensor.copy_(kept)
    assert pretrained.digest(known) == before


def test_weights_of_an_architecture_that_is_not_listed_are_refused() -> None:
    with pytest.raises(ValueError, match=f"no pretrained weights of {NAME} are known: expected tf_efficientnet_lite0"):
        started()


def test_without_file_and_network_it_says_what_to_make(known: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    (paths.RAW / "weights" / f"{NAME}.safetensors").unlink()

    def offline(*_: Any, **options: Any) -> nn.Module:
        assert "pretrained_cfg_overlay" not in options
        raise OSError("no route to host\nand much more")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ValueError, match=r"cannot be had \(no route to host\): connect to the internet, or make .*"):
        started()


def test_a_trained_network_is_loaded_without_them(known: nn.Module, tmp_path: Path) -> None:
    trained = create_backbone(CONFIG, PIXELS, image_shape=(3, 32, 32), num_classes=5)
    save_weights(trained.state_dict(), tmp_path / "trained.safetensors")
    (paths.RAW / "weights" / f"{NAME}.safetensors").unlink()
    none = torch.zeros(0, 3, 32, 32)
    labels = torch.zeros(0, dtype=torch.long)
    images = ImageData("some", none, labels, none, labels, num_classes=5, sha256="")
    loaded = load_network(CONFIG, PIXELS, images, tmp_path / "trained.safetensors", torch.device("cpu"))
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in trained.state_dict().items())
