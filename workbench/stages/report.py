"""The report of a profile, ``figures/PROFILE/report.html``: its figures, its verdict, its tables and how to read them.

One page for a browser of any width. It fetches nothing but the profile's own pictures; without JavaScript everything is
shown, with it a filter shows the exhibits of one setting or with a word.
"""

import re
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

import pandas as pd
from nbconvert.filters import markdown2html

from workbench.config import files, paths
from workbench.config.profile import load_grid
from workbench.reporting.table import WORDS, Table
from workbench.reporting.words import display_name
from workbench.stages import tables

KINDS = (  # of figures, in reading order
    *("overlays", "comparison", "oracle", "log", "accuracy_faithfulness", "means", "accuracy_differences"),
    *("robustness_differences", "saliency_maps", "judge_curves", "curves", "schedule", "attribution_maps", "sanity"),
    *("gradient_magnitudes", "run_cost", "growth"),
)
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<p>In this order: figures, verdict, tables, how to read them. Every number is made by the pipeline.</p>
<form id="filter" hidden>
<label>Setting <select id="place"><option value="">all</option>{options}</select></label>
<label>Word <input id="word" type="search"></label>
</form>
<details>
<summary>Contents: {counted}</summary>
<nav aria-label="Contents">
{contents}
</nav>
</details>
<main>
{body}
</main>
<script>{script}</script>
</body>
</html>
"""
STYLE = """
body { max-width: 60rem; margin: 0 auto; padding: 1rem; color: #222; font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
h3 { font-size: 1.05rem; margin: 2rem 0 0.3rem; }
h3 a { color: #888; text-decoration: none; }
summary { cursor: pointer; }
section { scroll-margin-top: 5rem; }
form { position: sticky; top: 0; padding: 0.5rem 0; background: #fff; }
form[hidden] { display: none; }
label { margin-right: 1rem; white-space: nowrap; }
select, input { font: inherit; max-width: 14rem; }
nav ul { columns: 20rem; padding-left: 1.2rem; font-size: 0.9rem; }
figure { margin: 0; }
img { max-width: 100%; height: auto; }
figcaption, .caption, .note { color: #444; font-size: 0.92rem; }
.table { overflow-x: auto; margin: 0.5rem 0 1rem; }
table { border-collapse: collapse; font-size: 0.85rem; }
th, td { padding: 0.25rem 0.6rem; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top; }
th { max-width: 9rem; }
td { white-space: nowrap; }
.word { text-align: left; white-space: normal; min-width: 6rem; }
"""
SCRIPT = """
const form = document.getElementById("filter"), place = document.getElementById("place");
const word = document.getElementById("word");
function apply() {
  const asked = word.value.toLowerCase();
  for (const part of document.querySelectorAll("main section")) {
    const elsewhere = place.value && part.dataset.place && part.dataset.place !== place.value;
    part.hidden = elsewhere || !part.textContent.toLowerCase().includes(asked);
    document.querySelector('nav a[href="#' + part.id + '"]').parentElement.hidden = part.hidden;
  }
}
form.hidden = false;
place.addEventListener("change", apply);
word.addEventListener("input", apply);
"""


def write_report(profile: str) -> Path:
    """Write the report of a profile as an HTML page; the same results give the same bytes.

    Raises:
        FileNotFoundError: if a result or a figure is missing; names it and the command that makes it.
    """
    folders, grid = paths.ProfilePaths(profile), load_grid(profile)
    named = captions(folders.plots)
    for name in named:
        if not (folders.plots / f"{name}.png").exists():
            raise FileNotFoundError(f"{folders.plots / name}.png is missing: `dvc repro figures` makes it")
    places = {
        f"{dataset}_{backbone}": f"{display_name(dataset)}, {display_name(backbone)}"
        for dataset, backbone in grid.settings
    }
    built = tables.build_all(profile)
    notes = list(dict.fromkeys(table.note for table in built.values() if table.note))
    parts = {
        "Figures": {name: (heading(caption), _figure(name, caption)) for name, caption in named.items()},
        "Verdict": {"verdict": ("Verdict", _html(tables.verdict(profile)))},
        "Tables": {name: (table.title, _table(table, notes)) for name, table in built.items()},
        "How to read the tables": {
            f"reading-{place}": (_titles(built.values(), note), f'<p class="note">{_inline(note)}</p>')
            for place, note in enumerate(notes)
        },
    }
    page = PAGE.format(
        title=escape(f"Saliency-guided training: results of profile {profile}"),
        style=STYLE,
        options="".join(f'<option value="{place}">{escape(said)}</option>' for place, said in places.items()),
        contents="\n".join(_contents(title, own) for title, own in parts.items()),
        counted=f"{len(named)} figures, {len(built)} tables",
        body="\n".join(_part(title, own, places) for title, own in parts.items()),
        script=SCRIPT,
    )
    return files.write_text(page, folders.figures / "report.html")


def captions(plots: Path) -> dict[str, str]:
    """The figures of a profile by name, in reading order.

    Raises:
        FileNotFoundError: if they are missing; names the command that makes them.
    """
    path = plots / "captions.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: `dvc repro figures` makes it with the figures")
    found = files.read_json(path)
    return {name: found[name] for name in sorted(found, key=_place)}


def _place(name: str) -> tuple[int, str]:
    """Where a figure stands: by its kind, then by its setting; unknown kinds come last."""
    kinds = [place for place, kind in enumerate(KINDS) if name.startswith(kind)]
    return (kinds[0] if kinds else len(KINDS), name)


def heading(caption: str) -> str:
    """A caption up to its first colon, semicolon or full stop, without marks of Markdown."""
    return re.split(r"[:;.](?:\s|$)", caption)[0].replace("`", "")


def _contents(title: str, parts: Mapping[str, tuple[str, str]]) -> str:
    entries = "".join(f'<li><a href="#{name}">{escape(said)}</a></li>' for name, (said, _) in parts.items())
    return f"<p>{title}</p>\n<ul>{entries}</ul>" if parts else ""


def _part(title: str, parts: Mapping[str, tuple[str, str]], places: Iterable[str]) -> str:
    """A heading, and below it a section for each exhibit, with the setting that it belongs to."""
    sections = []
    for name, (said, inner) in parts.items():
        place = next((place for place in places if place in name), "")
        link = f'<a href="#{name}" aria-label="link to this part">#</a>'
        sections.append(
            f'<section id="{name}" data-place="{place}">\n<h3>{escape(said)} {link}</h3>\n{inner}\n</section>'
        )
    return "\n".join([f"<h2>{title}</h2>", *sections]) if sections else ""


def _figure(name: str, caption: str) -> str:
    image = f'<img src="plots/{name}.png" alt="{escape(heading(caption))}" loading="lazy">'
    return f"<figure>\n{image}\n<figcaption>{_inline(caption)}</figcaption>\n</figure>"


def _table(table: Table, notes: list[str]) -> str:
    reading = f' <a href="#reading-{notes.index(table.note)}">How to read it</a>' if table.note else ""
    return "\n".join([f'<p class="caption">{_inline(table.caption)}{reading}</p>', *map(_piece, table.pieces)])


def _piece(display: pd.DataFrame) -> str:
    kinds = ['class="word"' if str(column) in WORDS else "" for column in display.columns]
    rows = [
        "".join(
            f"<{tag} {kind}>{escape(str(text))}</{tag}>".replace(" >", ">")
            for kind, text in zip(kinds, row, strict=True)
        )
        for tag, row in [("th", list(display.columns)), *(("td", row) for row in display.to_numpy().tolist())]
    ]
    lines = "".join(f"<tr>{row}</tr>\n" for row in rows)
    return f'<div class="table"><table>\n{lines}</table></div>'


def _titles(built: Iterable[Table], note: str) -> str:
    """What the tables with this note are called, without their settings."""
    return "; ".join(dict.fromkeys(table.title.partition(",")[0] for table in built if table.note == note))


def _html(markdown: str) -> str:
    return str(markdown2html(markdown)).strip()


def _inline(markdown: str) -> str:
    """A paragraph of Markdown without the paragraph's own tags."""
    return _html(markdown).removeprefix("<p>").removesuffix("</p>")
