"""Deletion and insertion curves of maps: several fills, areas and gaps by the names of a run record."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from smoot.curves import deletion_curve, insertion_curve
from smoot.masking import Fill
from workbench.config.run import DatasetConfig, RunConfig

# {FILL: {"deletion": [S], "insertion": [S]}, ...}: accuracy at each fraction of pixels
Curves: TypeAlias = Mapping[str, Mapping[str, Sequence[float]]]
CURVES = {"deletion": deletion_curve, "insertion": insertion_curve}


@dataclass(frozen=True)
class Measured:
    """What is measured of some maps, by the names of a run record.

    Attributes:
        metrics: numbers, for example ``gap_F`` for each fill F.
        curves: of the network and of the first judge, for each fill accuracy at each fraction of pixels.
    """

    metrics: Mapping[str, float]
    curves: Curves


def faithfulness_curves(
    network: nn.Module, images: Tensor, labels: Tensor, maps: Sequence[Tensor], config: RunConfig
) -> list[Curves]:
    """Accuracy of a network while the most salient pixels are removed (deletion) or shown (insertion).

    The unchanged and the wholly filled images are classified once for all maps.

    Args:
        network: maps pixels to logits; run in eval mode.
        images: ``(N, C, H, W)`` in [0, 1].
        labels: ``(N,)`` int64, the true classes.
        maps: each ``(N, H, W)``; of this network, of another one, or of none.
        config: steps, fills, batch size, and the seed of random fills: the same for every method and network.

    Returns:
        The curves of each of the maps.
    """
    by_fill = {fill: list(_curves(network, images, labels, maps, config, fill)) for fill in config.evaluation.fills}
    return [{fill: curves[place] for fill, curves in by_fill.items()} for place in range(len(maps))]


def _curves(
    network: nn.Module, images: Tensor, labels: Tensor, maps: Sequence[Tensor], config: RunConfig, name: str
) -> Iterator[dict[str, list[float]]]:
    """The curves of each map with one fill."""
    settings = config.evaluation
    fill, value = named_fill(name, config.dataset)
    asked: dict[str, Any] = {"fill": fill, "value": value, "score": "accuracy", "batch_size": settings.batch_size}

    def scores(kind: str, saliency: Tensor, fractions: Sequence[float]) -> list[float]:
        draws = torch.Generator(images.device).manual_seed(config.seed_for("random fill"))
        curve = CURVES[kind](network, images, labels, saliency, fractions=fractions, generator=draws, **asked)
        return curve.score.tolist()

    inner = curve_fractions(settings.curve_steps)[1:-1]
    clean, filled = scores("deletion", maps[0], (0.0, 1.0))  # the same whatever the map
    for saliency in maps:
        yield {
            "deletion": [clean, *scores("deletion", saliency, inner), filled],
            "insertion": [filled, *scores("insertion", saliency, inner), clean],
        }


def areas(curves: Curves) -> dict[str, float]:
    """Areas by the trapezoidal rule: ``deletion_auc_F``, ``insertion_auc_F`` and ``gap_F`` for each fill F.

    Formula:
        ``gap = insertion_auc - deletion_auc``.
    """
    found: dict[str, float] = {}
    for fill, scores in curves.items():
        area = {kind: float(np.trapezoid(scores[kind], dx=1 / (len(scores[kind]) - 1))) for kind in CURVES}
        found |= {f"gap_{fill}": area["insertion"] - area["deletion"]}
        found |= {f"{kind}_auc_{fill}": area[kind] for kind in CURVES}
    return found


def curve_fractions(steps: int) -> tuple[float, ...]:
    """Fractions of pixels at which curves are measured: ``steps + 1`` of them, evenly from 0 to 1."""
    return tuple(step / steps for step in range(steps + 1))


def named_fill(name: str, dataset: DatasetConfig) -> tuple[Fill, float]:
    """(fill, constant) of :func:`smoot.masking.fill_masked` for ``mean`` (the data set's), ``black`` or ``noise``."""
    if name == "noise":
        return "uniform", 0.0
    return "constant", sum(dataset.mean) / len(dataset.mean) if name == "mean" else 0.0
