"""The state of a training after its last finished epoch."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from smoot.cli.files import replacing, shown


class Stateful(Protocol):
    """What has a state: a module or an optimiser."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


def path_of(target: Path) -> Path:
    """The checkpoint of a training that writes its weights to ``target``."""
    return target.with_name(f"{target.name}.checkpoint")


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as plain numbers and texts."""
    return {name: str(value) if isinstance(value, str) else value for name, value in settings.items()}


def save(
    target: Path, settings: Mapping[str, Any], parts: Mapping[str, Stateful], history: list[dict[str, Any]]
) -> None:
    """Write settings, states and history, whole or not at all."""
    states = {name: part.state_dict() for name, part in parts.items()}
    with replacing(target) as temporary:
        torch.save({"settings": dict(settings), "states": states, "history": history}, temporary)


def read(source: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a checkpoint.

    Raises:
        ValueError: if there is no checkpoint, or one of a training with other settings.
    """
    try:
        saved: dict[str, Any] = torch.load(source, map_location="cpu", weights_only=True)
        changed = sorted(name for name, value in settings.items() if saved["settings"].get(name) != value)
    except FileNotFoundError:
        raise ValueError(f"{shown(source)} is missing: nothing to resume; train without --resume") from None
    except (OSError, EOFError, RuntimeError, LookupError, TypeError, AttributeError, pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise ValueError(f"{shown(source)} is no checkpoint ({reason}): remove it and train anew") from None
    if changed:
        was = ", ".join(f"{name} {saved['settings'].get(name)} (now {settings[name]})" for name in changed)
        raise ValueError(f"{shown(source)} is of a training with {was}: resume with the same settings and images")
    return saved


def restore(saved: Mapping[str, Any], parts: Mapping[str, Stateful]) -> list[dict[str, Any]]:
    """Load the states of a checkpoint, and return the history."""
    for name, part in parts.items():
        part.load_state_dict(saved["states"][name])
    history: list[dict[str, Any]] = saved["history"]
    return history
