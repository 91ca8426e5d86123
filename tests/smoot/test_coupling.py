"""Whether images are answered together: shown by trying, not by the names of layers."""

from collections.abc import Callable

import pytest
import timm.layers
import torch
from states import copied, same
from torch import Tensor, nn

from smoot.coupling import images_are_coupled


class Centred(nn.Module):
    """Batch statistics of its own making, known to no list of layers."""

    def forward(self, batch: Tensor) -> Tensor:
        return batch - batch.mean(0)


class Hidden(nn.Module):
    """BatchNorm behind a gate that starts at 0, so that no gradient shows it."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(()))
        self.norm = nn.BatchNorm2d(3)

    def forward(self, batch: Tensor) -> Tensor:
        return batch + self.gate * self.norm(batch)


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize(
    ("layer", "coupled"),
    [
        (nn.BatchNorm2d(3), True),
        (nn.BatchNorm2d(3).eval(), False),
        (nn.BatchNorm2d(3, track_running_stats=False).eval(), True),
        (nn.SyncBatchNorm(3), True),
        (timm.layers.EvoNorm2dB0(3), True),  # its statistics are no BatchNorm's
        (Centred(), True),
        (Hidden(), True),
        (nn.InstanceNorm2d(3), False),
        (nn.GroupNorm(1, 3), False),
        (nn.LayerNorm((3, 4, 4)), False),
        (nn.Dropout(0.5), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_coupling_is_seen(layer: nn.Module, coupled: bool, size: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(layer, nn.Flatten(), nn.Linear(48, 2))
    network.training = True
    images, state = torch.rand(size, 3, 4, 4), torch.get_rng_state()
    kept = copied(network.state_dict())
    assert images_are_coupled(network, images) is coupled
    assert torch.equal(torch.get_rng_state(), state)
    assert same(network.state_dict(), kept)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_each_model_and_mode_is_tried_once(recorded: Callable) -> None:
    network = nn.Sequential(Centred(), nn.Flatten(), nn.Linear(48, 2))
    images = torch.rand(4, 3, 4, 4)
    with recorded(network) as calls:
        for _ in range(3):
            assert images_are_coupled(network, images)
        assert len(calls) == 1
        network.eval()
        assert images_are_coupled(network, images)
        assert len(calls) == 2
