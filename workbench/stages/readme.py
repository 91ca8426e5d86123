"""Fills the generated blocks of README.md and of the documents in ``docs``, so that no result is typed by hand.

A block stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``, each on a line of its own. NAME is
a file of ``figures/laptop/tables`` without ``.md``, or a figure of ``figures/laptop/plots`` without ``.png``;
``paper/NAME`` takes that of another profile. ``python -m workbench.stages.readme`` writes,
``... --check`` only compares and exits with 1 if a block is stale.
"""

import argparse
import os
import re
import sys
from collections.abc import Sequence

from workbench.config import files, paths
from workbench.config.files import write_text

DOCUMENTS = ("README.md", "docs/method.md", "docs/deviations.md", "docs/replication.md")
MARKER = re.compile(r"<!-- (begin|end) ([\w/]+) -->")


def block(name: str, document: str = "README.md") -> str:
    """What belongs into a block of a document; a figure's address starts from the document's folder.

    Raises:
        ValueError: if there is no table and no figure of that name.
    """
    profile, _, stem = name.rpartition("/")
    folders = paths.ProfilePaths(profile or "laptop")
    table, figure = folders.tables / f"{stem}.md", folders.plots / f"{stem}.png"
    if table.exists():
        return table.read_text(encoding="utf-8").strip()
    if figure.exists():
        caption = files.read_json(folders.plots / "captions.json")[stem]
        subject = re.split("[:.]", caption)[0]
        address = os.path.relpath(figure, (paths.ROOT / document).parent).replace(os.sep, "/")
        return f"![{subject}]({address})\n\n*{caption}*"
    raise ValueError(f"{document}: unknown block {name!r}: neither {table} nor {figure} exists")


def filled(text: str, document: str = "README.md") -> str:
    """The text of a document with every block as it should be.

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
            raise ValueError(f"{document}, line {number}: found {line.strip()}: expected {wanted}")
        lines += [line, block(name, document)] if kind == "begin" else [line]
        open_block = name if kind == "begin" else ""
    if open_block:
        raise ValueError(f"{document}: block {open_block!r} is not closed: add <!-- end {open_block} -->")
    return "\n".join(lines) + "\n"


def stale() -> dict[str, str]:
    """The documents that differ from what they should be, with that text.

    Raises:
        FileNotFoundError: if a document is missing.
        ValueError: as :func:`filled`.
    """
    texts = {document: (paths.ROOT / document).read_text(encoding="utf-8") for document in DOCUMENTS}
    wanted = {document: filled(text, document) for document, text in texts.items()}
    return {document: text for document, text in wanted.items() if text != texts[document]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; writes the blocks, or checks them."""
    parser = argparse.ArgumentParser(prog="python -m workbench.stages.readme", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a block is stale")
    check = parser.parse_args(arguments).check
    try:
        found = stale()
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    for document, text in found.items():
        if check:
            print(f"{document} is stale: `python -m workbench.stages.readme` refreshes it", file=sys.stderr)
        else:
            write_text(text, paths.ROOT / document)
    return int(check and bool(found))


if __name__ == "__main__":
    sys.exit(main())
