"""How every figure looks: one colour and marker per method, README-sized PNG files, the same bytes each time.

Figures are made from :class:`matplotlib.figure.Figure` directly, never through pyplot's global state, so
that nothing stays open and no display is needed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import TypeAlias

import matplotlib
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from workbench.config import files
from workbench.config.methods import MethodEntry
from workbench.reporting.words import ATTRIBUTIONS, display_name

WIDTH = 7.5  # inches; at 150 dots per inch this is 1125 pixels, shown at about 850 in a README
INK = "#333333"
LEGEND_ROW = 6  # entries of a legend that stand side by side
LEGEND_WIDTH = 110  # letters that fit side by side
RC = {
    **seaborn.axes_style("ticks"),
    **seaborn.plotting_context("paper"),
    "figure.dpi": 150,
    "savefig.dpi": 150,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same on every machine
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.columnspacing": 1.3,
    "legend.handlelength": 1.8,
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color"), INK),
    "axes.linewidth": 0.8,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
}
styled = matplotlib.rc_context(RC)  # a decorator for whatever makes a figure


@dataclass(frozen=True)
class Look:
    """How one method (or attribution) appears in every figure.

    Attributes:
        title: its name in legends and on axes.
        colour: hexadecimal, as in ``#0173b2``.
        marker: of matplotlib.
    """

    title: str
    colour: str
    marker: str

    def handle(self, title: str = "") -> Line2D:
        """Its legend entry, under its own or another title."""
        return Line2D([], [], color=self.colour, marker=self.marker, label=title or self.title)


Looks: TypeAlias = Mapping[str, Look]  # by key, in drawing order
NEUTRAL = ("#5b7083", "o")  # colour and marker of methods that have none of their own
ATTRIBUTION_COLOURS = [seaborn.color_palette("colorblind").as_hex()[place] for place in (3, 5, 6, 7, 8, 9)]
ATTRIBUTION_MARKERS = "vP*<>hpd"


def method_looks(entries: Mapping[str, MethodEntry]) -> dict[str, Look]:
    """The look of each method, the same in every figure; those without a colour or marker share a neutral one."""
    return {
        name: Look(entry.title, entry.colour or NEUTRAL[0], entry.marker or NEUTRAL[1])
        for name, entry in entries.items()
    }


def attribution_looks(names: Iterable[str]) -> dict[str, Look]:
    """The look of each attribution, the same in every figure, whatever stands beside it."""
    known = [*ATTRIBUTIONS, *(name for name in names if name not in ATTRIBUTIONS)]
    looks = zip(known, cycle(ATTRIBUTION_COLOURS), cycle(ATTRIBUTION_MARKERS), strict=False)
    return {name: Look(display_name(name), colour, marker) for name, colour, marker in looks}


def panels(
    rows: int, columns: int, height: float, *, sharex: bool = False, sharey: bool = False
) -> tuple[Figure, list[list[Axes]]]:
    """A figure of README width, ``height`` inches tall, and its axes row by row."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey)
    return figure, [list(row) for row in grid]


def tiles(
    count: int, columns: int, row_height: float, extra: float, *, sharex: bool = False, sharey: bool = False
) -> tuple[Figure, list[tuple[Axes, bool, bool]]]:
    """A figure with ``count`` panels, at most ``columns`` per row; ``extra`` inches for the legend.

    Returns:
        The figure and for each panel its axes; whether it is the first of its row, and names the y axis; whether
        nothing is below it, so that it names the x axis.
    """
    columns = min(columns, count)
    rows = -(-count // columns)
    figure, grid = panels(rows, columns, rows * row_height + extra, sharex=sharex, sharey=sharey)
    places = [axes for row in grid for axes in row]
    for unused in places[count:]:
        unused.remove()
    return figure, [(axes, place % columns == 0, place + columns >= count) for place, axes in enumerate(places[:count])]


def finish(axes: Axes, title: str, xlabel: str, ylabel: str) -> None:
    """Title and labels, a light grid, no box."""
    axes.set_title(title, loc="left")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(visible=True)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def legend(figure: Figure, handles: Sequence[Line2D], columns: int | None = None) -> None:
    """One legend for all panels, below them; in several rows where one would be cut off."""
    figure.legend(handles=list(handles), loc="outside lower center", ncols=columns or _columns(handles))


def _columns(handles: Sequence[Line2D]) -> int:
    """How many legend entries stand side by side: all if they fit, else about equally many in each row."""
    widths = [8 + len(str(handle.get_label())) for handle in handles]  # in letters, with line and gap
    if len(handles) <= LEGEND_ROW and sum(widths) <= LEGEND_WIDTH:
        return len(handles)
    return min(-(-len(handles) // 2), max(1, LEGEND_WIDTH // max(widths)))


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, without dates and versions; line drawings with a palette of 256 colours.

    The palette takes a third of the bytes; figures that show images keep all their colours.
    """
    drawn = BytesIO()
    with matplotlib.rc_context(RC):
        figure.savefig(drawn, format="png", metadata={"Software": None})
    if not any(axes.images for axes in figure.axes):
        drawn = _with_palette(drawn)
    with files.replacing(path) as temporary:
        temporary.write_bytes(drawn.getvalue())
    return path


def as_svg(figure: Figure) -> str:
    """A figure as SVG, letters drawn as curves, without dates: the same text each time."""
    drawn = BytesIO()
    with matplotlib.rc_context({**RC, "svg.hashsalt": "smoot", "svg.fonttype": "path"}):
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    return drawn.getvalue().decode()


def _with_palette(png: BytesIO) -> BytesIO:
    small = BytesIO()
    with Image.open(png) as picture:
        reduced = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    reduced.save(small, "PNG", optimize=True)
    return small
