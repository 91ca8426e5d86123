"""What all runs of a setting share: ``config.json`` holds the configuration, code, packages and data once.

The blocks ``dataset`` and ``training`` stand there as in the profile, and beside them every method with all its
parameters, among them the keys of these blocks that it sets otherwise.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workbench.config import files
from workbench.config.schema import check_keys

NAME = "config.json"
BLOCKS = ("dataset", "training")  # a method may set some of their keys otherwise
SHARED = ("code", "packages", "data")


@dataclass(frozen=True)
class Facts:
    """What a run was made with.

    Attributes:
        config: the full configuration as nested mappings, seed excepted; kept exactly, never rounded.
        code: fingerprints of the code, by room.
        packages: versions by package name.
        data: SHA-256 of the data.
    """

    config: Mapping[str, Any]
    code: Mapping[str, str]
    packages: Mapping[str, str]
    data: str


def read(folder: Path) -> dict[str, Facts]:
    """The facts of a setting's runs by method.

    Raises:
        FileNotFoundError: if the file is missing.
        ValueError: for a missing or unknown key, or a block that is none; names the file.
    """
    path = folder / NAME
    content = files.read_json(path)
    check_keys(content, ("profile", "backbone", "evaluation", "methods", *BLOCKS, *SHARED), str(path))
    for block in ("backbone", "evaluation", "methods", "code", "packages", *BLOCKS):
        _check_block(content, block, str(path))
    for name in ("dataset", "backbone"):
        check_keys(content[name], [*content[name], "name"], f"{path}: {name}")
    for method in content["methods"]:
        _check_block(content["methods"], method, f"{path}: methods")
        for block in BLOCKS:
            _check_block(content["methods"][method], block, f"{path}: methods.{method}")
    return {method: _facts(content, method) for method in content["methods"]}


def update(facts: Iterable[tuple[str, Facts]], folder: Path, kept: Sequence[str] = ()) -> Path:
    """Write what some runs were made with, and what others were that stay in the folder.

    Args:
        facts: method and facts of each run that is written.
        folder: of the setting.
        kept: methods of the runs that stay.

    Raises:
        ValueError: if runs differ in more than their method and seed; names the file, the key and both values.
    """
    path = folder / NAME
    known = read(folder) if kept else {}
    of_method = {method: known[method] for method in kept}
    for method, found in facts:
        plain = files.simplified(asdict(found) | {"config": _without(found.config, "seed")}, NAME, digits=None)
        _check_equal(plain, asdict(of_method.setdefault(method, Facts(**plain))), f"{path}: {method}")
    configs = [found.config for found in of_method.values()]
    content = _without(configs[0], "method") | {key: getattr(next(iter(of_method.values())), key) for key in SHARED}
    content |= {block: _own(configs, block) for block in BLOCKS}
    content["methods"] = {name: _without(found.config["method"], "name") for name, found in of_method.items()}
    for method, found in of_method.items():
        _check_equal(asdict(found), asdict(_facts(content, method)), f"{path}: {method}")
    return files.write_json(content, path)


def _check_block(content: Mapping[str, Any], block: str, where: str) -> None:
    if not isinstance(content.get(block), Mapping):
        raise ValueError(f"{where}: {block} is {content.get(block)!r:.80}: expected a mapping; make it again")


def _facts(content: Mapping[str, Any], method: str) -> Facts:
    own = content["methods"][method]
    config = _without(content, "methods", *SHARED) | {"method": own | {"name": method}}
    config |= {block: content[block] | own[block] for block in BLOCKS}
    return Facts(config, *(content[key] for key in SHARED))


def _own(configs: Sequence[Mapping[str, Any]], block: str) -> dict[str, Any]:
    """A block as in the profile: the value of each key from a method that does not set it, if there is one."""
    found: dict[str, Any] = {}
    for config in configs:
        found = config[block] | found
    for config in reversed(configs):
        found |= _without(config[block], *config["method"][block])
    return found


def _without(mapping: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key not in keys}


def _check_equal(found: Any, expected: Any, where: str) -> None:
    """Refuse facts that differ, by the first key that does."""
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        for key in sorted({*found, *expected}):
            _check_equal(found.get(key), expected.get(key), f"{where}.{key}")
    elif found != expected:
        raise ValueError(
            f"{where} is {found!r}, but {expected!r} in other runs of this setting: make all of them again, "
            "or delete the folder"
        )
