"""What tests of figures share: looks of three methods, and what can be read off axes."""

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from workbench.reporting.style import Look

LOOKS = {
    "plain": Look("Plain", "#555555", "X"),
    "sgt": Look("SGT", "#de8f05", "^"),
    "smoot": Look("SMOOT", "#0173b2", "o"),
}


def unlabelled(figure: Figure) -> Iterator[str]:
    """Axes without a label of their own nor one from the axes below (x) or left (y) that they share."""
    places = {axes: spec for axes in figure.axes if (spec := axes.get_subplotspec()) is not None}
    for axes, spec in places.items():
        column = [other for other, place in places.items() if place.colspan == spec.colspan]
        row = [other for other, place in places.items() if place.rowspan == spec.rowspan]
        if not any(other.get_xlabel() for other in column):
            yield f"x of {axes.get_title(loc='left')}"
        if not any(other.get_ylabel() for other in row):
            yield f"y of {axes.get_title(loc='left')}"


def lines(axes: Axes, method: str, style: str = "-") -> list[tuple[list[float], list[float]]]:
    """The points (x, y) of a method's lines of one style."""
    return [
        (np.asarray(line.get_xdata(), dtype=float).tolist(), np.asarray(line.get_ydata(), dtype=float).tolist())
        for line in axes.lines
        if to_hex(line.get_color()) == LOOKS[method].colour and line.get_linestyle() == style
    ]


def solid(axes: Axes, method: str) -> list[float]:
    """The y values of a method's one solid line."""
    ((_, y),) = lines(axes, method)
    return y


def legend_texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]
