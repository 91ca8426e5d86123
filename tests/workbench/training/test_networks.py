"""Backbones: stems for small images, the two-convolution nets, pixels standardised inside, weights on disk."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from tiny_runs import METHODS, fresh, run, same, weights
from torch import Tensor, nn

from smoot.saliency import input_gradient
from workbench.config.profile import load_run
from workbench.config.run import DatasetConfig, ModelConfig
from workbench.training.networks import create_backbone, load_weights, pick_device, save_weights

TINY_VIT = {"patch_size": 4, "depth": 2, "embed_dim": 24, "num_heads": 2}


def backbone(
    architecture: str,
    shape: tuple[int, int, int] = (3, 32, 32),
    *,
    stem: Any = "original",
    classes: int = 7,
    **options: Any,
) -> nn.Module:
    pixels = DatasetConfig("some", 1, mean=(0.0,) * shape[0], std=(1.0,) * shape[0])
    config = ModelConfig("net", architecture, stem, options=options)
    return create_backbone(config, pixels, image_shape=shape, num_classes=classes)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def seen_by(module: nn.Module, network: nn.Module, images: Tensor) -> Tensor:
    """What a module inside the network gets to see."""
    seen: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].detach()))
    with torch.no_grad():
        network.eval()(images)
    handle.remove()
    assert len(seen) == 1
    return seen[0]


# -- timm


@pytest.mark.parametrize("name", ["resnet18", "resnet10t", "resnetblur18", "test_resnet"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 40, 32)])
def test_a_small_stem_keeps_every_pixel(name: str, shape: tuple[int, int, int]) -> None:
    network = backbone(name, shape, stem="small")
    conv = network.get_submodule("backbone.conv1")
    assert isinstance(conv, nn.Conv2d)
    assert (conv.in_channels, conv.kernel_size, conv.stride, conv.padding) == (shape[0], (3, 3), (1, 1), (1, 1))
    assert isinstance(network.get_submodule("backbone.maxpool"), nn.Identity)
    images = torch.rand(2, *shape)
    assert seen_by(network.get_submodule("backbone.layer1"), network, images).shape[2:] == shape[1:]
    assert network(images).shape == (2, 7)


def test_the_original_stem_is_timms_own_and_four_times_coarser() -> None:
    torch.manual_seed(5)
    network = backbone("test_resnet")
    torch.manual_seed(5)
    theirs = timm.create_model("test_resnet", in_chans=3, num_classes=7)
    assert same(network.get_submodule("backbone").state_dict(), theirs.state_dict())
    assert seen_by(network.get_submodule("backbone.layer1"), network, torch.rand(2, 3, 32, 32)).shape[2:] == (8, 8)


def test_a_small_stem_changes_nothing_but_the_stem() -> None:
    torch.manual_seed(5)
    small = backbone("resnet18", stem="small").state_dict()
    torch.manual_seed(5)
    large = backbone("resnet18").state_dict()
    assert [name for name in small if not torch.equal(small[name], large[name])] == ["backbone.conv1.weight"]
    deviation = math.sqrt(2 / (64 * 3 * 3))  # He's, by the 64 outputs
    assert float(small["backbone.conv1.weight"].std()) == pytest.approx(deviation, rel=0.05)


@pytest.mark.parametrize(
    ("profile", "dataset", "name", "stem"),
    [
        ("smoke", "digits", "resnet10_narrow", 9 * 16 + 2 * 16),  # one convolution
        ("laptop", "fashion_mnist", "resnet10_strided", 9 * (8 + 8 * 8 + 8 * 16) + 2 * (8 + 8 + 16)),  # three
    ],
)
def test_the_narrow_resnets_of_the_profiles_are_a_quarter_of_resnet18s_width(
    profile: str, dataset: str, name: str, stem: int
) -> None:
    config = load_run(dataset, name, "plain", 0, profile)
    network = create_backbone(config.backbone, config.dataset, image_shape=(1, 28, 28), num_classes=10)
    widths = [16, 32, 64, 128]
    first = 2 * (16 * 16 * 9 + 2 * 16)
    # two 3x3 convolutions and the 1x1 of the shortcut, each with a BatchNorm
    later = [9 * a * b + 9 * b * b + a * b + 6 * b for a, b in itertools.pairwise(widths)]
    assert parameters(network) == stem + first + sum(later) + 128 * 10 + 10


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_patch16_224"])
def test_a_vision_transformer_takes_small_images_through_its_options(name: str) -> None:
    network = backbone(name, **TINY_VIT)
    assert network.get_submodule("backbone.patch_embed").grid_size == (8, 8)
    assert network.get_parameter("backbone.pos_embed").shape == (1, 64 + 1, 24)
    images = torch.rand(2, 3, 32, 32)
    assert network(images).shape == (2, 7)
    gradient = input_gradient(network, images, torch.tensor([0, 6]))
    assert (gradient.unfold(2, 4, 4).unfold(3, 4, 4).abs().sum(dim=(1, 4, 5)) > 0).all()  # every patch counts


def test_an_image_size_of_ones_own_goes_before_the_data_sets() -> None:
    network = backbone("vit_tiny_patch16_224", img_size=16, dynamic_img_size=True, **TINY_VIT)
    assert network.get_submodule("backbone.patch_embed").img_size == (16, 16)


@pytest.mark.parametrize("name", ["convnext_atto", "mobilevit_xxs", "mixer_s32_224"])
def test_other_families_of_timm_answer_for_small_images(name: str) -> None:
    assert backbone(name).eval()(torch.rand(2, 3, 32, 32)).shape == (2, 7)


# -- the two-convolution nets


@pytest.mark.parametrize(
    ("name", "first", "second", "features", "hidden", "total"),
    [
        ("two_conv", 32, 64, 64 * 12 * 12, 128, 1_199_882),  # 28 -> 26 -> 24 pixels, pooled to 12
        ("two_conv_small", 16, 32, 32 * 6 * 6, 64, 79_242),  # 28 -> 13 -> 6 pixels
    ],
)
def test_two_conv_has_the_papers_size_and_two_conv_small_is_strided_and_narrower(
    name: str, first: int, second: int, features: int, hidden: int, total: int
) -> None:
    layers = (first * (9 + 1), second * (first * 9 + 1), hidden * (features + 1), 10 * (hidden + 1))
    network = backbone(name, (1, 28, 28), classes=10)
    assert parameters(network) == sum(layers) == total
    assert [module.p for module in network.modules() if isinstance(module, nn.Dropout)] == [0.25, 0.5]


@pytest.mark.parametrize(("name", "shape"), [("two_conv", (2, 6, 9)), ("two_conv_small", (2, 7, 12))])
def test_the_smallest_images_that_two_convolutions_take(name: str, shape: tuple[int, int, int]) -> None:
    assert backbone(name, shape)(torch.rand(3, *shape)).shape == (3, 7)
    smaller = (shape[0], shape[1] - 1, shape[2])
    with pytest.raises(ValueError, match=f"{smaller[1]}x{smaller[2]} pixels are too small for two 3x3"):
        backbone(name, smaller)


# -- pixels are standardised inside


def two_channels() -> nn.Module:
    pixels = DatasetConfig("some", 1, mean=(0.25, 0.75), std=(0.5, 0.125))
    return create_backbone(ModelConfig("net", "two_conv_small"), pixels, image_shape=(2, 8, 8), num_classes=3)


def test_the_network_standardises_what_it_is_given() -> None:
    network, images = two_channels().eval(), torch.rand(4, 2, 8, 8)
    by_hand = torch.stack([(images[:, 0] - 0.25) / 0.5, (images[:, 1] - 0.75) / 0.125], dim=1)
    assert torch.equal(seen_by(network.get_submodule("backbone"), network, images), by_hand)
    assert torch.equal(network(images), network.get_submodule("backbone")(by_hand))
    assert not any("normalize" in name for name in network.state_dict())  # mean and deviation are no weights
    assert not list(network.get_submodule("normalize").parameters())


def test_gradients_are_per_unit_of_pixel_value() -> None:
    network, linear = two_channels(), nn.Linear(2 * 64, 3)
    network.backbone = nn.Sequential(nn.Flatten(), linear)
    labels = torch.tensor([0, 2, 1, 2])
    gradient = input_gradient(network, torch.rand(4, 2, 8, 8), labels, score="logit")
    per_unit = linear.weight.detach().view(3, 2, 8, 8) / torch.tensor([0.5, 0.125]).view(2, 1, 1)
    assert torch.allclose(gradient, per_unit[labels], rtol=1e-6, atol=0)


# -- initialisation


@pytest.mark.parametrize("name", ["two_conv_small", "resnet10_narrow"])
def test_the_seed_alone_decides_the_initialisation(name: str) -> None:
    first = weights(fresh(run("plain", name)).network)
    for method in METHODS:
        torch.manual_seed(len(method))  # whatever was drawn before
        assert same(weights(fresh(run(method, name)).network), first)
    assert not same(weights(fresh(run("plain", name, seed=1)).network), first)


# -- weights on disk


@pytest.mark.parametrize("name", ["two_conv_small", "resnet10_narrow"])
def test_weights_come_back_from_disk_to_the_bit(name: str, tmp_path: Path) -> None:
    trained = fresh(run("plain", name, training={"channels_last": True})).network
    for parameter in trained.parameters():
        nn.init.normal_(parameter)
    save_weights(trained.state_dict(), tmp_path / "deep" / "w.safetensors")
    other = fresh(run("plain", name, seed=1)).network
    assert not same(other.state_dict(), trained.state_dict())
    load_weights(other, tmp_path / "deep" / "w.safetensors")
    assert same(other.state_dict(), trained.state_dict())
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["w.safetensors"]


def test_weights_of_another_network_do_not_load(tmp_path: Path) -> None:
    save_weights(backbone("two_conv_small", (1, 8, 8)).state_dict(), tmp_path / "w.safetensors")
    for other in (backbone("two_conv_small", (1, 8, 8), classes=6), backbone("test_resnet", (1, 8, 8))):
        with pytest.raises(RuntimeError, match="backbone"):
            load_weights(other, tmp_path / "w.safetensors")


# -- devices


@pytest.mark.parametrize(
    ("cuda", "mps", "first"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu"), (True, False, "cuda")]
)
def test_auto_is_the_first_device_there_is(cuda: bool, mps: bool, first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert pick_device("auto") == torch.device(first)
    assert pick_device("cpu") == torch.device("cpu")
    for name, there in {"cuda": cuda, "mps": mps}.items():
        if there:
            assert pick_device(name) == torch.device(name)
