"""Trainings that several processes run together on the CPU, and what each rank brings back from them."""

import os
import pickle
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from smoot import Feedback, Guidance, InformationLoss, PerImageSchedule, SaliencyGuidedLoss, guided_loss
from smoot.parallel import averaged
from smoot.scheduler import AdaptiveSchedule, ConstantSchedule, MaskPlan, MaskSchedule

RANKS = 3  # a group of two and one of its own, batches of unequal parts
SECONDS = 1200
"""After which processes that have not ended are killed."""
WAYS = ("call", "backward")
WRAPPERS = ("plain", "unused", "accumulated", "sharded")
MEAN_FILL = Guidance(fill="mean")
HALF = MaskPlan(mask_fraction=0.5)


@dataclass(frozen=True)
class Course:
    """A training as one rank saw it.

    Attributes:
        plans: of every step.
        masked: number of images masked in every step.
        weights, buffers, state: of model and schedule at the end.
        buckets: indices of the gradient buckets that were reduced, for every step.
    """

    plans: list[MaskPlan]
    masked: list[float]
    weights: dict[str, Tensor]
    buffers: dict[str, Tensor]
    state: dict[str, Tensor]
    buckets: list[list[int]]


class FractionByCompetence(AdaptiveSchedule):
    """Masks every image, and of each the fraction of pixels that the competence gives."""

    @property
    def plan(self) -> MaskPlan:
        return replace(self.base, image_fraction=1.0, mask_fraction=0.9 * self.competence)


def network(*, batch_norm: bool = False, seed: int = 0) -> nn.Sequential:
    """For images (N, 3, 6, 6) of 4 classes, in double precision."""
    torch.manual_seed(seed)
    norm = nn.BatchNorm2d(8) if batch_norm else nn.Identity()
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), norm, nn.Tanh(), nn.Flatten(), nn.Linear(288, 16), nn.Tanh(), nn.Linear(16, 4)
    ).double()


class LayersInTurn(nn.Sequential):
    """Passes through one of two layers, in turn: every other pass leaves parameters unused, as layer drop does."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(nn.Linear(108, 16), nn.Linear(108, 16), nn.Linear(16, 4))
        self.double()
        self.passes = 0

    def forward(self, images: Tensor) -> Tensor:
        self.passes += 1
        return self[2](self[self.passes % 2](images.flatten(1)).tanh())


def images_of(step: int, size: int) -> tuple[Tensor, Tensor]:
    """Noise images whose brightest quarter is the label."""
    source = torch.Generator().manual_seed(step)
    images = torch.rand(size, 3, 6, 6, generator=source, dtype=torch.float64)
    labels = torch.randint(4, (size,), generator=source)
    for image, label in zip(images, labels.tolist(), strict=True):
        top, left = 3 * (label // 2), 3 * (label % 2)
        image[:, top : top + 3, left : left + 3] += 1.0
    return images, labels


def wrapped(model: nn.Sequential, wrapper: str, group: dist.ProcessGroup | None = None) -> nn.Module:
    """The model in DistributedDataParallel, with buckets of a layer each, or sharded."""
    if wrapper == "sharded":
        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        for layer in (model[0], model[4]):
            fully_shard(layer, mesh=mesh)
        return fully_shard(model, mesh=mesh)
    unused = wrapper == "unused"
    if unused:
        model.spare = nn.Parameter(torch.zeros(3))
    return DistributedDataParallel(model, find_unused_parameters=unused, bucket_cap_mb=0.002, process_group=group)


def train(
    model: nn.Module,
    criterion: SaliencyGuidedLoss,
    batches: Sequence[tuple[Tensor, Tensor]],
    way: str,
    *,
    accumulated: int = 1,
    buckets: list[int] | None = None,
    around: Callable[[nn.Module], Callable[[Tensor], Tensor]] = lambda model: model,
) -> Course:
    """Some steps of SGD, as anybody writes them."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    plans, masked, reduced, before = [], [], [], 0
    called = around(model)
    for number, (images, labels) in enumerate(batches, 1):
        plans.append(criterion.schedule.plan)
        steps = number % accumulated == 0
        with nullcontext() if steps or not isinstance(model, DistributedDataParallel) else model.no_sync():
            if way == "backward":
                loss = criterion.backward(called, images, labels, scale=1 / accumulated)
            else:
                loss = criterion(called, images, labels)
                (loss.total / accumulated).backward()
        masked.append(float(loss.masked_share) * len(images))
        if buckets is not None:
            reduced.append(buckets[before:])
            before = len(buckets)
        if steps:
            optimizer.step()
            optimizer.zero_grad()
    named = {name.removeprefix("module."): value.detach() for name, value in model.named_parameters()}
    return Course(
        plans=plans,
        masked=masked,
        weights={name: value.full_tensor() if isinstance(value, DTensor) else value for name, value in named.items()},
        buffers={name.removeprefix("module."): value for name, value in model.named_buffers()},
        state={name: value for name, value in criterion.state_dict().items() if name != "generator_state"},
        buckets=reduced,
    )


