"""Checkpoints: a file that carries the digest of its content, and one that is damaged or foreign counts as none.

The first 32 bytes are the SHA-256 of all that follows, which is what ``torch.save`` wrote. Reading loads tensors and
plain containers only: a pickle that would do anything else is refused before it does.
"""

import hashlib
import io
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

from workbench.config.files import replacing

DIGEST = 32  # bytes of a SHA-256


def save(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint, whole or not at all."""
    packed = io.BytesIO()
    torch.save(content, packed)
    with replacing(path) as temporary:
        temporary.write_bytes(hashlib.sha256(packed.getbuffer()).digest() + packed.getbuffer())


def load(path: Path, device: torch.device) -> dict[str, Any] | None:
    """The content of a checkpoint, its tensors on a device.

    Returns:
        None if there is no file, or, after saying so on standard error, if its content is not what was written.
    """
    if not path.exists():
        return None
    try:
        return _unpacked(memoryview(path.read_bytes()), device)
    except ValueError as error:
        print(f"{path} {error}: the training starts afresh", file=sys.stderr, flush=True)
        return None


def _unpacked(stored: memoryview, device: torch.device) -> dict[str, Any]:
    if hashlib.sha256(stored[DIGEST:]).digest() != stored[:DIGEST]:
        raise ValueError("is damaged: its content does not have the SHA-256 that it carries")
    try:
        with warnings.catch_warnings(action="ignore"):  # of pickles in another protocol; they are refused
            content = torch.load(io.BytesIO(stored[DIGEST:]), map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"was not written by this program ({reason})") from None
    if not isinstance(content, dict):
        raise ValueError(f"holds a {type(content).__name__}: expected what this program writes")
    return content
