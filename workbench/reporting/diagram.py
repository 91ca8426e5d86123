"""The diagram of the method: one image on its way through a guided step, and the number of masked images over training.

It is drawn with a real image and its map, so that mask and masked image are what they are called.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.ticker import MaxNLocator

from workbench.reporting.charts import band
from workbench.reporting.style import INK, WIDTH, Look, finish, styled
from workbench.results.samples import Samples

HEIGHT = 2.75  # inches
SIDE = 0.125  # of the figure's width: a picture
TOP, LEFT, STEP = 0.53, 0.012, 0.166  # of the figure: bottom and first left edge of the pictures, from one to the next
FRACTION = 0.2  # of the pixels of an image that are masked
MASKED = np.array([0.84, 0.37, 0.0])  # colour of masked pixels
TITLES = ("Image", "Saliency", "Mask", "Masked image")
STEPS = ("gradient", "lowest 20 %", "mean fill")  # what leads from one picture to the next
LOSS = "loss  =  cross-entropy( p, label )  +  KL( p ‖ q )"


@styled
def diagram(sample: Samples, index: int, histories: pd.DataFrame, look: Look) -> Figure:
    """One guided step in pictures, and beside it the share of masked images epoch by epoch.

    Args:
        sample: with the image and its map.
        index: of the image.
        histories: ``seed``, ``epoch`` and ``masked_share`` of the method's runs.
        look: its colour and marker.
    """
    figure = Figure(figsize=(WIDTH, HEIGHT))
    places = [LEFT + STEP * place for place in range(len(TITLES))]
    pictures = _pictures(sample.images[index], sample.saliency[index])
    for left, title, picture in zip(places, TITLES, pictures, strict=True):
        axes = figure.add_axes((left, TOP, SIDE, SIDE * WIDTH / HEIGHT))
        axes.imshow(picture, cmap="magma" if picture.ndim == 2 else None, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, pad=3)
    middle = TOP + SIDE * WIDTH / HEIGHT / 2
    for left, text in zip(places[1:], STEPS, strict=True):
        _arrow(figure, (left - STEP + SIDE + 0.003, middle), (left - 0.003, middle))
        figure.text(left - (STEP - SIDE) / 2, TOP - 0.02, text, ha="center", va="top", fontsize=7.5)
    for left, answer in ((places[0], "answer  p"), (places[-1], "answer  q")):
        centre = left + SIDE / 2
        _arrow(figure, (centre, TOP - 0.02), (centre, 0.33))
        figure.text(centre + 0.012, 0.425, "network", ha="left", va="center", fontsize=7.5, style="italic")
        figure.text(centre, 0.275, answer, ha="center", va="center")
        _arrow(figure, (centre, 0.225), (centre, 0.155))
    wide = places[-1] + SIDE - places[0]
    box = Rectangle((places[0], 0.03), wide, 0.115, facecolor="#f2f2f2", edgecolor=INK, linewidth=0.8)
    box.set_transform(figure.transFigure)
    figure.add_artist(box)
    figure.text(places[0] + wide / 2, 0.085, LOSS, ha="center", va="center")
    axes = figure.add_axes((0.765, 0.2, 0.225, 0.66))
    band(axes, 100 * histories.pivot(index="seed", columns="epoch", values="masked_share"), look)
    finish(axes, "Images masked (%)", "Epoch", "")
    axes.set_ylim(0, None)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return figure


def _pictures(image: npt.NDArray[np.float32], saliency: npt.NDArray[np.float32]) -> list[npt.NDArray[np.floating]]:
    """Image (H, W, 3), saliency (H, W), mask (H, W, 3) and masked image (H, W, 3)."""
    shown = np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0)
    count = int(FRACTION * saliency.size + 0.5)
    ranks = np.argsort(np.argsort(saliency, axis=None, kind="stable"))
    masked = (ranks < count).reshape(saliency.shape)
    mask = np.where(masked[..., None], MASKED, 0.35 * shown)
    filled = np.where(masked[..., None], shown.mean((0, 1)), shown)
    return [shown, np.minimum(saliency, np.percentile(saliency, 99)), mask, filled]


def _arrow(figure: Figure, start: tuple[float, float], end: tuple[float, float]) -> None:
    arrow = FancyArrowPatch(start, end, transform=figure.transFigure, arrowstyle="-|>", mutation_scale=8, color=INK)
    figure.add_artist(arrow)
