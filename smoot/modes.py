"""The state of a model for the length of a ``with`` block: eval mode, and buffers that stay as they are."""

import dis
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

from torch import Tensor, nn

_known: WeakKeyDictionary[nn.Module, tuple[list[ReferenceType[nn.Module]], tuple[int, ...]]] = WeakKeyDictionary()


def roots(model: Callable[..., Any]) -> list[nn.Module]:
    """The modules that a model calls: itself, or those that a function, method, partial or object refers to.

    Of a function, what its closure holds and what it reads of its module; too many do no harm.
    """
    if isinstance(model, nn.Module):
        return [model]
    found: dict[int, nn.Module] = {}
    seen, waiting = set(), _referred_to(model)
    while waiting:
        value = waiting.pop(0)
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, nn.Module):
            found[id(value)] = value
        elif isinstance(value, _FOLLOWED):
            waiting += _referred_to(value)
        else:
            waiting += [held for held in getattr(value, "__dict__", {}).values() if isinstance(held, nn.Module)]
    return list(found.values())


_FOLLOWED = (FunctionType, MethodType, functools.partial)


def _referred_to(model: Any) -> list[Any]:
    """What a function, method or partial refers to; any other object itself."""
    if isinstance(model, functools.partial):
        return [model.func, *model.args, *model.keywords.values()]
    if isinstance(model, MethodType):
        return [model.__self__]
    if not isinstance(model, FunctionType):
        return [model]
    cells = [cell.cell_contents for cell in model.__closure__ or () if cell != CellType()]
    read = [model.__globals__.get(name) for name in _global_names(model.__code__)]
    return [*cells, *(value for value in read if not isinstance(value, ModuleType | type))]


@functools.cache
def _global_names(code: CodeType) -> tuple[str, ...]:
    """Names that code reads of its module; ``co_names`` would list attributes too."""
    return tuple({one.argval for one in dis.get_instructions(code) if one.opname == "LOAD_GLOBAL"})


def submodules(model: Callable[..., Any]) -> list[nn.Module]:
    """All modules of a model, each once."""
    held = roots(model)
    if len(held) == 1:
        return _modules_of(held[0])
    return list({id(module): module for root in held for module in root.modules()}.values())


def _modules_of(root: nn.Module) -> list[nn.Module]:
    """``root.modules()``, walked again only after a module was put in, taken out or replaced; several per step."""
    references, children = _known.get(root, ([], ()))
    below = [module for reference in references if (module := reference()) is not None]
    if not children or len(below) < len(references) or children != _children([root, *below]):
        below = [module for module in root.modules() if module is not root]
        _known[root] = [ref(module) for module in below], _children([root, *below])
    return [root, *below]


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
