"""Frozen dataclasses from YAML mappings, checked key by key: an unknown or missing key or a wrong type is an error."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Built = TypeVar("Built", bound="DataclassInstance")
NAME = re.compile("[A-Za-z0-9_]+")
LARGEST, DEEPEST = 2**31 - 1, 10  # of whole numbers; of mappings and lists in one another
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


def check_name(name: Any, where: str) -> str:
    """The name, if it is safe in every path and command: letters, digits and underscores.

    Raises:
        ValueError: for anything else; ``where`` is its place.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"{where} has the name {name!r}: expected letters, digits and underscores only")
    return name


def _check_number(value: float, where: str) -> None:
    """Refuse a number that no computation can use."""
    if isinstance(value, int) and abs(value) > LARGEST:
        shown = value if abs(value) < 10**20 else f"a whole number of {value.bit_length()} bits"
        raise ValueError(f"{where} is {shown}: expected a number of at most {LARGEST}")
    if not math.isfinite(value):
        raise ValueError(f"{where} is {value!r}: expected a finite number")


def _check_numbers(value: Any, where: str, depth: int = 0) -> None:
    """The same for every number in a mapping whose keys are not known here."""
    if depth > DEEPEST:
        raise ValueError(f"{where} is nested more than {DEEPEST} times: expected a block of keys and values")
    if isinstance(value, int | float) and not isinstance(value, bool):
        _check_number(value, where)
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_numbers(item, f"{where}.{key}", depth + 1)
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_numbers(item, f"{where}[{index}]", depth + 1)


def _convert(hint: Any, value: Any, where: str) -> Any:
    """``value`` as the type hint says, or a clear error."""
    origin, args = get_origin(hint), get_args(hint)
    if is_dataclass(hint) and isinstance(hint, type):
        return build(hint, value, where)
    if origin in (Union, UnionType):
        return None if value is None and NoneType in args else _convert(args[0], value, where)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_convert(args[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if isinstance(value, int | float) and not isinstance(value, bool):
        _check_number(value, where)
        value = float(value) if hint is float else value
    if isinstance(value, Mapping):
        _check_numbers(value, where)
    if hint is float and isinstance(value, float):
        return value
    literal = origin is Literal and value in args and type(value) is type(args[0])
    plain = hint in (int, str, bool) and type(value) is hint
    mapping = args == (str, Any) and isinstance(value, dict)
    if literal or plain or mapping:
        return value
    expected = " or ".join(map(repr, args)) if origin is Literal else IN_YAML.get(origin or hint, str(hint))
    raise ValueError(f"{where} is {value!r}: expected {expected}")
