"""Modes of a network for the length of a block."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from smoot.modes import evaluation_mode, statistics_kept
from smoot.objective import Guidance, guided_loss
from smoot.scheduler import MaskPlan


def buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


def test_statistics_are_kept_but_the_batch_is_normalised_by_its_own() -> None:
    layer = nn.BatchNorm1d(3)
    batch = 5.0 + 2.0 * torch.randn(64, 3)
    before = buffers(layer)
    with statistics_kept(layer):
        out = layer(batch)
    assert torch.allclose(out.mean(0), torch.zeros(3), atol=1e-5)  # not by the stored mean 0, which would give 5
    assert all(torch.equal(buffer, before[name]) for name, buffer in layer.named_buffers())
    layer(batch)
    assert not torch.equal(layer.running_mean, before["running_mean"])


def test_layers_that_do_not_track_or_do_not_train_stay_as_they_are() -> None:
    untracked, frozen = nn.BatchNorm1d(3, track_running_stats=False), nn.BatchNorm1d(3).eval()
    with statistics_kept(nn.Sequential(untracked, frozen)):
        assert frozen.track_running_stats  # in eval mode it must go on using its statistics
    assert not untracked.track_running_stats and frozen.track_running_stats


@pytest.mark.parametrize("block", [evaluation_mode, statistics_kept])
def test_everything_is_restored_after_an_error(block: Callable) -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout().eval())
    with pytest.raises(RuntimeError, match="inside"), block(model):
        raise RuntimeError("inside")
    assert [module.training for module in model] == [True, False]
    assert model[0].track_running_stats


def test_a_masked_pass_moves_running_statistics_only_if_asked(small_net: Callable, batch: Callable) -> None:
    """With ``keep`` the buffers are those of one clean forward; with ``update`` those of two forwards."""
    images, labels = batch(8)
    clean = small_net()
    clean(images)
    moved = {}
    for choice in ("keep", "update"):
        model = small_net()
        guided_loss(model, images, labels, MaskPlan(), Guidance(masked_statistics=choice))
        moved[choice] = buffers(model)
    assert all(torch.equal(buffer, moved["keep"][name]) for name, buffer in clean.named_buffers())
    tracked = [name for name in moved["update"] if name.endswith("num_batches_tracked")]
    assert tracked and all(moved["update"][name] == 2 and moved["keep"][name] == 1 for name in tracked)
