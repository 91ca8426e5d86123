"""What all tables share: lines of numbers and text, paired differences, repeated words left out.

Frames hold one row per method and seed; fractions become per cent and differences of fractions points.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import pandas as pd

from workbench.reporting.measures import Measure, Measures
from workbench.reporting.words import (
    NOTHING,
    Setting,
    Table,
    display_name,
    fixed,
    interval,
    plus_minus,
    probability,
)

Row: TypeAlias = tuple[dict[str, object], dict[str, str]]  # numbers and text of one line
SPREAD = "± is the standard deviation over seeds"
KEYS = {"dataset": "Data", "backbone": "Backbone", "method": "Method", "attribution": "Attribution"}


def summarised(rows: pd.DataFrame, measures: Measures, bare: Sequence[str] = ()) -> Row:
    """Means and standard deviations over the rows; as text without the deviation for ``bare`` metrics."""
    numbers: dict[str, object] = {}
    texts = {}
    for metric, measure in measures.items():
        mean = measure.factor * float(rows[metric].mean(skipna=False))
        sd = measure.factor * float(rows[metric].std(ddof=1, skipna=False))
        numbers |= {f"{metric}_mean": mean, f"{metric}_sd": sd}
        shown = fixed(mean, measure.digits) if metric in bare else plus_minus(mean, sd, measure.digits)
        texts[measure.header] = shown
    return numbers, texts


def table(name: str, title: str, caption: str, rows: Sequence[Row]) -> Table:
    """A table from its lines."""
    data, display = pd.DataFrame([row[0] for row in rows]), pd.DataFrame([row[1] for row in rows])
    return Table(name, title, caption, data, display)


def difference_text(comparison: Mapping[Any, Any], measure: Measure) -> str:
    """``+0.86 [+0.35, +1.37], p = 0.008`` in points, from a row of `statistics.comparisons_frame`."""
    difference, low, high = (measure.factor * comparison[key] for key in ("difference", "low", "high"))
    return f"{interval(difference, low, high, measure.digits)}, {probability(comparison['p_holm'])}"


def differences(method: str, comparisons: pd.DataFrame, references: Sequence[str], measure: Measure) -> Row:
    """A method's paired differences to the references; empty where the pair stands in another line."""
    factors = dict.fromkeys(("difference", "low", "high"), measure.factor)
    factors |= dict.fromkeys(("effect_size", "p_value", "p_holm", "p_wilcoxon"), 1.0)
    numbers: dict[str, object] = {}
    texts = {}
    for reference in references:
        pair = comparisons[(comparisons["method"] == method) & (comparisons["reference"] == reference)]
        found = pair.to_dict("records")[0] if len(pair) else None
        for key, factor in factors.items():
            numbers[f"{key}_{reference}"] = factor * found[key] if found else float("nan")
        texts[f"Minus {display_name(reference)}"] = difference_text(found, measure) if found else NOTHING
    return numbers, texts


def head(keys: Mapping[str, str]) -> dict[str, str]:
    """The words that a line begins with, from its keys."""
    return {KEYS[key]: display_name(value) for key, value in keys.items()}


def blank_repeats(rows: Sequence[Row], words: Sequence[str] = ("Data", "Backbone")) -> list[Row]:
    """Each of the words as text only where it, or one before it, changes."""
    shown: list[Row] = []
    for place, (numbers, texts) in enumerate(rows):
        above = rows[place - 1][1] if place else {}
        kept = dict(texts)
        for word in words:
            if above.get(word) != texts[word]:
                break
            kept[word] = ""
        shown.append((numbers, kept))
    return shown


def grid_rows(frame: pd.DataFrame, methods: Sequence[str], abouts: Sequence[Setting], measures: Measures) -> list[Row]:
    """One line per data set, backbone and method."""
    rows = []
    for about in abouts:
        here = frame[(frame["dataset"] == about.dataset) & (frame["backbone"] == about.backbone)]
        for method in methods:
            own = here[here["method"] == method]
            numbers, texts = summarised(own, measures)
            keys = {"dataset": about.dataset, "backbone": about.backbone, "method": method}
            rows.append((keys | {"n": len(own)} | numbers, head(keys) | texts))
    return blank_repeats(rows)
