"""Made images in which the place of the evidence is known exactly: blocks, shortcut patches, mosaics of four.

Pure tensor functions. Random draws are whole numbers from the generator given, on the generator's own device, so
that one seed gives the same images on every machine.
"""

import torch
from torch import Generator, Tensor

from smoot.checks import check_between, check_count

TILES = 4
_CHANCES = 10**6  # probabilities are rounded to a millionth
_DRAWS = 2**27  # far above the number of images, so that ties and the bias of the remainder do not matter


def null_block(height: int, width: int) -> Tensor:
    """The block without information, ``(H, W)`` float32: the outline of a box, the same in every image.

    White (1) on black (0). The margin is a seventh of the shorter side, as around MNIST's digits; the line is a
    fourteenth thick, at least one pixel. For 28 pixels this is a box of 20 with lines of 2.
    """
    short = min(height, width)
    outer = short // 7
    inner = outer + max(1, short // 14)
    block = torch.zeros(height, width)
    block[outer : height - outer, outer : width - outer] = 1
    block[inner : height - inner, inner : width - inner] = 0
    return block


def block_images(images: Tensor, *, generator: Generator) -> tuple[Tensor, Tensor]:
    """Stack each image with a block without information, which lies above or below it with equal probability.

    The design is that of BlockMNIST, with `null_block` as the pattern. Saliency on the null block is wrong,
    whatever the label and the network.

    Args:
        images: ``(N, C, H, W)`` in [0, 1].
        generator: draws one place per image.

    Returns:
        The stacked images ``(N, C, 2H, W)`` and their regions ``(N, 2H, W)`` bool: the half that holds the image.

    Raises:
        ValueError: for images of another shape or not of floating point.

    Source:
        Shah, Jain, Netrapalli: Do input gradients highlight discriminative features? NeurIPS 2021,
        arXiv:2102.12781.
    """
    count, channels, height, width = image_dimensions(images)
    place = _integers(2, (count,), generator).to(images.device)
    blocks = null_block(height, width).to(images).expand(count, channels, 2, height, width).clone()
    blocks[torch.arange(count, device=images.device), :, place] = images
    own = torch.arange(2, device=images.device) == place[:, None]
    regions = own[:, :, None, None].expand(count, 2, height, width)
    return blocks.flatten(2, 3), regions.reshape(count, 2 * height, width)


def shortcut_places(num_classes: int, height: int, width: int) -> Tensor:
    """Where the patch of each class lies, ``(K, H, W)`` bool.

    Patches are squares; their side is a seventh of the image's shorter side, at least one pixel. In the order of
    the classes they fill the top border from the left, then the bottom border.

    Raises:
        ValueError: if the two borders hold fewer patches than there are classes.
    """
    side = max(1, min(height, width) // 7)
    columns = width // side
    places = columns * (2 if height >= 2 * side else 1)
    if not 1 <= num_classes <= places:
        raise ValueError(
            f"num_classes is {num_classes}: expected 1 to {places}, "
            f"the number of {side}x{side} patches on the top and bottom borders of {height}x{width} pixels"
        )
    number = torch.arange(num_classes)
    top = torch.where(number < columns, 0, height - side)
    left = number % columns * side
    rows, cells = torch.arange(height), torch.arange(width)
    in_rows = (rows >= top[:, None]) & (rows < top[:, None] + side)
    in_columns = (cells >= left[:, None]) & (cells < left[:, None] + side)
    return in_rows[:, :, None] & in_columns[:, None, :]


def shortcut_images(
    images: Tensor, labels: Tensor, num_classes: int, *, correlation: float, generator: Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Put a white patch on the border of each image, at a place that stands for a class.

    With probability ``correlation`` c the place is that of the label; otherwise it is drawn uniformly from the
    places of all K classes. So the patch shows the label with probability ``c + (1 - c) / K``, and with c = 0 it is
    independent of the label. The patch covers the pixels below it.

    Args:
        images: ``(N, C, H, W)`` in [0, 1].
        labels: ``(N,)`` int64 in 0 to K - 1.
        num_classes: K, at most the number of places (`shortcut_places`).
        correlation: in [0, 1], rounded to a millionth.
        generator: draws which class each patch shows.

    Returns:
        The images ``(N, C, H, W)``, their regions ``(N, H, W)`` bool (the patch), and the class that each patch
        shows, ``(N,)`` int64.

    Raises:
        ValueError: for a correlation outside [0, 1], too many classes, or images or labels that do not fit.

    Source:
        Shortcuts: Geirhos et al., Nature Machine Intelligence 2, 2020, arXiv:2004.07780.
    """
    count, _, height, width = image_dimensions(images)
    check_labels(labels, count, num_classes)
    check_between("correlation", correlation)
    places = shortcut_places(num_classes, height, width).to(images.device)
    own = _integers(_CHANCES, (count,), generator) < round(correlation * _CHANCES)
    other = _integers(num_classes, (count,), generator)
    shown = torch.where(own.to(labels.device), labels, other.to(labels.device))
    regions = places[shown.to(images.device)]
    return images.masked_fill(regions[:, None], 1), regions, shown


def mosaics(images: Tensor, labels: Tensor, *, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Grids of 2 x 2 images of four different classes, for the grid pointing game.

    For each mosaic four of the classes present are drawn in random order, then one image per class. An image may
    occur in several mosaics.

    Args:
        images: ``(N, C, H, W)``.
        labels: ``(N,)`` int64 of at least four different classes.
        count: M, the number of mosaics.
        generator: draws classes and images.

    Returns:
        The mosaics ``(M, C, 2H, 2W)`` and the labels of their tiles ``(M, 4)``, row by row as in `tile_regions`.

    Raises:
        ValueError: for fewer than four classes, a count below 1, or images and labels that do not fit.

    Source:
        Zhang et al., Top-down neural attention by excitation backprop, IJCV 126, 2018 (pointing game);
        Boehle, Fritz, Schiele, Convolutional dynamic alignment networks, CVPR 2021 (grids, as localisation).
    """
    total, channels, height, width = image_dimensions(images)
    check_labels(labels, total)
    check_count("count", count)
    index = _tile_index(labels.to(generator.device), count, generator).to(images.device)
    tiles = images[index].reshape(count, 2, 2, channels, height, width)
    grids = tiles.permute(0, 3, 1, 4, 2, 5).reshape(count, channels, 2 * height, 2 * width)
    return grids, labels[index.to(labels.device)]


def tile_regions(height: int, width: int) -> Tensor:
    """Where the tiles of a mosaic of H x W images lie, ``(4, 2H, 2W)`` bool, row by row."""
    corners = torch.eye(TILES, dtype=torch.bool).reshape(TILES, 2, 2)
    return corners.repeat_interleave(height, dim=1).repeat_interleave(width, dim=2)


def _tile_index(labels: Tensor, count: int, generator: Generator) -> Tensor:
    """Which images make the mosaics, ``(M, 4)``: four different classes, uniform within a class."""
    present, sizes = labels.unique(return_counts=True)
    if len(present) < TILES:
        raise ValueError(f"labels hold {len(present)} different classes: expected at least {TILES} for a mosaic")
    order = _integers(_DRAWS, (count, len(present)), generator).argsort(dim=1, stable=True)
    drawn = order[:, :TILES]
    within = _integers(_DRAWS, (count, TILES), generator) % sizes[drawn]
    starts = sizes.cumsum(0) - sizes
    return labels.argsort(stable=True)[starts[drawn] + within]


def _integers(below: int, shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Uniform whole numbers from 0 to ``below`` - 1, on the generator's device."""
    return torch.randint(below, shape, generator=generator, device=generator.device)


def image_dimensions(images: Tensor) -> tuple[int, int, int, int]:
    """N, C, H and W of floating-point images.

    Raises:
        ValueError: for any other tensor.
    """
    if images.ndim != 4 or images.numel() == 0:
        raise ValueError(f"images have the shape {tuple(images.shape)}: expected (N, C, H, W), at least one pixel")
    if not images.is_floating_point():
        raise ValueError(f"images are {images.dtype}: expected floating point, such as images.float() / 255")
    count, channels, height, width = images.shape
    return count, channels, height, width


def check_labels(labels: Tensor, count: int, num_classes: int | None = None) -> None:
    """Refuse anything but ``(count,)`` int64 labels, each in 0 to ``num_classes`` - 1.

    Raises:
        ValueError: names what was found and what is expected.
    """
    if labels.shape != (count,) or labels.dtype != torch.int64:
        raise ValueError(f"labels are {labels.dtype} {tuple(labels.shape)}: expected torch.int64 ({count},)")
    if num_classes is not None and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        found = f"{int(labels.min())} to {int(labels.max())}"
        raise ValueError(f"labels go from {found}: expected 0 to {num_classes - 1} for {num_classes} classes")
