"""The pages that show tables and figures: a profile's report, and the generated blocks of README and documents.

The report, ``figures/PROFILE/report.html``, is one page with the verdict, all tables and all figures of a profile.

A generated block, so that no result is typed by hand, stands between ``<!-- begin NAME -->`` and
``<!-- end NAME -->``, each on a line of its own. NAME is a file of ``figures/laptop/tables`` without ``.md``, or a
figure of ``figures/laptop/plots`` without ``.png``; ``paper/NAME`` takes that of another profile, ``choice/NAME`` a
table of ``figures/choice``.
``python -m workbench readme`` writes them, ``... --check`` only compares and exits with 1 if a block is stale.
"""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from nbconvert import HTMLExporter
from nbformat.v4 import new_markdown_cell, new_notebook

from workbench.config import files, paths
from workbench.stages import choice, tables

DOCUMENTS = ("README.md", "docs/method.md", "docs/deviations.md", "docs/replication.md")
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}</body>
</html>
"""
STYLE = """
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; font: 1rem/1.45 system-ui, sans-serif; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
img { max-width: 100%; margin-top: 1.5rem; }
table { display: block; overflow-x: auto; border-collapse: collapse; margin-bottom: 2rem; font-size: 0.85rem; }
th, td { padding: 0.25rem 0.6rem; border-bottom: 1px solid #ddd; white-space: nowrap; }
"""
MARKER = re.compile(r"<!-- (begin|end) ([\w/]+) -->")


def report(profile: str) -> str:
    """The report of a profile as Markdown; figures are linked, from the folder ``figures/PROFILE``.

    Raises:
        FileNotFoundError: if a result or a figure is missing; names it and the command that makes it.
    """
    plots = paths.ProfilePaths(profile).plots
    parts = [f"# {_title(profile)}", "## Verdict", tables.verdict(profile)]
    parts += ["## Tables", *(table.markdown for table in tables.build_all(profile).values()), "## Figures"]
    for name, caption in _captions(plots).items():
        if not (plots / f"{name}.png").exists():
            raise FileNotFoundError(f"{plots / name}.png is missing: `dvc repro figures` makes it")
        parts.append(_image(f"plots/{name}.png", caption))
    return "\n\n".join(parts) + "\n"


def write_report(profile: str) -> Path:
    """Write the report of a profile as an HTML page; the same results give the same bytes."""
    cell = new_markdown_cell(report(profile), id="report")  # type: ignore[no-untyped-call]
    book = new_notebook(cells=[cell])  # type: ignore[no-untyped-call]
    exporter = HTMLExporter(template_name="basic", anchor_link_text="")  # type: ignore[no-untyped-call]
    body, _ = exporter.from_notebook_node(book)
    page = PAGE.format(title=_title(profile), style=STYLE, body=body)
    return files.write_text(page, paths.ProfilePaths(profile).figures / "report.html")


def _title(profile: str) -> str:
    return f"Saliency-guided training: results of profile {profile}"


def _captions(plots: Path) -> dict[str, str]:
    """The figures of a profile by name, in alphabetical order."""
    path = plots / "captions.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: `dvc repro figures` makes it with the figures")
    return files.read_json(path)


def _image(address: str, caption: str) -> str:
    """A figure with its caption, and the part before the first colon or full stop in place of the picture."""
    return f"![{re.split('[:.]', caption)[0]}]({address})\n\n*{caption}*"


def block(name: str, document: str = "README.md") -> str:
    """What belongs into a block of a document; a figure's address starts from the document's folder.

    Raises:
        ValueError: if there is no table and no figure of that name.
    """
    profile, _, stem = name.rpartition("/")
    if profile == choice.NAME:
        table, figure = choice.folder() / f"{stem}.md", choice.folder() / f"{stem}.png"
    else:
        folders = paths.ProfilePaths(profile or "laptop")
        table, figure = folders.tables / f"{stem}.md", folders.plots / f"{stem}.png"
    if table.exists():
        return table.read_text(encoding="utf-8").strip()
    if figure.exists():
        address = os.path.relpath(figure, (paths.ROOT / document).parent).replace(os.sep, "/")
        return _image(address, _captions(figure.parent)[stem])
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
