"""The report of a profile, ``figures/PROFILE/report.html``: its figures, its tables and how to read them.

One page for a browser of any width, from the template ``report.html.j2``. It fetches nothing but the profile's own
pictures; without JavaScript everything is shown, with it a filter shows the exhibits of one setting or with a word.
"""

import re
from html import escape
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, Template
from nbconvert.filters import markdown2html

from workbench.config import files, paths
from workbench.config.profile import load_grid
from workbench.reporting.table import WORDS
from workbench.reporting.words import display_name
from workbench.stages import tables

KINDS = (  # of figures, in reading order
    *("overlays", "comparison", "oracle", "log", "accuracy_faithfulness", "accuracy_differences"),
    *("robustness_differences", "saliency_maps", "judge_curves", "curves", "schedule", "attribution_maps", "sanity"),
    *("gradient_magnitudes", "run_cost", "growth"),
)


def write_report(profile: str) -> Path:
    """Write the report of a profile as an HTML page; the same results give the same bytes.

    Raises:
        FileNotFoundError: if a result or a figure is missing; names it and the command that makes it.
    """
    folders, grid = paths.ProfilePaths(profile), load_grid(profile)
    named = captions(folders.plots)
    for name in named:
        paths.required(folders.plots / f"{name}.png", "`dvc repro figures`")
    built = tables.build_all(profile)
    notes = dict.fromkeys(table.note for table in built.values() if table.note)
    readings = {note: f"reading-{place}" for place, note in enumerate(notes)}
    explained = {
        name: "; ".join(dict.fromkeys(table.title.partition(",")[0] for table in built.values() if table.note == note))
        for note, name in readings.items()
    }
    page = _template().render(
        title=f"Saliency-guided training: results of profile {profile}",
        places={
            f"{dataset}_{backbone}": f"{display_name(dataset)}, {display_name(backbone)}"
            for dataset, backbone in grid.settings
        },
        contents={
            "Figures": {name: heading(caption) for name, caption in named.items()},
            "Tables": {name: table.title for name, table in built.items()},
            "How to read the tables": explained,
        },
        figures=named,
        tables=built,
        readings=readings,
        words=WORDS,
    )
    return files.write_text(page, folders.figures / "report.html")


def _template() -> Template:
    options: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), **options)
    environment.filters |= {"escape": escape, "inline": _inline}
    return environment.get_template("report.html.j2")


def captions(plots: Path) -> dict[str, str]:
    """The figures of a profile by name, in reading order.

    Raises:
        FileNotFoundError: if they are missing; names the command that makes them.
    """
    found = files.read_json(paths.required(plots / "captions.json", "`dvc repro figures`"))
    return {name: found[name] for name in sorted(found, key=_place)}


def _place(name: str) -> tuple[int, str]:
    """Where a figure stands: by its kind, then by its setting; unknown kinds come last."""
    kinds = [place for place, kind in enumerate(KINDS) if name.startswith(kind)]
    return (kinds[0] if kinds else len(KINDS), name)


def heading(caption: str) -> str:
    """A caption up to its first colon, semicolon or full stop, without marks of Markdown."""
    return re.split(r"[:;.](?:\s|$)", caption)[0].replace("`", "")


def _inline(markdown: str) -> str:
    """A paragraph of Markdown without the paragraph's own tags."""
    return str(markdown2html(markdown)).strip().removeprefix("<p>").removesuffix("</p>")
