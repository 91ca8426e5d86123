"""The state of a model for the length of a ``with`` block: eval mode, and buffers that stay as they are."""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn

_known: WeakKeyDictionary[nn.Module, tuple[list[nn.Module], tuple[int, ...]]] = WeakKeyDictionary()


def roots(model: Callable[..., Any]) -> list[nn.Module]:
    """The modules that a model calls: itself, or those that a function, method or partial refers to."""
    if isinstance(model, nn.Module):
        return [model]
    if isinstance(model, functools.partial):
        held = [model.func, *model.args, *model.keywords.values()]
        return [root for value in held if callable(value) for root in roots(value)]
    owner = getattr(model, "__self__", None)
    if isinstance(owner, nn.Module):
        return [owner]
    if not inspect.isfunction(model):
        return (
            [value for value in vars(model).values() if isinstance(value, nn.Module)]
            if hasattr(model, "__dict__")
            else []
        )
    names = inspect.getclosurevars(model)
    return [value for value in (*names.nonlocals.values(), *names.globals.values()) if isinstance(value, nn.Module)]


def submodules(model: Callable[..., Any]) -> list[nn.Module]:
    """All modules of a model, each once."""
    held = roots(model)
    if len(held) == 1:
        return _modules_of(held[0])
    return list({id(module): module for root in held for module in root.modules()}.values())


def _modules_of(root: nn.Module) -> list[nn.Module]:
    """``root.modules()``, walked again only after a module was put in, taken out or replaced; several per step."""
    below, children = _known.get(root, ([], ()))
    found = [root, *below]
    if children == () or children != _children(found):
        below = [module for module in root.modules() if module is not root]  # with the root it would never be freed
        found = [root, *below]
        _known[root] = below, _children(found)
    return found


def _children(modules: list[nn.Module]) -> tuple[int, ...]:
    return tuple([id(child) for module in modules for child in module._modules.values()])


@contextmanager
def evaluation_mode(model: Callable[..., Any]) -> Iterator[None]:
    """Every submodule in eval mode inside the block, each in its own mode again afterwards."""
    training = [module for module in submodules(model) if module.training]
    for root in roots(model):
        root.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def buffers_kept(model: Callable[..., Any]) -> Iterator[None]:
    """Whatever a forward pass writes to buffers inside the block is forgotten: running statistics, counters, queues.

    The model works on copies inside the block and has its own buffers back afterwards, so nothing that a graph has
    saved is written to.
    """
    owners = [(module._buffers, dict(module._buffers)) for module in submodules(model)]
    copies: dict[int, Tensor] = {}
    for current, kept in owners:
        for name, buffer in kept.items():
            if buffer is not None:
                current[name] = copies.setdefault(id(buffer), buffer.clone())
    try:
        yield
    finally:
        for current, kept in owners:
            current.update(kept)
