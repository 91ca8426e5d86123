"""How the benchmarks measure: interleaved times, counted operations, peak memory, overlap of masks."""

import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from steps import Mode, Passes, Setup, Subject, Variant, set_up, stepper
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import FlopCounterMode

LEAST_ROUNDS = 5


@dataclass(frozen=True)
class Patience:
    """How long to measure.

    Attributes:
        rounds: at most so many are measured.
        warmup: rounds before them that are not measured.
        seconds: after these no further round begins, once five are measured.
    """

    rounds: int
    warmup: int
    seconds: float


def interleaved(steps: Sequence[Callable[[], Any]], patience: Patience, mode: Mode) -> list[list[float]]:
    """Milliseconds of every step in every round, ``[len(steps)][rounds]``; each round starts with another step."""
    times: list[list[float]] = [[] for _ in steps]
    indices = list(range(len(steps)))
    least = min(LEAST_ROUNDS, patience.rounds)
    start_of_rounds = 0.0
    for turn in range(-patience.warmup, patience.rounds):
        start_of_rounds = time.perf_counter() if turn <= 0 else start_of_rounds
        if turn >= least and time.perf_counter() - start_of_rounds > patience.seconds:
            break
        first = turn % len(steps)
        for index in indices[first:] + indices[:first]:
            mode.synchronize()
            start = time.perf_counter()
            steps[index]()
            mode.synchronize()
            if turn >= 0:
                times[index].append(1000.0 * (time.perf_counter() - start))
    return times


class Arithmetic:
    """Floating-point operations of the pieces of a step, counted on runs of a network with one batch.

    Args:
        setup: an uncompiled network in training mode; its gradients are dropped, its buffers move.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._counted = cache(self._count)

    @property
    def network(self) -> nn.Module:
        return self._setup.network

    def of(self, passes: Passes) -> int:
        """Operations of some passes, each over its share of the batch."""
        size = len(self._setup.images)
        return sum(self._counted(piece, round(share * size)) for piece, share in passes)

    def _count(self, piece: str, images: int) -> int:
        if images == 0:
            return 0
        with sdpa_kernel(SDPBackend.MATH):  # attention as the matrix products that the counter knows
            return piece_flops(self._setup.network, self._setup.images[:images], self._setup.labels[:images], piece)


def piece_flops(network: nn.Module, images: Tensor, labels: Tensor, piece: str) -> int:
    """Operations of matrix products and convolutions in one piece of work.

    Args:
        network: anything from images to logits.
        images: ``(N, C, H, W)``.
        labels: ``(N,)``.
        piece: ``forward``, or a backward to the ``parameters``, to the ``input`` alone, or to ``both``.
    """
    counter = FlopCounterMode(display=False)
    if piece == "forward":
        with counter, torch.no_grad():
            network(images)
        return int(counter.get_total_flops())
    variable = images.clone().requires_grad_(piece != "parameters")
    loss = F.cross_entropy(network(variable), labels)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    wanted = {"parameters": parameters, "input": [variable], "both": [*parameters, variable]}[piece]
    with counter:
        torch.autograd.grad(loss, wanted, allow_unused=True)
    return int(counter.get_total_flops())


class LiveStorages(TorchDispatchMode):
    """Counts the bytes of all tensors' storages alive at the same time, and their peak.

    What an operation allocates and frees before it returns is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        self._known: set[int] = set()

    def watch(self, tensors: Iterable[Tensor]) -> None:
        """Counts tensors that existed before."""
        for tensor in tensors:
            self._add(tensor)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        self.watch(leaf for leaf in tree_iter(made) if isinstance(leaf, Tensor))
        return made

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if id(storage) in self._known:
            return
        self._known.add(id(storage))
        size = storage.nbytes()
        weakref.finalize(storage, self._drop, id(storage), size).atexit = False
        self.live += size
        self.peak = max(self.peak, self.live)

    def _drop(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def tensors_of(setup: Setup) -> list[Tensor]:
    """Everything that training holds between two steps."""
    states = [value for state in setup.optimizer.state.values() for value in state.values()]
    gradients = [parameter.grad for parameter in setup.network.parameters()]
    found = [*setup.network.parameters(), *setup.network.buffers(), *states, *gradients, setup.images, setup.labels]
    return [tensor for tensor in found if isinstance(tensor, Tensor)]


def allocated(mode: Mode) -> int:
    """Bytes allocated on an accelerator; 0 on a CPU, where tensors are counted instead."""
    return torch.cuda.memory_allocated() if mode.device == "cuda" else 0


def peak(work: Callable[[], Any], held: Iterable[Tensor], mode: Mode, before: int) -> float:
    """Most memory (MiB) at once while ``work`` runs.

    Args:
        work: allocates and frees tensors.
        held: tensors that exist already and belong to the work; counted on a CPU.
        mode: of the work.
        before: bytes that others have allocated on an accelerator, see :func:`allocated`.
    """
    if mode.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with LiveStorages() as counter:
        counter.watch(held)
        work()
    return counter.peak / 2**20


def step_peak(make: Callable[[], Setup], variant: Variant, mode: Mode) -> float:
    """Peak memory (MiB) of a step, with weights, optimiser state and batch."""
    before = allocated(mode)
    setup = make()
    step = stepper(variant, setup)
    for _ in range(3 if mode.compiled else 1):  # makes optimiser states; recompiles for other shapes
        step()
    return peak(step, tensors_of(setup), mode, before)


def mask_overlap(subject: Subject, batch_size: int, device: str, variant: Variant) -> float:
    """Mean intersection over union of the masks of one step in bfloat16 and in float32; NaN without masks.

    The networks are untrained, their dropout is off. For a variant that masks all images.
    """
    masks = [step_masks(set_up(subject, batch_size, Mode(device, kind)), variant) for kind in ("fp32", "bf16")]
    one, other = (mask.flatten(1) for mask in masks)
    return float(((one & other).sum(1) / (one | other).sum(1)).mean())


def step_masks(setup: Setup, variant: Variant) -> Tensor:
    """The pixels ``(N, H, W)`` in which the last images that the network saw differ from the batch."""
    seen: list[Tensor] = []
    setup.network.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach()))
    for module in setup.network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    variant.prepare(setup)()
    return (seen[-1] != setup.images).any(1)
