"""Quality of saliency maps, whichever attribution method made them: all metrics of one set of maps together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from smoot.metrics import gini_sparseness
from smoot.saliency import saliency_map
from workbench.config.run import RunConfig
from workbench.measuring.attribution import ATTRIBUTIONS, attribution_map
from workbench.measuring.faithfulness import Measured, areas, faithfulness_curves
from workbench.measuring.judge import judge_curves
from workbench.measuring.localisation import region_scores
from workbench.measuring.robustness import noisy
from workbench.measuring.stability import cascading_randomisation, map_stability

CONTROLS = ("random", "edges")  # attribution methods that do not look at the network


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained network, its judges, and the images on which its maps are measured.

    Attributes:
        network: maps pixels to logits; explained.
        judges: the data set's judges, by the names :data:`workbench.measuring.judge.JUDGES`.
        images: ``(N, C, H, W)`` in [0, 1], on the networks' device like all tensors here.
        labels: ``(N,)`` int64, true classes.
        predictions: ``(N,)`` int64, the network's own classes, which the maps explain.
        regions: ``(N, H, W)`` bool, where the evidence is; may be empty for some images.
        config: the run.
    """

    network: nn.Module
    judges: Mapping[str, nn.Module]
    images: Tensor
    labels: Tensor
    predictions: Tensor
    regions: Tensor
    config: RunConfig

    def only(self, rows: slice | list[int] | Tensor) -> "Subject":
        """The same networks on some of the images."""
        per_image = ("images", "labels", "predictions", "regions")
        return replace(self, **{name: getattr(self, name)[rows] for name in per_image})

    def draws(self, purpose: str) -> torch.Generator:
        """A generator of the run's seed for a purpose, on the images' device."""
        return torch.Generator(self.images.device).manual_seed(self.config.seed_for(purpose))


def map_quality(subject: Subject, saliency: Tensor, attribution: str) -> Measured:
    """Faithfulness to the network and to its judges, localisation, sparseness and stability of maps.

    Args:
        subject: what is explained.
        saliency: ``(N, H, W)``, non-negative, the maps of ``subject.images``.
        attribution: the method that made them, see :func:`maps_of`; it is called again on noisy images.

    Returns:
        Metrics, NaN where nothing could be measured; and for each fill the curves of network and first judge.
    """
    (measured,) = measured_maps(subject, [saliency])
    return replace(measured, metrics={**measured.metrics, "stability": stability(subject, saliency, attribution)})


def measured_maps(subject: Subject, maps: Sequence[Tensor]) -> list[Measured]:
    """Faithfulness to the network and to its judges, localisation and sparseness of several maps of each image.

    Args:
        subject: what is explained.
        maps: each ``(N, H, W)``, non-negative.

    Returns:
        Metrics and curves of each of the maps, as :func:`map_quality` without the stability.
    """
    images, labels, config = subject.images, subject.labels, subject.config
    own = faithfulness_curves(subject.network, images, labels, maps, config)
    judged = {
        name: judge_curves(judge, images, labels, subject.predictions, maps, config)
        for name, judge in subject.judges.items()
    }
    found = []
    for place, saliency in enumerate(maps):
        metrics = areas(own[place]) | place_and_shape(subject, saliency)
        for name, scored in judged.items():
            metrics |= {f"{name}_gap_right_{fill}": areas(scored[place])[f"gap_{fill}"] for fill in scored[place]}
        first = next(iter(judged.values()))[place]
        curves = {
            fill: {**scores, **{f"judge_{kind}": first[fill][kind] for kind in scores}}
            for fill, scores in own[place].items()
        }
        found.append(Measured(metrics, curves))
    return found


def stability(subject: Subject, saliency: Tensor, attribution: str) -> float:
    """How alike maps ``(N, H, W)`` are to those of the same images under small noise."""
    disturbed = noisy(subject.images, subject.config.evaluation.stability_std, subject.draws("stability"))
    return map_stability(saliency, maps_of(attribution, subject, disturbed))


def control_maps(subject: Subject) -> dict[str, Tensor]:
    """Maps ``(N, H, W)`` that do not depend on the network, by the names `CONTROLS`."""
    asked = subject.network, subject.images, subject.predictions, subject.draws("random map")
    return {name: saliency_map(ATTRIBUTIONS[name](*asked)) for name in CONTROLS}


def place_and_shape(subject: Subject, saliency: Tensor) -> dict[str, float]:
    """Relevance mass, relevance rank, pointing game and Gini index of maps ``(N, H, W)``."""
    placed = region_scores(saliency, subject.regions, subject.config.evaluation.pointing_tolerance)
    return placed | {"gini": float(gini_sparseness(saliency).nanmean())}


def maps_of(name: str, subject: Subject, images: Tensor | None = None) -> Tensor:
    """Maps ``(N, H, W)`` of the subject's images, or of ``images`` in their place; each call draws from one seed."""
    return attribution_map(
        name,
        subject.network,
        subject.images if images is None else images,
        subject.predictions,
        batch_size=subject.config.evaluation.batch_size,
        generator=subject.draws("attributions"),
    )


def gets_all_attributions(config: RunConfig) -> bool:
    """Whether a run is one of those that are explained by every configured attribution method."""
    settings = config.evaluation.attributions
    return config.network in settings.networks and config.seed in settings.seeds


def attribution_metrics(subject: Subject) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    """Quality of each configured attribution method on the first images, and its sanity check.

    Returns:
        For each method its metrics (those of :func:`map_quality`, and ``sanity_spearman`` and ``sanity_ssim`` after
        all layers are randomised); and ``layers`` with, for each method, ``spearman`` and ``ssim`` after each layer.

    Raises:
        ValueError: for an unknown attribution method.
    """
    settings = subject.config.evaluation.attributions
    subject = subject.only(slice(settings.images))
    layers, cascade = cascading_randomisation(
        subject.network,
        subject.images,
        subject.predictions,
        settings.names,
        batch_size=subject.config.evaluation.batch_size,
        generator=subject.draws("sanity"),
    )
    metrics = {}
    for name in settings.names:
        quality = map_quality(subject, maps_of(name, subject), name)
        last = {f"sanity_{kind}": similarities[-1] for kind, similarities in cascade[name].items()}
        metrics[name] = {**quality.metrics, **last}
    return metrics, {"layers": layers, **cascade}


def attribution_samples(subject: Subject, names: Sequence[str], rows: list[int]) -> npt.NDArray[np.float32]:
    """Maps ``(A, K, H, W)`` of A attribution methods for K of the images; A may be 0."""
    shown = subject.only(rows)
    maps = shown.images.new_zeros(len(names), *shown.images[:, 0].shape)
    for place, name in zip(maps, names, strict=True):
        place.copy_(maps_of(name, shown))
    return maps.float().cpu().numpy()
