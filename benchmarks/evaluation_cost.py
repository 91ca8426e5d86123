"""What a perturbation curve costs: this package's engine beside Quantus' pixel flipping and selectivity.

``python benchmarks/evaluation_cost.py`` writes results/benchmarks/evaluation_cost.csv and prints it. The same
untrained networks, the same random 28 x 28 images and maps, one thread, one process; the engines and the bare
network take turns in every round, so that a slow moment of the machine hits all of them, and figures are
medians. A *point* is one image at one step of one curve. Every engine gets the same steps (a sixteenth of
the pixels each) and the same batch size. ``relative`` is points per second over those of Quantus' selectivity;
``outside_forwards`` is the share of the time that is not the network's own, from bare forwards of as many rows
(noise can make it slightly negative), and ``outside_us`` the same in microseconds a row.

Where the network is the cost no engine can be much faster than another: the ratio is bounded by one over the
share of Quantus' time that is the network's. ``linear`` is a network that costs next to nothing and shows the
engines themselves; ``three curves`` counts the points of deletion, insertion and the random control, of which
the ends are answered once.

Quantus 0.6.0 computes areas with ``numpy.trapz``, which numpy 2.4 no longer has. Neither metric needs it as used
here: selectivity returns curves, and pixel flipping does with ``return_auc_per_sample=False``. So nothing is
patched, and Quantus is spared the areas that this package does compute.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from smoot.curves import deletion_curve, perturbation_curves
from smoot.workbench import paths, storage
from smoot.workbench.config import load_run
from smoot.workbench.models import create_backbone
from smoot.workbench.provenance import facts

IMAGE_SHAPE, NUM_CLASSES = (1, 28, 28), 10
PATCH, STEPS = 7, 16  # 16 patches of 7 x 7 pixels are the image
NETWORKS = ("resnet10_narrow", "two_conv_small", "linear")
REFERENCE = "Quantus selectivity"


@dataclass(frozen=True)
class Task:
    """The question that every engine answers."""

    network: nn.Module
    images: Tensor
    labels: Tensor
    saliency: Tensor
    batch_size: int

    @property
    def device(self) -> str:
        return self.images.device.type


@dataclass(frozen=True)
class Engine:
    """A call that answers it, with the points it gives and the rows that it sends through the network, an image."""

    name: str
    call: Callable[[], Any]
    points: int
    rows: int


def make_network(name: str) -> nn.Module:
    """A backbone of the laptop profile, or one linear layer; untrained, in eval mode."""
    torch.manual_seed(0)
    if name == "linear":
        return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, NUM_CLASSES)).eval()
    config = load_run("fashion_mnist", name, "plain", 0, "laptop")
    return create_backbone(config.backbone, config.dataset, image_shape=IMAGE_SHAPE, num_classes=NUM_CLASSES).eval()


def make_task(name: str, num_images: int, batch_size: int, device: str) -> Task:
    network = make_network(name).to(device)
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(num_images, *IMAGE_SHAPE, generator=draw)
    labels = torch.randint(NUM_CLASSES, (num_images,), generator=draw)
    saliency = torch.rand(num_images, *IMAGE_SHAPE[1:], generator=draw)
    return Task(network, images.to(device), labels.to(device), saliency.to(device), batch_size)


def bare(task: Task) -> Engine:
    """Forwards of as many rows as a deletion curve has, and nothing else."""
    rows = task.images.repeat(STEPS + 1, *[1] * (task.images.ndim - 1)).split(task.batch_size)

    def call() -> None:
        with torch.no_grad():
            for batch in rows:
                task.network(batch)

    return Engine("bare forwards", call, STEPS + 1, STEPS + 1)


def own(task: Task) -> list[Engine]:
    """The deletion curve alone, and all three curves from one pass."""
    given = (task.network, task.images, task.labels, task.saliency)
    settings: dict[str, Any] = {
        "fractions": [step / STEPS for step in range(STEPS + 1)],
        "batch_size": task.batch_size,
    }
    return [
        Engine("deletion_curve", lambda: deletion_curve(*given, **settings), STEPS + 1, STEPS + 1),
        Engine(
            "perturbation_curves (three curves)",
            lambda: perturbation_curves(*given, generator=torch.Generator(task.device).manual_seed(0), **settings),
            3 * (STEPS + 1),
            2 + 3 * (STEPS - 1),
        ),
    ]


def quantus_engines(task: Task) -> list[Engine]:
    """Quantus' deletion by pixels and by patches, without warnings, normalisation and progress bars."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import quantus

    plain: dict[str, Any] = {"abs": False, "normalise": False, "perturb_baseline": 0.0, "disable_warnings": True}
    metrics = {
        "Quantus pixel flipping": quantus.PixelFlipping(
            features_in_step=PATCH * PATCH, return_auc_per_sample=False, **plain
        ),
        REFERENCE: quantus.Selectivity(patch_size=PATCH, **plain),
    }
    given = {
        "x_batch": task.images.cpu().numpy(),
        "y_batch": task.labels.cpu().numpy(),
        "a_batch": task.saliency.unsqueeze(1).cpu().numpy(),
        "device": task.device,
        "batch_size": task.batch_size,
    }

    def caller(metric: Any) -> Callable[[], Any]:
        return lambda: metric(model=task.network, **given)

    return [Engine(name, caller(metric), STEPS, STEPS) for name, metric in metrics.items()]


