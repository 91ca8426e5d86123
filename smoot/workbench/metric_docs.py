"""Writes docs/metrics.md: every measure's formula, range, direction, source and failure modes, from its docstring.

``python -m smoot.workbench.metric_docs`` writes the page, ``... --check`` only compares and exits with 1 if it is
stale. Docstrings are read from the source, so nothing that measures is imported. A new measure gets the
sections of ``SECTIONS`` in its docstring and a line in ``MEASURES``.
"""

import argparse
import ast
import re
import sys
from collections.abc import Sequence

from smoot.workbench import paths
from smoot.workbench.typesetting import write_text

SECTIONS = ("Formula", "Range", "Better", "Source", "Fails when")
TITLE = "How accurate a network is, and how good its saliency"
INTRODUCTION = """
One heading per measure, grouped by the quality it speaks about. No single number shows that saliency is good: a map
can be sparse and wrong, well placed and without influence on the answer, faithful for one fill only. So each
measure states when it fails, and results show the groups side by side with a random map as the control.
"""
GROUPS = {
    "Faithfulness": """
Does the answer depend on the pixels that the map calls salient? `deletion_auc_F`, `insertion_auc_F`, `random_auc_F`
and `gap_F` of a run record are the areas and the gap for the fill F; the same names after `judge_` are those of an
independent judge network on the model's maps. `judge_gap_right_F` is the judge's gap over those images alone that the
explained network itself answers rightly: maps of wrong answers explain another class and are left out, but a more
accurate network keeps harder images, so it is read beside the gap over all. Removing pixels takes an image off the
data, and a model that was trained with masked images is used to it: hence two fills, a random ranking, the judge, and
retraining.
""",
    "Localisation": """
Does the saliency lie where the object is? The region is exact where the data are composed (a block, a shortcut, a
tile of a mosaic), else the image's foreground. The names after `random_` in a run record are those of a random map.
Where the region is a shortcut that does not help on test images, less saliency in it is better.
""",
    "Prominence": """
Is the saliency concentrated on few pixels? Prominence means the Gini index of the map (`gini` in a run record) and
nothing more. It is to be read only beside localisation and faithfulness, because a map can be sparse and wrong.
""",
    "Stability and sanity": """
Does the map stay when it should, and change when it should? Under a little noise the same answer ought to have the
same map (`stability`). When the network's weights are drawn again its map ought to change (`sanity`): one that does
not, like an edge detector's, shows the image and not the network.
""",
    "Robustness of the answer": """
Does the network keep its answer on disturbed images? Not a property of the map, but training with masks changes
it, and it moves the perturbation curves.
""",
}
MEASURES = (
    ("Faithfulness", "smoot.curves:deletion_curve"),
    ("Faithfulness", "smoot.curves:insertion_curve"),
    ("Faithfulness", "smoot.curves:perturbation_curves"),
    ("Faithfulness", "smoot.workbench.judge:judge_curves"),
    ("Faithfulness", "smoot.workbench.retraining:diffroar"),
    ("Localisation", "smoot.metrics:relevance_mass"),
    ("Localisation", "smoot.metrics:relevance_rank"),
    ("Localisation", "smoot.metrics:pointing_game"),
    ("Localisation", "smoot.workbench.localisation:grid_pointing"),
    ("Prominence", "smoot.metrics:gini_sparseness"),
    ("Stability and sanity", "smoot.metrics:rank_correlation"),
    ("Stability and sanity", "smoot.workbench.stability:map_stability"),
    ("Stability and sanity", "smoot.workbench.sanity:cascading_randomisation"),
    ("Robustness of the answer", "smoot.workbench.robustness:noise_accuracy"),
    ("Robustness of the answer", "smoot.workbench.robustness:blur_accuracy"),
    ("Robustness of the answer", "smoot.workbench.robustness:pgd_accuracy"),
)


def docstring(entry: str) -> str:
    """The docstring of ``module:function``, read from the source.

    Raises:
        ValueError: if there is no such module, function or docstring.
    """
    module, _, function = entry.partition(":")
    file = paths.ROOT.joinpath(*module.split(".")).with_suffix(".py")
    if not file.is_file():
        raise ValueError(f"{entry}: {file} does not exist: mend the line in MEASURES")
    body = ast.parse(file.read_text(encoding="utf-8")).body
    found = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == function]
    text = ast.get_docstring(found[0]) if found else None
    if not text:
        raise ValueError(f"{entry}: {file} has no function {function!r} with a docstring: mend the line in MEASURES")
    return text


def parsed(text: str) -> dict[str, str]:
    """A docstring's sections as single lines, its first paragraph under the empty name.

    A section is a capitalised name with a colon on a line of its own and the indented lines after it.
    """
    found = {"": [text.partition("\n\n")[0]]}
    lines: list[str] = []
    for line in text.splitlines():
        if heading := re.fullmatch(r"([A-Z][A-Za-z ]*):", line):
            lines = found.setdefault(heading[1], [])
        elif line and not line.startswith(" "):
            lines = []  # what is said between sections belongs to none
        else:
            lines.append(line)
    return {name: " ".join(" ".join(content).split()) for name, content in found.items()}


def markdown(text: str) -> str:
    """The marks of a docstring as those of Markdown: code, and a reference as the name it refers to."""
    return re.sub(r":\w+:`~?(?:\w+\.)*(\w+)`", r"``\1``", text).replace("``", "`")


def entry_text(entry: str) -> str:
    """A measure's heading, what it measures and its sections.

    Raises:
        ValueError: as :func:`docstring`; if a section is missing or empty.
    """
    sections = parsed(docstring(entry))
    if missing := [name for name in SECTIONS if not sections.get(name)]:
        raise ValueError(f"{entry}: its docstring lacks {', '.join(missing)}: expected all of {', '.join(SECTIONS)}")
    module, _, function = entry.partition(":")
    points = [f"- **{name}.** {markdown(_sentence(name, sections[name]))}" for name in SECTIONS]
    return "\n".join([f"### {function}", "", f"{markdown(sections[''])} (`{module}`)", "", *points])


def _sentence(name: str, text: str) -> str:
    """Prose starts with a capital letter; a formula as it was written."""
    return text if name == "Formula" else text[0].upper() + text[1:]


def page() -> str:
    """The whole of docs/metrics.md.

    Raises:
        ValueError: for a measure whose group, source or sections are missing.
    """
    if unknown := {group for group, _ in MEASURES} - set(GROUPS):
        raise ValueError(f"unknown groups {sorted(unknown)} in MEASURES: expected {', '.join(GROUPS)}")
    parts = [
        "<!-- Written by `python -m smoot.workbench.metric_docs` from the docstrings; change those. -->",
        f"# {TITLE}",
        INTRODUCTION.strip(),
    ]
    for group, about in GROUPS.items():
        parts += [f"## {group}", about.strip()]
        parts += [entry_text(entry) for belongs_to, entry in MEASURES if belongs_to == group]
    return "\n\n".join(parts) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; writes the page, or checks it."""
    parser = argparse.ArgumentParser(prog="python -m smoot.workbench.metric_docs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the page is stale")
    check = parser.parse_args(arguments).check
    target = paths.ROOT / "docs" / "metrics.md"
    try:
        wanted = page()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    if target.is_file() and target.read_text(encoding="utf-8") == wanted:
        return 0
    if check:
        print("docs/metrics.md is stale: `python -m smoot.workbench.metric_docs` refreshes it", file=sys.stderr)
        return 1
    write_text(wanted, target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
