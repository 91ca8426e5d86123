"""The command line: ``smoot train``, ``smoot explain``, ``smoot evaluate``."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from smoot.cli import checkpoints, ranks
from smoot.cli.files import shown
from smoot.cli.folders import VALIDATION_FOLDERS, Images, index_folder, split_folder
from smoot.cli.progress import Progress
from smoot.cli.recipe import Method, Recipe
from smoot.cli.reports import evaluation_text, training_text
from smoot.cli.weights import Card

app = typer.Typer(
    help="Saliency-guided training on your own images.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
TRAIN_EXAMPLE = """\b
Example:
  smoot train photos --backbone resnet18 --method smoot -o smoot.safetensors
  smoot train photos --backbone resnet18 --method plain -o plain.safetensors"""
EXPLAIN_EXAMPLE = """\b
Example:
  smoot explain plain.safetensors smoot.safetensors cat.jpg dog.jpg -o maps.png"""
EVALUATE_EXAMPLE = """\b
Example:
  smoot evaluate smoot.safetensors photos --judge plain.safetensors"""
WORKERS = min(4, (os.cpu_count() or 1) - 1)

Folder = Annotated[
    Path,
    typer.Argument(
        exists=True, file_okay=False, metavar="FOLDER", help="FOLDER/CLASS/FILE, or train/ and val/ or test/ in it."
    ),
]
Device = Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes that decode images; 0: none beside this one.")]
BatchSize = Annotated[int, typer.Option(min=2, help="Images in a batch.")]
SkipBroken = Annotated[bool, typer.Option("--skip-broken", help="Leave out files that cannot be decoded; name them.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stderr but errors.")]
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of split, order, augmentation and weights.")]


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see :func:`smoot.cli.main`."""
    try:
        with ranks.first_alone_prints():
            app(args=None if arguments is None else list(arguments), prog_name="smoot")
    except SystemExit as end:
        return int(end.code or 0)
    except KeyboardInterrupt:
        with ranks.first_alone_prints():
            print("interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError, torch.OutOfMemoryError) as error:
        print(f"error: {ranks.speaker()}{error}", file=sys.stderr)
        return 1
    return 0


@app.command("train", epilog=TRAIN_EXAMPLE)
def train_command(  # noqa: PLR0913, PLR0917 - each is an option
    folder: Folder,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the weights go.")] = Path("network.safetensors"),
    backbone: Annotated[str, typer.Option("--backbone", "-b", help="Any classifier of timm.")] = "resnet18",
    method: Annotated[Method, typer.Option("--method", "-m", help="How masks are used.")] = Method.SMOOT,
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Start from timm's weights (downloaded).")] = False,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training images.")] = 30,
    batch_size: BatchSize = 64,
    learning_rate: Annotated[float, typer.Option(min=0, help="AdamW's; 1e-4 suits pretrained weights.")] = 1e-3,
    weight_decay: Annotated[float, typer.Option(min=0, help="AdamW's.")] = 0.05,
    image_size: Annotated[
        int | None, typer.Option(min=16, max=1024, help="In pixels; default: the images' own, 32 to 224.")
    ] = None,
    flip: Annotated[bool, typer.Option("--flip/--no-flip", help="Mirror training images at random.")] = True,
    seed: Seed = 0,
    device: Device = "auto",
    workers: Workers = WORKERS,
    sync_batch_norm: Annotated[
        bool, typer.Option("--sync-batch-norm", help="Under torchrun: BatchNorm over all GPUs.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after the last finished epoch.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the weights in --output.")] = False,
    skip_broken: SkipBroken = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a network on a folder of images and write its weights.

    A folder without val/ and test/ is split: 70 % train, 10 % steer the masks, 10 % choose the epoch, 10 % test.
    """
    from smoot.cli import networks  # timm takes seconds, which --help need not wait for
    from smoot.cli.training import Surroundings, train

    _usage(networks.check_backbone, "--backbone", backbone, pretrained=pretrained)
    place = _usage(networks.pick_device, "--device", device)
    _usage(ranks.check_batch_size, "--batch-size", batch_size)
    if sync_batch_norm:
        _usage(ranks.check_sync_batch_norm, "--sync-batch-norm", place)
    _check_target(output, resume=resume, overwrite=overwrite)
    progress = Progress(quiet)
    recipe = Recipe(
        backbone, method, epochs, batch_size, learning_rate, weight_decay, seed, pretrained, flip, image_size
    )
    try:
        with ranks.joined(place) as own:
            split = ranks.of_the_first(lambda: split_folder(folder, seed))
            parts = ", ".join(f"{len(part)} {name}" for name, part in split.parts.items())
            progress.say(f"{len(split.classes)} classes; {parts}")
            surroundings = Surroundings(output, own, workers, skip_broken, sync_batch_norm, resume, progress)
            report = train(split, recipe, surroundings)
    except KeyboardInterrupt:
        kept = checkpoints.path_of(output).exists()
        told = "the last finished epoch is kept: go on with --resume" if kept else "no epoch was finished"
        print(f"interrupted; {told}", file=sys.stderr)
        raise typer.Exit(130) from None
    _print(report, as_json, training_text)


@app.command("explain", epilog=EXPLAIN_EXAMPLE)
def explain_command(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, metavar="WEIGHTS... IMAGE...")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the picture goes.")] = Path("maps.png"),
    label: Annotated[str | None, typer.Option("--class", help="Explain this class; default: each answer.")] = None,
    smooth: Annotated[int, typer.Option(min=0, max=1000, help="Noisy copies to average over (SmoothGrad).")] = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Draw what networks look at: each image, one map per weights file, and a random map for scale."""
    from smoot.cli.explaining import explain
    from smoot.cli.networks import pick_device
    from smoot.cli.pictures import FORMATS, draw
    from smoot.cli.trained import load_trained

    _usage(ranks.check_alone, None, "explain")
    sources = [file for file in files if file.suffix == ".safetensors"]
    images = [file for file in files if file.suffix != ".safetensors"]
    if not (sources and images):
        raise typer.BadParameter("expected at least one file of weights (.safetensors) and one image")
    if output.suffix.lower() not in FORMATS:
        raise typer.BadParameter(f"expected a file ending in {', '.join(FORMATS)}", param_hint="--output")
    place = _usage(pick_device, "--device", device)
    trained = [load_trained(source, place) for source in sources]
    explained = [explain(trained, image, place, label=label, smooth=smooth) for image in images]
    draw(explained, output)
    rows = [
        {
            "image": one.name,
            "network": found.network,
            "class": found.label,
            "probability": round(found.probability, 6),
            "gini": round(found.gini, 6),
        }
        for one in explained
        for found in one.explanations
    ]
    text = "{image}: {network} says {class} ({probability:.0%}), Gini {gini:.2f}"
    _print(
        {"picture": shown(output), "explanations": rows},
        as_json,
        lambda report: "\n".join([*(text.format(**row) for row in rows), f"picture: {report['picture']}"]),
    )


@app.command("evaluate", epilog=EVALUATE_EXAMPLE)
def evaluate_command(  # noqa: PLR0913, PLR0917 - each is an option
    weights: Annotated[Path, typer.Argument(exists=True, dir_okay=False, metavar="WEIGHTS")],
    folder: Folder,
    judge: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Weights of a second network that scores the maps.")
    ] = None,
    map_images: Annotated[int, typer.Option(min=0, help="Images whose saliency is measured; 0: none.")] = 200,
    noise: Annotated[float, typer.Option(min=0, max=1, help="Standard deviation, in units of a pixel's range.")] = 0.05,
    batch_size: BatchSize = 64,
    device: Device = "auto",
    workers: Workers = WORKERS,
    skip_broken: SkipBroken = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a network: accuracy, calibration, robustness, and its saliency beside a random map and an edge filter.

    On the folder it was trained on, its test images are measured; on another one test/, val/ or all images.
    """
    from smoot.cli.evaluating import Questions, evaluate
    from smoot.cli.loading import Reading
    from smoot.cli.networks import pick_device
    from smoot.cli.trained import load_trained

    _usage(ranks.check_alone, None, "evaluate")
    place = _usage(pick_device, "--device", device)
    trained = load_trained(weights, place)
    second = None if judge is None else load_trained(judge, place)
    images, which = _measured_images(folder, trained.card)
    reading = Reading(trained.card.image_size, place, batch_size, workers, skip_broken=skip_broken)
    report = evaluate(trained, second, images, reading, Questions(map_images, noise), Progress(quiet))
    _print({"weights": shown(weights), "folder": shown(folder), "which": which, **report}, as_json, evaluation_text)


def _measured_images(folder: Path, card: Card) -> tuple[Images, str]:
    """The images of a folder that a network is measured on, and which these are."""
    given = next((name for name in ("test", *VALIDATION_FOLDERS) if (folder / name).is_dir()), None)
    if given and (folder / "train").is_dir():
        return index_folder(folder / given)[0], f"those in {given}/"
    try:
        split = split_folder(folder, card.seed)
    except ValueError:  # too few images to be split
        split = None
    if split is not None and split.digest == card.digest:
        return split.parts["test"], "the test images of its training"
    return index_folder(folder)[
        0
    ], "all images: its training had other files, so make sure that none of these was there"


def _check_target(output: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse to replace weights that were not meant."""
    if output.suffix != ".safetensors":
        raise typer.BadParameter("expected a file ending in .safetensors", param_hint="--output")
    if output.exists() and not (resume or overwrite):
        raise typer.BadParameter(
            f"{shown(output)} exists: choose another, or pass --overwrite or --resume", param_hint="--output"
        )


def _usage(function: Callable[..., Any], option: str | None, *arguments: Any, **named: Any) -> Any:
    """What a function makes of an option's value; its ValueError becomes one of usage."""
    try:
        return function(*arguments, **named)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def _print(report: dict[str, Any], as_json: bool, text: Callable[[dict[str, Any]], str]) -> None:
    print(json.dumps(report, indent=1) if as_json else text(report))
