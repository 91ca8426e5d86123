"""``python -m workbench data``: fetch data sets, and write down what they consist of."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workbench.config import paths
from workbench.config.files import write_text
from workbench.data.catalogue import DataSet, describe
from workbench.data.download import DataUnavailable, obtain, shown
from workbench.data.formats import read_digits
from workbench.data.image_folders import class_names, image_root, left_out
from workbench.data.sets import load, load_with_files

NAMED = 10  # of the files that are left out


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``fetch NAME...`` or ``manifest NAME --profile P``; 2 for a wrong argument, 1 if a set cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m workbench data", description="Get data sets.")
    commands = parser.add_subparsers(dest="command", required=True)
    fetching = commands.add_parser("fetch", help="bring the files of data sets, verified, to data/raw")
    fetching.add_argument("names", nargs="+", metavar="NAME")
    writing = commands.add_parser("manifest", help="write down what a data set consists of; fetch it if absent")
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


def fetch(name: str) -> None:
    """Make sure that a set can be loaded, download it to ``data/raw`` if need be, and print what served it.

    Raises:
        ValueError: if there is no such set.
        FileNotFoundError: if the folder of an image folder is absent.
        DataUnavailable: if no source has it; the message lists each source with its reason.
    """
    dataset = describe(name)
    if dataset.derived:
        fetch(dataset.source)
        print(f"{name}: made from {dataset.source} whenever it is loaded")
    elif dataset.kind == "scikit_learn":
        read_digits(dataset)
        print(f"{name}: comes with scikit-learn, nothing to fetch")
    elif dataset.kind == "image_folder":
        print(f"{name}: your files with {len(class_names(dataset))} classes in {shown(image_root(dataset))}")
        _tell_left_out(dataset)
    else:
        print(obtain(dataset))


def write_manifest(name: str, target: Path) -> None:
    """Write what a set consists of as JSON; the same content gives the same bytes, wherever it came from."""
    dataset = describe(name)
    data, files = load_with_files(dataset)
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
    if dataset.kind == "image_folder" and (others := _tell_left_out(dataset)):
        manifest["left_out"] = {"count": len(others), "first": others[:NAMED]}
    if dataset.derived:
        drawn = {"seed": dataset.seed, "correlation": dataset.correlation}
        manifest |= {key: value for key, value in drawn.items() if value is not None}
        manifest["source"] = {"name": dataset.source, "sha256": load(dataset.source).sha256}
    write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", target)


def _tell_left_out(dataset: DataSet) -> list[str]:
    """The files of an image folder that are not read, which is said on standard error."""
    others = left_out(dataset)
    if others:
        more = ", ..." if len(others) > NAMED else ""
        names = ", ".join(others[:NAMED])
        print(f"{dataset.name}: {len(others)} left out, no images by their names: {names}{more}", file=sys.stderr)
    return others
