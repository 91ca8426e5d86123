"""Seeds for code that draws from torch's global generator: layer initialisers, dropout, captum."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Start the global generators from ``seed`` inside the block and restore them after it.

    Args:
        seed: for the CPU's generator and, on an accelerator, the device's.
        device: where the block draws.
    """
    accelerated = device.type != "cpu"
    kind = device.type if accelerated else "cuda"
    with torch.random.fork_rng(devices=[device] if accelerated else [], device_type=kind):
        torch.manual_seed(seed)
        yield


def drawn_seed(generator: torch.Generator) -> int:
    """A seed drawn from a generator, which advances by one draw."""
    return int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
