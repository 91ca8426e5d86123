"""How files are written: whole or not at all, and the same content with the same bytes."""

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

DIGITS = 6  # decimals of every stored float


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary path beside ``target`` that takes its place only if the block succeeds.

    Readers see the old file or the whole new one, never a part; a failed block leaves nothing behind.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(text: str, path: Path) -> Path:
    """Write text, whole or not at all, with the same line ends on every system."""
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode())
    return path


def simplified(value: Any, where: str, digits: int | None = DIGITS) -> Any:
    """Plain JSON types: floats rounded to ``digits`` decimals (``None``: exact), NaN as ``None``.

    Raises:
        ValueError: for an infinite number or a type that JSON does not have; ``where`` names it.
    """
    if isinstance(value, Mapping):
        return {str(key): simplified(item, f"{where}.{key}", digits) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [simplified(item, f"{where}[{index}]", digits) for index, item in enumerate(value)]
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        number = float(value)
        if math.isinf(number):
            raise ValueError(f"{where} is {number}: expected a finite number, or NaN for an undefined one")
        if math.isnan(number):
            return None
        return number if digits is None else round(number, digits) + 0.0  # + 0.0: no negative zero
    raise ValueError(f"{where} is a {type(value).__name__}: expected a number, text, list or mapping")


def write_json(content: Mapping[str, Any], path: Path) -> Path:
    """Write plain JSON with sorted keys."""
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
    return write_text(text, path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON mapping.

    Raises:
        ValueError: if the file holds anything else.
    """
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}): delete it and make it again") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}: expected a mapping")
    return content


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        ValueError: if it is none or cannot be read; names it.
        FileNotFoundError: if it is missing.
    """
    try:
        return yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): expected a file that you may read") from None
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:  # of PyYAML
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from None


def write_csv(frame: pd.DataFrame, path: Path) -> Path:
    """Write a frame without its index, floats rounded, the same line ends on every system."""
    floats = {str(column): frame[column].round(DIGITS) + 0.0 for column in frame.select_dtypes("float")}
    with replacing(path) as temporary:
        frame.assign(**floats).to_csv(temporary, index=False, lineterminator="\n")
    return path


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file so that ``target`` is never half of it."""
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)
