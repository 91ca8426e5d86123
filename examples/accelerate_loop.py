"""A loop with Hugging Face Accelerate: any device or number of processes, gradient accumulation, checkpoints.

    python -m examples.accelerate_loop
    accelerate launch -m examples.accelerate_loop --accumulate 4 --checkpoint runs/examples

``accelerator.backward`` divides the loss by the number of accumulated batches, so ``scale`` stays 1. The loaders that
measure the gap are prepared as well, so that every process takes its part. Registering the criterion puts the schedule
into ``save_state`` and ``load_state``, beside the random state from which masks are drawn.
"""

import argparse
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Subset

from examples.digits import digits, held_out, network
from smoot import SaliencyGuidedLoss


def train(
    accelerator: Accelerator, criterion: SaliencyGuidedLoss, model: nn.Module, optimizer: Optimizer, loader: DataLoader
) -> None:
    """Trains for one pass over the loader."""
    model.train()
    for images, labels in loader:
        with accelerator.accumulate(model):
            criterion.backward(model, images, labels, backward=accelerator.backward)
            optimizer.step()
            optimizer.zero_grad()


def main(arguments: list[str] | None = None) -> None:
    """Trains for some epochs, from the checkpoint on if there is one."""
    parser = argparse.ArgumentParser(description="Train on the digits with SMOOT and Accelerate.")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--accumulate", type=int, default=1, help="batches per step")
    parser.add_argument("--checkpoint", type=Path)
    asked = parser.parse_args(arguments)
    accelerator, criterion = Accelerator(gradient_accumulation_steps=asked.accumulate), SaliencyGuidedLoss()
    model, loader = network(), DataLoader(digits(), batch_size=64, shuffle=True)
    model, *prepared = accelerator.prepare(model, torch.optim.Adam(model.parameters(), lr=3e-3), loader)
    measured = Subset(digits(), range(len(held_out()))), held_out()
    measured = accelerator.prepare(*(DataLoader(images, batch_size=64) for images in measured))
    accelerator.register_for_checkpointing(criterion)
    if asked.checkpoint and asked.checkpoint.exists():
        accelerator.load_state(asked.checkpoint)
    for _ in range(asked.epochs):
        train(accelerator, criterion, model, *prepared)
        criterion.measure(model, *measured)
        accelerator.print(criterion.schedule.plan)
    if asked.checkpoint:
        accelerator.save_state(asked.checkpoint)


if __name__ == "__main__":
    main()
