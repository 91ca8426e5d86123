"""Logits and accuracy of a network on many images: in batches, in eval mode, without gradients."""

import torch
from torch import Tensor, nn

from smoot.modes import evaluation_mode


def predict(network: nn.Module, images: Tensor, *, batch_size: int) -> Tensor:
    """Logits ``(N, K)`` in float32 for images ``(N, C, H, W)``; every submodule keeps its mode."""
    with evaluation_mode(network), torch.no_grad():
        return torch.cat([network(part) for part in images.split(batch_size)]).float()


def accuracy(network: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int) -> float:
    """Share of images ``(N, C, H, W)`` classified as their label ``(N,)`` says, in [0, 1]."""
    return share_correct(predict(network, images, batch_size=batch_size), labels)


def share_correct(logits: Tensor, labels: Tensor) -> float:
    """Share of rows of ``logits`` ``(N, K)`` whose largest entry is at the label ``(N,)``, in [0, 1]."""
    return float((logits.argmax(1) == labels).double().mean())
