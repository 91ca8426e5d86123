"""Stability under small noise: closed forms and the noise itself."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from workbench.measuring.stability import map_stability


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


IMAGES = torch.rand(30, 2, 6, 6, generator=draws(1))
TARGETS = torch.arange(30) % 3


def brightness(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    return images.mean(1).abs()


def stability(map_function: object = brightness, noise_std: float = 0.2, seed: int = 0) -> float:
    saliency = map_function(nn.Identity(), IMAGES, TARGETS)  # type: ignore[operator]
    return map_stability(
        nn.Identity(),
        IMAGES,
        TARGETS,
        saliency,
        map_function=map_function,  # type: ignore[arg-type]
        noise_std=noise_std,
        generator=draws(seed),
    )


def test_against_scipy_on_noise_drawn_by_hand() -> None:
    noisy = IMAGES + 0.2 * torch.randn(IMAGES.shape, generator=draws())
    pairs = zip(IMAGES.mean(1).abs().flatten(1), noisy.mean(1).abs().flatten(1), strict=True)
    expected = sum(stats.spearmanr(a.numpy(), b.numpy()).statistic for a, b in pairs) / 30
    assert stability() == pytest.approx(expected, abs=1e-5) and 0.5 < expected < 0.95


def test_no_noise_is_perfectly_stable_and_more_noise_less() -> None:
    found = [stability(noise_std=std) for std in (0.0, 0.05, 0.2, 1.0)]
    assert found[0] == pytest.approx(1.0)
    assert found == sorted(found, reverse=True) and found[-1] < 0.5


def test_a_map_that_turns_around_is_minus_one() -> None:
    calls: list[Tensor] = []

    def turning(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        calls.append(images)
        ramp = torch.arange(36.0).view(1, 6, 6).expand(len(images), 6, 6)
        return ramp if len(calls) == 1 else 40 - ramp

    assert stability(turning) == pytest.approx(-1.0)


def test_network_and_class_are_passed_on() -> None:
    network, seen = nn.Identity(), []

    def watching(explained: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        seen.append((explained, targets))
        return images.mean(1)

    saliency = torch.rand(30, 6, 6)
    map_stability(network, IMAGES, TARGETS, saliency, map_function=watching, noise_std=0.1, generator=draws())
    assert len(seen) == 1 and seen[0][0] is network and torch.equal(seen[0][1], TARGETS)


def test_images_with_a_constant_map_are_left_out() -> None:
    def partly(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return images.mean(1) * (targets == 0).view(-1, 1, 1)

    def whole(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return images.mean(1)

    chosen = TARGETS == 0
    noisy = IMAGES + 0.2 * torch.randn(IMAGES.shape, generator=draws())
    first, second = whole(nn.Identity(), IMAGES, TARGETS)[chosen], whole(nn.Identity(), noisy, TARGETS)[chosen]
    pairs = zip(first.flatten(1), second.flatten(1), strict=True)
    expected = sum(stats.spearmanr(a.numpy(), b.numpy()).statistic for a, b in pairs) / 10
    assert stability(partly) == pytest.approx(expected, abs=1e-5)
    assert math.isnan(stability(lambda network, images, targets: torch.zeros(30, 6, 6)))


def test_the_noise_follows_the_generator() -> None:
    assert stability() == stability() != stability(seed=1)


def test_negative_noise_is_refused() -> None:
    with pytest.raises(ValueError, match="noise_std is -1"):
        stability(noise_std=-1.0)
