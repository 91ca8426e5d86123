"""Two processes under torchrun, stopped on the way: their steps are those of one that averages their gradients."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from processes import printed
from reference_loop import GUIDANCE, assert_same_state, few_digits, few_others, fitted_network, measure
from torch.utils.data import DataLoader, DistributedSampler

from smoot.feedback import Feedback
from smoot.objective import guided_loss
from smoot.scheduler import GapSchedule

RANKS, ACCUMULATE, STEPS = 2, 3, 3  # of an epoch


def launched(checkpoint: Path, epochs: int) -> Any:
    """What the processes saved: states of model, criterion and optimiser, and the number of epochs."""
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(RANKS)]
    command += [str(here / "ddp_ranks.py"), "--epochs", str(epochs), "--accumulate", str(ACCUMULATE)]
    command += ["--checkpoint", str(checkpoint)]
    printed(command, env=environment)
    return torch.load(checkpoint)


def batches_of_all_ranks(generators: list[torch.Generator]) -> Iterator[list[tuple[torch.Tensor, torch.Tensor]]]:
    """One batch per rank, for two epochs, in the order that the samplers give."""
    for epoch in range(2):
        loaders = []
        for rank, generator in enumerate(generators):
            sampler = DistributedSampler(few_digits(), num_replicas=RANKS, rank=rank)
            sampler.set_epoch(epoch)
            generator.manual_seed(RANKS * epoch + rank)
            loaders.append(DataLoader(few_digits(), batch_size=16, sampler=sampler))
        yield from (list(batches) for batches in zip(*loaders, strict=True))


def test_the_ranks_train_as_one_uninterrupted_process_does(tmp_path: Path) -> None:
    launched(tmp_path / "run.pt", epochs=1)
    continued = launched(tmp_path / "run.pt", epochs=2)
    model, schedule = fitted_network(), GapSchedule()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    generators = [torch.Generator() for _ in range(RANKS)]
    for index, batches in enumerate(batches_of_all_ranks(generators), start=1):
        losses = [
            guided_loss(model, *batch, schedule.plan, GUIDANCE, generator=generator)
            for batch, generator in zip(batches, generators, strict=True)
        ]
        (sum(loss.total for loss in losses) / RANKS / ACCUMULATE).backward()
        accuracy, loss = ([getattr(one.feedback, of) for one in losses] for of in ("accuracy", "loss"))
        schedule.step(Feedback(sum(accuracy) / RANKS, sum(loss).item() / RANKS, 10, 16 * RANKS))
        if index % ACCUMULATE == 0:
            optimizer.step()
            optimizer.zero_grad()
        if index % STEPS == 0:
            measure(schedule, model, few_digits().tensors, few_others(96).tensors)
    weights, criterion, adam, epochs = continued
    state = {name.removeprefix("schedule_"): value for name, value in criterion.items() if name.startswith("schedule")}
    assert_same_state(state, schedule.state_dict())
    assert_same_state({name.removeprefix("module."): value for name, value in weights.items()}, model.state_dict())
    assert_same_state(adam, optimizer.state_dict())
    assert epochs == 2
