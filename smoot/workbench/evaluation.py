"""Evaluation: how right a trained network is, and how good its saliency.

Accuracy, likelihood and calibration on the whole test split, clean and under noise; faithfulness,
localisation and sparseness of the input gradient on its first images. Everything is measured in eval mode,
and saliency is that of the predicted class, as a user would ask for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_calibration_error

from smoot.masking import Fill
from smoot.metrics import deletion_curve, gini_sparseness, insertion_curve, relevance_mass, relevance_rank
from smoot.modes import evaluation_mode
from smoot.saliency import input_gradient, saliency_map
from smoot.workbench.config import EvaluationConfig, RunConfig
from smoot.workbench.data import ImageData
from smoot.workbench.storage import Samples

GRADIENT_EDGES = np.linspace(-8.0, 3.0, 67)  # log10 of the gradient's magnitude per unit of pixel value


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What :func:`evaluate_network` measures; the names are those of a run record."""

    metrics: Mapping[str, float]
    curves: Mapping[str, Any]
    samples: Samples


@dataclass(frozen=True, eq=False)
class _Explained:
    """The first test images with the network's answers and their saliency."""

    images: Tensor
    labels: Tensor
    predictions: Tensor
    gradient: Tensor
    saliency: Tensor


def evaluate_network(network: nn.Module, images: ImageData, config: RunConfig) -> Evaluation:
    """Measures a trained network.

    Args:
        network: maps pixels in [0, 1] to logits; on the device to be used.
        images: the data set; only its test split is touched.
        config: what to measure, and the seed of noise and random ranking.

    Returns:
        Metrics (fractions in [0, 1], nll in nats), perturbation curves and sample images.
    """
    device = next(network.parameters()).device
    pixels, labels = images.test_images.to(device), images.test_labels.to(device)
    metrics = _classification(network, pixels, labels, config)
    explained = _explain(network, pixels, labels, config.evaluation)
    metrics |= _localisation(explained, config.dataset.foreground_threshold)
    curves, areas = _faithfulness(network, explained, config)
    return Evaluation(metrics | areas, curves, _samples(explained, images.num_classes))


def _logits(network: nn.Module, pixels: Tensor, batch_size: int) -> Tensor:
    with evaluation_mode(network), torch.no_grad():
        return torch.cat([network(part) for part in pixels.split(batch_size)]).float()


def _classification(network: nn.Module, pixels: Tensor, labels: Tensor, config: RunConfig) -> dict[str, float]:
    """Accuracy, negative log-likelihood, calibration error, and accuracy under additive Gaussian noise."""
    settings = config.evaluation
    logits = _logits(network, pixels, settings.batch_size)
    draw = torch.Generator(pixels.device).manual_seed(config.stream("noise"))
    noise = torch.randn(pixels.shape, generator=draw, device=pixels.device)
    noisy = _logits(network, pixels + settings.noise_std * noise, settings.batch_size)
    calibration = multiclass_calibration_error(
        logits.softmax(1), labels, num_classes=logits.shape[1], n_bins=settings.ece_bins
    )
    return {
        "accuracy": _accuracy(logits, labels),
        "nll": float(F.cross_entropy(logits, labels)),
        "ece": float(calibration),
        "accuracy_noise": _accuracy(noisy, labels),
    }


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(1) == labels).double().mean())


def _explain(network: nn.Module, pixels: Tensor, labels: Tensor, settings: EvaluationConfig) -> _Explained:
    """Predictions and input gradients of the first ``curve_images`` images."""
    images, labels = pixels[: settings.curve_images], labels[: settings.curve_images]
    predictions = _logits(network, images, settings.batch_size).argmax(1)
    parts = zip(images.split(settings.batch_size), predictions.split(settings.batch_size), strict=True)
    gradient = torch.cat([input_gradient(network, *part) for part in parts])
    return _Explained(images, labels, predictions, gradient, saliency_map(gradient))


def _localisation(explained: _Explained, threshold: float) -> dict[str, float]:
    """Saliency inside the foreground, and its sparseness; images without foreground or saliency are left out."""
    region = explained.images.mean(1) > threshold
    usable = region.flatten(1).any(1)
    saliency, region = explained.saliency[usable], region[usable]
    return {
        "relevance_mass": float(relevance_mass(saliency, region).nanmean()),
        "relevance_rank": float(relevance_rank(saliency, region).mean()),
        "gini": float(gini_sparseness(explained.saliency).nanmean()),
    }


def _faithfulness(
    network: nn.Module, explained: _Explained, config: RunConfig
) -> tuple[dict[str, Any], dict[str, float]]:
    """Deletion and insertion curves of the accuracy for each fill, with a random ranking as control.

    Inserting along a random ranking is deleting along its reverse, so one curve is the control of both.
    """
    settings = config.evaluation
    fractions = [step / settings.curve_steps for step in range(settings.curve_steps + 1)]
    draw = torch.Generator(explained.images.device).manual_seed(config.stream("random ranking"))
    ranking = torch.rand(explained.saliency.shape, generator=draw, device=draw.device)
    curves: dict[str, Any] = {"fraction": fractions}
    areas: dict[str, float] = {}
    for name in settings.fills:
        fill, value = _fill(name, config)
        given: dict[str, Any] = {
            "fractions": fractions,
            "fill": fill,
            "value": value,
            "score": "accuracy",
            "batch_size": settings.batch_size,
            "generator": torch.Generator(draw.device).manual_seed(config.stream("fill")),
        }
        images, labels = explained.images, explained.labels
        measured = {
            "deletion": deletion_curve(network, images, labels, explained.saliency, **given),
            "insertion": insertion_curve(network, images, labels, explained.saliency, **given),
            "random": deletion_curve(network, images, labels, ranking, **given),
        }
        curves[name] = {kind: curve.score.tolist() for kind, curve in measured.items()}
        areas |= {f"{kind}_auc_{name}": float(curve.auc) for kind, curve in measured.items()}
        areas[f"gap_{name}"] = areas[f"insertion_auc_{name}"] - areas[f"deletion_auc_{name}"]
    return curves, areas


def _fill(name: str, config: RunConfig) -> tuple[Fill, float]:
    """The core's fill for a name of the configuration: the data set's mean, black, or uniform noise."""
    if name == "noise":
        return "uniform", 0.0
    return "constant", sum(config.dataset.mean) / len(config.dataset.mean) if name == "mean" else 0.0


def _samples(explained: _Explained, num_classes: int) -> Samples:
    """The first image of each class: the same images for every method, chosen by rule."""
    labels = explained.labels.cpu()
    first = [int((labels == label).nonzero()[0]) for label in range(num_classes) if (labels == label).any()]
    magnitude = explained.gradient.abs().flatten().double().clamp(min=10.0 ** GRADIENT_EDGES[0])
    exponents = magnitude.log10().clamp(max=GRADIENT_EDGES[-1])
    counts, _ = np.histogram(exponents.cpu().numpy(), bins=GRADIENT_EDGES)
    return Samples(
        images=explained.images[first].cpu().numpy(),
        labels=labels[first].numpy(),
        predictions=explained.predictions[first].cpu().numpy(),
        saliency=explained.saliency[first].cpu().numpy(),
        gradient_edges=GRADIENT_EDGES,
        gradient_counts=counts.astype(np.int64),
    )
