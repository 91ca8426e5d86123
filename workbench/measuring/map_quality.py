"""Quality of saliency maps, whichever attribution method made them: all metrics of one set of maps together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from smoot.metrics import gini_sparseness
from workbench.config.run import RunConfig
from workbench.measuring.attribution import attribution_map
from workbench.measuring.faithfulness import faithfulness_curves
from workbench.measuring.judge import judge_curves
from workbench.measuring.localisation import region_scores
from workbench.measuring.stability import MapFunction, cascading_randomisation, map_stability


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained network, its judge, and the images on which its maps are measured.

    Attributes:
        network: maps pixels to logits; explained.
        judge: the data set's judge.
        images: ``(N, C, H, W)`` in [0, 1], on the networks' device like all tensors here.
        labels: ``(N,)`` int64, true classes.
        predictions: ``(N,)`` int64, the network's own classes, which the maps explain.
        regions: ``(N, H, W)`` bool, where the evidence is; may be empty for some images.
        config: the run.
    """

    network: nn.Module
    judge: nn.Module
    images: Tensor
    labels: Tensor
    predictions: Tensor
    regions: Tensor
    config: RunConfig

    def first(self, count: int) -> "Subject":
        """The same network and judge on the first images only."""
        return self._restricted(slice(count))

    def correct(self) -> "Subject":
        """The same network and judge on the images that the network classifies correctly."""
        return self._restricted(self.predictions == self.labels)

    def draws(self, purpose: str) -> torch.Generator:
        """A generator of the run's seed for a purpose, on the images' device."""
        return torch.Generator(self.images.device).manual_seed(self.config.seed_for(purpose))

    def _restricted(self, rows: slice | Tensor) -> "Subject":
        per_image = ("images", "labels", "predictions", "regions")
        return replace(self, **{name: getattr(self, name)[rows] for name in per_image})


@dataclass(frozen=True)
class MapQuality:
    """Metrics by their names in a run record, and for each fill the curves of network and judge."""

    metrics: Mapping[str, float]
    curves: Mapping[str, Mapping[str, list[float]]]


def map_quality(subject: Subject, saliency: Tensor, maps_of: MapFunction) -> MapQuality:
    """Faithfulness to the network and to its judge, localisation, sparseness and stability of maps.

    Args:
        subject: what is explained.
        saliency: ``(N, H, W)``, non-negative, the maps of ``subject.images``.
        maps_of: the function that made them; called again on noisy images.

    Returns:
        :class:`MapQuality`; NaN where nothing could be measured.
    """
    config = subject.config
    own = faithfulness_curves(subject.network, subject.images, subject.labels, saliency, config)
    judged = judge_curves(subject.judge, subject.images, subject.labels, saliency, config)
    stability = map_stability(
        subject.network,
        subject.images,
        subject.predictions,
        saliency,
        maps_of=maps_of,
        noise_std=config.evaluation.stability_std,
        generator=subject.draws("stability"),
    )
    placed = place_and_shape(subject, saliency)
    metrics = {**own.areas, **judged.areas, **_judge_gap_right(subject, saliency), **placed, "stability": stability}
    return MapQuality(metrics, {fill: {**own.curves[fill], **judged.curves[fill]} for fill in own.curves})


def _judge_gap_right(subject: Subject, saliency: Tensor) -> dict[str, float]:
    """``judge_gap_right_F``: the judge's gap on the images that the explained network classifies correctly.

    Maps explain the predicted class, but the judge is asked for the true one. On misclassified images a faithful map
    shows evidence for another class, so the gap over all images also rewards accuracy. NaN without a correct image.
    """
    correct = subject.correct()
    if not len(correct.images):
        return {f"judge_gap_right_{fill}": float("nan") for fill in subject.config.evaluation.fills}
    maps = saliency[subject.predictions == subject.labels]
    judged = judge_curves(subject.judge, correct.images, correct.labels, maps, subject.config)
    return {f"judge_gap_right_{fill}": judged.areas[f"judge_gap_{fill}"] for fill in subject.config.evaluation.fills}


def place_and_shape(subject: Subject, saliency: Tensor) -> dict[str, float]:
    """Relevance mass, relevance rank, pointing game and Gini index of maps ``(N, H, W)``."""
    placed = region_scores(saliency, subject.regions, subject.config.evaluation.pointing_tolerance)
    return placed | {"gini": float(gini_sparseness(saliency).nanmean())}


def map_function(name: str, subject: Subject) -> MapFunction:
    """The map function of an attribution method; each call starts from the same seed."""

    def maps_of(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        size, draws = subject.config.evaluation.batch_size, subject.draws("attributions")
        return attribution_map(name, network, images, targets, batch_size=size, generator=draws)

    return maps_of


def gets_all_attributions(config: RunConfig) -> bool:
    """Whether a run is one of those that are explained by every configured attribution method."""
    settings = config.evaluation.attributions
    return config.network in settings.networks and config.seed in settings.seeds


def attribution_metrics(subject: Subject) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    """Quality of each configured attribution method on the first images, and its sanity check.

    Returns:
        For each method its metrics (those of the run's own maps without the random controls, and ``sanity_spearman``
        and ``sanity_ssim`` after all layers are randomised); and ``layers`` with, for each method, ``spearman`` and
        ``ssim`` after each layer.

    Raises:
        ValueError: for an unknown attribution method.
    """
    settings = subject.config.evaluation.attributions
    subject = subject.first(settings.images)
    cascade = cascading_randomisation(
        subject.network,
        subject.images,
        subject.predictions,
        settings.names,
        batch_size=subject.config.evaluation.batch_size,
        generator=subject.draws("sanity"),
    )
    metrics = {}
    for name in settings.names:
        maps_of = map_function(name, subject)
        quality = map_quality(subject, maps_of(subject.network, subject.images, subject.predictions), maps_of)
        metrics[name] = {key: value for key, value in quality.metrics.items() if _depends_on_maps(key)}
        metrics[name] |= {"sanity_spearman": cascade.spearman[name][-1], "sanity_ssim": cascade.ssim[name][-1]}
    return metrics, cascade.as_record()


def attribution_samples(subject: Subject, names: Sequence[str], rows: list[int]) -> npt.NDArray[np.float32]:
    """Maps ``(A, K, H, W)`` of A attribution methods for K of the images; A may be 0."""
    images, predictions = subject.images[rows], subject.predictions[rows]
    maps = images.new_zeros(len(names), *images[:, 0].shape)
    for place, name in zip(maps, names, strict=True):
        place.copy_(map_function(name, subject)(subject.network, images, predictions))
    return maps.float().cpu().numpy()


def _depends_on_maps(metric: str) -> bool:
    """Random controls are the same for every attribution method; of the judge's areas only the gap is kept."""
    return metric.startswith("judge_gap_") or not metric.startswith(("judge_", "random_"))
