"""Models that cannot take part are refused at the first step, and the first step leaves no trace."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from states import copied, same
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from smoot import AdaptiveSchedule, SaliencyGuidedLoss

IMAGES = torch.rand(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(8) % 4


class Net(nn.Module):
    """A small network whose forward pass is wrong, or odd, in one way."""

    def __init__(self, way: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.way = way
        self.features, self.head = nn.Conv2d(3, 4, 3), nn.Linear(64, 4)

    def forward(self, images: Tensor) -> Any:
        if self.way == "centres in place":
            images -= 0.5
        if self.way in ("reentrant", "not reentrant"):
            features = checkpoint(self.features, images, use_reentrant=self.way == "reentrant")
        else:
            with torch.set_grad_enabled(self.way != "no_grad backbone" and torch.is_grad_enabled()):
                features = self.features(images)
        if self.way == "activation in place":
            features = features.exp()
            features += 1.0
        logits = self.head(features.tanh().flatten(1))
        return SimpleNamespace(logits=logits) if self.way == "output object" else logits


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("centres in place", "in-place operation"),
        ("activation in place", "in-place operation"),
        ("no_grad backbone", "no gradient reaches the images"),
        ("reentrant", "use_reentrant=False"),
    ],
)
@pytest.mark.parametrize("call", ["forward", "backward"])
def test_what_fails_once_masking_begins_fails_at_step_0(way: str, words: str, call: str) -> None:
    criterion = SaliencyGuidedLoss()  # masks nothing at first
    with pytest.raises(RuntimeError, match=words):
        getattr(criterion, call)(Net(way), IMAGES.clone(), LABELS)
    assert criterion.schedule.state_dict()["steps"] == 0


@pytest.mark.parametrize("way", ["as it should be", "not reentrant", "output object"])
def test_these_take_part(way: str) -> None:
    net, criterion = Net(way), SaliencyGuidedLoss()
    for _ in range(2):
        assert criterion(net, IMAGES, LABELS).total.isfinite()
        assert criterion.backward(net, IMAGES, LABELS).total.isfinite()


@pytest.mark.parametrize("kind", ["module", "method", "lambda"])
def test_any_callable_is_a_model_and_validation_never_feeds_the_schedule(kind: str) -> None:
    net, criterion = Net("as it should be"), SaliencyGuidedLoss()
    models = {"module": net, "method": net.forward, "lambda": lambda images: net(images)[:, :4]}
    model: Callable[[Tensor], Any] = models[kind]
    assert torch.equal(criterion(model, IMAGES, LABELS).total, SaliencyGuidedLoss()(net, IMAGES, LABELS).total)
    net.eval()
    with torch.no_grad():
        criterion(model, IMAGES, LABELS)
    with pytest.warns(UserWarning, match="eval mode"):
        assert criterion(model, IMAGES, LABELS).masked_share == 0
    assert criterion.schedule.state_dict()["steps"] == 1


def test_a_function_without_a_module_in_reach_is_refused() -> None:
    with pytest.raises(TypeError, match="no torch\\.nn\\.Module is found"):
        SaliencyGuidedLoss()(torch.flatten, IMAGES, LABELS)


def test_a_generator_of_another_device_is_refused_at_once() -> None:
    criterion = SaliencyGuidedLoss(generator=torch.Generator("cpu"))
    with pytest.raises(ValueError, match="generator is on cpu, the inputs on meta"):
        criterion(Net("as it should be"), IMAGES.to("meta"), LABELS)


def test_backward_without_gradients_is_refused() -> None:
    with torch.no_grad(), pytest.raises(RuntimeError, match="to evaluate"):
        SaliencyGuidedLoss().backward(Net("as it should be"), IMAGES, LABELS)


def test_the_try_leaves_no_trace_and_is_made_once(recorded: Callable) -> None:
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 4))
    kept = copied(net.state_dict())
    criterion = SaliencyGuidedLoss(AdaptiveSchedule(), generator=torch.Generator().manual_seed(0))
    random, draws = torch.get_rng_state(), criterion.generator.get_state()
    criterion.check(net, IMAGES, LABELS)
    assert same(net.state_dict(), kept)
    assert all(parameter.grad is None for parameter in net.parameters())
    assert torch.equal(torch.get_rng_state(), random) and torch.equal(criterion.generator.get_state(), draws)
    criterion(net, IMAGES, LABELS)
    with recorded(net) as calls:
        criterion(net, IMAGES, LABELS)
    assert len(calls[0].inputs) == 8 and all(call.training for call in calls)


def test_called_like_an_ordinary_loss_it_says_how_it_is_called() -> None:
    net, criterion = Net("as it should be"), SaliencyGuidedLoss()
    with pytest.raises(TypeError):
        criterion(net(IMAGES), LABELS)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="criterion\\(model, images, labels\\)"):
        criterion(net(IMAGES), IMAGES, LABELS)  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf"), float("nan")])
def test_a_scale_that_is_none_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="scale"):
        SaliencyGuidedLoss().backward(Net("as it should be"), IMAGES, LABELS, scale=scale)
