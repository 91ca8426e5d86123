"""Noise, blur and attack: closed forms on a linear network, scipy's filter, bounds."""

import math

import pytest
import torch
from scipy import ndimage
from tiny_runs import digits, draws, run, trained_network
from torch import Tensor, nn

from workbench.measuring.robustness import blur_accuracy, blurred, noise_accuracy, pgd_accuracy, pgd_attack
from workbench.training.inference import accuracy


def two_classes(weight: Tensor) -> nn.Sequential:
    """Logits ``(w.x - w.1 / 2, 0)``: class 0 above the middle of w's direction."""
    layer = nn.Linear(weight.numel(), 2)
    layer.weight.data = torch.stack([weight, torch.zeros_like(weight)])
    layer.bias.data = torch.tensor([-float(weight.sum()) / 2, 0.0])
    return nn.Sequential(nn.Flatten(), layer)


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    return trained_network(run("plain", "resnet10_narrow", dataset={"train_images": 200}))


# -- noise


def test_noise_accuracy_is_the_normal_distributions() -> None:
    """One pixel at distance m from the boundary is answered rightly with probability Phi(m / s)."""
    network = two_classes(torch.tensor([2.0]))
    images, labels = torch.full((40_000, 1, 1, 1), 0.7), torch.zeros(40_000, dtype=torch.int64)
    found = noise_accuracy(network, images, labels, noise_std=0.4, batch_size=10_000, generator=draws())
    assert found == pytest.approx(0.5 * (1 + math.erf(0.2 / 0.4 / math.sqrt(2))), abs=0.01)


def test_no_noise_is_plain_accuracy_and_the_batch_size_does_not_matter(trained: nn.Module) -> None:
    images, labels = digits().test_images[:100], digits().test_labels[:100]
    clean = accuracy(trained, images, labels, batch_size=50)
    assert noise_accuracy(trained, images, labels, noise_std=0.0, batch_size=50, generator=draws()) == clean
    noisy = [
        noise_accuracy(trained, images, labels, noise_std=0.4, batch_size=size, generator=draws(1)) for size in (7, 100)
    ]
    assert noisy[0] == noisy[1] < clean


# -- blur


@pytest.mark.parametrize(("sigma", "shape"), [(1.0, (9, 12)), (0.6, (8, 8)), (2.0, (16, 20))])
def test_blur_against_scipy(sigma: float, shape: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *shape)
    radius = math.ceil(3 * sigma)
    expected = ndimage.gaussian_filter(images.numpy(), (0, 0, sigma, sigma), mode="mirror", radius=radius)
    assert torch.allclose(blurred(images, sigma), torch.from_numpy(expected), atol=1e-5)


def test_a_blur_wider_than_the_image_still_works() -> None:
    images = torch.rand(2, 1, 3, 5)
    smooth = blurred(images, 4.0)
    assert smooth.shape == images.shape and smooth.std() < images.std() / 2


def test_blur_accuracy_is_that_of_the_blurred_images(trained: nn.Module) -> None:
    images, labels = digits().test_images[:100], digits().test_labels[:100]
    expected = accuracy(trained, blurred(images, 1.0), labels, batch_size=100)
    clean = accuracy(trained, images, labels, batch_size=100)
    assert blur_accuracy(trained, images, labels, sigma=1.0, batch_size=30) == expected < clean
    assert blur_accuracy(trained, images, labels, sigma=0.0, batch_size=30) == clean


# -- attack


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_on_a_linear_network_the_attack_is_epsilon_times_the_sign(steps: int) -> None:
    weight = torch.tensor([3.0, -2.0, 0.5, -0.25])
    images = 0.3 + 0.4 * torch.rand(20, 1, 2, 2)
    labels = torch.randint(2, (20,))
    attacked = pgd_attack(two_classes(weight), images, labels, epsilon=0.1, steps=steps, generator=draws())
    away = torch.where(labels == 0, -1.0, 1.0).view(-1, 1, 1, 1)  # class 0 falls with the first logit
    assert torch.allclose(attacked, images + 0.1 * away * weight.sign().view(1, 1, 2, 2), atol=1e-6)


def test_the_attack_is_cut_off_at_black_and_white() -> None:
    images, labels = torch.tensor([0.02, 0.97]).view(1, 1, 1, 2), torch.tensor([0])
    network = two_classes(torch.tensor([1.0, -1.0]))
    attacked = pgd_attack(network, images, labels, epsilon=0.1, steps=3, generator=draws())
    assert torch.equal(attacked.flatten(), torch.tensor([0.0, 1.0]))


def test_the_attack_stays_in_the_ball_and_raises_the_loss(trained: nn.Module) -> None:
    images, labels = digits().test_images[:60], digits().test_labels[:60]
    attacked = pgd_attack(trained, images, labels, epsilon=0.07, steps=4, generator=draws())
    assert (attacked - images).abs().max() <= 0.07 + 1e-6
    assert (attacked >= 0).all() and (attacked <= 1).all()
    loss = nn.CrossEntropyLoss()
    trained.eval()
    noise = (images + 0.07 * (2 * torch.rand(images.shape) - 1).sign()).clamp(0, 1)
    with torch.no_grad():
        clean, random, worst = (float(loss(trained(pixels), labels)) for pixels in (images, noise, attacked))
    assert worst > 2 * clean and worst > random


def test_accuracy_under_attack_by_hand() -> None:
    """Of margins 0.05, 0.15 and 0.25 an attack of 0.1 crosses the first."""
    network = two_classes(torch.tensor([1.0]))
    images = torch.tensor([0.55, 0.65, 0.75]).view(3, 1, 1, 1)
    labels = torch.zeros(3, dtype=torch.int64)
    for epsilon, expected in ((0.0, 1.0), (0.1, 2 / 3), (0.2, 1 / 3), (0.3, 0.0)):
        found = pgd_accuracy(network, images, labels, epsilon=epsilon, steps=3, batch_size=2, generator=draws())
        assert found == pytest.approx(expected)


def test_the_start_is_random_and_follows_the_generator(trained: nn.Module) -> None:
    images, labels = digits().test_images[:5], digits().test_labels[:5]
    found = [pgd_attack(trained, images, labels, epsilon=0.1, steps=1, generator=draws(seed)) for seed in (1, 1, 2)]
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_bad_numbers_are_named() -> None:
    network, images, labels = two_classes(torch.ones(1)), torch.rand(1, 1, 1, 1), torch.tensor([0])
    with pytest.raises(ValueError, match=r"epsilon is 1\.5"):
        pgd_attack(network, images, labels, epsilon=1.5, steps=1, generator=draws())
    with pytest.raises(ValueError, match="steps is 0"):
        pgd_attack(network, images, labels, epsilon=0.1, steps=0, generator=draws())
    with pytest.raises(ValueError, match="noise_std is -1"):
        noise_accuracy(network, images, labels, noise_std=-1.0, batch_size=1, generator=draws())
    with pytest.raises(ValueError, match="sigma is -1"):
        blur_accuracy(network, images, labels, sigma=-1.0, batch_size=1)
