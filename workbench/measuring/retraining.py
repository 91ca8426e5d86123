"""DiffROAR: do the most salient pixels hold more of what a fresh network can learn than the least salient ones?"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from smoot.checks import check_between
from smoot.masking import lowest_saliency_mask
from smoot.saliency import input_gradient, saliency_map
from workbench.config.protocol import RetrainingConfig
from workbench.config.run import ModelConfig, RunConfig
from workbench.data.sets import ImageData, split
from workbench.training.answers import accuracy, answers
from workbench.training.models import create_backbone
from workbench.training.plain import fit_plain
from workbench.training.randomness import seeded


@dataclass(frozen=True)
class DiffRoar:
    """Test accuracies of the networks trained on kept pixels, in [0, 1], one an entry of ``levels``.

    Attributes:
        levels: shares of pixels that were kept.
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
    """Images with labels and the saliency of the explained network's answers."""

    images: Tensor
    labels: Tensor
    saliency: Tensor


def diffroar(
    network: nn.Module,
    images: ImageData,
    config: RunConfig,
    retraining: RetrainingConfig,
    backbone: ModelConfig,
    *,
    report: Callable[[int], None] | None = None,
) -> DiffRoar:
    """Trains fresh networks on the most, and on the least, salient pixels alone.

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
        network: explained; its saliency is the magnitude of the input gradient of the answer's log-odds.
        images: the data set. Training images are the run's own, or more or fewer of the same permutation; test
            images are the first ones.
        config: the run of the explained network: seed, data statistics, batch size.
        retraining: levels, numbers of images, and the training.
        backbone: what is trained, ``retraining.backbone`` resolved.
        report: called with the number of networks trained so far.

    Returns:
        :class:`DiffRoar`. Initialisation and order depend on the seed alone: they are the same for top, bottom,
        every level and every method.

    Raises:
        ValueError: for more images than there are, or a backbone that does not fit.
        FloatingPointError: if a training diverges.
    """
    device = next(network.parameters()).device
    chosen = split(
        images,
        train_images=retraining.train_images,
        validation_images=config.dataset.validation_images,
        seed=config.stream("subset"),
    )
    first = slice(retraining.test_images)
    size = config.evaluation.batch_size
    training = _explained(network, chosen.train_images.to(device), chosen.train_labels.to(device), size)
    testing = _explained(network, images.test_images[first].to(device), images.test_labels[first].to(device), size)
    found: dict[bool, list[float]] = {True: [], False: []}
    for level in retraining.levels:
        for most, accuracies in found.items():
            parts = [_kept(part, level, config, most=most) for part in (training, testing)]
            fresh = _fresh(config, backbone, images, device)
            fit_plain(fresh, *parts[0], retraining, seed=config.stream("retraining"))
            accuracies.append(accuracy(fresh, *parts[1], batch_size=size))
            if report:
                report(len(found[True]) + len(found[False]))
    return DiffRoar(retraining.levels, tuple(found[True]), tuple(found[False]))


def kept_pixels(images: Tensor, saliency: Tensor, level: float, *, most: bool, mean: tuple[float, ...]) -> Tensor:
    """Images of which only the most (or least) salient pixels are left.

    Args:
        images: ``(N, C, H, W)`` in [0, 1].
        saliency: ``(N, H, W)``.
        level: share of pixels that is kept, in [0, 1]: exactly ``floor(level * P + 0.5)``; ties by pixel index.
        most: whether the most salient ones are kept.
        mean: of each of the C channels, what stands in all other pixels.

    Returns:
        ``(N, C, H, W)``.

    Raises:
        ValueError: for a level outside [0, 1].
    """
    check_between("level", level)
    kept = lowest_saliency_mask(-saliency if most else saliency, level)
    return torch.where(kept.unsqueeze(1), images, images.new_tensor(mean).view(1, -1, 1, 1))


def _explained(network: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> _Part:
    """Saliency of the predicted class: the label must not show in what is kept."""
    predictions = answers(network, images, batch_size=batch_size).argmax(1)
    parts = zip(images.split(batch_size), predictions.split(batch_size), strict=True)
    return _Part(images, labels, torch.cat([saliency_map(input_gradient(network, *part)) for part in parts]))


def _kept(part: _Part, level: float, config: RunConfig, *, most: bool) -> tuple[Tensor, Tensor]:
    images = kept_pixels(part.images, part.saliency, level, most=most, mean=config.dataset.mean)
    return images, part.labels


def _fresh(config: RunConfig, backbone: ModelConfig, images: ImageData, device: torch.device) -> nn.Module:
    """A network to be trained, always the same for one seed."""
    shape = images.test_images.shape[1:]
    with seeded(config.stream("retraining initialisation"), torch.device("cpu")):
        network = create_backbone(
            backbone, config.dataset, image_shape=(shape[0], shape[1], shape[2]), num_classes=images.num_classes
        )
    return network.to(device)
