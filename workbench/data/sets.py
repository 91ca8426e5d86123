"""Data sets as tensors: fetched, verified, checked, split.

``python -m workbench.data.sets fetch NAME...`` brings the files to data/raw, and
``python -m workbench.data.sets manifest NAME --profile P`` writes down what was brought.
What each set is stands in ``data/datasets.yaml``.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.config import paths
from workbench.data.catalogue import DataSet, describe, known
from workbench.data.formats import (
    Files,
    ImageData,
    check_images,
    class_names,
    derived_data,
    digits_data,
    folder_data,
    folder_root,
    idx_data,
)
from workbench.data.sources import DataUnavailable, FetchReport, is_complete, obtain, shown

__all__ = [
    "DataUnavailable",
    "FetchReport",
    "ImageData",
    "Split",
    "check_images",
    "development",
    "fetch",
    "known",
    "load",
    "load_once",
    "split",
    "write_manifest",
]


@dataclass(frozen=True, eq=False)
class Split:
    """Disjoint draws from a training part, and where in it they were."""

    train_images: Tensor
    train_labels: Tensor
    validation_images: Tensor
    validation_labels: Tensor
    train_index: Tensor
    validation_index: Tensor
    development_index: Tensor


def fetch(name: str, *, raw: Path | None = None) -> FetchReport:
    """Make sure that a set's files lie verified in data/raw, and print which source served them.

    For a derived set these are the files of the set that it is made from.

    Args:
        name: a set of ``data/datasets.yaml``.
        raw: the folder to use instead of data/raw.

    Raises:
        ValueError: if there is no such set.
        DataUnavailable: if it cannot be had; the message lists every source with its reason.
    """
    dataset = describe(name)
    if dataset.kind == "idx":
        return obtain(dataset, raw or paths.RAW)
    if dataset.derived:
        report = replace(fetch(dataset.source, raw=raw), name=name)
        print(f"{name}: made from {dataset.source} whenever it is loaded")
        return report
    if dataset.kind == "scikit_learn":
        digits_data(dataset)
        report = FetchReport(name, paths.RAW, tuple((file, "scikit-learn") for file in dataset.files))
    else:
        class_names(dataset)
        root = folder_root(dataset)
        report = FetchReport(name, root, tuple((part, shown(root)) for part in ("train", "test")))
    print(f"{name}: served by {report.source}, nothing to fetch")
    return report


def load(name: str) -> ImageData:
    """A whole data set; fetched first if data/raw does not hold it, made if it is a derived one.

    ``digits`` comes without a split: every fifth image, from the first on, is a test image (360 of 1,797).

    Raises:
        ValueError: if there is no such set, or its content is not what its entry says.
        DataUnavailable: if it is absent and cannot be had.
    """
    return _read(describe(name))[0]


@lru_cache(maxsize=1)
def load_once(name: str) -> ImageData:
    """:func:`load`, kept for the next call: for worker processes that go through many runs on one data set."""
    return load(name)


def split(
    data: ImageData,
    *,
    train_images: int | None,
    validation_images: int,
    seed: int,
    development_images: int = 0,
    label_noise: float = 0.0,
) -> Split:
    """Draw validation, training and development images, disjoint, from the training part.

    One permutation per seed: the validation images come first in it, the training images after them, so more
    training images are a superset of fewer; the development images are its last. ``train_images=None`` takes all
    that are left. Label noise replaces the labels of a share of the training images, drawn by the same seed, by
    one of the other classes each.

    Raises:
        ValueError: if more images are asked for than there are.
    """
    total, held = len(data.train_labels), validation_images + development_images
    wanted = total - held if train_images is None else train_images
    if min(validation_images, development_images) < 0 or wanted < 1 or wanted + held > total:
        raise ValueError(
            f"{data.name}: {train_images} training, {validation_images} validation and {development_images} "
            f"development images asked for: expected at least 1, 0 and 0, and no more than the {total} of the "
            "training part together"
        )
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    validation, train = order[:validation_images], order[validation_images : validation_images + wanted]
    development = order[total - development_images :]
    images, labels = data.train_images, data.train_labels
    known = _with_noise(labels[train], label_noise, data.num_classes, seed)
    return Split(images[train], known, images[validation], labels[validation], train, validation, development)


def _with_noise(labels: Tensor, share: float, num_classes: int, seed: int) -> Tensor:
    """Labels ``(N,)`` of which a share is replaced by another class each."""
    draws = torch.Generator().manual_seed(seed + 1)
    wrong = torch.rand(len(labels), generator=draws).argsort()[: round(share * len(labels))]
    noisy = labels.clone()
    noisy[wrong] = (labels[wrong] + torch.randint(1, num_classes, (len(wrong),), generator=draws)) % num_classes
    return noisy


def development(data: ImageData, **asked: Any) -> ImageData:
    """The data set with its development images in place of the test split.

    Args:
        data: the whole set.
        **asked: as for :func:`split`.

    Raises:
        ValueError: as :func:`split`; also for a set whose regions are known of the test split only.
    """
    if data.test_regions is not None:
        raise ValueError(f"{data.name}: its regions are known of the test images only: leave out development_images")
    index = split(data, **asked).development_index
    return replace(data, test_images=data.train_images[index], test_labels=data.train_labels[index])


def write_manifest(name: str, target: Path) -> None:
    """Write what a set consists of as JSON; the same content gives the same bytes, wherever it came from."""
    dataset = describe(name)
    data, files = _read(dataset)
    manifest: dict[str, Any] = {
        "name": name,
        "title": dataset.title,
        "licence": dataset.licence,
        "citation": dataset.citation,
        "files": {file: asdict(stored) for file, stored in files.items()},
        "sha256": data.sha256,
        "num_classes": data.num_classes,
        "image_shape": list(data.train_images.shape[1:]),
        "train_images": len(data.train_labels),
        "test_images": len(data.test_labels),
        "region": dataset.region,
    }
    if dataset.derived:
        manifest |= _derivation(dataset)
    with paths.replacing(target) as temporary:
        temporary.write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _derivation(dataset: DataSet) -> dict[str, Any]:
    """What a derived set was made from, and how."""
    drawn = {"seed": dataset.seed, "correlation": dataset.correlation}
    source = {"name": dataset.source, "sha256": _read(describe(dataset.source))[0].sha256}
    return {"source": source} | {key: value for key, value in drawn.items() if value is not None}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 2 for a wrong argument, 1 if a set cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m workbench.data.sets", description="Get data sets.")
    commands = parser.add_subparsers(dest="command", required=True)
    fetching = commands.add_parser("fetch", help="bring the files of data sets, verified, to data/raw")
    fetching.add_argument("names", nargs="+", metavar="NAME")
    writing = commands.add_parser("manifest", help="write down what a data set consists of, fetching it if absent")
    writing.add_argument("name", metavar="NAME")
    writing.add_argument("--profile", default="laptop")
    options = parser.parse_args(arguments)
    try:
        if options.command == "fetch":
            for dataset in [describe(name) for name in options.names]:
                fetch(dataset.name)
        else:
            write_manifest(options.name, paths.ProfilePaths(options.profile).manifest / f"{options.name}.json")
    except DataUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _read(dataset: DataSet) -> tuple[ImageData, Files]:
    """A set's tensors and what they are in bytes, fetched if absent."""
    if dataset.kind == "scikit_learn":
        return digits_data(dataset)
    if dataset.kind == "image_folder":
        return folder_data(dataset)
    if dataset.derived:
        return derived_data(dataset, load(dataset.source))
    if not is_complete(dataset, paths.RAW):
        obtain(dataset, paths.RAW)
    return idx_data(dataset, paths.RAW / dataset.name)


if __name__ == "__main__":
    sys.exit(main())
