"""Attribution methods against captum, closed forms and scipy."""

import captum.attr
import numpy as np
import pytest
import torch
from scipy import ndimage
from tiny_runs import draws, fresh, run, same, weights
from torch import Tensor, nn

from smoot.saliency import input_gradient
from smoot.task import target_score
from workbench.measuring.attribution import (
    ATTRIBUTIONS,
    INTEGRATION_STEPS,
    SMOOTH_SAMPLES,
    SMOOTH_STD,
    attribution_map,
    integrated_gradients,
    smooth_gradient,
)

NAMES = tuple(ATTRIBUTIONS)


def net(channels: int = 3) -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1), nn.Tanh(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(6 * 64, 4)
    )


def batch(count: int = 6, channels: int = 3) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(2)
    return torch.rand(count, channels, 8, 8, generator=source), torch.randint(4, (count,), generator=source)


def maps(name: str, network: nn.Module, images: Tensor, targets: Tensor, *, size: int = 250, seed: int = 0) -> Tensor:
    return attribution_map(name, network, images, targets, batch_size=size, generator=draws(seed))


def log_odds(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    return target_score(network.eval()(images), targets)


@pytest.mark.parametrize("name", NAMES)
def test_maps_are_magnitudes_of_the_images_size_and_the_network_is_left_alone(name: str) -> None:
    network = fresh(run("plain", "resnet10_narrow")).network.train()
    before, state = weights(network), torch.get_rng_state()
    images, targets = batch(channels=1)
    kept = images.clone()
    found = maps(name, network, images, targets)
    assert found.shape == (6, 8, 8) and (found >= 0).all() and not found.requires_grad
    assert found.std() > 0
    assert same(weights(network), before) and all(module.training for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(images, kept) and not images.requires_grad
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", NAMES)
def test_the_draw_follows_the_generator(name: str) -> None:
    images, targets = batch()
    first = maps(name, net(), images, targets)
    torch.manual_seed(99)
    assert torch.equal(maps(name, net(), images, targets), first)
    other = maps(name, net(), images, targets, seed=1)
    assert torch.equal(other, first) == (name not in ("random", "smooth_gradient"))


@pytest.mark.parametrize("name", ["gradient", "input_x_gradient", "integrated_gradients", "random", "edges"])
def test_the_batch_size_changes_nothing_but_rounding(name: str) -> None:
    images, targets = batch()
    assert torch.allclose(maps(name, net(), images, targets, size=4), maps(name, net(), images, targets), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "reference"), [("gradient", captum.attr.Saliency), ("input_x_gradient", captum.attr.InputXGradient)]
)
def test_gradients_against_captum(name: str, reference: type) -> None:
    network, (images, targets) = net().eval(), batch()
    method = reference(lambda pixels: log_odds(network, pixels, targets))
    expected = method.attribute(images.clone().requires_grad_()).abs().mean(1)
    assert torch.allclose(maps(name, network, images, targets), expected.detach(), atol=1e-7)


def test_smooth_gradient_is_the_mean_over_noisy_copies() -> None:
    """Of a quadratic score the gradient under noise is that of the noisy image: its mean varies by s / sqrt(n)."""

    class Quadratic(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            return torch.stack([pixels.flatten(1).square().sum(1) / 2, torch.zeros(len(pixels))], dim=1)

    images, targets = torch.rand(40, 1, 10, 10), torch.zeros(40, dtype=torch.int64)
    mean = smooth_gradient(Quadratic(), images, targets, draws())
    error = mean - images  # the log-odds of two classes whose second logit is 0 is the first logit
    assert float(error.std()) == pytest.approx(SMOOTH_STD / SMOOTH_SAMPLES**0.5, rel=0.05)
    assert abs(float(error.mean())) < 0.003
    assert torch.allclose(maps("smooth_gradient", Quadratic(), images, targets), mean.abs().mean(1), atol=1e-6)


def test_integrated_gradients_are_complete() -> None:
    network, (images, targets) = net().eval(), batch()
    signed = integrated_gradients(network, images, targets, draws())
    change = log_odds(network, images, targets) - log_odds(network, torch.zeros_like(images), targets)
    assert torch.allclose(signed.flatten(1).sum(1), change, atol=1e-4) and change.abs().min() > 1e-3
    assert torch.allclose(maps("integrated_gradients", network, images, targets), signed.abs().mean(1), atol=1e-7)


def test_integrated_gradients_against_a_sum_by_hand() -> None:
    network, (images, targets) = net(), batch()
    places = [(step + 0.5) / 400 for step in range(400)]
    mean = sum(input_gradient(network, place * images, targets) for place in places) / 400
    assert INTEGRATION_STEPS >= 20
    assert torch.allclose(integrated_gradients(network, images, targets, draws()), mean * images, atol=1e-4)


def test_edges_against_scipy() -> None:
    images, targets = batch()
    planes = [plane.numpy() for image in images for plane in image]
    slopes = [[ndimage.sobel(plane, axis=axis, mode="reflect") for axis in (0, 1)] for plane in planes]
    magnitudes = np.stack([np.hypot(down, across) for down, across in slopes]).reshape(6, 3, 8, 8)
    expected = torch.from_numpy(magnitudes.mean(axis=1))
    assert torch.allclose(maps("edges", net(), images, targets), expected, atol=1e-5)


def test_controls_know_nothing_of_the_network() -> None:
    images, targets = batch()
    other = net()
    nn.init.normal_(other[4].weight)
    for name in NAMES:
        same_map = torch.equal(maps(name, net(), images, targets), maps(name, other, images, targets))
        assert same_map == (name in ("random", "edges")), name
    shifted = images.flip(0)
    assert torch.equal(maps("random", net(), shifted, targets), maps("random", net(), images, targets))


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"name is 'lime': expected one of 'gradient', .*'edges'"):
        maps("lime", net(), *batch())
