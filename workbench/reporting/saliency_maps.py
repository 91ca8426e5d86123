"""Figures drawn from samples: saliency maps side by side, the distribution of gradient magnitudes."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from workbench.reporting.style import INK, WIDTH, Looks, finish, legend, panels, styled
from workbench.reporting.words import class_name, display_name, in_order
from workbench.results.samples import Samples, relative_saliency

LETTER = 0.07  # inches of a name above a column
ROWS = 6  # sample images in the figure
OVERLAID = 3  # the same, of overlays
CLIPPED = 99.0  # percentile of all pixels shown that ends the colour scale
DIMMED = 0.55  # how bright the images below overlays are
VISIBLE = 0.001  # share of the pixels at either end of the distribution that is left out
WRONG = "#b3001b"


def _rows(samples: Samples, rows: int = ROWS) -> list[int]:
    """Which samples are shown: all, or ``rows`` (fewer if they are tall) evenly spaced from first to last."""
    count, _, height, width = samples.images.shape
    most = max(1, round(rows * min(1.0, width / height)))
    return sorted({round(place) for place in np.linspace(0, count - 1, min(most, count))})


@styled
def saliency_maps(samples: Mapping[str, Samples], looks: Looks, dataset: str = "") -> Figure:
    """The same images in every row, one column per method, one colour scale for all maps.

    Below each map: whether the model's answer is right, and the answer if it is wrong. ``dataset`` names the classes.
    """
    first = next(iter(samples.values()))
    rows = _rows(first)
    maps = {looks[method].title: relative_saliency(sample.saliency[rows]) for method, sample in samples.items()}
    figure, grid = _maps(first, rows, maps, dataset)
    for method, axes in zip(samples, zip(*(line[1:] for line in grid), strict=True), strict=True):
        for line, index in zip(axes, rows, strict=True):
            _mark(line, int(samples[method].labels[index]), int(samples[method].predictions[index]), dataset)
    return figure


@styled
def overlays(samples: Mapping[str, Samples], looks: Looks, dataset: str = "") -> Figure:
    """Maps laid over the images, one column per method, and a random map for scale: averaged over as many draws.

    Pixels show the image where saliency is low, and glow where it is high; all maps have one scale.
    """
    first = next(iter(samples.values()))
    rows = _rows(first, OVERLAID)
    maps = {looks[method].title: relative_saliency(sample.saliency[rows]) for method, sample in samples.items()}
    draws = np.random.default_rng(0).random(first.saliency[rows].shape, dtype=np.float32)
    maps["Random map"] = relative_saliency(draws)
    scale = Normalize(0, float(np.percentile(np.stack(list(maps.values())), CLIPPED)))
    height, width = first.images.shape[2:]
    columns = len(maps) + 1
    figure, grid = panels(len(rows), columns, len(rows) * WIDTH / columns * height / width + 0.3)
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.0)
    for place, index in enumerate(rows):
        _input(grid[place][0], first, index, dataset)
        for axes, shown in zip(grid[place][1:], maps.values(), strict=True):
            axes.imshow(np.repeat(first.images[index].mean(0)[..., None], 3, axis=2) * DIMMED, vmin=0, vmax=1)
            strength = np.clip(scale(shown[place]), 0, 1)
            axes.imshow(shown[place], cmap="inferno", norm=scale, alpha=np.asarray(strength), interpolation="nearest")
            axes.set(xticks=[], yticks=[])
    for axes, title in zip(grid[0], ["Input", *maps], strict=True):
        axes.set_title(textwrap.fill(title, int(WIDTH / columns / LETTER)))
    return figure


@styled
def attribution_maps(samples: Samples, dataset: str = "") -> Figure:
    """The same images in every row, one column per attribution of one network, one colour scale for all maps."""
    rows = _rows(samples)
    explained = dict(zip(samples.attribution_names.tolist(), samples.attributions, strict=True))
    maps = {display_name(name): relative_saliency(explained[name][rows]) for name in in_order(explained)}
    figure, grid = _maps(samples, rows, maps, dataset)
    for line, index in zip(grid, rows, strict=True):
        label = int(samples.labels[index])
        _mark(line[0], label, int(samples.predictions[index]), dataset, f"{class_name(dataset, label)} ")
        for axes in line[1:]:
            axes.set(xticks=[], yticks=[])
    return figure


def _maps(
    samples: Samples, rows: Sequence[int], maps: Mapping[str, npt.NDArray[np.float64]], dataset: str
) -> tuple[Figure, list[list[Axes]]]:
    """The inputs of some rows, beside each the titled maps (K, H, W) of the same rows, on one scale."""
    scale = Normalize(0, max(1.0, float(np.percentile(np.stack(list(maps.values())), CLIPPED))))
    height, width = samples.images.shape[2:]
    columns = len(maps) + 1
    side = (WIDTH - 0.75) / columns
    wrapped = [textwrap.fill(title, int(side / LETTER)) for title in maps]
    above = 0.3 + 0.15 * max(title.count("\n") for title in wrapped)
    figure, grid = panels(len(rows), columns, len(rows) * (side * height / width + 0.17) + above)
    figure.set_layout_engine("constrained", w_pad=0.025, h_pad=0.03, wspace=0.0, hspace=0.0)
    for place, index in enumerate(rows):
        _input(grid[place][0], samples, index, dataset)
        for axes, shown in zip(grid[place][1:], maps.values(), strict=True):
            axes.imshow(shown[place], cmap="magma", norm=scale, interpolation="nearest")
    for axes, title in zip(grid[0], ["Input", *wrapped], strict=True):
        axes.set_title(title)
    bar = figure.colorbar(
        ScalarMappable(scale, "magma"), ax=list(chain(*grid)), extend="max", shrink=0.6, aspect=40, pad=0.01
    )
    bar.set_label("Saliency in multiples of the map's mean")
    bar.outline.set_visible(False)
    return figure, grid


def _input(axes: Axes, samples: Samples, index: int, dataset: str) -> None:
    """An input image with its class."""
    image = np.moveaxis(samples.images[index], 0, -1)
    grey = image.shape[-1] == 1
    axes.imshow(image[..., 0] if grey else image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xlabel(class_name(dataset, int(samples.labels[index])), fontsize=8, labelpad=2)
    axes.set(xticks=[], yticks=[])


def _mark(axes: Axes, label: int, prediction: int, dataset: str, before: str = "") -> None:
    """Says below a picture whether the answer is right; a wrong one also gets a frame."""
    right = label == prediction
    axes.set(xticks=[], yticks=[])
    colour = INK if right else WRONG
    axes.set_xlabel(
        before + ("✓" if right else f"✗ {class_name(dataset, prediction).removeprefix('class ')}"),
        fontsize=8,
        labelpad=2,
        color=colour,
    )
    axes.spines[:].set(color=colour, linewidth=0.5 if right else 1.8)


def gradient_density(samples: Samples) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float]:
    """Bin middles (E,) in log10, density per decade (E,) and the median of log10 |gradient|."""
    edges, counts = samples.gradient_edges, samples.gradient_counts.astype(np.float64)
    density = counts / counts.sum() / np.diff(edges)
    share = np.concatenate([[0.0], np.cumsum(counts) / counts.sum()])
    return (edges[:-1] + edges[1:]) / 2, density, float(np.interp(0.5, share, edges))


@styled
def gradient_magnitudes(samples: Mapping[str, Samples], looks: Looks) -> Figure:
    """Density of log10 |input gradient| over pixels, one line per method, medians marked at the bottom.

    The lowest bin holds what is zero or as good as zero, such as the border that a strided convolution never
    reads: it is left out of lines and medians, and its share is in the legend from 1 % on.
    """
    zeros = {m: sample.gradient_counts[0] / sample.gradient_counts.sum() for m, sample in samples.items()}
    samples = {
        m: replace(sample, gradient_edges=sample.gradient_edges[1:], gradient_counts=sample.gradient_counts[1:])
        for m, sample in samples.items()
    }
    figure, ((axes,),) = panels(1, 1, 3.2)
    handles = []
    for method, sample in samples.items():
        middle, density, median = gradient_density(sample)
        look = looks[method]
        axes.plot(middle, density, color=look.colour)
        axes.plot(median, 0, marker=look.marker, color=look.colour, markersize=7, clip_on=False, zorder=3)
        zero = f", {100 * zeros[method]:.0f} % zero" if zeros[method] >= 0.01 else ""
        handles.append(look.handle(f"{look.title} (median {_power(median)}{zero})"))
    axes.set_xlim(_range(list(samples.values())))
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(lambda value, _: _power(value, digits=0))
    finish(axes, "", "Input gradient |∂ log-odds / ∂ pixel| (nats per unit of intensity)", "Density (1 / decade)")
    legend(figure, handles, columns=2 if max(zeros.values()) >= 0.01 else 3)
    return figure


def _range(samples: list[Samples]) -> tuple[float, float]:
    """Where the bins are whose share, summed from either end, is visible for at least one method."""
    counts = np.stack([sample.gradient_counts / sample.gradient_counts.sum() for sample in samples])
    from_left, from_right = counts.cumsum(1), counts[:, ::-1].cumsum(1)[:, ::-1]
    used = np.flatnonzero(((from_left > VISIBLE) & (from_right > VISIBLE)).any(0))
    return float(samples[0].gradient_edges[used[0]]), float(samples[0].gradient_edges[used[-1] + 1])


def _power(exponent: float, digits: int = 1) -> str:
    """``10^-1.3`` as mathematics."""
    return f"$10^{{{exponent:.{digits}f}}}$"
