"""The judge: one fixed network a data set that says how much a map's pixels hold, apart from the network explained."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from workbench.config.protocol import JudgeConfig
from workbench.config.run import DatasetConfig, ModelConfig
from workbench.data.sets import ImageData, split
from workbench.measuring.faithfulness import CurveSettings, Faithfulness, faithfulness, named_fill
from workbench.training.answers import accuracy
from workbench.training.erasing import erase
from workbench.training.models import create_backbone
from workbench.training.plain import fit_plain
from workbench.training.randomness import seeded

SCHEMA = 1
FORWARD = 500  # images of one forward when the judge's own accuracy is measured


def train_judge(
    config: JudgeConfig,
    dataset: DatasetConfig,
    backbone: ModelConfig,
    images: ImageData,
    *,
    fills: Sequence[str],
    device: torch.device,
    report: Callable[[int, float], None] | None = None,
) -> tuple[nn.Module, dict[str, Any]]:
    """Trains a judge plainly by cross-entropy on erased images (Zhong et al. 2020).

    It has its own seed, split, order and draws: nothing of any compared run.

    Args:
        config: its training.
        dataset: mean and standard deviation of the pixels; its numbers of images are those of the runs and not used.
        backbone: the network, ``config.backbone`` resolved.
        images: the data set; validation images come from its training part.
        fills: names ``mean``, ``black``, ``noise``: what stands in erased pixels, as in the curves to be judged.
        device: where it is trained.
        report: called as ``report(epoch, mean loss)``.

    Returns:
        The judge in eval mode, and its facts: schema, dataset, backbone, train_images, epochs, seed, accuracy on
        the clean test split and on the validation images (in [0, 1]), and config.

    Raises:
        ValueError: for more images than there are, or a backbone that does not fit.
        FloatingPointError: if the training diverges.
    """
    part = split(images, train_images=config.train_images, validation_images=config.validation_images, seed=config.seed)
    shape = part.train_images.shape[1:]
    with seeded(config.seed, torch.device("cpu")):
        network = create_backbone(
            backbone, dataset, image_shape=(shape[0], shape[1], shape[2]), num_classes=images.num_classes
        )
    network = network.to(device)
    stand_ins = [named_fill(name, dataset) for name in fills]

    def change(batch: Tensor, draws: torch.Generator) -> Tensor:
        return erase(batch, probability=config.erase_probability, fills=stand_ins, generator=draws)

    train_images, train_labels = part.train_images.to(device), part.train_labels.to(device)
    fit_plain(network, train_images, train_labels, config, seed=config.seed, change=change, report=report)
    tests = {
        "accuracy": (images.test_images, images.test_labels),
        "validation_accuracy": (part.validation_images, part.validation_labels),
    }
    facts: dict[str, Any] = {
        "schema": SCHEMA,
        "dataset": dataset.name,
        "backbone": backbone.name,
        "train_images": len(train_labels),
        "epochs": config.epochs,
        "seed": config.seed,
        "config": asdict(config) | {"fills": list(fills), "mean": list(dataset.mean), "std": list(dataset.std)},
    }
    for name, (pixels, labels) in tests.items():
        facts[name] = accuracy(network, pixels.to(device), labels.to(device), batch_size=FORWARD)
    return network, facts


def judge_curves(
    judge: nn.Module, images: Tensor, labels: Tensor, saliency: Tensor, settings: CurveSettings
) -> Faithfulness:
    """Curves of the judge's accuracy while the most salient pixels of another network's maps are removed or shown.

    Formula:
        ``judge_gap = judge_insertion_auc - judge_deletion_auc``, areas under the share of images that the judge answers
        rightly, with pixels ranked by the explained network's map.

    Range:
        areas in [0, 1], the gap in [-1, 1]; about 0 for a random map.

    Better:
        higher gap, higher insertion, lower deletion.

    Source:
        this workbench; the curves are those of Petsiuk et al., BMVC 2018, the judge takes the place of the explained
        network so that every method's maps meet the same one. Its erased training images follow Zhong et al., AAAI
        2020, and keep filled images from being unlike anything it has seen (Hooker et al., NeurIPS 2019).

    Fails when:
        the judge is weak, or uses other evidence than the networks explained: it asks whether a map shows what
        identifies the class, not whether it shows what the network used. On data with a shortcut a faithful map of a
        network that relies on it scores badly.

    Args:
        judge: see :func:`train_judge`; run in eval mode.
        images: ``(N, C, H, W)`` in [0, 1].
        labels: ``(N,)`` int64, the true classes.
        saliency: ``(N, H, W)``, maps of the network that is explained.
        settings: shares, fills, batch size and seed, those of the network's own curves.

    Returns:
        Curves ``judge_deletion``, ``judge_insertion``, ``judge_random`` for each fill, and the areas ``judge_gap_F``,
        ``judge_deletion_auc_F``, ``judge_insertion_auc_F``, ``judge_random_auc_F``.
    """
    measured = faithfulness(judge, images, labels, saliency, settings)
    curves = {fill: {f"judge_{kind}": scores for kind, scores in of.items()} for fill, of in measured.curves.items()}
    return Faithfulness(curves, {f"judge_{name}": area for name, area in measured.areas.items()})
