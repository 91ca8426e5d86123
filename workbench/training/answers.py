"""What a network answers, in batches, in eval mode, without gradients."""

import torch
from torch import Tensor, nn

from smoot.modes import evaluation_mode


def answers(network: nn.Module, images: Tensor, *, batch_size: int) -> Tensor:
    """Logits ``(N, K)`` in float32 for images ``(N, C, H, W)``; every submodule keeps its mode."""
    with evaluation_mode(network), torch.no_grad():
        return torch.cat([network(part) for part in images.split(batch_size)]).float()


def accuracy(network: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int) -> float:
    """Share of the images ``(N, C, H, W)`` whose label ``(N,)`` is the answer, in [0, 1]."""
    return share_right(answers(network, images, batch_size=batch_size), labels)


def share_right(logits: Tensor, labels: Tensor) -> float:
    """Share of the logits ``(N, K)`` that are largest at the label ``(N,)``, in [0, 1]."""
    return float((logits.argmax(1) == labels).double().mean())
