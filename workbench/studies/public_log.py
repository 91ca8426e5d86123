"""Does the rule of the public repository behave here as it did there? Its log beside ours, epoch by epoch.

The published numbers are in ``published.csv`` beside the study's parameters, with their source. Epochs count from 0, as
they do there.
"""

from typing import Any

import pandas as pd
from matplotlib.lines import Line2D

from workbench.config import paths
from workbench.config.schema import check_keys
from workbench.reporting.charts import BANDS, Chart, band
from workbench.reporting.metrics import Metric, Metrics
from workbench.reporting.style import INK, Looks, finish, legend, panels, styled
from workbench.reporting.table import SPREAD, Table
from workbench.reporting.words import Titles, fixed, plus_minus
from workbench.studies.runs import StudyRuns

METHOD = "public_code"  # the run that is repeated
LOGGED: Metrics = {  # column of the history
    "number_mean": Metric("Mean number", "", better=""),
    "number_largest": Metric("Largest number", "", 0, better=""),
    "accuracy": Metric("Accuracy in training mode", better=""),
    "trained_accuracy": Metric("Accuracy on training images", better=""),
}
PANELS = {  # title: y axis, columns; the second one is dotted
    "Mean number": ("Masked pixels", ("number_mean",)),
    "Largest number": ("Masked pixels", ("number_largest",)),
    "Accuracy": ("Accuracy (%)", ("trained_accuracy", "accuracy")),
}
SOURCE = "github.com/alikabadi/Masking_Based_Grad at 694c3d3"
PUBLISHED: dict[str, Any] = {"color": INK, "marker": "o", "linestyle": "", "markerfacecolor": "white", "markersize": 5}


def published(runs: StudyRuns) -> pd.DataFrame:
    """The repository's log: one row per epoch that it tells of, numbers in pixels, accuracies in per cent.

    Raises:
        FileNotFoundError: if the study has no ``published.csv``.
        ValueError: for other columns; names the file.
    """
    path = paths.params_file(runs.records[0].profile).with_name("published.csv")
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: exhibit 'log' compares with it")
    frame = pd.read_csv(path, comment="#")
    check_keys(frame.columns, ("epoch", *LOGGED), str(path), kind="column")
    return frame.set_index("epoch")


def ours(runs: StudyRuns, column: str) -> pd.DataFrame:
    """The same here: one row per seed, one column per epoch."""
    own = runs.histories[runs.histories["method"] == METHOD]
    wide = own.pivot(index="seed", columns="epoch", values=column)
    factor = pixels(runs) if column.startswith("number") else LOGGED[column].factor
    return factor * wide.set_axis(wide.columns - 1, axis="columns")


def pixels(runs: StudyRuns) -> int:
    """Of an image, by the settings of the rule.

    Raises:
        ValueError: if the run that is repeated is not one of the study's.
    """
    if METHOD not in runs.methods:
        raise ValueError(f"no method of the study is {METHOD!r}, which exhibit 'log' compares: {list(runs.methods)}")
    return int(runs.methods[METHOD]["per_image"]["settings"]["num_pixels"])


def table(runs: StudyRuns, titles: Titles) -> Table:
    """The epochs of the repository's log, published and here.

    Raises:
        FileNotFoundError, ValueError: as :func:`published` and :func:`pixels`.
    """
    setting, log, rows = runs.setting, published(runs), []
    here = {column: ours(runs, column).reindex(columns=log.index) for column in LOGGED}
    for epoch, there in log.iterrows():
        numbers: dict[str, object] = {"epoch": epoch}
        texts = {"Epoch": str(epoch)}
        for column, metric in LOGGED.items():
            mean, sd = float(here[column][epoch].mean()), float(here[column][epoch].std(ddof=1))
            numbers |= {f"{column}_published": there[column], f"{column}_mean": mean, f"{column}_sd": sd}
            texts[f"{metric.header}, published"] = fixed(float(there[column]), metric.digits)
            texts[f"{metric.header}, here"] = plus_minus(mean, sd, metric.digits)
        rows.append((numbers, texts))
    caption = (
        f"{titles[METHOD]} beside the output that is stored in {SOURCE}. {SPREAD}. {setting.facts}. {setting.origin}"
    )
    title = f"The public repository's log and ours, {setting.name}"
    note = (
        f"Number: masked pixels of an image, of {pixels(runs):,}, after the epoch, over the training images. Accuracy "
        "in training mode: over the steps of the epoch; on training images: in eval mode after it, here on "
        f"{setting.validation_images:,} of them. Epochs count from 0. {runs.remarks}"
    )
    return Table.of_rows(f"log_{setting.place}", title, caption, rows, note.rstrip())


@styled
def chart(runs: StudyRuns, looks: Looks) -> Chart:
    """Our curves with the published points; raises as :func:`table`."""
    setting, log = runs.setting, published(runs)
    figure, (row,) = panels(1, len(PANELS), 3.4)
    for axes, (title, (ylabel, columns)) in zip(row, PANELS.items(), strict=True):
        for column, style in zip(columns, ("-", ":"), strict=False):
            band(axes, ours(runs, column), looks[METHOD], style=style, marked=(0, 5))
            axes.plot(log.index, log[column], **PUBLISHED)
        finish(axes, title, "Epoch", ylabel)
    dotted = Line2D([], [], color=looks[METHOD].colour, linestyle=":", label="In training mode")
    legend(figure, [Line2D([], [], **PUBLISHED, label="Published"), looks[METHOD].handle(), dotted])
    caption = (
        f"{looks[METHOD].title}, epoch by epoch, beside the output that is stored in {SOURCE} (circles), "
        f"{setting.name}; {BANDS}. Epochs count from 0. {setting.facts}."
    )
    return Chart(f"log_{setting.place}", caption, figure)
