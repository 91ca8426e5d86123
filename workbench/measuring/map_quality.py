"""Everything that is measured of a set of maps, whatever method made them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from smoot.metrics import gini_sparseness
from workbench.config.run import RunConfig
from workbench.measuring.attribution import attribution_map
from workbench.measuring.faithfulness import curve_settings, faithfulness
from workbench.measuring.judge import judge_curves
from workbench.measuring.localisation import localisation
from workbench.measuring.stability import MapFunction, map_stability


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained network, its judge, and the images on which its maps are measured.

    Attributes:
        network: maps pixels to logits; explained.
        judge: the data set's judge.
        images: ``(N, C, H, W)`` in [0, 1], on the networks' device like all tensors here.
        labels: ``(N,)`` int64, true classes.
        predictions: ``(N,)`` int64, the network's answers, which are explained.
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
        """The same with the first images only."""
        of_images = ("images", "labels", "predictions", "regions")
        return replace(self, **{name: getattr(self, name)[:count] for name in of_images})

    def draws(self, purpose: str) -> torch.Generator:
        """A generator of the run's stream for a purpose, on the images' device."""
        return torch.Generator(self.images.device).manual_seed(self.config.stream(purpose))


@dataclass(frozen=True)
class MapQuality:
    """Metrics by their names in a run record, and for each fill the curves of network and judge."""

    metrics: Mapping[str, float]
    curves: Mapping[str, Mapping[str, list[float]]]


def map_quality(subject: Subject, saliency: Tensor, map_function: MapFunction) -> MapQuality:
    """Faithfulness to the network and to its judge, localisation, sparseness and stability of maps.

    Args:
        subject: what is explained.
        saliency: ``(N, H, W)``, non-negative, the maps of ``subject.images``.
        map_function: what made them, called again on noisy images.

    Returns:
        :class:`MapQuality`; NaN where nothing could be measured.
    """
    settings = curve_settings(subject.config)
    own, judged = (
        curves(network, subject.images, subject.labels, saliency, settings)
        for curves, network in ((faithfulness, subject.network), (judge_curves, subject.judge))
    )
    stability = map_stability(
        subject.network,
        subject.images,
        subject.predictions,
        saliency,
        map_function=map_function,
        noise_std=subject.config.evaluation.stability_std,
        generator=subject.draws("stability"),
    )
    placed = place_and_shape(subject, saliency)
    metrics = {**own.areas, **judged.areas, **_judged_if_right(subject, saliency), **placed, "stability": stability}
    return MapQuality(metrics, {fill: {**own.curves[fill], **judged.curves[fill]} for fill in own.curves})


def _judged_if_right(subject: Subject, saliency: Tensor) -> dict[str, float]:
    """``judge_gap_right_F``: the judge's gap on the images alone that the explained network answers rightly.

    Maps explain the predicted class and the judge is asked for the true one: on the other images a faithful map
    shows what speaks for another class, so the gap of all images also counts accuracy. NaN without such an image.
    """
    right = subject.predictions == subject.labels
    settings = curve_settings(subject.config)
    if not right.any():
        return {f"judge_gap_right_{fill}": float("nan") for fill in settings.fills}
    judged = judge_curves(subject.judge, subject.images[right], subject.labels[right], saliency[right], settings)
    return {f"judge_gap_right_{fill}": judged.areas[f"judge_gap_{fill}"] for fill in settings.fills}


def place_and_shape(subject: Subject, saliency: Tensor) -> dict[str, float]:
    """Relevance mass, relevance rank, pointing game and Gini index of maps ``(N, H, W)``."""
    placed = localisation(saliency, subject.regions, subject.config.evaluation.pointing_tolerance)
    return placed.numbers() | {"gini": float(gini_sparseness(saliency).nanmean())}


def named_maps(name: str, subject: Subject) -> MapFunction:
    """The map function of an attribution method; each call starts from the same seed."""

    def maps(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        size, draws = subject.config.evaluation.batch_size, subject.draws("attributions")
        return attribution_map(name, network, images, targets, batch_size=size, generator=draws)

    return maps
