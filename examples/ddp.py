"""Several processes that train one network, with DistributedDataParallel: gloo on CPUs, NCCL on GPUs.

    torchrun --nproc-per-node 2 -m examples.ddp
    torchrun --nproc-per-node 2 -m examples.ddp --accumulate 4 --checkpoint run.pt

Each rank measures the gap on its part of the images, and the criterion adds the parts up, so every rank masks under the
same plan. ``criterion.backward`` synchronises the gradients once per step. Seeding the draws by epoch and rank, as the
sampler is, lets one checkpoint continue all ranks.
"""

import argparse
import os
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

from examples.digits import digits, held_out, network, on_device
from smoot import SaliencyGuidedLoss


def main(arguments: list[str] | None = None) -> None:
    """Trains up to some epoch, from the checkpoint on if there is one."""
    parser = argparse.ArgumentParser(description="Train on the digits with SMOOT in several processes.")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--accumulate", type=int, default=1, help="batches per step")
    parser.add_argument("--checkpoint", type=Path)
    asked = parser.parse_args(arguments)
    device = f"cuda:{os.environ['LOCAL_RANK']}" if torch.cuda.is_available() else "cpu"
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    model, rank = DistributedDataParallel(network().to(device)), dist.get_rank()
    criterion = SaliencyGuidedLoss(generator=torch.Generator(device))
    parts = {"model": model, "criterion": criterion, "optimizer": torch.optim.Adam(model.parameters(), lr=3e-3)}
    sampler, done = DistributedSampler(digits()), 0
    loader = DataLoader(digits(), batch_size=16, sampler=sampler)
    others = DataLoader(held_out(), batch_size=16, sampler=DistributedSampler(held_out(), shuffle=False))
    if asked.checkpoint and asked.checkpoint.exists():
        *states, done = torch.load(asked.checkpoint, map_location=device)
        for part, state in zip(parts.values(), states, strict=True):
            part.load_state_dict(state)
    for epoch in range(done, asked.epochs):
        sampler.set_epoch(epoch)
        criterion.generator.manual_seed(epoch * dist.get_world_size() + rank)
        for index, batch in enumerate(on_device(loader, device), start=1):
            last = index % asked.accumulate == 0
            with nullcontext() if last else model.no_sync():
                criterion.backward(model, *batch, scale=1 / asked.accumulate)
            if last:
                parts["optimizer"].step()
                parts["optimizer"].zero_grad()
        criterion.measure(model, on_device(islice(loader, len(others)), device), on_device(others, device))
    if asked.checkpoint and rank == 0:
        torch.save([*(part.state_dict() for part in parts.values()), asked.epochs], asked.checkpoint)
    print(f"rank {rank}: {criterion.schedule.plan}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
