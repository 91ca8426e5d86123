"""Noise, blur and attack: closed forms on a linear network, scipy's filter, bounds."""

import math
from typing import Any

import pytest
import torch
from scipy import ndimage
from tiny_runs import digits, draws, run, trained_network
from torch import Tensor, nn

from workbench.measuring.robustness import attacked, blurred, noisy
from workbench.training.inference import accuracy


def two_classes(weight: Tensor) -> nn.Sequential:
    """Logits ``(w.x - w.1 / 2, 0)``: class 0 above the middle of w's direction."""
    layer = nn.Linear(weight.numel(), 2)
    layer.weight.data = torch.stack([weight, torch.zeros_like(weight)])
    layer.bias.data = torch.tensor([-float(weight.sum()) / 2, 0.0])
    return nn.Sequential(nn.Flatten(), layer)


def attack(
    network: nn.Module, images: Tensor, labels: Tensor, *, size: int = 100, seed: int = 0, **asked: Any
) -> Tensor:
    return attacked(network, images, labels, batch_size=size, generator=draws(seed), **asked)


def test_accuracy_under_noise_is_the_normal_distributions() -> None:
    """One pixel at distance m from the boundary is classified correctly with probability Phi(m / s)."""
    network = two_classes(torch.tensor([2.0]))
    images, labels = torch.full((40_000, 1, 1, 1), 0.7), torch.zeros(40_000, dtype=torch.int64)
    found = accuracy(network, noisy(images, 0.4, draws()), labels, batch_size=10_000)
    assert found == pytest.approx(0.5 * (1 + math.erf(0.2 / 0.4 / math.sqrt(2))), abs=0.01)
    assert torch.equal(noisy(images, 0.0, draws()), images)


@pytest.mark.parametrize(("sigma", "shape"), [(1.0, (9, 12)), (0.6, (8, 8)), (2.0, (16, 20)), (4.0, (3, 5))])
def test_blur_against_scipy_also_where_it_is_wider_than_the_image(sigma: float, shape: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *shape)
    radius = [min(math.ceil(3 * sigma), side - 1) for side in shape]
    expected = ndimage.gaussian_filter(images.numpy(), (0, 0, sigma, sigma), mode="mirror", radius=(0, 0, *radius))
    assert torch.allclose(blurred(images, sigma), torch.from_numpy(expected), atol=1e-5)
    assert torch.equal(blurred(images, 0.0), images)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_on_a_linear_network_the_attack_is_epsilon_times_the_sign(steps: int) -> None:
    weight = torch.tensor([3.0, -2.0, 0.5, -0.25])
    images = 0.3 + 0.4 * torch.rand(20, 1, 2, 2)
    labels = torch.randint(2, (20,))
    found = attack(two_classes(weight), images, labels, epsilon=0.1, steps=steps, size=7)
    away = torch.where(labels == 0, -1.0, 1.0).view(-1, 1, 1, 1)  # class 0 falls with the first logit
    assert torch.allclose(found, images + 0.1 * away * weight.sign().view(1, 1, 2, 2), atol=1e-6)


def test_the_attack_is_cut_off_at_black_and_white() -> None:
    images, labels = torch.tensor([0.02, 0.97]).view(1, 1, 1, 2), torch.tensor([0])
    network = two_classes(torch.tensor([1.0, -1.0]))
    found = attack(network, images, labels, epsilon=0.1, steps=3)
    assert torch.equal(found.flatten(), torch.tensor([0.0, 1.0]))


def test_the_attack_stays_in_the_ball_and_raises_the_loss() -> None:
    network = trained_network(run("plain", "resnet10_narrow", dataset={"train_images": 400}))
    images, labels = digits().test_images[:60], digits().test_labels[:60]
    network.zero_grad()
    found = attack(network, images, labels, epsilon=0.07, steps=4)
    assert (found - images).abs().max() <= 0.07 + 1e-6
    assert (found >= 0).all() and (found <= 1).all()
    assert network.training and all(parameter.grad is None for parameter in network.parameters())
    loss = nn.CrossEntropyLoss()
    network.eval()
    noise = (images + 0.07 * (2 * torch.rand(images.shape) - 1).sign()).clamp(0, 1)
    with torch.no_grad():
        clean, random, worst = (float(loss(network(pixels), labels)) for pixels in (images, noise, found))
    assert worst > 1.5 * clean and worst > random
    starts = [attack(network, images, labels, epsilon=0.1, steps=1, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(starts[0], starts[1]) and not torch.equal(starts[0], starts[2])


def test_accuracy_under_attack_by_hand() -> None:
    """Of margins 0.05, 0.15 and 0.25 an attack of 0.1 crosses the first."""
    network = two_classes(torch.tensor([1.0]))
    images = torch.tensor([0.55, 0.65, 0.75]).view(3, 1, 1, 1)
    labels = torch.zeros(3, dtype=torch.int64)
    for epsilon, expected in ((0.0, 1.0), (0.1, 2 / 3), (0.2, 1 / 3), (0.3, 0.0)):
        found = attack(network, images, labels, epsilon=epsilon, steps=3, size=2)
        assert accuracy(network, found, labels, batch_size=3) == pytest.approx(expected)


def test_bad_numbers_are_named() -> None:
    network, images, labels = two_classes(torch.ones(1)), torch.rand(1, 1, 1, 1), torch.tensor([0])
    with pytest.raises(ValueError, match=r"epsilon is 1\.5"):
        attack(network, images, labels, epsilon=1.5, steps=1)
    with pytest.raises(ValueError, match="steps is 0"):
        attack(network, images, labels, epsilon=0.1, steps=0)
    with pytest.raises(ValueError, match="noise_std is -1"):
        noisy(images, -1.0, draws())
    with pytest.raises(ValueError, match="sigma is -1"):
        blurred(images, -1.0)
