"""Where a network is trained and measured."""

import torch


def pick_device(name: str) -> torch.device:
    """The device of a configuration; ``auto`` is the first there is of CUDA, MPS, CPU.

    Raises:
        ValueError: if the named device is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, available in there.items() if available))
    if not there.get(name, False):
        found = ", ".join(kind for kind, available in there.items() if available)
        raise ValueError(f"device {name!r} is not available: this machine has {found}; or use 'auto'")
    return torch.device(name)
