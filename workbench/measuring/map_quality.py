"""Quality of saliency maps, whichever attribution method made them: all metrics of one set of maps together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from smoot.metrics import gini_sparseness
from workbench.config.run import RunConfig
from workbench.measuring.attribution import attribution_map
from workbench.measuring.faithfulness import Measured, faithfulness_curves
from workbench.measuring.judge import judge_curves
from workbench.measuring.localisation import region_scores
from workbench.measuring.robustness import noisy
from workbench.measuring.stability import cascading_randomisation, map_stability


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

    def only(self, rows: slice | list[int] | Tensor) -> "Subject":
        """The same network and judge on some of the images."""
        per_image = ("images", "labels", "predictions", "regions")
        return replace(self, **{name: getattr(self, name)[rows] for name in per_image})

    def draws(self, purpose: str) -> torch.Generator:
        """A generator of the run's seed for a purpose, on the images' device."""
        return torch.Generator(self.images.device).manual_seed(self.config.seed_for(purpose))


def map_quality(subject: Subject, saliency: Tensor, attribution: str) -> Measured:
    """Faithfulness to the network and to its judge, localisation, sparseness and stability of maps.

    Args:
        subject: what is explained.
        saliency: ``(N, H, W)``, non-negative, the maps of ``subject.images``.
        attribution: the method that made them, see :func:`maps_of`; it is called again on noisy images.

    Returns:
        Metrics, NaN where nothing could be measured; and for each fill the curves of network and judge.
    """
    config = subject.config
    own = faithfulness_curves(subject.network, subject.images, subject.labels, saliency, config)
    judged = judge_curves(subject.judge, subject.images, subject.labels, saliency, config)
    disturbed = noisy(subject.images, config.evaluation.stability_std, subject.draws("stability"))
    metrics = {
        **own.metrics,
        **judged.metrics,
        **_judge_gap_right(subject, saliency),
        **place_and_shape(subject, saliency),
        "stability": map_stability(saliency, maps_of(attribution, subject, disturbed)),
    }
    return Measured(metrics, {fill: {**own.curves[fill], **judged.curves[fill]} for fill in own.curves})


def _judge_gap_right(subject: Subject, saliency: Tensor) -> dict[str, float]:
    """``judge_gap_right_F``: the judge's gap on the images that the explained network classifies correctly.

    Maps explain the predicted class, but the judge is asked for the true one. On misclassified images a faithful map
    shows evidence for another class, so the gap over all images also rewards accuracy. NaN without a correct image.
    """
    fills, right = subject.config.evaluation.fills, subject.predictions == subject.labels
    if not right.any():
        return {f"judge_gap_right_{fill}": math.nan for fill in fills}
    correct = subject.only(right)
    judged = judge_curves(subject.judge, correct.images, correct.labels, saliency[right], subject.config)
    return {f"judge_gap_right_{fill}": judged.metrics[f"judge_gap_{fill}"] for fill in fills}


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
        For each method its metrics (those of the run's own maps without the random controls, and ``sanity_spearman``
        and ``sanity_ssim`` after all layers are randomised); and ``layers`` with, for each method, ``spearman`` and
        ``ssim`` after each layer.

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
        metrics[name] = {key: value for key, value in quality.metrics.items() if _depends_on_maps(key)}
        metrics[name] |= {f"sanity_{kind}": similarities[-1] for kind, similarities in cascade[name].items()}
    return metrics, {"layers": layers, **cascade}


def attribution_samples(subject: Subject, names: Sequence[str], rows: list[int]) -> npt.NDArray[np.float32]:
    """Maps ``(A, K, H, W)`` of A attribution methods for K of the images; A may be 0."""
    shown = subject.only(rows)
    maps = shown.images.new_zeros(len(names), *shown.images[:, 0].shape)
    for place, name in zip(maps, names, strict=True):
        place.copy_(maps_of(name, shown))
    return maps.float().cpu().numpy()


def _depends_on_maps(metric: str) -> bool:
    """Random controls are the same for every attribution method; of the judge's areas only the gap is kept."""
    return metric.startswith("judge_gap_") or not metric.startswith(("judge_", "random_"))
