"""Collects the documents for the web site: ``python -m workbench site`` fills ``runs/docs``, which MkDocs reads.

It holds the repository's documents at their own paths, with every file that they link to, so that links are the same
in the repository and on the site; a link that leads nowhere is an error.
"""

import argparse
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from workbench.config import paths

FIRST = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/*.md", "data/README.md", "examples/README.md")
# The address in [text](address), in src="address" and in href="address", without anchor; none of another site.
ADDRESS = re.compile(r"""(?:\]\(|(?:src|href)=")([^)#:\s"]+)(?:#[^)"\s]*)?[)"]""")


def collect(folder: Path) -> int:
    """Copy the documents and all files that they link to; returns their number.

    Raises:
        FileNotFoundError: for a link to a file that is not there; names document and link.
    """
    shutil.rmtree(folder, ignore_errors=True)
    waiting = [file for pattern in FIRST for file in sorted(paths.ROOT.glob(pattern))]
    known = set(waiting)
    while waiting:
        file = waiting.pop()
        target = folder / file.relative_to(paths.ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        new = [linked for linked in _linked(file) if linked not in known] if file.suffix == ".md" else []
        known.update(new)
        waiting += dict.fromkeys(new)
    return len(known)


def _linked(document: Path) -> Iterator[Path]:
    """The files of the repository that a document links to."""
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    for address in ADDRESS.findall(text):
        file = (document.parent / address).resolve()
        if not file.is_relative_to(paths.ROOT) or not file.is_file():
            name = document.relative_to(paths.ROOT)
            raise FileNotFoundError(
                f"{name} links to {address}: expected the path of a file, from the document's folder"
            )
        yield file


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: prints how many files there are."""
    argparse.ArgumentParser(prog="python -m workbench site", description=__doc__).parse_args(arguments)
    folder = paths.ROOT / "runs" / "docs"
    print(f"{collect(folder)} files in {folder.relative_to(paths.ROOT)}")
    return 0
