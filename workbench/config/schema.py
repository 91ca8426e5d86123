"""Frozen dataclasses from YAML mappings, checked key by key: an unknown or missing key or a wrong type is an error."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Built = TypeVar("Built", bound="DataclassInstance")
IN_YAML = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
IN_YAML |= {tuple: "a list", Mapping: "a mapping"}


def check_keys(
    given: Iterable[str], known: Iterable[str], where: str, *, required: Iterable[str] | None = None, kind: str = "key"
) -> None:
    """Refuse unknown and missing keys of a file or of a block in it.

    Args:
        given: the keys that there are.
        known: those that there may be.
        where: the place that errors name.
        required: those that there must be; all known ones if None.
        kind: what errors call a key.

    Raises:
        ValueError: names the first unknown key, else the first missing one.
    """
    given, known = list(given), list(known)
    for key in given:
        if key not in known:
            raise ValueError(f"{where}: unknown {kind} {key!r}: expected {', '.join(known)}")
    for key in known if required is None else required:
        if key not in given:
            raise ValueError(f"{where}: {kind} {key!r} is missing")


def build(kind: type[Built], values: Any, where: str) -> Built:
    """A dataclass from a mapping, checked key by key.

    Raises:
        ValueError: names the place ``where``, the key, its value and what is expected.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} is {values!r}: expected a mapping with {', '.join(f.name for f in fields(kind))}")
    required = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    check_keys(values, [f.name for f in fields(kind)], where, required=required)
    hints = get_type_hints(kind)
    built = {key: _convert(hints[key], value, f"{where}.{key}") for key, value in values.items()}
    try:
        return kind(**built)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def nameless(entry: Any, name: str, where: str) -> Mapping[str, Any]:
    """The entry of this name, if it is a mapping of keys and does not repeat its name.

    Raises:
        ValueError: for anything else.
    """
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where} is {entry!r}: expected a mapping of keys")
    if "name" in entry:
        raise ValueError(f"{where}: unknown key 'name': its name is {name!r}")
    return entry


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
