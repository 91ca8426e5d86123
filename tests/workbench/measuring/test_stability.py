"""Maps under change: small noise on the image, and layer after layer of the network randomised."""

import math
from typing import Any

import pytest
import timm
import torch
from scipy import stats
from skimage.metrics import structural_similarity as reference
from tiny_runs import digits, draws, fresh, run, same, trained_network, weights
from torch import Tensor, nn

from smoot.metrics import rank_correlation
from smoot.saliency import input_gradient, saliency_map
from workbench.measuring.attribution import ATTRIBUTIONS
from workbench.measuring.stability import cascading_randomisation, map_stability, reinitialise, structural_similarity
from workbench.training.inference import predict


def test_against_scipy_without_images_whose_map_is_constant() -> None:
    first = torch.rand(30, 6, 6, generator=draws(1))
    second = first + 0.5 * torch.rand(30, 6, 6, generator=draws(2))
    pairs = zip(first[:20].flatten(1), second[:20].flatten(1), strict=True)
    expected = sum(stats.spearmanr(a.numpy(), b.numpy()).statistic for a, b in pairs) / 20
    first[20:25], second[25:] = 0.5, 0.0
    assert map_stability(first, second) == pytest.approx(expected, abs=1e-5) and 0.5 < expected < 0.95
    assert math.isnan(map_stability(first, torch.zeros(30, 6, 6)))


def test_the_same_order_is_one_and_the_reverse_minus_one() -> None:
    ramp = torch.arange(36.0).view(1, 6, 6).expand(3, 6, 6)
    assert map_stability(ramp, ramp.square()) == pytest.approx(1.0)
    assert map_stability(ramp, 40 - ramp) == pytest.approx(-1.0)


NAMES = ("gradient", "random", "edges")


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    return trained_network(run("plain", "two_conv_small", dataset={"train_images": 400}))


def cascade(network: nn.Module, names: tuple[str, ...] = NAMES, seed: int = 0) -> tuple[list[str], dict[str, Any]]:
    images = digits().test_images[:12]
    targets = predict(network, images, batch_size=12).argmax(1)
    return cascading_randomisation(network, images, targets, names, batch_size=5, generator=draws(seed))


@pytest.mark.parametrize("shape", [(28, 28), (8, 8), (12, 9), (5, 6), (3, 3)])
def test_structural_similarity_of_maps_of_any_scale_against_scikit_image(shape: tuple[int, int]) -> None:
    first = torch.rand(4, *shape, generator=draws()) ** 3
    second = 0.6 * first + 0.4 * torch.rand(4, *shape, generator=draws(1))
    scaled = [
        (maps - maps.amin((1, 2), True)) / (maps.amax((1, 2), True) - maps.amin((1, 2), True))
        for maps in (first, second)
    ]
    side = min(7, *(length - 1 + length % 2 for length in shape))
    expected = [
        reference(a.numpy(), b.numpy(), win_size=side, data_range=1.0, use_sample_covariance=False)
        for a, b in zip(*scaled, strict=True)
    ]
    assert structural_similarity(first, second).tolist() == pytest.approx(expected, abs=1e-4)
    assert structural_similarity(first, 40 * first + 2).tolist() == pytest.approx([1.0] * 4, abs=1e-5)
    assert torch.isfinite(structural_similarity(first, torch.zeros(4, *shape))).all()


