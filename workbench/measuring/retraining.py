"""DiffROAR: can a fresh network learn more from the most salient pixels than from the least salient ones?"""

from functools import partial
from itertools import product

import pandas as pd
import torch
from torch import Tensor, nn

from smoot.checks import check_between
from smoot.masking import lowest_saliency_mask
from workbench.config.run import ModelConfig, RetrainingConfig, RunConfig
from workbench.data.sets import ImageData, split
from workbench.measuring.attribution import attribution_map
from workbench.training.inference import accuracy, predict
from workbench.training.networks import fresh_network
from workbench.training.plain import Report, fit_plain


def diffroar(
    network: nn.Module,
    images: ImageData,
    config: RunConfig,
    retraining: RetrainingConfig,
    backbone: ModelConfig,
    *,
    report: Report | None = None,
) -> pd.DataFrame:
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
        One row per level: ``level``; ``top`` and ``bottom``, the test accuracies in [0, 1]; ``diffroar``, their
        difference. Initialisation and order depend on the seed alone: they are the same for top and bottom, every
        level and every method.

    Raises:
        ValueError: for more images than there are, or a backbone that does not fit.
        FloatingPointError: if a training diverges.
    """
    device = next(network.parameters()).device
    if retraining.test_images > len(images.test_labels):
        raise ValueError(
            f"retraining.test_images is {retraining.test_images}: expected at most {len(images.test_labels)}, "
            f"the test images of {images.name}"
        )
    part = split(
        images,
        train_images=retraining.train_images,
        validation_images=config.dataset.validation_images,
        seed=config.seed_for("subset"),
    )
    first = slice(retraining.test_images)
    size = config.evaluation.batch_size
    training, testing = part.train_images.to(device), images.test_images[first].to(device)
    labels, test_labels = part.train_labels.to(device), images.test_labels[first].to(device)
    maps, test_maps = (_maps(network, pixels, size) for pixels in (training, testing))
    accuracies: dict[str, list[float]] = {"top": [], "bottom": []}
    for done, (level, end) in enumerate(product(retraining.levels, accuracies), start=1):
        keep = partial(kept_pixels, level=level, most=end == "top", mean=config.dataset.mean)
        seed = config.seed_for("retraining initialisation")
        fresh = fresh_network(backbone, config.dataset, images, seed=seed, device=device)
        fit_plain(fresh, keep(training, maps), labels, retraining, seed=config.seed_for("retraining"))
        accuracies[end].append(accuracy(fresh, keep(testing, test_maps), test_labels, batch_size=size))
        if report:
            report(done)
    found = pd.DataFrame({"level": retraining.levels, **accuracies})
    return found.assign(diffroar=found["top"] - found["bottom"])


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


def _maps(network: nn.Module, images: Tensor, batch_size: int) -> Tensor:
    """Maps ``(N, H, W)`` of the predicted class, so that the true label cannot leak into what is kept."""
    predictions = predict(network, images, batch_size=batch_size).argmax(1)
    unused = torch.Generator(images.device)  # the gradient draws nothing
    return attribution_map("gradient", network, images, predictions, batch_size=batch_size, generator=unused)
