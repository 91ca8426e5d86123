"""Perturbation curves of a run's settings: several fills, areas and gaps by the names of a run record."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from smoot.curves import perturbation_curves
from smoot.masking import Fill
from workbench.config.run import DatasetConfig, RunConfig

KINDS = ("deletion", "insertion", "random")


@dataclass(frozen=True)
class CurveSettings:
    """What the curves of a run are measured with.

    Attributes:
        fractions: shares of pixels, from 0 to 1.
        fills: (fill, constant) of :func:`smoot.masking.fill_masked` by their names in a run record.
        batch_size: rows of one forward.
        seed: of the random ranking and of random fills; the same for every fill, method and network.
    """

    fractions: tuple[float, ...]
    fills: Mapping[str, tuple[Fill, float]]
    batch_size: int
    seed: int


@dataclass(frozen=True)
class Faithfulness:
    """Curves and their areas.

    Attributes:
        curves: for each fill its deletion, insertion and random curve, mean accuracy at each share.
        areas: ``deletion_auc_F``, ``insertion_auc_F``, ``random_auc_F`` and ``gap_F`` for each fill F.
    """

    curves: Mapping[str, Mapping[str, list[float]]]
    areas: Mapping[str, float]


def curve_settings(config: RunConfig) -> CurveSettings:
    """The settings of a run's curves."""
    settings = config.evaluation
    return CurveSettings(
        fractions=tuple(step / settings.curve_steps for step in range(settings.curve_steps + 1)),
        fills={name: named_fill(name, config.dataset) for name in settings.fills},
        batch_size=settings.batch_size,
        seed=config.stream("random ranking"),
    )


def named_fill(name: str, dataset: DatasetConfig) -> tuple[Fill, float]:
    """The core's fill for a name of the configuration: the data set's mean, black, or uniform noise."""
    if name == "noise":
        return "uniform", 0.0
    return "constant", sum(dataset.mean) / len(dataset.mean) if name == "mean" else 0.0


def faithfulness(
    network: nn.Module, images: Tensor, labels: Tensor, saliency: Tensor, settings: CurveSettings
) -> Faithfulness:
    """Accuracy of a network while the most salient pixels are removed, shown, or removed at random.

    Args:
        network: maps pixels to logits; run in eval mode.
        images: ``(N, C, H, W)`` in [0, 1].
        labels: ``(N,)`` int64, the true classes.
        saliency: ``(N, H, W)``; whose maps they are does not matter.
        settings: shares, fills, batch size, seed.

    Returns:
        :class:`Faithfulness`.
    """
    curves: dict[str, dict[str, list[float]]] = {}
    areas: dict[str, float] = {}
    for name, (fill, value) in settings.fills.items():
        measured = perturbation_curves(
            network,
            images,
            labels,
            saliency,
            fractions=settings.fractions,
            fill=fill,
            value=value,
            score="accuracy",
            batch_size=settings.batch_size,
            generator=torch.Generator(images.device).manual_seed(settings.seed),
        )
        curves[name] = {kind: getattr(measured, kind).score.tolist() for kind in KINDS}
        areas |= {f"{kind}_auc_{name}": float(getattr(measured, kind).auc) for kind in KINDS}
        areas[f"gap_{name}"] = areas[f"insertion_auc_{name}"] - areas[f"deletion_auc_{name}"]
    return Faithfulness(curves, areas)