def test_each_step_keeps_what_was_destroyed_and_leaves_the_layers_below(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
    network[2].running_mean.fill_(3.0)
    seen: list[dict[str, Tensor]] = []

    def spy(explained: nn.Module, images: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        seen.append(weights(explained))
        return torch.rand(images.shape, generator=generator)

    monkeypatch.setitem(ATTRIBUTIONS, "spy", spy)
    assert cascade(network, ("spy",))[0] == ["3", "2", "1"]
    steps = seen[::3]  # twelve images in batches of five: three calls a step, the trained network's first
    assert len(seen) == 12 and same(steps[0], weights(network))
    changed = [{name.split(".")[0] for name in step if not torch.equal(step[name], steps[0][name])} for step in steps]
    assert changed == [set(), {"3"}, {"2", "3"}, {"1", "2", "3"}]
    assert torch.equal(steps[1]["3.weight"], steps[3]["3.weight"])  # destroyed once, not again at every step
    assert torch.equal(steps[2]["2.running_mean"], torch.zeros(8))


def test_many_layers_are_grouped_but_the_output_stands_alone() -> None:
    network = fresh(run("plain", "resnet10_narrow")).network
    owners = [name for name, module in network.named_modules() if list(module.parameters(recurse=False))][::-1]
    found, _ = cascade(network, ("gradient",))
    assert len(found) == 12 < len(owners)
    places = [owners.index(name) for name in found]
    sizes = [b - a for a, b in zip([-1, *places], places, strict=False)]
    assert places[0] == 0 and places[-1] == len(owners) - 1 and set(sizes[1:]) == {2, 3}


def test_a_layer_is_initialised_afresh_and_other_parameters_are_shuffled() -> None:
    norm = nn.BatchNorm2d(3)
    norm.weight.data.fill_(5.0)
    norm.running_var.fill_(7.0)
    reinitialise(norm)
    assert torch.equal(norm.weight, torch.ones(3)) and torch.equal(norm.running_var, torch.ones(3))
    transformer = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1, num_classes=4)
    position, block = transformer.pos_embed.detach().clone(), weights(transformer.blocks)
    reinitialise(transformer)  # its own parameters only
    assert not torch.equal(transformer.pos_embed, position)
    assert torch.equal(transformer.pos_embed.flatten().sort().values, position.flatten().sort().values)
    assert same(weights(transformer.blocks), block)


def test_a_network_without_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="network has no parameters"):
        cascade(nn.Flatten())


def test_from_the_output_to_the_input_the_gradient_changes_and_controls_do_not(trained: nn.Module) -> None:
    layers, found = cascade(trained)
    assert layers == ["backbone.10", "backbone.7", "backbone.2", "backbone.0"]
    for control in ("random", "edges"):
        assert found[control]["spearman"] == pytest.approx([1.0] * 4)
        assert found[control]["ssim"] == pytest.approx([1.0] * 4, abs=1e-5)
    assert found["gradient"]["spearman"][-1] < 0.8 and found["gradient"]["ssim"][-1] < 0.6


def test_the_last_step_against_a_network_randomised_by_hand() -> None:
    """Of a single linear layer the map of the destroyed network can be had from its own initialisation."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    images = digits().test_images[:12]
    targets = predict(network, images, batch_size=12).argmax(1)
    layers, found = cascade(network, ("gradient",), seed=4)
    seed = int(torch.randint(2**62, (1,), generator=draws(4)))
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    torch.manual_seed(seed)
    other[1].reset_parameters()
    before, after = (saliency_map(input_gradient(explained, images, targets)) for explained in (network, other))
    assert layers == ["1"]
    assert found["gradient"]["spearman"] == pytest.approx([float(rank_correlation(before, after).mean())])
    assert found["gradient"]["ssim"] == pytest.approx([float(structural_similarity(before, after).mean())])


def test_it_follows_the_generator(trained: nn.Module) -> None:
    first, again, other = (cascade(trained, ("gradient", "smooth_gradient"), seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first[1]["gradient"] != other[1]["gradient"]


def test_maps_that_never_vary_are_undefined(monkeypatch: pytest.MonkeyPatch, trained: nn.Module) -> None:
    monkeypatch.setitem(ATTRIBUTIONS, "flat", lambda network, images, targets, generator: torch.ones_like(images))
    _, found = cascade(trained, ("flat",))
    assert all(math.isnan(value) for value in found["flat"]["spearman"])
