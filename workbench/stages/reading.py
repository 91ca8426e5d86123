"""Tables and figures as a notebook shows them: the answer first, then a few of each setting, all others as links."""

from collections.abc import Mapping

from IPython.display import Markdown

from workbench.config.profile import load_grid
from workbench.reporting.captions import by_setting
from workbench.reporting.table import SPREAD, Table, as_markdown
from workbench.results.records import load_records
from workbench.stages.report import heading

# Kinds of exhibits in reading order, as their names begin: what answers a profile's question, and of each setting.
ANSWERS = ("headline", "claims_overview", "accuracy_differences", "comparison_", "oracle_", "log")
OF_SETTINGS = ("accuracy", "faithfulness", "localisation")
DRAWN = ("overlays", "accuracy_faithfulness", "judge_curves", "schedule")
Texts = Mapping[str, str]  # Markdown by an exhibit's name


def tables_page(written: Mapping[str, Table], profile: str) -> Markdown:
    """The tables that answer the profile's question, the first columns of each setting's, and links to all others."""
    files = {name: f"(../figures/{profile}/tables/{name}.md)" for name in written}
    whole = {name: table.markdown for name, table in written.items()}
    brief = {
        name: f"**[{table.title.partition(',')[0]}]{files[name]}**\n\n{as_markdown(table.pieces[0])}"
        for name, table in written.items()
    }
    links = {name: f"[{table.title}]{files[name]}" for name, table in written.items()}
    said = f"; {SPREAD}. Behind a table's name are all its columns, and how to read them."
    return _page(profile, OF_SETTINGS, whole, brief, links, said)


def figures_page(written: Texts, profile: str) -> Markdown:
    """The figures that answer the profile's question, a few of each setting, and links to all others."""
    links = {name: f"[{heading(said)}](../figures/{profile}/plots/{name}.png)" for name, said in written.items()}
    drawn = {name: f"!{links[name]}\n\n*{said}*" for name, said in written.items()}
    return _page(profile, DRAWN, drawn, drawn, links, ".")


def _page(profile: str, kinds: tuple[str, ...], whole: Texts, brief: Texts, links: Texts, said: str) -> Markdown:
    """Under headings: answers as a whole, of each setting these kinds in brief below its facts, and links."""
    shown = [name for kind in ANSWERS for name in links if name.startswith(kind)]
    parts = ["## What came out", *(whole[name] for name in shown)] if shown else []
    for setting, _ in by_setting(load_records(load_grid(profile))):
        own = [name for kind in kinds if (name := f"{kind}_{setting.place}") in links]
        if own:
            parts += [f"## {setting.name}", f"{setting.facts}{said}"]
            parts += [brief[name].replace(f" {setting.facts}.", "") for name in own]
        shown += own
    others = [f"- {link}" for name, link in links.items() if name not in shown]
    return Markdown("\n\n".join([*parts, *(["## All others", "\n".join(others)] if others else [])]))  # type: ignore[no-untyped-call]
