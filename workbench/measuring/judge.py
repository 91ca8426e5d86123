"""Judges: reference classifiers of a data set. How well do they classify from the pixels that a map ranks highest?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from workbench.config.run import DatasetConfig, JudgeConfig, ModelConfig, RunConfig
from workbench.data.sets import ImageData, split
from workbench.measuring.faithfulness import CURVES, Curves, faithfulness_curves, named_fill
from workbench.training.erasing import erase
from workbench.training.inference import accuracy
from workbench.training.networks import fresh_network
from workbench.training.plain import Report, fit_plain

JUDGES = ("judge", "second_judge")  # what metrics call them
TEST_BATCH = 500  # images of one forward when the judge's own accuracy is measured


@dataclass(frozen=True, eq=False)
class TrainedJudge:
    """A judge in eval mode, and how accurate it is.

    Attributes:
        network: maps pixels in [0, 1] to logits.
        accuracy: on the unchanged test split, in [0, 1].
        validation_accuracy: on its validation images, in [0, 1].
    """

    network: nn.Module
    accuracy: float
    validation_accuracy: float


def train_judge(
    config: JudgeConfig,
    dataset: DatasetConfig,
    backbone: ModelConfig,
    images: ImageData,
    *,
    fills: Sequence[str],
    device: torch.device,
    report: Report | None = None,
) -> TrainedJudge:
    """Train a judge by cross-entropy on randomly erased images (Zhong et al. 2020).

    It has its own seed, split, order and draws and shares nothing with the compared runs.

    Args:
        config: its training.
        dataset: mean and standard deviation of the pixels; the runs' numbers of images are not used.
        backbone: its network, ``config.backbone`` or ``config.second`` resolved.
        images: the data set; validation images come from its training part.
        fills: ``mean``, ``black``, ``noise``: what replaces erased pixels, as in the curves to be judged.
        device: where it is trained.
        report: called as ``report(epoch, loss=mean loss in nats)`` after every epoch.

    Raises:
        ValueError: for more images than there are, or a backbone that does not fit.
        FloatingPointError: if the training diverges.
    """
    part = split(images, train_images=config.train_images, validation_images=config.validation_images, seed=config.seed)
    network = fresh_network(backbone, dataset, images, seed=config.seed, device=device)
    named_fills = [named_fill(name, dataset) for name in fills]

    def erased(batch: Tensor, draws: torch.Generator) -> Tensor:
        return erase(batch, probability=config.erase_probability, fills=named_fills, generator=draws)

    training = part.train_images.to(device), part.train_labels.to(device)
    fit_plain(network, *training, config, seed=config.seed, transform=erased, report=report)
    tests = (images.test_images, images.test_labels), (part.validation_images, part.validation_labels)
    accuracies = [
        accuracy(network, pixels.to(device), labels.to(device), batch_size=TEST_BATCH) for pixels, labels in tests
    ]
    return TrainedJudge(network, *accuracies)


def judge_curves(
    judge: nn.Module, images: Tensor, labels: Tensor, answers: Tensor, maps: Sequence[Tensor], config: RunConfig
) -> list[Curves]:
    """Curves of the judge's accuracy while the most salient pixels of another network's maps are removed or shown.

    Only on images that the explained network answers rightly: maps explain its answer, but the judge is asked for the
    true class. After a wrong answer a faithful map shows evidence for another class.

    Formula:
        ``judge_gap_right = insertion_auc - deletion_auc``, areas under the judge's accuracy with pixels ranked by the
        explained network's map.

    Range:
        [-1, 1]; about 0 for a random map.

    Better:
        higher.

    Source:
        this workbench; the curves are those of Petsiuk et al., BMVC 2018, the judge takes the place of the explained
        network so that every method's maps meet the same one. Its erased training images follow Zhong et al., AAAI
        2020, and keep filled images from being unlike anything it has seen (Hooker et al., NeurIPS 2019).

    Fails when:
        the judge is weak, or uses other evidence than the networks explained: it asks whether a map shows what
        identifies the class, not whether it shows what the network used. A second judge of another architecture tells
        whether the judge's own taste decides. On data with a shortcut a faithful map of a network that relies on it
        scores badly. A more accurate network adds harder images.

    Args:
        judge: maps pixels to logits; run in eval mode.
        images, labels, maps, config: as for :func:`workbench.measuring.faithfulness.faithfulness_curves`.
        answers: ``(N,)`` int64, the explained network's.

    Returns:
        The curves of each of the maps; NaN without a right answer.
    """
    right = answers == labels
    if not right.any():
        undefined = dict.fromkeys(CURVES, [math.nan] * (config.evaluation.curve_steps + 1))
        return [dict.fromkeys(config.evaluation.fills, undefined) for _ in maps]
    return faithfulness_curves(judge, images[right], labels[right], [saliency[right] for saliency in maps], config)
