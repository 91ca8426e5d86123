"""Several attribution methods on the same network, measured alike, with the sanity check of each."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from workbench.config.run import RunConfig
from workbench.measuring.map_quality import Subject, map_quality, named_maps
from workbench.measuring.sanity import CascadeResult, cascading_randomisation

Numbers = dict[str, float]


def explained_in_every_way(config: RunConfig) -> bool:
    """Whether a run is one of those that get the full set of attribution methods."""
    settings = config.evaluation.attributions
    return config.cell in settings.cells and config.seed in settings.seeds


def attribution_metrics(subject: Subject) -> tuple[dict[str, Numbers], dict[str, Any]]:
    """Quality of each configured attribution method on the first images, and the cascades of its sanity check.

    Args:
        subject: what is explained.

    Returns:
        For each method its metrics (those of the run's own maps without the random controls, and
        ``sanity_spearman`` and ``sanity_ssim`` after all layers are randomised); and ``layers`` with, for each
        method, ``spearman`` and ``ssim`` after each of them.

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
    return {name: _quality(name, subject, cascade) for name in settings.names}, _as_record(cascade)


def attribution_samples(subject: Subject, names: Sequence[str], rows: list[int]) -> npt.NDArray[np.float32]:
    """Maps ``(A, K, H, W)`` of A attribution methods for K of the images; A may be 0."""
    images, predictions = subject.images[rows], subject.predictions[rows]
    maps = images.new_zeros(len(names), *images[:, 0].shape)
    for place, name in zip(maps, names, strict=True):
        place.copy_(named_maps(name, subject)(subject.network, images, predictions))
    return maps.float().cpu().numpy()


def _quality(name: str, subject: Subject, cascade: CascadeResult) -> Numbers:
    """What is kept of one attribution method's numbers."""
    map_function = named_maps(name, subject)
    saliency = map_function(subject.network, subject.images, subject.predictions)
    metrics = map_quality(subject, saliency, map_function).metrics
    kept = {key: value for key, value in metrics.items() if _is_kept(key)}
    return kept | {"sanity_spearman": cascade.spearman[name][-1], "sanity_ssim": cascade.ssim[name][-1]}


def _is_kept(metric: str) -> bool:
    """The controls do not depend on the attribution method; of the judge only the gap is kept."""
    return metric.startswith("judge_gap_") or not metric.startswith(("judge_", "random_"))


def _as_record(cascade: CascadeResult) -> dict[str, Any]:
    found = asdict(cascade)
    of_methods = {
        name: {"spearman": list(found["spearman"][name]), "ssim": list(found["ssim"][name])}
        for name in cascade.spearman
    }
    return {"layers": list(cascade.layers), **of_methods}
