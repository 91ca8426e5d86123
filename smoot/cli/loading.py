"""Batches of images that are decoded and resized on the fly, by worker processes: few are in memory at a time."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler
from torchvision.transforms import v2

from smoot.cli import ranks
from smoot.cli.decoding import read_image
from smoot.cli.folders import Images

SMALLEST_CROP = 0.5  # of an image's area, in training
NOT_DRAWN = -1  # in place of an image's seed: no augmentation
SAMPLE = 256  # images from which size, mean and standard deviation are measured
LARGEST_SIDE, STEP = 224, 32  # of the image size that is chosen, in pixels


class Batch(NamedTuple):
    """Images ``(N, 3, S, S)`` in [0, 1], labels ``(N,)`` int64, and what was said of files that could not be read."""

    images: Tensor
    labels: Tensor
    broken: list[str]


@dataclass(frozen=True)
class Reading:
    """How images are read.

    Attributes:
        size: sides of the square that each image is resized and cropped to, in pixels.
        device: where batches are put.
        batch_size: images in a batch, of all ranks together.
        workers: processes that decode; 0: this one.
        flip: whether training images are mirrored at random.
        skip_broken: whether files that cannot be decoded are left out; otherwise the first one is an error.
    """

    size: int
    device: torch.device
    batch_size: int = 64
    workers: int = 0
    flip: bool = True
    skip_broken: bool = False


@dataclass
class Loader:
    """Batches of some images, and how long the reader of the batches waited for them.

    Of several ranks each gets its share of every batch, and all must read the same batches.

    Attributes:
        images: what is read.
        reading: how.
        seed: of order and augmentation, which are the same whatever the number of workers; None: in order, without.
        waited: seconds so far.
        weight: of the last batch's gradient, so that the mean over the ranks is that over all images: 1 where all
            ranks have as many images, and where nothing is shared.
        broken: what was said of each skipped file, by its message.
    """

    images: Images
    reading: Reading
    seed: int | None = None
    waited: float = 0.0
    weight: float = 1.0
    broken: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        training = self.seed is not None
        whole = training and len(self.images) >= self.reading.batch_size
        self._order = Order(len(self.images), self.seed)
        batches: Any = BatchSampler(self._order, self.reading.batch_size, whole)  # type: ignore[arg-type] # of any items
        self._loader = DataLoader(
            Decoded(self.images, transform(self.reading.size, training=training, flip=self.reading.flip)),
            batch_sampler=ranks.Shares(batches),
            num_workers=self.reading.workers,
            collate_fn=partial(collate, size=self.reading.size),
            pin_memory=self.reading.device.type == "cuda",
            persistent_workers=training and self.reading.workers > 0,
        )

    def __len__(self) -> int:
        return len(self._loader)

    def batches(self, epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels on the device; a batch of which nothing could be read, on any rank, is left out.

        Raises:
            ValueError: for a file that cannot be decoded, unless such files are skipped.
        """
        self._order.epoch = epoch
        batches = iter(self._loader)
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            if batch is not None:
                images, labels = (tensor.to(self.reading.device, non_blocking=True) for tensor in batch[:2])
            self.waited += time.perf_counter() - started
            if batch is None:
                return
            counts, broken = zip(*ranks.gathered((len(images), batch[2])), strict=True)
            self._note([message for messages in broken for message in messages])
            if sum(counts):
                self.weight = len(images) * len(counts) / sum(counts)
                yield images, labels

    def _note(self, broken: list[str]) -> None:
        if broken and not self.reading.skip_broken:
            more = f" ({len(broken)} such files in this batch)" if len(broken) > 1 else ""
            raise ValueError(f"{broken[0]}{more}; mend or remove it, or leave out all such files with --skip-broken")
        self.broken |= dict.fromkeys(broken)


class Order(Sampler[tuple[int, int]]):
    """Numbers of images, each with the seed of its augmentation; shuffled by seed and ``epoch``."""

    def __init__(self, count: int, seed: int | None) -> None:
        self.count, self.seed, self.epoch = count, seed, 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        if self.seed is None:
            return iter((index, NOT_DRAWN) for index in range(self.count))
        draws = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.count, generator=draws)
        seeds = torch.randint(2**62, (self.count,), generator=draws)
        return zip(order.tolist(), seeds.tolist(), strict=True)


class Decoded(Dataset[tuple[Tensor, int] | str]):
    """Images decoded and transformed; in place of one that cannot be, what is wrong with it."""

    def __init__(self, images: Images, change: v2.Compose) -> None:
        self.images, self.change = images, change

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int] | str:
        index, seed = key
        try:
            pixels = read_image(self.images.path(index))
        except ValueError as error:
            return str(error)
        with torch.random.fork_rng(devices=[], enabled=seed != NOT_DRAWN):
            if seed != NOT_DRAWN:
                torch.default_generator.manual_seed(seed)
            return self.change(pixels), int(self.images.labels[index])


def collate(items: list[tuple[Tensor, int] | str], size: int) -> Batch:
    """A batch of those images that could be read."""
    read = [item for item in items if not isinstance(item, str)]
    pixels = torch.stack([image for image, _ in read]) if read else torch.empty(0, 3, size, size)
    broken = [item for item in items if isinstance(item, str)]
    return Batch(pixels, torch.tensor([label for _, label in read], dtype=torch.long), broken)


def transform(size: int, *, training: bool = False, flip: bool = True) -> v2.Compose:
    """From ``(3, H, W)`` bytes to ``(3, size, size)`` in [0, 1].

    In training a random part of the image, of at least half its area, mirrored in half the cases; otherwise the
    shorter side becomes ``size`` and the centre is kept.
    """
    if training:
        crop = [v2.RandomResizedCrop(size, (SMALLEST_CROP, 1.0), antialias=True)]
        crop += [v2.RandomHorizontalFlip()] if flip else []
    else:
        crop = [v2.Resize(size, antialias=True), v2.CenterCrop(size)]
    return v2.Compose([*crop, v2.ToDtype(torch.float32, scale=True)])


@dataclass(frozen=True)
class Sample:
    """What is measured on a sample of the images: a size in pixels, and mean and standard deviation per channel."""

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def measure_sample(images: Images, seed: int, *, skip_broken: bool) -> Sample:
    """Measure :data:`SAMPLE` of the images; every image has the same weight, whatever its size.

    The size is the median of the shorter sides, rounded down to a multiple of 32 within [32, 224].

    Raises:
        ValueError: if none can be decoded, or one cannot and such files are not skipped.
    """
    sides, moments = [], []
    for index in range(len(sampled := images.some(SAMPLE, seed))):
        try:
            pixels = read_image(sampled.path(index))
        except ValueError as error:
            if not skip_broken:
                raise ValueError(
                    f"{error}; mend or remove it, or leave out all such files with --skip-broken"
                ) from None
            continue
        values = pixels.flatten(1).float() / 255
        sides.append(min(pixels.shape[1:]))
        moments.append(torch.stack([values.mean(1), values.square().mean(1)]))
    if not sides:
        raise ValueError(f"none of {len(sampled)} images could be decoded: expected a folder of images")
    mean, square = torch.stack(moments).mean(0)
    std = (square - mean.square()).clamp(min=1e-4).sqrt()  # of images of one colour: 0.01
    median = sorted(sides)[len(sides) // 2]
    size = min(LARGEST_SIDE, max(STEP, median // STEP * STEP))
    return Sample(size, tuple(round(x, 4) for x in mean.tolist()), tuple(round(x, 4) for x in std.tolist()))
