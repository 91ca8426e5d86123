"""Judge: one reference classifier per data set. How well can it classify from the pixels that a map ranks highest?"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from workbench.config.run import DatasetConfig, JudgeConfig, ModelConfig, RunConfig
from workbench.data.sets import ImageData, split
from workbench.measuring.faithfulness import Measured, faithfulness_curves, named_fill
from workbench.training.erasing import erase
from workbench.training.inference import accuracy
from workbench.training.networks import fresh_network
from workbench.training.plain import Report, fit_plain

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
        backbone: its network, ``config.backbone`` resolved.
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


def judge_curves(judge: nn.Module, images: Tensor, labels: Tensor, saliency: Tensor, config: RunConfig) -> Measured:
    """Curves of the judge's accuracy while the most salient pixels of another network's maps are removed or shown.

    Formula:
        ``judge_gap = judge_insertion_auc - judge_deletion_auc``, areas under the judge's accuracy with pixels
        ranked by the explained network's map.

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

    Arguments as for :func:`workbench.measuring.faithfulness.faithfulness_curves`.

    Returns:
        Curves ``judge_deletion``, ``judge_insertion``, ``judge_random`` for each fill, and the areas ``judge_gap_F``,
        ``judge_deletion_auc_F``, ``judge_insertion_auc_F``, ``judge_random_auc_F``.
    """
    return faithfulness_curves(judge, images, labels, saliency, config, prefix="judge_")
