"""One run on several devices of this machine: a process each, started and watched by torch.

The first rank writes the checkpoint, the others nothing; the finished run is read from it.
"""

import signal
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import multiprocessing

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
        reports = multiprocessing.get_context("spawn").SimpleQueue()
        given = (config, part, num_classes, checkpoint, f"file://{folder}/meeting", reports)
        _run(given, training.devices, lambda: _pass_on(reports, report))
    alone = replace(config, training=replace(training, devices=1, sync_batch_norm=False))
    state = create_state(alone, part.train_images.shape[1:], num_classes, len(part.train_images))
    content = checkpoints.load(checkpoint, device)
    if content is None:
        raise RankFailed(f"{checkpoint} is gone: the same command trains again")
    restore(state, content)
    return state


def _check_devices(config: RunConfig, device: torch.device) -> None:
    training = config.training
    if device.type == "cuda" and training.devices > torch.cuda.device_count():
        raise ValueError(
            f"training.devices is {training.devices}: expected at most {torch.cuda.device_count()}, the GPUs that this "
            "process sees"
        )
    if training.sync_batch_norm and device.type != "cuda":
        raise ValueError(
            f"training.sync_batch_norm is true on {device.type}: torch has it on cuda only; set it to false"
        )


def _run(given: tuple[Any, ...], count: int, meanwhile: Callable[[], None]) -> None:
    """Run the ranks to their end; if one ends badly, so do all."""
    context = multiprocessing.start_processes(_rank, (count, *given), count, join=False, start_method="spawn")
    try:
        while not context.join(timeout=0.2):
            meanwhile()
        meanwhile()
    except (multiprocessing.ProcessRaisedException, multiprocessing.ProcessExitedException) as error:
        raise RankFailed(_why(error, [process.exitcode for process in context.processes])) from None
    finally:
        for process in context.processes:
            process.kill()
            process.join()


def _why(error: Exception, codes: list[int | None]) -> str:
    """Which rank ended the run; one that was killed explains the errors of those that waited for it."""
    killed = {number: -code for number, code in enumerate(codes) if code and code < 0 and code != -signal.SIGTERM}
    for number, by in killed.items():
        return (
            f"rank {number} of {len(codes)} ended by signal {signal.Signals(by).name}, so all are ended: the same "
            "command goes on after the last finished epoch"
        )
    number = getattr(error, "error_index", 0)
    return f"rank {number} of {len(codes)}: {str(error).strip().splitlines()[-1]}; all are ended"


def _rank(
    number: int,
    count: int,
    config: RunConfig,
    part: Split,
    num_classes: int,
    checkpoint: Path,
    meeting: str,
    reports: Any,
) -> None:
    """One of the processes."""
    torch.set_num_threads(1)
    cuda = pick_device(config.training.device).type == "cuda"
    if cuda:
        torch.cuda.set_device(number)
    dist.init_process_group("nccl" if cuda else "gloo", init_method=meeting, rank=number, world_size=count)

    def report(epoch: int, **numbers: float) -> None:
        if number == 0:
            reports.put((epoch, numbers))

    guided.fit(config, part, num_classes, checkpoint, report)
    dist.barrier()
    dist.destroy_process_group()


def _pass_on(reports: Any, report: Report) -> None:
    while not reports.empty():
        epoch, numbers = reports.get()
        report(epoch, **numbers)
