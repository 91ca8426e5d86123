"""What is generated of README and documents: blocks of results, the index of all figures, the diagram of the method.

A generated block, so that no result is typed by hand, stands between ``<!-- begin NAME -->`` and
``<!-- end NAME -->``, each on a line of its own. NAME is a file of ``figures/laptop/tables`` without ``.md``, or a
figure of ``figures/laptop/plots`` without ``.png``; ``paper/NAME`` takes that of another profile, ``choice/NAME`` a
table of ``figures/choice``. The index is ``figures/README.md``, the diagram ``docs/method.svg``.
``python -m workbench readme`` writes them, ``... --check`` only compares and exits with 1 if a block is stale.
"""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from workbench.config import files, paths
from workbench.config.profile import load_grid, method_entries
from workbench.reporting.diagram import diagram
from workbench.reporting.style import as_svg, method_looks
from workbench.results import records as results
from workbench.stages import choice
from workbench.stages.report import captions, heading

DOCUMENTS = ("README.md", "docs/method.md", "docs/deviations.md", "docs/replication.md")
INDEX, DIAGRAM = "figures/README.md", "docs/method.svg"
SUBJECT, SHOWN = "smoot", 7  # method and test image of the diagram
MARKER = re.compile(r"<!-- (begin|end) ([\w/]+) -->")


def block(name: str, document: str = "README.md") -> str:
    """What belongs into a block of a document; a figure's address starts from the document's folder.

    Raises:
        ValueError: if there is no table and no figure of that name.
    """
    profile, _, stem = name.rpartition("/")
    if profile == choice.NAME:
        table, figure = choice.folder() / f"{stem}.md", choice.folder() / f"{stem}.png"
    else:
        folders = paths.ProfilePaths(profile or paths.DEFAULT)
        table, figure = folders.tables / f"{stem}.md", folders.plots / f"{stem}.png"
    if table.exists():
        return table.read_text(encoding="utf-8").strip()
    if figure.exists():
        address = os.path.relpath(figure, (paths.ROOT / document).parent).replace(os.sep, "/")
        caption = captions(figure.parent)[stem]
        return f"![{heading(caption)}]({address})\n\n*{caption}*"
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


def index() -> str:
    """The index of all figures and tables, for a page that shows Markdown: profile by profile, with captions."""
    parts = [
        "# Figures and tables",
        "Written by `python -m workbench readme`. Each profile also has a page for a browser, `PROFILE/report.html`, "
        "with a filter. Click a figure to see it in full size.",
    ]
    for profile in paths.profiles():
        folders = paths.ProfilePaths(profile)
        if profile == "smoke" or not (folders.plots / "captions.json").exists():
            continue
        named = captions(folders.plots)
        parts.append(f"## {profile}")
        for name, caption in named.items():
            picture = f"{profile}/plots/{name}.png"
            image = f'<a href="{picture}"><img src="{picture}" width="600" alt="{heading(caption)}"></a>'
            parts += [f"### {heading(caption)}", image, caption]
        parts.append(f"Tables of {profile}: {_tables(folders.tables)}.")
    parts += [f"## {choice.NAME}", f"Tables over several studies: {_tables(choice.folder())}."]
    return "\n\n".join(parts) + "\n"


def _tables(folder: Path) -> str:
    """Links to all tables of a folder."""
    index = (paths.ROOT / INDEX).parent
    return " · ".join(f"[{_title(file)}]({file.relative_to(index).as_posix()})" for file in sorted(folder.glob("*.md")))


def _title(table: Path) -> str:
    """Of a table's file: the bold words that it begins with."""
    return table.read_text(encoding="utf-8").removeprefix("**").partition(".**")[0]


def drawn() -> str:
    """The diagram of the method as SVG, with an image and the runs of the default profile's first setting.

    Raises:
        FileNotFoundError: for a missing result; names it and the command that makes it.
    """
    grid = load_grid(paths.DEFAULT)
    dataset, backbone = grid.settings[0]
    histories = results.read_histories(grid)
    own = histories.query("dataset == @dataset and backbone == @backbone and method == @SUBJECT")
    look = method_looks(method_entries(paths.DEFAULT))[SUBJECT]
    return as_svg(diagram(results.read_samples(grid, dataset, backbone)[SUBJECT], SHOWN, own, look))


def stale() -> dict[str, str]:
    """The documents, index and diagram that differ from what they should be, with that text.

    Raises:
        FileNotFoundError: if a document is missing.
        ValueError: as :func:`filled`.
    """
    texts = {document: (paths.ROOT / document).read_text(encoding="utf-8") for document in DOCUMENTS}
    wanted = {document: filled(text, document) for document, text in texts.items()}
    wanted |= {INDEX: index(), DIAGRAM: drawn()}
    for made in (INDEX, DIAGRAM):
        file = paths.ROOT / made
        texts[made] = file.read_text(encoding="utf-8") if file.exists() else ""
    return {document: text for document, text in wanted.items() if text != texts[document]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; writes the blocks, or checks them."""
    parser = argparse.ArgumentParser(prog="python -m workbench readme", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a block is stale")
    check = parser.parse_args(arguments).check
    found = stale()
    for document, text in found.items():
        if check:
            print(f"{document} is stale: `python -m workbench readme` refreshes it", file=sys.stderr)
        else:
            files.write_text(text, paths.ROOT / document)
    return int(check and bool(found))
