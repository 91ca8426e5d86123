"""One run on several devices of this machine: a process each, started and watched by torch.

The first rank writes the checkpoint, the others nothing; the finished run is read from it.
"""

import signal
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import multiprocessing
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, start_processes

from workbench.config.run import RunConfig
from workbench.data.sets import Split
from workbench.training import checkpoints, guided, parallel
from workbench.training.guided import TrainState, create_state, restore
from workbench.training.networks import pick_device
from workbench.training.plain import Report


class RankFailed(RuntimeError):
    """A process of a run on several devices ended before the run was finished."""


def fit(config: RunConfig, part: Split, num_classes: int, checkpoint: Path, report: Report) -> TrainState:
    """Train a run to its end, on as many devices as its configuration says; see :func:`workbench.training.guided.fit`.

    Raises:
        RankFailed: if a process ended; names it and its error. The others are ended at once.
        ValueError: for parameters that several processes cannot share, or more devices than there are.
    """
    training = config.training
    if training.devices == 1:
        return guided.fit(config, part, num_classes, checkpoint, report)
    device = pick_device(training.device)
    _check_devices(config, device)
    parallel.check(config, len(part.train_images))
    with tempfile.TemporaryDirectory() as folder:
        _run((config, part, num_classes, checkpoint, f"file://{folder}/meeting"), training.devices, report)
    alone = replace(config, training=replace(training, devices=1, sync_batch_norm=False))
    state = create_state(alone, part.train_images.shape[1:], num_classes, len(part.train_images))
    content = checkpoints.load(checkpoint, device)
    if content is None:
        raise RankFailed(f"{checkpoint} is gone: the same command trains again")
    restore(state, content)
    return state


def _check_devices(config: RunConfig, device: torch.device) -> None:
    training = config.training
    most = {"cuda": torch.cuda.device_count(), "mps": 1}.get(device.type, training.devices)
    if training.devices > most:
        raise ValueError(
            f"training.devices is {training.devices}: expected at most {most}, the GPUs that this process sees"
        )
    if training.sync_batch_norm and device.type != "cuda":
        raise ValueError(
            f"training.sync_batch_norm is true on {device.type}: torch has it on cuda only; set it to false"
        )


def _run(given: tuple[Any, ...], count: int, report: Report) -> None:
    """Run the ranks to their end; if one ends badly, so do all."""
    told = multiprocessing.get_context("spawn").SimpleQueue()
    context = start_processes(_rank, (count, told, *given), count, join=False, start_method="spawn")
    errors: list[str] = []
    try:
        while not context.join(timeout=0.2, grace_period=2):
            errors += _heard(told, report)
        _heard(told, report)
    except (ProcessRaisedException, ProcessExitedException) as error:
        errors += [*_heard(told, report), str(error)]
        raise RankFailed(_why(errors, [process.exitcode or 0 for process in context.processes])) from error
    finally:
        for process in context.processes:
            process.kill()
            process.join()


def _why(errors: list[str], codes: list[int]) -> str:
    """What ended a run: a killed rank, which explains the errors of those that waited for it, or the first error."""
    for number, code in enumerate(codes):
        if code < 0 and code != -signal.SIGTERM:  # with which torch ends the others
            return (
                f"rank {number} of {len(codes)} ended by signal {signal.Signals(-code).name}, so all are ended: the "
                "same command goes on after the last finished epoch"
            )
    return f"{errors[0]}; all {len(codes)} ranks are ended"


def _rank(number: int, count: int, told: Any, config: RunConfig, part: Split, *others: Any) -> None:
    """One of the processes; tells what it reports, if it is the first one, and the error that ends it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C, or the parent's end, even where it waits for the others
    torch.set_num_threads(1)
    try:
        _train(number, count, told, config, part, *others)
    except Exception as error:
        told.put(f"rank {number} of {count}: {type(error).__name__}: {error}")
        raise


def _train(
    number: int,
    count: int,
    told: Any,
    config: RunConfig,
    part: Split,
    num_classes: int,
    checkpoint: Path,
    meeting: str,
) -> None:
    cuda = pick_device(config.training.device).type == "cuda"
    if cuda:
        torch.cuda.set_device(number)
    dist.init_process_group("nccl" if cuda else "gloo", init_method=meeting, rank=number, world_size=count)

    def report(epoch: int, **numbers: float) -> None:
        if number == 0:
            told.put((epoch, numbers))

    guided.fit(config, part, num_classes, checkpoint, report)
    dist.barrier()
    dist.destroy_process_group()


def _heard(told: Any, report: Report) -> list[str]:
    """Pass on the reports so far; returns the errors, the first one first."""
    errors = []
    while not told.empty():
        message = told.get()
        if isinstance(message, str):
            errors.append(message)
        else:
            report(message[0], **message[1])
    return errors
