"""Logits in batches and accuracy."""

import pytest
import torch
from torch import nn

from workbench.training.inference import accuracy, predict, share_correct


def test_logits_are_float32_in_eval_mode_whatever_the_batch_size() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(12, 3))
    network[0].eval()
    images = torch.rand(7, 3, 2, 2)
    whole = predict(network, images, batch_size=7)
    assert torch.allclose(predict(network, images, batch_size=2), whole)
    assert torch.allclose(whole, network[2](images.flatten(1)))  # no dropout
    assert not whole.requires_grad
    assert [module.training for module in network] == [False, True, True]
    half = predict(network.to(torch.bfloat16), images.bfloat16(), batch_size=7)
    assert half.dtype == torch.float32 and torch.allclose(half, whole, atol=0.05)


def test_the_share_of_correct_answers_by_hand() -> None:
    logits = torch.tensor([[3.0, 1.0], [0.0, 2.0], [5.0, 4.0]])
    assert share_correct(logits, torch.tensor([0, 1, 1])) == pytest.approx(2 / 3)
    network = nn.Flatten()  # pixels are logits
    images = logits.view(3, 1, 1, 2)
    assert accuracy(network, images, torch.tensor([0, 1, 1]), batch_size=2) == pytest.approx(2 / 3)
