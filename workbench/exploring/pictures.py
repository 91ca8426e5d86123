"""Tensors as labelled pictures in a row, with the same bytes on every run."""

import io
from collections.abc import Mapping

import torch
from IPython.display import Image
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

SIDE, WIDEST = 2.1, 10.0  # of a square picture, and of a row, in inches
BRIGHTEST = 5.0  # multiple of a map's mean that glows fully
DIMMED = 0.55  # how bright the image below a map is


def row(*panels: tuple[str, Tensor]) -> Image:
    """Tensors beside each other, each under its title.

    Args:
        panels: titles and tensors: an image ``(C, H, W)`` in [0, 1]; a mask ``(H, W)`` bool, white = masked; or a map
            ``(H, W)`` with signs, blue below zero and red above.
    """
    shapes = [panel.shape[-2:] for _, panel in panels]
    side = min(SIDE, WIDEST / len(panels))
    height = side * max(rows / columns for rows, columns in shapes)
    figure = Figure(figsize=(side * len(panels), height + 0.6), layout="constrained")
    for axes, (title, panel) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw(axes, panel)
        axes.set_title(title, fontsize=8)
        axes.set_axis_off()
    return rendered(figure)


def overlaid(image: Tensor, saliency: Tensor) -> Tensor:
    """An image ``(C, H, W)`` in dimmed grey that glows where a map ``(H, W)`` is high: full at 5 times its mean.

    Returns:
        ``(3, H, W)`` in [0, 1].
    """
    relative = saliency / saliency.mean().clamp(min=torch.finfo(saliency.dtype).tiny)
    strength = (relative / BRIGHTEST).clamp(0, 1)
    glow = torch.tensor([1.0, 0.65, 0.1]).view(3, 1, 1) * strength
    return (image.mean(0).clamp(0, 1) * DIMMED * (1 - strength) + glow).clamp(0, 1)


def steps(shares: Mapping[str, tuple[float, ...]], label: str) -> Image:
    """Shares in [0, 1] by epoch, one line each, in %."""
    figure = Figure(figsize=(6, 2.4), layout="constrained")
    axes = figure.subplots()
    for name, values in shares.items():
        axes.plot(range(1, len(values) + 1), [100 * value for value in values], marker="o", label=name)
    axes.set(xlabel="epoch", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    return rendered(figure)


def rendered(figure: Figure) -> Image:
    """A figure as a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return Image(buffer.getvalue(), format="png")  # type: ignore[no-untyped-call]


def _draw(axes: Axes, panel: Tensor) -> None:
    if panel.ndim == 3:
        pixels = panel.detach().clamp(0, 1).permute(1, 2, 0).expand(-1, -1, 3)
        axes.imshow(pixels.numpy(), interpolation="nearest")
    elif panel.dtype == torch.bool:
        axes.imshow(panel.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    else:
        limit = float(panel.abs().quantile(0.99)) or 1.0
        axes.imshow(panel.numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
