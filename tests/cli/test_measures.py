"""Numbers of an evaluation, against other implementations and closed forms."""

import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_calibration_error

from smoot.cli.answers import answers_of, calibration_error, wilson_interval
from smoot.cli.maps import edge_maps, network_maps, random_maps
from smoot.cli.training import rate_factor

CPU = torch.device("cpu")


@pytest.mark.parametrize(("right", "images"), [(0, 5), (7, 9), (140, 140), (812, 1000)])
def test_the_interval_is_wilsons(right: int, images: int) -> None:
    known = binomtest(right, images).proportion_ci(method="wilson")
    assert wilson_interval(right, images) == pytest.approx((known.low, known.high), abs=1e-6)


def test_answers_agree_with_torch_and_torchmetrics() -> None:
    images, labels = torch.rand(200, 3, 2, 2), torch.randint(4, (200,))
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.BatchNorm1d(4))
    network[1].weight.data *= 8
    found = answers_of(network, zip(images.split(64), labels.split(64), strict=True), CPU)
    logits = network.eval()(images).detach()
    assert found.cross_entropy == pytest.approx(float(nn.functional.cross_entropy(logits, labels)), rel=1e-6)
    assert found.accuracy == float((logits.argmax(1) == labels).double().mean())
    known = multiclass_calibration_error(logits.softmax(1), labels, num_classes=4, n_bins=15)
    assert calibration_error(found.confidence, found.right) == pytest.approx(float(known), abs=1e-6)
    with pytest.raises(ValueError, match="none of the images could be read"):
        answers_of(network, [], CPU)


def test_noise_has_the_deviation_that_is_asked_for() -> None:
    class Spread(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            deviation = images.flatten(1).std(1)
            return torch.stack([deviation, torch.full_like(deviation, 0.2)], 1) * 1e3

    images, labels = torch.full((4, 3, 64, 64), 0.5), torch.zeros(4, dtype=torch.long)
    assert answers_of(Spread(), [(images, labels)], CPU, noise=0.21).accuracy == 1
    assert answers_of(Spread(), [(images, labels)], CPU, noise=0.19).accuracy == 0


def test_maps_of_a_linear_network_a_ramp_and_chance() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 2))
    images = torch.linspace(0, 1, 4).expand(2, 3, 4, 4).contiguous()
    slope = (network[1].weight[0] - network[1].weight[1]).detach().view(3, 4, 4).abs().mean(0)
    for smooth in (0, 2):  # noise changes no gradient of a linear network
        torch.testing.assert_close(network_maps(network, images, torch.tensor([0, 1]), smooth=smooth)[1], slope)
    inner = edge_maps(images)[:, :, 1:-1]
    torch.testing.assert_close(inner, torch.full_like(inner, 8 / 3))  # Sobel's sum of weights, 4, times 2 steps of 1/3
    assert random_maps(images).shape == (2, 4, 4)
    assert not torch.equal(random_maps(images)[0], random_maps(images)[1])


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    factors = [rate_factor(step, 100) for step in range(100)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[5] == 1.0
    assert factors[52] == pytest.approx(0.5, abs=0.02)
    assert 0 < factors[99] < 0.001
