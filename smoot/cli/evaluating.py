"""What a trained network is worth on a folder: its answers, and its saliency beside chance."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import smoot
from smoot.cli.answers import answers_of
from smoot.cli.folders import Images
from smoot.cli.loading import Loader, Reading
from smoot.cli.maps import edge_maps, network_maps, random_maps
from smoot.cli.progress import Progress
from smoot.cli.trained import Trained

FILLS = ("mean", "black")  # of removed pixels: each image's own mean, or 0


@dataclass(frozen=True)
class Questions:
    """What is measured: saliency of at most ``map_images``, and accuracy under noise of a standard deviation."""

    map_images: int
    noise: float
    seed: int = 0


def evaluate(
    trained: Trained, judge: Trained | None, images: Images, reading: Reading, questions: Questions, progress: Progress
) -> dict[str, Any]:
    """Measure a network on images of a folder.

    Returns:
        ``answers``, ``noise`` (the answers under noise), ``saliency`` by kind of map, and ``skipped``.

    Raises:
        ValueError: if the folder's or the judge's classes are not those of the network.
    """
    _check_classes(trained, images.classes, "the folder")
    if judge is not None:
        _check_classes(trained, judge.card.classes, "the judge")
    loader = Loader(images, reading)
    clean = answers_of(trained.network, progress.bar(loader.batches(), "images", len(loader)), reading.device)
    bar = progress.bar(loader.batches(), "images with noise", len(loader))
    noisy = answers_of(trained.network, bar, reading.device, questions.noise)
    found: dict[str, Any] = {"answers": clean.summary(), "noise": {"std": questions.noise, **noisy.summary()}}
    if questions.map_images:
        sampled = Loader(images.some(questions.map_images, questions.seed), reading)
        pixels, labels = (torch.cat(column) for column in zip(*sampled.batches(), strict=True))
        found["saliency"] = _saliency(trained, judge, pixels, labels, progress)
    return found | {"skipped": sorted(loader.broken)}


class Resized(nn.Module):
    """A network that sees images in its own size."""

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network, self.size = network, size

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images ``(N, 3, H, W)`` of any size."""
        if images.shape[-1] != self.size:
            images = F.interpolate(images, (self.size, self.size), mode="bilinear", antialias=True)
        logits: Tensor = self.network(images)
        return logits


def _saliency(
    trained: Trained, judge: Trained | None, images: Tensor, labels: Tensor, progress: Progress
) -> dict[str, Any]:
    """The saliency of those images that the network answers rightly, and maps to compare it with."""
    with torch.no_grad():
        logits = torch.cat([trained.network(some) for some in images.split(64)])
    right = logits.argmax(1) == labels
    if not right.any():
        return {"images": 0}
    images, labels = images[right], labels[right]
    maps = {
        "network": network_maps(trained.network, images, labels),
        "random": random_maps(images),
        "edges": edge_maps(images),
    }
    networks = {"own": trained.network}
    if judge is not None:
        networks["judge"] = Resized(judge.network, judge.card.image_size).eval()
    found: dict[str, Any] = {"images": len(images)}
    for kind in progress.bar(maps, "maps", len(maps)):
        gaps = {
            f"{name}_gap_{fill}": _gap(network, images, labels, maps[kind], fill)
            for name, network in networks.items()
            for fill in FILLS
        }
        gini = smoot.gini_sparseness(maps[kind]).nanmean()
        found[kind] = gaps | {"gini": round(float(gini), 6)}
    return found


def _gap(network: nn.Module, images: Tensor, labels: Tensor, maps: Tensor, fill: str) -> float:
    """Insertion minus deletion area of the true class's probability, in [-1, 1]; about 0 for a random map."""
    settings: Mapping[str, Any] = {"fill": "mean"} if fill == "mean" else {"fill": "constant", "value": 0.0}
    deletion = smoot.deletion_curve(network, images, labels, maps, **settings)
    insertion = smoot.insertion_curve(network, images, labels, maps, **settings)
    return round(float(insertion.auc - deletion.auc), 6)


def _check_classes(trained: Trained, classes: tuple[str, ...], what: str) -> None:
    if classes != trained.card.classes:
        odd = ", ".join(sorted(set(classes) ^ set(trained.card.classes))[:5]) or "their order"
        raise ValueError(f"{what} has other classes than {trained.name} was trained on ({odd}): expected the same")
