"""DiffROAR: what is kept, what does not leak, and what a fresh network can learn from it."""

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch
from tiny_runs import digits, draws, run, same, weights
from torch import Tensor, nn

from workbench.config.profile import load_retraining
from workbench.config.run import RunConfig
from workbench.data.sets import ImageData
from workbench.measuring import retraining as retrained
from workbench.measuring.retraining import diffroar, kept_pixels

RETRAINING = replace(
    load_retraining("smoke"), levels=(0.25, 0.5), train_images=300, test_images=120, learning_rate=0.01
)


class Spy:
    """Stands for `fit_plain` and `accuracy` and writes down what they were given."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.fitted: list[tuple[Tensor, Tensor, int]] = []
        self.starts: list[dict[str, Tensor]] = []
        self.tested: list[tuple[Tensor, Tensor]] = []
        patch.setattr(retrained, "fit_plain", self.fit)
        patch.setattr(retrained, "accuracy", self.test)

    def fit(self, network: nn.Module, images: Tensor, labels: Tensor, settings: Any, *, seed: int) -> None:
        self.starts.append(weights(network))
        self.fitted.append((images, labels, seed))

    def test(self, network: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int) -> float:
        self.tested.append((images, labels))
        return len(self.tested) / 10


def explained(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.Tanh(), nn.Linear(20, 10))


def measured(network: nn.Module, config: RunConfig | None = None, images: ImageData | None = None) -> pd.DataFrame:
    return diffroar(network, images or digits(), config or run(), RETRAINING, run().backbone)


def test_kept_pixels_by_hand() -> None:
    images = torch.arange(1.0, 9.0).view(1, 2, 2, 2) / 10
    saliency = torch.tensor([[[4.0, 1.0], [3.0, 2.0]]])
    mean = (0.5, 0.9)
    top = kept_pixels(images, saliency, 0.5, most=True, mean=mean)
    assert torch.equal(top, torch.tensor([[[[0.1, 0.5], [0.3, 0.5]], [[0.5, 0.9], [0.7, 0.9]]]]))
    bottom = kept_pixels(images, saliency, 0.25, most=False, mean=mean)
    assert torch.equal(bottom, torch.tensor([[[[0.5, 0.2], [0.5, 0.5]], [[0.9, 0.6], [0.9, 0.9]]]]))
    assert torch.equal(kept_pixels(images, saliency, 1.0, most=True, mean=mean), images)


@pytest.mark.parametrize("level", [0.1, 0.33, 0.5, 0.9])
def test_top_and_bottom_keep_equally_many(level: float) -> None:
    images, saliency = torch.rand(5, 1, 7, 7) + 1, torch.rand(5, 7, 7)
    for most in (True, False):
        kept = kept_pixels(images, saliency, level, most=most, mean=(0.0,)) > 0
        assert kept.flatten(1).sum(1).tolist() == [int(level * 49 + 0.5)] * 5
        inside, outside = saliency[kept[:, 0]], saliency[~kept[:, 0]]
        assert inside.mean() > outside.mean() if most else inside.mean() < outside.mean()
    with pytest.raises(ValueError, match=r"level is 1\.5"):
        kept_pixels(images, saliency, 1.5, most=True, mean=(0.0,))


def test_every_level_is_trained_and_tested_on_top_and_bottom(monkeypatch: pytest.MonkeyPatch) -> None:
    spy, config = Spy(monkeypatch), run()
    network = explained().train()
    before = weights(network)
    found = measured(network, config)
    expected = {"level": [0.25, 0.5], "top": [0.1, 0.3], "bottom": [0.2, 0.4], "diffroar": [-0.1, -0.1]}
    pd.testing.assert_frame_equal(found, pd.DataFrame(expected))
    for (images, labels, _), (tests, test_labels) in zip(spy.fitted, spy.tested, strict=True):
        assert images.shape == (300, 1, 8, 8) and labels.shape == (300,)
        assert torch.equal(test_labels, digits().test_labels[:120])
        for pixels in (images, tests):
            assert (pixels == torch.tensor(config.dataset.mean[0])).double().mean() > 0.2
    kept = [images != torch.tensor(config.dataset.mean[0]) for images, _, _ in spy.fitted]
    assert [round(float(pixels.double().mean()), 2) for pixels in kept] == [0.25, 0.25, 0.5, 0.5]
    assert not (kept[0] & kept[1]).any() and not (kept[2] & kept[3]).any()
    assert same(weights(network), before) and all(module.training for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_initialisation_and_order_depend_on_the_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    spy, network = Spy(monkeypatch), explained()
    state = torch.get_rng_state()
    measured(network)
    assert torch.equal(torch.get_rng_state(), state)
    measured(explained(1), run("smoot"))
    assert len(spy.starts) == 8
    assert all(same(spy.starts[0], start) for start in spy.starts[1:])
    assert len({seed for _, _, seed in spy.fitted}) == 1
    measured(explained(), run(seed=1))
    assert not same(spy.starts[-1], spy.starts[0]) and spy.fitted[-1][2] != spy.fitted[0][2]
    assert not torch.equal(spy.fitted[-1][1], spy.fitted[0][1])  # other training images


def test_labels_do_not_show_in_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    spy, network = Spy(monkeypatch), explained()
    measured(network)
    others = {f"{part}_labels": (getattr(digits(), f"{part}_labels") + 3) % 10 for part in ("train", "test")}
    measured(network, images=replace(digits(), **others))
    for first, second in zip(spy.fitted[:4] + spy.tested[:4], spy.fitted[4:] + spy.tested[4:], strict=True):
        assert torch.equal(first[0], second[0]) and not torch.equal(first[1], second[1])


def halves(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images whose upper half is bright if the label is 1; the lower half is noise."""
    labels = torch.randint(2, (count,), generator=draws(seed))
    images = torch.rand(count, 1, 8, 8, generator=draws(seed + 1)) * 0.3
    images[:, :, :4] += 0.6 * labels.view(-1, 1, 1, 1)
    return images, labels


def test_it_tells_where_the_information_is() -> None:
    """A map on the informative half leaves nothing below, one on the other half nothing above."""
    data = ImageData("halves", *halves(340, 1), *halves(120, 9), num_classes=2, sha256="")
    reports: list[int] = []
    found = []
    for rows in (slice(0, 32), slice(32, 64)):
        layer = nn.Linear(64, 2)
        layer.weight.data = 1e-3 * torch.rand(2, 64, generator=draws(3))
        layer.weight.data[1, rows] += 1.0
        network = nn.Sequential(nn.Flatten(), layer)
        settings = replace(RETRAINING, levels=(0.5,), epochs=4)
        result = diffroar(network, data, run(), settings, run().backbone, report=reports.append)
        found.append(result["diffroar"].item())
    assert found[0] > 0.3 and found[1] < -0.3
    assert reports == [1, 2, 1, 2]