def seconds(engine: Engine, device: str) -> float:
    start = time.perf_counter()
    engine.call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(name: str, task: Task, rounds: int, warmup: int) -> list[dict[str, Any]]:
    """The lines of one network, all engines in turn in every round."""
    engines = [bare(task), *own(task), *quantus_engines(task)]
    times: dict[str, list[float]] = {engine.name: [] for engine in engines}
    for turn in range(warmup + rounds):
        for engine in engines:
            took = seconds(engine, task.device)
            if turn >= warmup:
                times[engine.name].append(took)
    images = len(task.images)
    forward = [took / (images * engines[0].rows) for took in times[engines[0].name]]
    reference = [took / (images * STEPS) for took in times[REFERENCE]]
    return [
        line(name, engine, task, [took / images for took in times[engine.name]], forward, reference)
        for engine in engines
    ]


def line(
    network: str, engine: Engine, task: Task, took: list[float], forward: list[float], reference: list[float]
) -> dict[str, Any]:
    """From seconds an image, a bare row and a reference point in each round to one line of the table."""
    outside = [total - engine.rows * row for total, row in zip(took, forward, strict=True)]
    ratios = [point / (total / engine.points) for total, point in zip(took, reference, strict=True)]
    return {
        "network": network,
        "engine": engine.name,
        "points_per_second": round(engine.points / statistics.median(took)),
        "relative": statistics.median(ratios),
        "outside_forwards": statistics.median(extra / total for extra, total in zip(outside, took, strict=True)),
        "outside_us": 1e6 * statistics.median(outside) / engine.rows,
        "device": task.device,
        "batch_size": task.batch_size,
        "images": len(task.images),
        "steps": STEPS,
    }


def main(given: Sequence[str] | None = None) -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=9, help="measured turns of each engine")
    parser.add_argument("--warmup", type=int, default=1, help="turns before them")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, help="backbones of the laptop profile, or linear")
    arguments = parser.parse_args(given)
    torch.set_num_threads(1)
    start = time.perf_counter()
    lines: list[dict[str, Any]] = []
    for name in arguments.networks:
        task = make_task(name, arguments.images, arguments.batch_size, arguments.device)
        lines += measure(name, task, arguments.rounds, arguments.warmup)
    frame = pd.DataFrame(lines).round(3)
    target = paths.BENCHMARKS / "evaluation_cost.csv"
    storage.write_csv(frame, target)
    made = facts("evaluation_cost", seconds=time.perf_counter() - start)
    storage.write_json(made, paths.BENCHMARKS / "evaluation_cost.provenance.json")
    print(frame.to_string(index=False))
    print(f"written to {target.relative_to(paths.ROOT)}")


if __name__ == "__main__":
    main()
