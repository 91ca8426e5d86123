"""Views of the committed networks: two methods beside each other, masks of any size, and what the gap asks for."""

import torch
from IPython.display import Image
from torch import Tensor, nn

import smoot
from workbench.exploring.committed import load_committed, own_image, sample_images, titles
from workbench.exploring.pictures import overlaid, row
from workbench.reporting.words import class_name


def compare(setting: str, first: str, second: str, image: int) -> Image:
    """A test image, the saliency of two methods' answers over it, and a random map for scale."""
    images, labels = sample_images(setting)
    name = class_name(setting.split("-", maxsplit=1)[0], int(labels[image]))
    return _compared(setting, (first, second), images[image : image + 1], f"test image {image}: {name}")


def compare_own(setting: str, first: str, second: str, file: str) -> Image:
    """The same for an image of one's own, which is made grey, cropped and shrunk to the networks' size."""
    return _compared(setting, (first, second), own_image(file, setting), "your image")


def masked(setting: str, method: str, image: int, pixels: float, ranking: str, fill: str) -> Image:
    """What a network answers when a share of the pixels is masked.

    Args:
        setting, method, image: of which network and test image.
        pixels: share of the pixels that is masked, in [0, 1].
        ranking: ``least salient first``, ``most salient first`` or ``at random``.
        fill: what replaces them, see :func:`smoot.fill_masked`.
    """
    network = load_committed(setting, method)
    images, labels = (tensor[image : image + 1] for tensor in sample_images(setting))
    saliency = smoot.saliency_map(smoot.input_gradient(network, images, labels), reduction="signed_mean")
    draws = torch.Generator().manual_seed(0)
    chance = torch.rand(saliency.shape, generator=draws)
    order = {"least salient first": saliency, "most salient first": -saliency, "at random": chance}[ranking]
    mask = smoot.lowest_saliency_mask(order, pixels)
    filled = smoot.fill_masked(images, mask, fill=fill, generator=draws)  # type: ignore[arg-type]
    return row(
        (f"image\n{answered(network, images, setting)}", images[0]),
        ("signed saliency\nof the true class", saliency[0]),
        (f"mask: {mask.sum()} of {mask[0].numel()} pixels", mask[0]),
        (f"masked image\n{answered(network, filled, setting)}", filled[0]),
    )


def drawn(setting: str, training_loss: float, held_out_loss: float, pixels: float) -> Image:
    """Which of ten images are masked in a step, once the gap of two cross-entropies says how many.

    Args:
        setting: of the images.
        training_loss, held_out_loss: in nats.
        pixels: share of the pixels that is masked in each of them, in [0, 1].
    """
    network = load_committed(setting, "plain")
    images, labels = sample_images(setting)
    schedule = smoot.GapSchedule(smoot.MaskPlan(mask_fraction=pixels))
    share = schedule.measure(training_loss, held_out_loss)
    count = schedule.plan.num_images(len(images))
    chosen = set(torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:count].tolist())
    saliency = smoot.saliency_map(smoot.input_gradient(network, images, labels), reduction="signed_mean")
    filled = smoot.fill_masked(images, smoot.lowest_saliency_mask(saliency, pixels), fill="mean")
    shown = [
        ("masked" if index in chosen else "", (filled if index in chosen else images)[index]) for index in range(10)
    ]
    return row((f"{100 * share:.0f} %: {count} of 10\n{shown[0][0]}", shown[0][1]), *shown[1:])


def answered(network: nn.Module, images: Tensor, setting: str) -> str:
    """The class that a network answers one image with, and its probability."""
    with torch.no_grad():
        probability, label = network(images).softmax(1)[0].max(0)
    return f"{class_name(setting.split('-', maxsplit=1)[0], int(label))} ({100 * probability:.0f} %)"


def _compared(setting: str, methods: tuple[str, str], images: Tensor, title: str) -> Image:
    panels = [(title, images[0])]
    names = {method: title for title, method in titles().items()}
    for method in methods:
        network = load_committed(setting, method)
        with torch.no_grad():
            answer = network(images).argmax(1)
        saliency = smoot.saliency_map(smoot.input_gradient(network, images, answer))
        gini = smoot.gini_sparseness(saliency).item()
        name = f"{names[method]}: {answered(network, images, setting)}\nGini {gini:.2f}"
        panels.append((name, overlaid(images[0], saliency[0])))
    chance = torch.randn(images.shape[2:], generator=torch.Generator().manual_seed(0)).abs()
    return row(*panels, ("random map", overlaid(images[0], chance)))
