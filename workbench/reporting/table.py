"""A table, and what all tables share: rows of numbers and text, paired differences, repeated words left out.

Frames hold one row per method and seed, comparisons are rows of `statistics.compared_frame`; fractions become per
cent and differences of fractions points.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Self, TypeAlias

import pandas as pd

from workbench.config import files
from workbench.reporting.captions import Setting, of_setting
from workbench.reporting.metrics import Metric, Metrics
from workbench.reporting.words import NOTHING, Titles, display_name, fixed, in_order, interval, plus_minus, probability

Row: TypeAlias = tuple[dict[str, object], dict[str, str]]  # numbers by column, text by header
SCALED = ("mean", "sd", "reference_mean", "reference_sd", "difference", "low", "high")  # in the metric's unit
PAIRED = ("difference", "low", "high", "effect_size", "p_value", "p_holm")  # what tables keep of a comparison
SPREAD = "± is the standard deviation over seeds"
SETTING = "Setting"  # the column of data set and backbone
MINUS = "Minus"  # the column of the method that another is compared with
# Columns of words, flush left; all others are numbers.
WORDS = (SETTING, "Method", MINUS, "Attribution", "Data", "Network", "Measure", "Claim", "Verdict")
NAMING = (*WORDS, "Epoch")  # columns that say what a row is: where they begin a table, each of its pieces has them
MOST = 7  # columns side by side


@dataclass(frozen=True)
class Table:
    """Numbers for machines, the same as text for readers, and the caption that goes with them.

    Attributes:
        name: the stem of its files.
        title: what it shows, without a final stop.
        caption: one short paragraph of Markdown: what was run, and what nobody could guess.
        data: numbers, one row per row of the table.
        display: text, headers included, as it is shown.
        note: how to read tables of this kind, one paragraph of Markdown; may be empty.
    """

    name: str
    title: str
    caption: str
    data: pd.DataFrame
    display: pd.DataFrame
    note: str = ""

    @classmethod
    def of_rows(cls, name: str, title: str, caption: str, rows: Sequence[Row], note: str = "") -> Self:
        """A table from its rows."""
        data, display = pd.DataFrame([row[0] for row in rows]), pd.DataFrame([row[1] for row in rows])
        return cls(name, title, caption, data, display, note)

    @property
    def pieces(self) -> list[pd.DataFrame]:
        """What is shown, in pieces of at most `MOST` columns, about equally wide; each begins with what names a row."""
        columns = [str(column) for column in self.display.columns]
        naming = list(takewhile(lambda column: column in NAMING, columns))
        others = columns[len(naming) :]
        count = max(1, -(-len(others) // max(1, MOST - len(naming))))
        width = -(-len(others) // count)
        starts = range(0, len(others), width) if others else (0,)
        return [self.display[[*naming, *others[start : start + width]]] for start in starts]

    @property
    def markdown(self) -> str:
        """Title and caption, then the table with its numbers flush right, and how to read it."""
        parts = [f"**{self.title}.** {self.caption}", *map(as_markdown, self.pieces)]
        return "\n\n".join([*parts, f"*Reading it.* {self.note}"] if self.note else parts) + "\n"

    def write(self, folder: Path) -> None:
        """Write ``NAME.md`` and ``NAME.csv``, rounded, so that the same results give the same bytes."""
        files.write_text(self.markdown, folder / f"{self.name}.md")
        files.write_csv(self.data, folder / f"{self.name}.csv")


def as_markdown(display: pd.DataFrame) -> str:
    """What is shown of a table, or a piece of it, with its numbers flush right."""
    columns = [str(column) for column in display.columns]
    rule = ["---" if column in WORDS else "--:" for column in columns]
    rows = [columns, rule, *display.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def summarised(rows: pd.DataFrame, metrics: Metrics, bare: Sequence[str] = ()) -> Row:
    """Means and standard deviations over the rows; as text without the deviation for ``bare`` metrics."""
    numbers: dict[str, object] = {}
    texts = {}
    for name, metric in metrics.items():
        mean = metric.factor * float(rows[name].mean(skipna=False))
        sd = metric.factor * float(rows[name].std(ddof=1, skipna=False))
        numbers |= {f"{name}_mean": mean, f"{name}_sd": sd}
        texts[metric.header] = fixed(mean, metric.digits) if name in bare else plus_minus(mean, sd, metric.digits)
    return numbers, texts


def scaled(comparisons: pd.DataFrame, metrics: Metrics) -> pd.DataFrame:
    """The same comparisons, each of the ``metric`` in its row, in the units that tables show."""
    factor = comparisons["metric"].map({name: metric.factor for name, metric in metrics.items()})
    return comparisons.assign(**{name: factor * comparisons[name] for name in SCALED})


def difference_text(comparison: Mapping[Any, Any], metric: Metric) -> str:
    """``+0.86 [+0.35, +1.37], p = 0.008`` in points, from one of the comparisons."""
    difference, low, high = (metric.factor * comparison[key] for key in ("difference", "low", "high"))
    return f"{interval(difference, low, high, metric.digits)}, {probability(comparison['p_holm'])}"


def paired(
    method: str, reference: str, comparisons: pd.DataFrame, metric: Metric, kept: Sequence[str] = PAIRED
) -> tuple[dict[str, float], str]:
    """A pair's difference as numbers, the fields ``kept``, and as text; undefined if there is no such pair."""
    pairs = comparisons[(comparisons["method"] == method) & (comparisons["reference"] == reference)]
    for pair in pairs.to_dict("records"):
        numbers = {name: (metric.factor if name in SCALED else 1.0) * pair[name] for name in kept}
        return numbers, difference_text(pair, metric)
    return dict.fromkeys(kept, float("nan")), NOTHING


def differences(method: str, comparisons: pd.DataFrame, references: Titles, metric: Metric) -> Row:
    """A method's paired differences to several references; empty where the pair stands in another row."""
    numbers: dict[str, object] = {}
    texts = {}
    for reference, title in references.items():
        found, text = paired(method, reference, comparisons, metric, (*PAIRED, "p_wilcoxon"))
        numbers |= {f"{name}_{reference}": value for name, value in found.items()}
        texts[f"Minus {title}"] = text
    return numbers, texts


def blank_repeats(rows: Sequence[Row], words: Sequence[str] = (SETTING,)) -> list[Row]:
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


def grid_rows(frame: pd.DataFrame, methods: Titles, settings: Sequence[Setting], metrics: Metrics) -> list[Row]:
    """One row per data set, backbone, method and, if the frame has them, attribution; in this order."""
    orders = {"method": list(methods)}
    if "attribution" in frame:
        orders["attribution"] = in_order(frame["attribution"].unique())
    shown = frame[frame["method"].isin(orders["method"])]
    ordered = shown.assign(**{key: pd.Categorical(shown[key], order) for key, order in orders.items()})
    rows: list[Row] = []
    for setting in settings:
        for names, own in of_setting(ordered, setting).groupby(list(orders), observed=True):
            keys = {"dataset": setting.dataset, "backbone": setting.backbone}
            keys |= dict(zip(orders, map(str, names), strict=True))
            words = {SETTING: setting.name, "Method": methods[keys["method"]]}
            if "attribution" in keys:
                words["Attribution"] = display_name(keys["attribution"])
            numbers, texts = summarised(own, metrics)
            rows.append((keys | {"n": len(own)} | numbers, words | texts))
    return blank_repeats(rows, (SETTING, "Method")[: len(orders)])
