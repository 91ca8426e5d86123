"""Fills the generated blocks of README.md, so that no result in it is typed by hand.

A block stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``, each on a line of its own. NAME is
a file of ``figures/laptop/tables`` without ``.md``, or a figure of ``figures/laptop/plots`` without ``.png``;
``paper/NAME`` takes that of another profile. ``python -m smoot.workbench.readme`` writes,
``... --check`` only compares and exits with 1 if a block is stale.
"""

import argparse
import re
import sys
from collections.abc import Sequence

from smoot.workbench import paths, storage
from smoot.workbench.typesetting import write_text

MARKER = re.compile(r"<!-- (begin|end) ([\w/]+) -->")


def block(name: str) -> str:
    """What belongs into a block.

    Raises:
        ValueError: if there is no table and no figure of that name.
    """
    profile, _, stem = name.rpartition("/")
    folders = paths.ProfilePaths(profile or "laptop")
    table, figure = folders.tables / f"{stem}.md", folders.plots / f"{stem}.png"
    if table.exists():
        return table.read_text(encoding="utf-8").strip()
    if figure.exists():
        caption = storage.read_json(folders.plots / "captions.json")[stem]
        subject = re.split("[:.]", caption)[0]
        return f"![{subject}]({figure.relative_to(paths.ROOT).as_posix()})\n\n*{caption}*"
    raise ValueError(f"README.md: unknown block {name!r}: neither {table} nor {figure} exists")


def filled(text: str) -> str:
    """The text with every block as it should be.

    Raises:
        ValueError: for an unknown name, or a marker without its counterpart.
    """
    lines: list[str] = []
    open_block = ""
    for number, line in enumerate(text.splitlines(), start=1):
        marker = MARKER.fullmatch(line.strip())
        if not marker:
            lines += [] if open_block else [line]
            continue
        kind, name = marker.groups()
        if (kind == "begin" and open_block) or (kind == "end" and name != open_block):
            wanted = f"the end of {open_block!r}" if open_block else "a begin before it"
            raise ValueError(f"README.md, line {number}: found {line.strip()}: expected {wanted}")
        lines += [line, block(name)] if kind == "begin" else [line]
        open_block = name if kind == "begin" else ""
    if open_block:
        raise ValueError(f"README.md: block {open_block!r} is not closed: add <!-- end {open_block} -->")
    return "\n".join(lines) + "\n"


def stale() -> bool:
    """Whether README.md differs from what it should be."""
    text = (paths.ROOT / "README.md").read_text(encoding="utf-8")
    return text != filled(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; writes the blocks, or checks them."""
    parser = argparse.ArgumentParser(prog="python -m smoot.workbench.readme", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a block is stale")
    check = parser.parse_args(arguments).check
    try:
        if not stale():
            return 0
        if check:
            print("README.md is stale: `python -m smoot.workbench.readme` refreshes it", file=sys.stderr)
            return 1
        readme = paths.ROOT / "README.md"
        write_text(filled(readme.read_text(encoding="utf-8")), readme)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
