"""Modes of a network for the length of a block."""

import functools
import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from states import copied, same
from torch import nn

from smoot import Guidance, MaskPlan, guided_loss
from smoot.modes import buffers_kept, evaluation_mode, roots, submodules


def test_statistics_are_kept_but_the_batch_is_normalised_by_its_own() -> None:
    layer = nn.BatchNorm1d(3)
    batch = 5.0 + 2.0 * torch.randn(64, 3)
    before = copied(layer.named_buffers())
    with buffers_kept(layer):
        out = layer(batch)
    assert torch.allclose(out.mean(0), torch.zeros(3), atol=1e-5)  # not by the stored mean 0, which would give 5
    assert same(dict(layer.named_buffers()), before)
    layer(batch)
    assert not torch.equal(layer.running_mean, before["running_mean"])


class Queue(nn.Module):
    """Writes to its buffers in the three ways there are: in place, by a new tensor, and through a shared one."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("last", torch.zeros(3))
        self.register_buffer("twin", self.seen)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        assert self.twin is self.seen
        self.last = batch[0].detach()
        return batch * self.seen


def test_whatever_is_written_to_a_buffer_is_forgotten() -> None:
    queue = Queue()
    kept = dict(queue.named_buffers(remove_duplicate=False))
    with buffers_kept(queue):
        assert torch.equal(queue(torch.ones(2, 3)), torch.ones(2, 3))
        assert torch.equal(queue(torch.ones(2, 3)), torch.full((2, 3), 2.0))
    assert dict(queue.named_buffers(remove_duplicate=False)) == kept  # the same tensors, not equal ones
    assert queue.seen == 0 and torch.equal(queue.last, torch.zeros(3))


NET = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))


@pytest.mark.parametrize(
    "model",
    [NET, NET.forward, lambda batch: NET(batch) * 2, functools.partial(torch.func.functional_call, NET, {})],
    ids=["module", "method", "lambda", "partial"],
)
def test_the_modules_behind_any_callable_are_found(model: Callable) -> None:
    assert roots(model) == [NET] and submodules(model) == [NET, *NET]
    assert roots(torch.flatten) == []


class Trainer:
    """A plain object that holds its network."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net

    def predict(self, batch: torch.Tensor) -> torch.Tensor:
        return self.net(batch)

    def model_of(self) -> Callable:
        return lambda batch: self.net(batch) * 2


OTHER = nn.Linear(2, 2)  # its name is that of an attribute below, which is no reference to it


def test_modules_behind_plain_objects_and_wrapped_functions_are_found() -> None:
    trainer = Trainer(NET)
    trainer.OTHER = NET
    for model in (
        trainer.predict,
        trainer.model_of(),
        lambda batch: trainer.OTHER(batch) * 2,
        torch.autocast("cpu", torch.bfloat16)(lambda batch: NET(batch) * 2),
    ):
        assert roots(model) == [NET]


def test_a_model_that_refers_to_itself_is_freed() -> None:
    net = nn.Sequential(nn.Linear(2, 2))
    net[0].register_forward_hook(net.forward)  # now a submodule holds the root
    submodules(net)
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None


def test_modules_that_are_put_in_replaced_or_taken_out_are_seen() -> None:
    net = nn.Sequential(nn.Sequential(nn.Linear(2, 2)), nn.Tanh())
    for change in (
        lambda: None,
        lambda: net[0].append(nn.Tanh()),
        lambda: net[0].__setitem__(0, nn.BatchNorm1d(2)),
        lambda: net.pop(1),
    ):
        change()
        assert submodules(net) == submodules(net) == list(net.modules())
    assert submodules(nn.Tanh()) != []


@pytest.mark.parametrize("block", [evaluation_mode, buffers_kept])
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
        moved[choice] = dict(model.named_buffers())
    assert same(dict(clean.named_buffers()), moved["keep"])
    assert [moved[choice]["1.num_batches_tracked"] for choice in moved] == [1, 2]
