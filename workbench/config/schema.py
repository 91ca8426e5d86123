"""Frozen dataclasses from YAML mappings, checked key by key: an unknown or missing key or a wrong type is an error."""

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

IN_YAML = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
IN_YAML |= {tuple: "a list", Mapping: "a mapping"}


def build(kind: type[Any], values: Any, where: str) -> Any:
    """A dataclass from a mapping, checked key by key."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} is {values!r}: expected a mapping with {', '.join(f.name for f in fields(kind))}")
    known = {entry.name: entry for entry in fields(kind)}
    for key in values:
        if key not in known:
            raise ValueError(f"{where}: unknown key {key!r}: expected {', '.join(known)}")
    for name, entry in known.items():
        if name not in values and entry.default is MISSING and entry.default_factory is MISSING:
            raise ValueError(f"{where}: key {name!r} is missing")
    hints = get_type_hints(kind)
    built = {key: _convert(hints[key], value, f"{where}.{key}") for key, value in values.items()}
    try:
        return kind(**built)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _convert(hint: Any, value: Any, where: str) -> Any:
    """``value`` as the type hint says, or a clear error."""
    origin, args = get_origin(hint), get_args(hint)
    if is_dataclass(hint) and isinstance(hint, type):
        return build(hint, value, where)
    if origin in (Union, UnionType):
        return None if value is None and NoneType in args else _convert(args[0], value, where)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_convert(args[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value!r}: expected a finite number")
        return float(value)
    literal = origin is Literal and value in args and type(value) is type(args[0])
    plain = hint in (int, str, bool) and type(value) is hint
    mapping = args == (str, Any) and isinstance(value, dict)
    if literal or plain or mapping:
        return value
    expected = " or ".join(map(repr, args)) if origin is Literal else IN_YAML.get(origin or hint, str(hint))
    raise ValueError(f"{where} is {value!r}: expected {expected}")
