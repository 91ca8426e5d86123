"""Evaluation: how accurate a trained network is, and how good its saliency maps are.

Accuracy, likelihood and calibration on the whole test split; robustness and everything about maps on its first
images. Everything is measured in eval mode, and maps explain the predicted class, as a user would ask for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_calibration_error

from smoot.saliency import input_gradient, saliency_map
from workbench.config.run import ModelConfig, RunConfig
from workbench.data.sets import ImageData, development
from workbench.measuring.faithfulness import Curves, curve_fractions
from workbench.measuring.localisation import grid_pointing
from workbench.measuring.map_quality import (
    Subject,
    attribution_metrics,
    attribution_samples,
    control_maps,
    gets_all_attributions,
    measured_maps,
    stability,
)
from workbench.measuring.robustness import attacked, blurred, noisy
from workbench.results.samples import Samples
from workbench.training.inference import accuracy, predict, share_correct
from workbench.training.networks import load_network, pick_device

GRADIENT_EDGES = np.linspace(-8.0, 3.0, 67)  # log10 of the gradient's magnitude per unit of pixel value


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What is measured of one trained network; names and shapes are those of a run record.

    Attributes:
        metrics: accuracies and other fractions in [0, 1], ``nll`` in nats, ``stability`` and gaps in [-1, 1]; NaN where
            nothing could be measured. ``random_X`` and ``edges_X`` are the metric X of control maps.
        curves: ``fraction`` (S,) and, for each fill, six curves (S,) by name.
        samples: images with their maps, for figures.
        attributions: metrics of each attribution method; empty for runs that are not listed.
        sanity: ``layers`` (L,) and, for each attribution method, ``spearman`` and ``ssim`` (L,); or empty.
    """

    metrics: Mapping[str, float]
    curves: Mapping[str, Any]
    samples: Samples
    attributions: Mapping[str, Mapping[str, float]]
    sanity: Mapping[str, Any]


def evaluate_run(
    config: RunConfig, images: ImageData, weights: Path, judges: Mapping[str, tuple[ModelConfig, Path]]
) -> Evaluation:
    """Load a trained network and the judges of its data set, and measure the network.

    Args:
        config: the run.
        images: the whole data set; if the run asks for development images, they replace the test split.
        weights: of the run's network.
        judges: backbone and weights of each judge, by the names :data:`workbench.measuring.judge.JUDGES`.

    Raises:
        FileNotFoundError: if weights are missing.
        RuntimeError: if weights do not fit their network.
    """
    if config.dataset.development_images:
        images = development(images, **config.split_arguments())
    device = pick_device(config.training.device)
    memory = torch.channels_last if config.training.channels_last else torch.contiguous_format

    def loaded(backbone: ModelConfig, source: Path) -> nn.Module:
        return load_network(backbone, config.dataset, images, source, device).to(memory_format=memory)

    network = loaded(config.backbone, weights)
    return evaluate_network(network, images, config, {name: loaded(*judge) for name, judge in judges.items()})


def evaluate_network(
    network: nn.Module, images: ImageData, config: RunConfig, judges: Mapping[str, nn.Module]
) -> Evaluation:
    """Measure a trained network.

    Args:
        network: maps pixels in [0, 1] to logits; on the device to be used.
        images: the data set; only its test split is touched.
        config: what to measure, and the seed of every draw.
        judges: the data set's judges by name, on the same device.
    """
    device = next(network.parameters()).device
    pixels, labels = images.test_images.to(device), images.test_labels.to(device)
    metrics = _classification(network, pixels, labels, config) | _robustness(network, pixels, labels, config)
    subject = _subject(network, judges, images, config, device)
    gradient = _gradient(subject)
    saliency = saliency_map(gradient)
    maps = {"": saliency} | {f"{name}_": control for name, control in control_maps(subject).items()}
    measured = dict(zip(maps, measured_maps(subject, list(maps.values())), strict=True))
    metrics |= {prefix + name: value for prefix, own in measured.items() for name, value in own.metrics.items()}
    metrics["stability"] = stability(subject, saliency, "gradient")
    metrics["grid_pointing"] = grid_pointing(
        network,
        subject.images,
        subject.labels,
        count=config.evaluation.mosaics,
        batch_size=config.evaluation.batch_size,
        generator=subject.draws("mosaics"),
    )
    listed = gets_all_attributions(config)
    attributions, sanity = attribution_metrics(subject) if listed else ({}, {})
    curves = {"fraction": list(curve_fractions(config.evaluation.curve_steps))}
    curves |= _with_control(measured[""].curves, measured["random_"].curves)
    samples = _samples(subject, gradient, saliency, images.num_classes, attributed=listed)
    return Evaluation(metrics, curves, samples, attributions, sanity)


