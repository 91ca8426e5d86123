"""How every figure looks: one colour and marker per method, README-sized, the same bytes each time.

Figures are made from :class:`matplotlib.figure.Figure` directly, never through pyplot's global state, so
that nothing stays open and no display is needed.
"""

from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path

import matplotlib
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from workbench.config import files

WIDTH = 7.5  # inches; at 150 dots an inch this is 1125 pixels, shown at about 850 in a README
INK = "#333333"
ROW = 6  # entries of a legend that fit beside each other
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
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "svg.hashsalt": "smoot",
    "svg.fonttype": "path",
}
styled = matplotlib.rc_context(RC)  # a decorator for whatever makes a figure

_BLIND_SAFE = seaborn.color_palette("colorblind").as_hex()
_COLOURS = {
    "plain": "#555555",
    "random_mask": _BLIND_SAFE[4],
    "sgt": _BLIND_SAFE[1],
    "sgt_improved": _BLIND_SAFE[2],
    "smoot": _BLIND_SAFE[0],
}
_MARKERS = {"plain": "X", "random_mask": "s", "sgt": "^", "sgt_improved": "D", "smoot": "o"}


def colours(methods: Iterable[str]) -> dict[str, str]:
    """The colour of each method: fixed for those with a name, the palette's others in order for the rest."""
    spare = iter([*(colour for colour in _BLIND_SAFE if colour not in _COLOURS.values())] * 100)
    return {method: _COLOURS.get(method) or next(spare) for method in methods}


def markers(methods: Iterable[str]) -> dict[str, str]:
    """The marker of each method, chosen like its colour."""
    spare = iter("vP*<>hpd" * 100)
    return {method: _MARKERS.get(method) or next(spare) for method in methods}


def panels(
    rows: int, columns: int, height: float, *, sharex: bool = False, sharey: bool = False
) -> tuple[Figure, list[list[Axes]]]:
    """A figure of README width, ``height`` inches tall, and its axes row by row."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey)
    return figure, [list(row) for row in grid]


def finish(axes: Axes, title: str, xlabel: str, ylabel: str) -> None:
    """Title and labels, a light grid, no box."""
    axes.set_title(title, loc="left")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(visible=True)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def legend(figure: Figure, handles: Sequence[Line2D], columns: int | None = None) -> None:
    """One legend for all panels, below them; in several rows where one would be cut off."""
    rows = 1 if len(handles) <= ROW else 2
    even = -(-len(handles) // rows)
    fitting = even if rows == 1 else min(even, room([str(handle.get_label()) for handle in handles]))
    figure.legend(handles=list(handles), loc="outside lower center", ncols=columns or fitting)


def room(labels: Iterable[str]) -> int:
    """How many columns of a legend with these labels a figure has room for."""
    return max(1, 110 // (8 + max(map(len, labels))))


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as its suffix says, PNG or SVG, without dates and versions."""
    kind = path.suffix.removeprefix(".")
    metadata = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
    if kind not in metadata:
        raise ValueError(f"cannot save {path.name}: expected one of .{', .'.join(metadata)}")
    drawn = BytesIO()
    with matplotlib.rc_context(RC):
        figure.savefig(drawn, format=kind, metadata=metadata[kind])
    shades = any(axes.images for axes in figure.axes)  # pictures need all their colours
    with files.replacing(path) as temporary:
        temporary.write_bytes(_smaller(drawn) if kind == "png" and not shades else drawn.getvalue())
    return path


def _smaller(png: BytesIO) -> bytes:
    """The same picture with a palette of 256 colours: a third of the bytes in the repository."""
    small = BytesIO()
    with Image.open(png) as picture:
        reduced = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    reduced.save(small, "PNG", optimize=True)
    return small.getvalue()
