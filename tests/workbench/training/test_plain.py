"""Plain training: against a loop by hand, its draws, its end."""

import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from tiny_runs import draws, same, weights
from torch import Tensor, nn

from workbench.config.profile import load_retraining
from workbench.training.plain import fit_plain, shuffled_batches, steps_per_epoch

SETTINGS = replace(load_retraining("smoke"), epochs=2, batch_size=4, learning_rate=0.05, weight_decay=0.1)


def net(dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(7)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.Tanh(), nn.Dropout(dropout), nn.Linear(6, 2))


def images() -> tuple[Tensor, Tensor]:
    pixels = torch.rand(10, 1, 2, 2, generator=draws(3))
    return pixels, (pixels[:, 0, 0, 0] > 0.5).long()


def test_training_against_a_loop_by_hand() -> None:
    pixels, labels = images()
    found, expected = net(), net()
    reports: list[tuple[int, float]] = []
    fit_plain(found, pixels, labels, SETTINGS, seed=11, report=lambda epoch, loss: reports.append((epoch, loss)))
    order, step = torch.Generator().manual_seed(11), 0
    torch.randint(2**62, (1,), generator=order)  # the seed of the changes comes from the same source
    optimizer = torch.optim.AdamW(expected.parameters(), lr=0.05, weight_decay=0.1)
    losses: list[float] = []
    for _ in range(2):
        permutation = torch.randperm(10, generator=order)
        for rows in (permutation[:4], permutation[4:8]):  # the last two are left out
            optimizer.param_groups[0]["lr"] = 0.05 * 0.5 * (1 + math.cos(math.pi * step / 4))
            loss = F.cross_entropy(expected(pixels[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            step += 1
    for name, tensor in weights(expected).items():
        assert torch.allclose(weights(found)[name], tensor, atol=1e-6), name
    assert not found.training
    means = [sum(losses[:2]) / 2, sum(losses[2:]) / 2]
    assert reports == [(1, pytest.approx(means[0])), (2, pytest.approx(means[1]))] and means[1] < means[0]


def test_the_seed_decides_order_and_dropout_whatever_was_drawn_before() -> None:
    pixels, labels = images()
    start, found = net(dropout=0.5), []
    for seed, before in ((1, 1), (1, 2), (3, 1)):
        network = copy.deepcopy(start)
        torch.manual_seed(before)
        state = torch.get_rng_state()
        fit_plain(network, pixels, labels, SETTINGS, seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        found.append(weights(network))
    assert same(found[0], found[1]) and not same(found[0], found[2])


def test_images_change_before_the_network_sees_them() -> None:
    pixels, labels = images()
    seen: list[Tensor] = []
    network = net()
    network.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))

    def shifted(batch: Tensor, draws: torch.Generator) -> Tensor:
        return batch + 1 + torch.rand(len(batch), 1, 1, 1, generator=draws)

    fit_plain(network, pixels, labels, SETTINGS, seed=1, transform=shifted)
    assert len(seen) == 4 and all((batch >= 1).all() for batch in seen)
    offsets = torch.cat([batch[:, 0, 0, 0] for batch in seen])
    assert offsets.unique().numel() == 16


@pytest.mark.parametrize(("count", "size", "lengths"), [(70, 32, [32, 32]), (64, 32, [32, 32]), (3, 4, [3])])
def test_batches_are_full_unless_there_is_one_only(count: int, size: int, lengths: list[int]) -> None:
    order = torch.Generator().manual_seed(1)
    epochs = [shuffled_batches(count, size, order) for _ in range(2)]
    for batches in epochs:
        assert [len(rows) for rows in batches] == lengths
        assert len(torch.cat(batches).unique()) == sum(lengths)
    assert not torch.equal(torch.cat(epochs[0]), torch.cat(epochs[1]))
    assert steps_per_epoch(count, size) == len(lengths)


def test_divergence_is_named() -> None:
    pixels, labels = images()
    with pytest.raises(FloatingPointError, match=r"epoch 1: the loss is nan: .*learning rate, now 0\.05"):
        fit_plain(net(), pixels * math.nan, labels, SETTINGS, seed=1)