def _with_control(curves: Curves, random: Curves) -> dict[str, Any]:
    """For each fill the curves of the maps, and the deletion curves of a random map as their control."""
    return {
        fill: {**own, "random": random[fill]["deletion"], "judge_random": random[fill]["judge_deletion"]}
        for fill, own in curves.items()
    }


def _classification(network: nn.Module, pixels: Tensor, labels: Tensor, config: RunConfig) -> dict[str, float]:
    """Accuracy, negative log-likelihood and calibration error."""
    settings = config.evaluation
    logits = predict(network, pixels, batch_size=settings.batch_size)
    calibration = multiclass_calibration_error(
        logits.softmax(1), labels, num_classes=logits.shape[1], n_bins=settings.ece_bins
    )
    return {
        "accuracy": share_correct(logits, labels),
        "nll": float(F.cross_entropy(logits, labels)),
        "ece": float(calibration),
    }


def _robustness(network: nn.Module, pixels: Tensor, labels: Tensor, config: RunConfig) -> dict[str, float]:
    """Accuracy on the first images under noise, blur and attack."""
    settings, size = config.evaluation.robustness, config.evaluation.batch_size
    noise, start = (
        torch.Generator(pixels.device).manual_seed(config.seed_for(purpose)) for purpose in ("noise", "attack")
    )
    first, few = pixels[: settings.images], slice(settings.pgd_images)
    disturbed = {
        "noise": noisy(first, settings.noise_std, noise),
        "blur": blurred(first, settings.blur_sigma),
        "pgd": attacked(
            network,
            pixels[few],
            labels[few],
            epsilon=settings.pgd_epsilon,
            steps=settings.pgd_steps,
            batch_size=size,
            generator=start,
        ),
    }
    return {
        f"accuracy_{name}": accuracy(network, images, labels[: len(images)], batch_size=size)
        for name, images in disturbed.items()
    }


def _subject(
    network: nn.Module, judges: Mapping[str, nn.Module], images: ImageData, config: RunConfig, device: torch.device
) -> Subject:
    """The first ``curve_images`` images with the network's predictions and their regions."""
    first = slice(config.evaluation.curve_images)
    pixels, labels = images.test_images[first].to(device), images.test_labels[first].to(device)
    predictions = predict(network, pixels, batch_size=config.evaluation.batch_size).argmax(1)
    if images.test_regions is None:
        regions = pixels.mean(1) > config.dataset.foreground_threshold
    else:
        regions = images.test_regions[first].to(device)
    return Subject(network, judges, pixels, labels, predictions, regions, config)


def _gradient(subject: Subject) -> Tensor:
    """Input gradients ``(N, C, H, W)`` of the predictions' log-odds."""
    size = subject.config.evaluation.batch_size
    parts = zip(subject.images.split(size), subject.predictions.split(size), strict=True)
    return torch.cat([input_gradient(subject.network, *part) for part in parts])


def _samples(subject: Subject, gradient: Tensor, saliency: Tensor, num_classes: int, *, attributed: bool) -> Samples:
    """The first image of each class: the same images for every method."""
    labels = subject.labels.cpu()
    first = [int((labels == label).nonzero()[0]) for label in range(num_classes) if (labels == label).any()]
    magnitude = gradient.abs().flatten().double().clamp(min=10.0 ** GRADIENT_EDGES[0])
    exponents = magnitude.log10().clamp(max=GRADIENT_EDGES[-1])
    counts, _ = np.histogram(exponents.cpu().numpy(), bins=GRADIENT_EDGES)
    names = subject.config.evaluation.attributions.names if attributed else ()
    return Samples(
        images=subject.images[first].cpu().numpy(),
        labels=labels[first].numpy(),
        predictions=subject.predictions[first].cpu().numpy(),
        saliency=saliency[first].cpu().numpy(),
        gradient_edges=GRADIENT_EDGES,
        gradient_counts=counts.astype(np.int64),
        attribution_names=np.array(names, dtype=np.str_),
        attributions=attribution_samples(subject, names, first),
    )
