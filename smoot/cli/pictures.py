"""Maps as pictures: one row per image, one column per network, and a random map for scale."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from smoot.cli.explaining import Explained
from smoot.cli.files import replacing
from smoot.cli.maps import random_maps

SIDE = 2.2  # of one picture, in inches
BRIGHTEST = 5.0  # multiple of a map's mean that has the last colour
DIMMED = 0.55  # how bright the image below a map is
FORMATS = (".png", ".jpg", ".pdf", ".svg")


def draw(explained: Sequence[Explained], target: Path) -> None:
    """Draw images, the maps of every network over them, and a random map; written whole or not at all."""
    columns = len(explained[0].explanations) + 2
    figure = Figure(figsize=(SIDE * columns, (SIDE + 0.45) * len(explained) + 0.35), layout="constrained")
    axes = figure.subplots(len(explained), columns, squeeze=False)
    for row, (places, one) in enumerate(zip(axes, explained, strict=True)):
        _show(places[0], one.image.permute(1, 2, 0), one.name)
        for place, found in zip(places[1:], one.explanations, strict=False):
            _overlay(place, one.image, found.saliency, f"{found.network}\n{found.label} ({found.probability:.0%})")
        _overlay(places[-1], one.image, random_maps(one.image.unsqueeze(0), row)[0], "random map")
    figure.supxlabel(f"Saliency in multiples of each map's mean: dark 0, bright {BRIGHTEST:g} and above", fontsize=8)
    with warnings.catch_warnings(), replacing(target) as temporary:
        warnings.filterwarnings("ignore", message="Glyph")  # a name in a script that the font lacks
        figure.savefig(temporary, dpi=150, format=target.suffix.removeprefix(".").lower())


def _overlay(place: Axes, image: Tensor, saliency: Tensor, title: str) -> None:
    """The dimmed grey image, which glows where a map is high, in multiples of its mean; over the same extent."""
    grey, (height, width) = image.mean(0), image.shape[1:]
    _show(place, DIMMED * grey.unsqueeze(2).expand(-1, -1, 3), title)
    relative = saliency / saliency.mean().clamp(min=torch.finfo(saliency.dtype).tiny)
    strength = (relative / BRIGHTEST).clamp(0, 1).numpy()
    place.imshow(strength, cmap="inferno", vmin=0, vmax=1, alpha=strength, extent=(0, width, height, 0))


def _show(place: Axes, image: Tensor, title: str) -> None:
    height, width = image.shape[:2]
    place.imshow(image.clamp(0, 1).numpy(), extent=(0, width, height, 0))
    place.set_title(title, fontsize=8, parse_math=False)
    place.set_axis_off()