def own_part(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """This rank's images of a batch: every one whose number leaves its rank as the remainder."""
    rank, size = dist.get_rank(), dist.get_world_size()
    return batch[0][rank::size], batch[1][rank::size]


def adaptive_course(way: str, wrapper: str, batch_norm: bool, group: dist.ProcessGroup | None = None) -> Course:
    """SMOOT with batches that get fewer: the last but one differs between ranks, the last is empty but on rank 0."""
    rank = dist.get_rank()
    sizes = [6] * 8 + [3 + rank, 5 if rank == 0 or group else 0]
    batches = [images_of(100 * step + rank, size) for step, size in enumerate(sizes)]
    schedule = AdaptiveSchedule(decay=0.5)
    criterion = SaliencyGuidedLoss(schedule, generator=torch.Generator().manual_seed(rank), process_group=group)
    model, buckets = wrapped(network(batch_norm=batch_norm), wrapper, group), list[int]()
    if isinstance(model, DistributedDataParallel):
        model.register_comm_hook((buckets, group), counting)
    accumulated = 2 if wrapper == "accumulated" else 1
    return train(model, criterion, batches, way, accumulated=accumulated, buckets=buckets)


def counting(
    state: tuple[list[int], dist.ProcessGroup | None], bucket: dist.GradBucket
) -> torch.futures.Future[Tensor]:
    """A communication hook that averages as the default does and notes which bucket it was."""
    seen, group = state
    seen.append(bucket.index())
    work = dist.all_reduce(bucket.buffer().div_(dist.get_world_size(group)), group=group, async_op=True)
    return work.get_future().then(lambda done: done.value()[0])


def whole_course(
    way: str,
    wrapper: str,
    batches: Sequence[tuple[Tensor, Tensor]],
    make: Callable[[], nn.Sequential] = network,
    *,
    parallel: bool = True,
) -> Course:
    """All images masked, filled with their mean: nothing is drawn, so parts of a batch follow the whole batch."""
    accumulated = 2 if wrapper == "accumulated" else 1
    schedule: MaskSchedule = FractionByCompetence(decay=0.5) if accumulated == 1 else ConstantSchedule(HALF)
    model: nn.Module = make()
    if parallel:
        model = wrapped(make(), wrapper)
        batches = [own_part(batch) for batch in batches]
    return train(model, SaliencyGuidedLoss(schedule, MEAN_FILL), batches, way, accumulated=accumulated)


def function_around(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """A function that calls the wrapper."""

    def function(images: Tensor) -> Tensor:
        return 2 * model(images) / 2

    return function


def per_image_course(way: str, *, parallel: bool = True) -> dict[str, Tensor]:
    """Twelve images with a number each, of which the first step takes one and the others seven; the model stays."""
    images, labels = images_of(0, 12)
    schedule = PerImageSchedule(InformationLoss(tau=0.001, rate=0.2), 12)
    criterion = SaliencyGuidedLoss(schedule, MEAN_FILL)
    model: nn.Module = wrapped(network(), "plain") if parallel else network()
    for step in range(10):
        index = torch.randperm(12, generator=torch.Generator().manual_seed(step))[: 7 if step else 1]
        index = index[dist.get_rank() :: dist.get_world_size()] if parallel else index
        batch = images[index], labels[index]
        if way == "backward":
            criterion.backward(model, *batch, index=index)
        else:
            criterion(model, *batch, index=index).total.backward()
    return criterion.state_dict()


def sparse_course(way: str, wrapper: str) -> Course:
    """A fifth of the images is masked: often none on rank 0, which has one image, while the others mask some."""
    rank = dist.get_rank()
    batches = [images_of(100 * step + rank, 6 if rank else 1) for step in range(4)]
    criterion = SaliencyGuidedLoss(ConstantSchedule(replace(HALF, image_fraction=0.2)))
    return train(wrapped(network(), wrapper), criterion, batches, way)


def held_courses(way: str) -> list[Course]:
    """Three steps with the wrapper inside another module, and inside a function."""
    courses = []
    for around in (nn.Sequential, function_around):
        model, buckets = wrapped(network(batch_norm=True), "plain"), list[int]()
        model.register_comm_hook((buckets, None), counting)  # type: ignore[operator]
        criterion = SaliencyGuidedLoss(ConstantSchedule(HALF), MEAN_FILL)
        batches = [own_part(images_of(step, 8)) for step in range(3)]
        courses.append(train(model, criterion, batches, way, buckets=buckets, around=around))
    return courses


def empty_step(way: str, targets: Callable[[Tensor], Tensor]) -> Course:
    """One step with images on rank 0 alone."""
    images, labels = images_of(0, 8)
    batch = images, targets(labels)
    own = batch if dist.get_rank() == 0 else (batch[0][:0], batch[1][:0])
    model = wrapped(network(batch_norm=True), "plain")
    return train(model, SaliencyGuidedLoss(ConstantSchedule(HALF), MEAN_FILL), [own], way)


def one_hot(labels: Tensor) -> Tensor:
    """Class probabilities."""
    return nn.functional.one_hot(labels, 4).double()


def pooled_feedback() -> Feedback:
    """Rank r answers r of r images, at a loss of r; rank 0 has none, and numbers that are none."""
    rank = dist.get_rank()
    number = float("nan") if rank == 0 else float(rank)
    pooled = averaged(Feedback(torch.tensor(number) / max(rank, 1), torch.tensor(number), 4, rank))
    return replace(pooled, **{name: float(getattr(pooled, name)) for name in ("accuracy", "loss", "num_images")})


def evaluated_on_one_rank(way: str) -> list[float]:
    """Rank 0 evaluates between two training steps while the others are already in the next one."""
    model = wrapped(network(), "plain")
    criterion = SaliencyGuidedLoss(ConstantSchedule(HALF), MEAN_FILL)
    batches = [own_part(images_of(step, 8)) for step in range(2)]
    train(model, criterion, batches[:1], way)
    if dist.get_rank() == 0:
        model.eval()
        with torch.no_grad():
            criterion(model.module, *images_of(9, 8))  # type: ignore[arg-type]
        model.train()
    train(model, criterion, batches[1:], way)
    return criterion.schedule.state_dict()["steps"].tolist()


def gap_batches(rank: int) -> tuple[list[tuple[Tensor, Tensor]], list[tuple[Tensor, Tensor]]]:
    """A rank's training images, which the network answers rightly, and its validation images: fewest on rank 0."""
    trained, validation = (
        [images_of(100 * rank + 10 * kind + step, size) for step, size in enumerate([2 + rank, 3 * rank])]
        for kind in (0, 1)
    )
    return [(images, network().eval()(images).argmax(1)) for images, _ in trained], validation


def measured_gap(batch_norm: bool) -> tuple[float, float]:
    """What a rank is told when the gap is measured, and the share it masks from then on."""
    criterion = SaliencyGuidedLoss()
    gap = criterion.measure(wrapped(network(batch_norm=batch_norm), "plain"), *gap_batches(dist.get_rank()))
    return gap, criterion.schedule.plan.image_fraction


def side_by_side() -> Course:
    """Two trainings: of two ranks, and of the third."""
    groups = [dist.new_group(ranks) for ranks in ([0, 1], [2])]
    return adaptive_course("call", "plain", False, groups[dist.get_rank() // 2])


def static_graph(way: str) -> str:
    """What is said of a model with a static graph."""
    model = DistributedDataParallel(network(), static_graph=True)
    try:
        if way == "function":
            guided_loss(model, *images_of(0, 4), HALF)
        train(model, SaliencyGuidedLoss(ConstantSchedule(HALF)), [images_of(0, 4)], way)
    except ValueError as error:
        return str(error)
    return ""


def scenarios() -> dict[str, Callable[[], Any]]:
    """All scenarios by name."""
    cases: dict[str, Callable[[], Any]] = {"pooled": pooled_feedback}
    batches = [images_of(step, 12) for step in range(20)]
    for way in WAYS:
        for wrapper in WRAPPERS:
            for norm in (False, True):
                if wrapper != "sharded":
                    cases[f"adaptive {way} {wrapper} {norm}"] = partial(adaptive_course, way, wrapper, norm)
            cases[f"sparse {way} {wrapper}"] = partial(sparse_course, way, wrapper)
            cases[f"whole {way} {wrapper}"] = partial(whole_course, way, wrapper, batches)
        cases[f"empty {way} labels"] = partial(empty_step, way, lambda labels: labels)
        cases[f"empty {way} probabilities"] = partial(empty_step, way, one_hot)
        cases[f"per image {way}"] = partial(per_image_course, way)
        cases[f"held {way}"] = partial(held_courses, way)
        cases[f"evaluated {way}"] = partial(evaluated_on_one_rank, way)
    for way in (*WAYS, "function"):
        cases[f"static {way}"] = partial(static_graph, way)
    for norm in (False, True):
        cases[f"gap {norm}"] = partial(measured_gap, norm)
    cases["in turn"] = partial(whole_course, "backward", "unused", batches, LayersInTurn)
    cases["side by side"] = side_by_side
    return cases


def run_rank(rank: int, world: int, folder: Path) -> None:
    """One process: runs all scenarios, writes what came of them, then trains on until the last rank disappears."""
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world, timeout=timedelta(seconds=SECONDS)
    )
    results = {name: scenario() for name, scenario in scenarios().items()}
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(results))
    dist.barrier()
    model, criterion = wrapped(network(), "plain"), SaliencyGuidedLoss(ConstantSchedule(HALF))
    try:
        for step in range(10_000):
            if (rank, step) == (world - 1, 3):
                os._exit(7)
            train(model, criterion, [images_of(step, 4)], WAYS[step % 2])
    except RuntimeError:
        os._exit(1)  # what is left of the process group is not waited for


def run_ranks(world: int, folder: Path) -> tuple[list[dict[str, Any]], list[int | None]]:
    """What each rank brings back, and the exit codes; None for a process that had to be killed."""
    context = get_context("spawn")
    processes = [context.Process(target=run_rank, args=(rank, world, folder)) for rank in range(world)]
    for process in processes:
        process.start()
    for process in reversed(processes):
        process.join(SECONDS)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
        process.join()
    files = [folder / f"{rank}.pickle" for rank in range(world)]
    return [pickle.loads(file.read_bytes()) if file.exists() else {} for file in files], codes
