"""All tables and figures of a profile in one HTML file that needs nothing else.

``python -m workbench.stages.report --profile laptop`` writes ``figures/laptop/report.html`` from the records
and from the figures as they are; the same input gives the same bytes.
"""

import argparse
import base64
import html
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from workbench.config import files, paths
from workbench.config.files import write_text
from workbench.reporting.table import Table
from workbench.stages import tables

STYLE = """
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; line-height: 1.45;
       font-family: system-ui, sans-serif; }
h1, h2, h3 { line-height: 1.2; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
figure { margin: 2rem 0; overflow-x: auto; }
figcaption { color: #444; font-size: 0.9rem; margin: 0.4rem 0; }
img { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-size: 0.85rem; }
th, td { padding: 0.25rem 0.6rem; text-align: right; border-bottom: 1px solid #e2e2e2; }
th { border-bottom: 2px solid #888; vertical-align: bottom; }
th.text, td.text { text-align: left; white-space: nowrap; }
"""


def rich(text: str) -> str:
    """The little Markdown of captions and verdicts as HTML: paragraphs, bullets, emphasis, code."""
    blocks = []
    for block in text.strip().split("\n\n"):
        lines = block.split("\n")
        if all(line.startswith("- ") for line in lines):
            blocks.append("<ul>" + "".join(f"<li>{_inline(line[2:])}</li>" for line in lines) + "</ul>")
        else:
            blocks.append(f"<p>{_inline(' '.join(lines))}</p>")
    return "\n".join(blocks)


def _inline(text: str) -> str:
    escaped = html.escape(text, quote=False)
    for pattern, tag in ((r"`([^`]+)`", "code"), (r"\*\*([^*]+)\*\*", "strong"), (r"\*([^*]+)\*", "em")):
        escaped = re.sub(pattern, rf"<{tag}>\1</{tag}>", escaped)
    return escaped


def build(profile: str) -> str:
    """The report as HTML.

    Raises:
        FileNotFoundError: if a record or a figure is missing; names it and the command that makes it.
    """
    sections = [
        "<h2>Verdict</h2>",
        rich(tables.verdict(profile)),
        "<h2>Tables</h2>",
        *map(_table, tables.build_all(profile).values()),
        "<h2>Figures</h2>",
        *(_figure(name, caption, profile) for name, caption in _captions(profile).items()),
    ]
    title = f"Saliency-guided training: results of profile {html.escape(profile)}"
    head = f'<meta charset="utf-8">\n<title>{title}</title>\n<style>{STYLE}</style>'
    body = "\n".join([f"<h1>{title}</h1>", *sections])
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}\n</body>\n</html>\n'


def _table(table: Table) -> str:
    caption = _inline(f"**{table.title}.** {table.caption}")
    return f'<figure id="{table.name}">\n<figcaption>{caption}</figcaption>\n{table.html}\n</figure>'


def _captions(profile: str) -> dict[str, str]:
    """Figures by name with their captions, in alphabetical order."""
    path = paths.ProfilePaths(profile).plots / "captions.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: `dvc repro figures` makes it with the figures")
    return files.read_json(path)


def _figure(name: str, caption: str, profile: str) -> str:
    path = paths.ProfilePaths(profile).plots / f"{name}.png"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: `dvc repro figures` makes it")
    picture = base64.b64encode(path.read_bytes()).decode()
    image = f'<img src="data:image/png;base64,{picture}" alt="{html.escape(caption)}">'
    return f'<figure id="{name}">\n{image}\n<figcaption>{_inline(caption)}</figcaption>\n</figure>'


def write(profile: str) -> Path:
    """Write the report of a profile."""
    return write_text(build(profile), paths.ProfilePaths(profile).figures / "report.html")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; says where the report is."""
    parser = argparse.ArgumentParser(prog="python -m workbench.stages.report", description=__doc__)
    parser.add_argument("--profile", default="laptop", help="whose results (default: laptop)")
    try:
        print(write(parser.parse_args(arguments).profile))
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
