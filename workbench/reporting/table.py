"""What all tables share: lines of numbers and text, paired differences, repeated words left out.

Frames hold one row per method and seed; fractions become per cent and differences of fractions points.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from workbench.config import files
from workbench.reporting.captions import Setting, of_setting
from workbench.reporting.metrics import Metric, Metrics
from workbench.reporting.words import NOTHING, display_name, fixed, interval, plus_minus, probability

Row: TypeAlias = tuple[dict[str, object], dict[str, str]]  # numbers and text of one line
SCALED = ("mean", "sd", "reference_mean", "reference_sd", "difference", "low", "high")
SPREAD = "± is the standard deviation over seeds"
# Columns of words; all others are numbers.
WORDS = (
    "Data",
    "Backbone",
    "Method",
    "Network",
    "Attribution",
    "Measure",
    "Claim",
    "Family",
    "Verdict",
    "Stage",
    "Part",
    "Factor",
)
KEYS = {"dataset": "Data", "backbone": "Backbone", "method": "Method", "attribution": "Attribution"}


@dataclass(frozen=True)
class Table:
    """A table: numbers for machines, the same as text for readers, and the caption that goes with it.

    Attributes:
        name: the stem of its files.
        title: what it shows, without a final stop.
        caption: one paragraph of Markdown.
        data: numbers, one row per line of the table.
        display: text, headers included, as it is shown.
    """

    name: str
    title: str
    caption: str
    data: pd.DataFrame
    display: pd.DataFrame

    @property
    def markdown(self) -> str:
        """Title and caption, then the table with its numbers flush right."""
        columns = [str(column) for column in self.display.columns]
        rule = ["---" if column in WORDS else "--:" for column in columns]
        rows = [columns, rule, *self.display.astype(str).to_numpy().tolist()]
        lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        return f"**{self.title}.** {self.caption}\n\n{lines}\n"

    @property
    def html(self) -> str:
        """The table alone, without title and caption; cells with words have the class ``text``."""
        columns = [str(column) for column in self.display.columns]
        kinds = [' class="text"' if column in WORDS else "" for column in columns]

        def line(tag: str, cells: Sequence[object]) -> str:
            pairs = zip(kinds, cells, strict=True)
            return "".join(f"<{tag}{kind}>{escape(str(cell))}</{tag}>" for kind, cell in pairs)

        rows = [f"<tr>{line('td', row)}</tr>" for row in self.display.to_numpy().tolist()]
        head = f"<thead>\n<tr>{line('th', columns)}</tr>\n</thead>"
        return "\n".join(["<table>", head, "<tbody>", *rows, "</tbody>", "</table>"])

    def write(self, folder: Path) -> None:
        """Write ``NAME.md`` and ``NAME.csv``, rounded, so that the same records give the same bytes."""
        files.write_text(self.markdown, folder / f"{self.name}.md")
        files.write_csv(self.data, folder / f"{self.name}.csv")


def summarised(rows: pd.DataFrame, measures: Metrics, bare: Sequence[str] = ()) -> Row:
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


def difference_text(comparison: Mapping[Any, Any], measure: Metric) -> str:
    """``+0.86 [+0.35, +1.37], p = 0.008`` in points, from a row of `statistics.comparisons_frame`."""
    difference, low, high = (measure.factor * comparison[key] for key in ("difference", "low", "high"))
    return f"{interval(difference, low, high, measure.digits)}, {probability(comparison['p_holm'])}"


def differences(method: str, comparisons: pd.DataFrame, references: Sequence[str], measure: Metric) -> Row:
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


def grid_rows(frame: pd.DataFrame, methods: Sequence[str], settings: Sequence[Setting], measures: Metrics) -> list[Row]:
    """One line per data set, backbone and method."""
    rows = []
    for setting in settings:
        here = of_setting(frame, setting)
        for method in methods:
            own = here[here["method"] == method]
            numbers, texts = summarised(own, measures)
            keys = {"dataset": setting.dataset, "backbone": setting.backbone, "method": method}
            rows.append((keys | {"n": len(own)} | numbers, head(keys) | texts))
    return blank_repeats(rows)


def scaled(comparisons: pd.DataFrame, metrics: Metrics) -> pd.DataFrame:
    """The same comparisons, each of the ``metric`` in its row, in the units that tables show."""
    factor = comparisons["metric"].map({name: metric.factor for name, metric in metrics.items()})
    return comparisons.assign(**{name: factor * comparisons[name] for name in SCALED})
