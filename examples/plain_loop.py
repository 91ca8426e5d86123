"""A plain PyTorch loop, in float32, in bfloat16 autocast or in scaled float16; it can be continued.

    python -m examples.plain_loop --dtype bfloat16 --checkpoint run.pt

The criterion calls the model itself, and its ``total`` is the loss. The generalisation gap, measured after each epoch,
decides how many images of the next one are masked. The checkpoint holds the criterion too: without it the schedule
would start afresh. Its generator makes the masks the same as without a pause.
"""

import argparse
from itertools import islice
from pathlib import Path

import torch
from torch import nn
from torch.amp import GradScaler
from torch.optim import Adam
from torch.utils.data import DataLoader

from examples.digits import digits, held_out, network, on_device
from smoot import SaliencyGuidedLoss

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def train(
    loader: DataLoader, model: nn.Module, criterion: SaliencyGuidedLoss, optimizer: Adam, scaler: GradScaler, dtype: str
) -> None:
    """Trains for one pass over the loader."""
    for images, labels in on_device(loader, DEVICE):
        with torch.autocast(DEVICE, getattr(torch, dtype), enabled=dtype != "float32"):
            loss = criterion(model, images, labels).total
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()


def main(arguments: list[str] | None = None) -> None:
    """Trains for some epochs, from the checkpoint on if there is one."""
    parser = argparse.ArgumentParser(description="Train on the digits with SMOOT.")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--checkpoint", type=Path)
    asked = parser.parse_args(arguments)
    model, criterion = network().to(DEVICE), SaliencyGuidedLoss(generator=torch.Generator(DEVICE).manual_seed(0))
    scaler = GradScaler(DEVICE, enabled=asked.dtype == "float16")
    parts = {"model": model, "criterion": criterion, "optimizer": Adam(model.parameters(), lr=3e-3), "scaler": scaler}
    if asked.checkpoint and asked.checkpoint.exists():
        for name, state in torch.load(asked.checkpoint, map_location=DEVICE).items():
            parts[name].load_state_dict(state)
    loader, others = DataLoader(digits(), batch_size=64), DataLoader(held_out(), batch_size=64)
    for _ in range(asked.epochs):
        train(loader, **parts, dtype=asked.dtype)
        criterion.measure(model, on_device(islice(loader, len(others)), DEVICE), on_device(others, DEVICE))
        print(criterion.schedule.plan)
    if asked.checkpoint:
        torch.save({name: part.state_dict() for name, part in parts.items()}, asked.checkpoint)


if __name__ == "__main__":
    main()
