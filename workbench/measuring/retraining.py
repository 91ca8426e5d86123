"""DiffROAR: can a fresh network learn more from the most salient pixels than from the least salient ones?"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from smoot.checks import check_between
from smoot.masking import lowest_saliency_mask
from smoot.saliency import input_gradient, saliency_map
from workbench.config.run import ModelConfig, RetrainingConfig, RunConfig
from workbench.data.sets import ImageData, split
from workbench.training.inference import accuracy, predict
from workbench.training.networks import create_backbone, load_network, pick_device
from workbench.training.plain import Report, fit_plain
from workbench.training.randomness import seeded


@dataclass(frozen=True)
class DiffRoar:
    """Test accuracies of the networks trained on kept pixels, in [0, 1], one per level.

    Attributes:
        levels: fractions of pixels that were kept.
        top: accuracy on the most salient pixels.
        bottom: accuracy on the least salient pixels.
    """

    levels: tuple[float, ...]
    top: tuple[float, ...]
    bottom: tuple[float, ...]

    @property
    def diffroar(self) -> tuple[float, ...]:
        """Top minus bottom, in [-1, 1]."""
        return tuple(top - bottom for top, bottom in zip(self.top, self.bottom, strict=True))


@dataclass(frozen=True, eq=False)
class _Part:
    """Images ``(N, C, H, W)``, labels ``(N,)``, and maps ``(N, H, W)`` of the explained network's predictions."""

    images: Tensor
    labels: Tensor
    saliency: Tensor


def retrain_run(
    config: RunConfig,
    images: ImageData,
    weights: Path,
    retraining: RetrainingConfig,
    backbone: ModelConfig,
    report: Report | None = None,
) -> DiffRoar:
    """Load a trained network and measure its maps by :func:`diffroar`.

    Args:
        config: the run.
        images: the whole data set.
        weights: of the run's network.
        retraining, backbone, report: as for :func:`diffroar`.

    Raises:
        FileNotFoundError: if the weights are missing.
        RuntimeError: if they do not fit the run's network.
        ValueError, FloatingPointError: as :func:`diffroar`.
    """
    network = load_network(config.backbone, config.dataset, images, weights, pick_device(config.training.device))
    return diffroar(network, images, config, retraining, backbone, report=report)


def diffroar(
    network: nn.Module,
    images: ImageData,
    config: RunConfig,
    retraining: RetrainingConfig,
    backbone: ModelConfig,
    *,
    report: Report | None = None,
) -> DiffRoar:
    """Train fresh networks on the most salient pixels alone, and on the least salient ones alone.

    Formula:
        for each level: ``accuracy(top) - accuracy(bottom)``, the accuracy of a network trained on images of which
        only the given share of most (least) salient pixels is kept, all others replaced by the data's mean, and
        tested on test images reduced in the same way.

    Range:
        [-1, 1]; about 0 for a random map.

    Better:
        higher.

    Source:
        Shah, Jain, Netrapalli, NeurIPS 2021 (DiffROAR); after ROAR by Hooker et al., NeurIPS 2019.

    Fails when:
        the shape of the kept set tells the class by itself (the map draws the object's outline, and the mask is read
        as an image); maps are those of the predicted class, so that at least the label does not leak. It measures
        what pixels hold for a network that may learn anew, not what the explained network used; and the training
        images' maps are those of images that the explained network was trained on.

    Args:
        network: explained; its saliency is the magnitude of the input gradient of the predicted class's log-odds.
        images: the data set. Training images are the run's own, or more or fewer of the same permutation; test
            images are the first ones.
        config: the run of the explained network: seed, data statistics, batch size.
        retraining: levels, numbers of images, and the training.
        backbone: what is trained, ``retraining.backbone`` resolved.
        report: called as ``report(number of networks trained so far)``.

    Returns:
        :class:`DiffRoar`. Initialisation and order depend on the seed alone: they are the same for top and bottom,
        every level and every method.

    Raises:
        ValueError: for more images than there are, or a backbone that does not fit.
        FloatingPointError: if a training diverges.
    """
    device = next(network.parameters()).device
    part = split(
        images,
        train_images=retraining.train_images,
        validation_images=config.dataset.validation_images,
        seed=config.seed_for("subset"),
    )
    first = slice(retraining.test_images)
    size = config.evaluation.batch_size
    training = _explained(network, part.train_images.to(device), part.train_labels.to(device), size)
    testing = _explained(network, images.test_images[first].to(device), images.test_labels[first].to(device), size)
    top: list[float] = []
    bottom: list[float] = []
    for level in retraining.levels:
        for most, accuracies in ((True, top), (False, bottom)):
            train_part, test_part = (_kept(part, level, config, most=most) for part in (training, testing))
            fresh = _fresh_network(config, backbone, images, device)
            fit_plain(fresh, *train_part, retraining, seed=config.seed_for("retraining"))
            accuracies.append(accuracy(fresh, *test_part, batch_size=size))
            if report:
                report(len(top) + len(bottom))
    return DiffRoar(retraining.levels, tuple(top), tuple(bottom))


def kept_pixels(images: Tensor, saliency: Tensor, level: float, *, most: bool, mean: tuple[float, ...]) -> Tensor:
    """Images of which only the most (or least) salient pixels are left.

    Args:
        images: ``(N, C, H, W)`` in [0, 1].
        saliency: ``(N, H, W)``.
        level: fraction of the P pixels that is kept, in [0, 1]: exactly ``floor(level * P + 0.5)``; ties by index.
        most: whether the most salient ones are kept.
        mean: what replaces all other pixels, one value per channel.

    Returns:
        ``(N, C, H, W)``.

    Raises:
        ValueError: for a level outside [0, 1].
    """
    check_between("level", level)
    kept = lowest_saliency_mask(-saliency if most else saliency, level)
    return torch.where(kept.unsqueeze(1), images, images.new_tensor(mean).view(1, -1, 1, 1))


def _explained(network: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> _Part:
    """Maps of the predicted class, so that the true label cannot leak into what is kept."""
    predictions = predict(network, images, batch_size=batch_size).argmax(1)
    parts = zip(images.split(batch_size), predictions.split(batch_size), strict=True)
    return _Part(images, labels, torch.cat([saliency_map(input_gradient(network, *part)) for part in parts]))


def _kept(part: _Part, level: float, config: RunConfig, *, most: bool) -> tuple[Tensor, Tensor]:
    images = kept_pixels(part.images, part.saliency, level, most=most, mean=config.dataset.mean)
    return images, part.labels


def _fresh_network(config: RunConfig, backbone: ModelConfig, images: ImageData, device: torch.device) -> nn.Module:
    """An untrained network, always the same for one seed."""
    shape = images.test_images.shape[1:]
    with seeded(config.seed_for("retraining initialisation"), torch.device("cpu")):
        network = create_backbone(backbone, config.dataset, image_shape=shape, num_classes=images.num_classes)
    return network.to(device)
