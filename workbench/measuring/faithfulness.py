"""Deletion, insertion and random curves of a run: several fills, areas and gaps by the names of a run record."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from smoot.curves import perturbation_curves
from smoot.masking import Fill
from workbench.config.run import DatasetConfig, RunConfig

KINDS = ("deletion", "insertion", "random")


@dataclass(frozen=True)
class Measured:
    """What is measured of some maps, by the names of a run record.

    Attributes:
        metrics: numbers, for example ``gap_F`` for each fill F.
        curves: for each fill accuracy at each fraction of pixels: ``deletion``, ``insertion``, ``random``.
    """

    metrics: Mapping[str, float]
    curves: Mapping[str, Mapping[str, list[float]]]


def faithfulness_curves(
    network: nn.Module, images: Tensor, labels: Tensor, saliency: Tensor, config: RunConfig, *, prefix: str = ""
) -> Measured:
    """Accuracy of a network while the most salient pixels are removed, shown, or removed at random.

    Args:
        network: maps pixels to logits; run in eval mode.
        images: ``(N, C, H, W)`` in [0, 1].
        labels: ``(N,)`` int64, the true classes.
        saliency: ``(N, H, W)``; maps of this network or of another one.
        config: steps, fills, batch size, and the seed of the random ranking and of random fills: the same for every
            fill, method and network.
        prefix: of every name in the result.

    Returns:
        The curves, and as metrics ``deletion_auc_F``, ``insertion_auc_F``, ``random_auc_F`` and ``gap_F`` for each
        fill F.
    """
    settings = config.evaluation
    curves: dict[str, dict[str, list[float]]] = {}
    areas: dict[str, float] = {}
    for name in settings.fills:
        fill, value = named_fill(name, config.dataset)
        measured = perturbation_curves(
            network,
            images,
            labels,
            saliency,
            fractions=curve_fractions(settings.curve_steps),
            fill=fill,
            value=value,
            score="accuracy",
            batch_size=settings.batch_size,
            generator=torch.Generator(images.device).manual_seed(config.seed_for("random ranking")),
        )
        curves[name] = {prefix + kind: getattr(measured, kind).score.tolist() for kind in KINDS}
        areas |= {f"{prefix}{kind}_auc_{name}": float(getattr(measured, kind).auc) for kind in KINDS}
        areas[f"{prefix}gap_{name}"] = float(measured.insertion.auc) - float(measured.deletion.auc)
    return Measured(areas, curves)


def curve_fractions(steps: int) -> tuple[float, ...]:
    """Fractions of pixels at which curves are measured: ``steps + 1`` of them, evenly from 0 to 1."""
    return tuple(step / steps for step in range(steps + 1))


def named_fill(name: str, dataset: DatasetConfig) -> tuple[Fill, float]:
    """(fill, constant) of :func:`smoot.masking.fill_masked` for ``mean`` (the data set's), ``black`` or ``noise``."""
    if name == "noise":
        return "uniform", 0.0
    return "constant", sum(dataset.mean) / len(dataset.mean) if name == "mean" else 0.0
