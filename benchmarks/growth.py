"""How time and memory of a small ResNet grow with batch size, image size, classes and images, plain and SMOOT.

``python benchmarks/growth.py`` (``make bench``) writes results/benchmarks/growth.csv and prints it. SMOOT masks all
images, its most expensive case. For ``batch_size``, ``pixels`` (per image) and ``num_classes`` one training step is
measured, for ``num_images`` one whole epoch of `workbench.training.guided.train_epoch`. What does not vary stays at
batches of 64 images of 28 x 28 pixels in 10 classes. All sizes take turns, and times are medians.

``exponent`` is the slope of log time against log size, fitted to the three largest sizes: 1 is linear;
``memory_exponent`` is that of the peak memory, with weights, optimiser state and data.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from measures import Patience, allocated, interleaved, peak, step_peak
from steps import MODES, Mode, Setup, Variant, guided, set_up, stepper, subjects

from workbench.config import files, paths
from workbench.config.profile import load_backbone, load_method, load_run
from workbench.config.run import MethodConfig
from workbench.results.costs import GROWTH
from workbench.runner.ledger import provenance
from workbench.training.guided import create_state, train_epoch

NETWORK = "resnet10_narrow"
BATCH, SIDE, CLASSES = 64, 28, 10
FITTED = 3  # largest sizes
SIZES = {
    "batch_size": (16, 32, 64, 128, 256, 512),
    "pixels": (16**2, 24**2, 32**2, 48**2, 64**2),
    "num_classes": (2, 10, 100, 1000),
    "num_images": (1000, 2000, 4000, 8000),
}


@dataclass(frozen=True)
class Point:
    """One size of one axis for one method: a call to be timed, and its peak memory in MiB."""

    axis: str
    value: int
    method: str
    call: Callable[[], Any]
    memory: float


def methods() -> dict[str, MethodConfig]:
    """Plain training, and SMOOT masking every image."""
    plain, smoot = load_method("plain", "laptop"), load_method("smoot", "laptop")
    all_images = replace(smoot.plan, image_fraction=1.0)
    return {"plain": plain, "smoot": MethodConfig("smoot", "constant", all_images, smoot.guidance)}


def step_point(axis: str, value: int, variant: Variant, mode: Mode) -> Point:
    """A training step with one size changed."""
    side = math.isqrt(value) if axis == "pixels" else SIDE
    usual = subjects()[NETWORK]
    subject = replace(usual, num_classes=value if axis == "num_classes" else CLASSES)
    batch_size = value if axis == "batch_size" else BATCH

    def make() -> Setup:
        return set_up(subject, batch_size, mode, (usual.image_shape[0], side, side))

    memory = step_peak(make, variant, mode)
    return Point(axis, value, variant.method, stepper(variant, make()), memory)


def epoch_point(value: int, method: MethodConfig, mode: Mode) -> Point:
    """An epoch over ``value`` images; its memory is that of the first epoch."""
    run = load_run("fashion_mnist", "two_conv_small", "plain", 0, "laptop")
    training = replace(run.training, batch_size=min(BATCH, value), device=mode.device)
    config = replace(run, backbone=load_backbone(NETWORK, "smoke"), method=method, training=training)
    before = allocated(mode)
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(value, 1, SIDE, SIDE, generator=draw).to(mode.device)
    labels = torch.randint(CLASSES, (value,), generator=draw).to(mode.device)
    state = create_state(config, (1, SIDE, SIDE), CLASSES, value)

    def epoch() -> None:
        train_epoch(state, images, labels, config, epoch=1)

    held = [images, labels, *state.network.parameters(), *state.network.buffers()]
    return Point("num_images", value, method.name, epoch, peak(epoch, held, mode, before))


def measure(sizes: dict[str, tuple[int, ...]], mode: Mode, steps: Patience, epochs: Patience) -> list[dict[str, Any]]:
    """All lines of one device: the steps in turns, then the epochs in turns."""
    ways = methods()
    variants = [guided(name, way.plan, way.guidance) for name, way in ways.items()]
    stepped = [
        step_point(axis, value, variant, mode)
        for axis, values in sizes.items()
        if axis != "num_images"
        for value in values
        for variant in variants
    ]
    whole = [epoch_point(value, way, mode) for value in sizes["num_images"] for way in ways.values()]
    lines = []
    for points, patience in ((stepped, steps), (whole, epochs)):
        times = interleaved([point.call for point in points], patience, mode)
        lines += [line(point, took, mode) for point, took in zip(points, times, strict=True)]
    return lines


def line(point: Point, times: list[float], mode: Mode) -> dict[str, Any]:
    return {
        "axis": point.axis,
        "value": point.value,
        "method": point.method,
        "ms": statistics.median(times),
        "memory_mb": point.memory,
        "network": NETWORK,
        "device": mode.device,
        "rounds": len(times),
    }


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Slope of log value against log size over the largest sizes, by least squares; NaN for one size."""
    pairs = sorted(zip(map(math.log, sizes), map(math.log, values), strict=True))[-FITTED:]
    if len(pairs) < 2:
        return math.nan
    slope, _ = statistics.linear_regression(*zip(*pairs, strict=True))
    return slope


def with_exponents(lines: list[dict[str, Any]]) -> pd.DataFrame:
    """The lines as a table, with the exponents of each axis and method."""
    frame = pd.DataFrame(lines)
    for column, source in {"exponent": "ms", "memory_exponent": "memory_mb"}.items():
        for _, own in frame.groupby(["axis", "method", "device"]):
            frame.loc[own.index, column] = exponent(own["value"].tolist(), own[source].tolist())
    return frame[list(GROWTH)]


def main(given: Sequence[str] | None = None) -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=15, help="most measured rounds of the steps")
    parser.add_argument("--seconds", type=float, default=30.0, help="for the rounds; at least five are measured")
    parser.add_argument("--epochs", type=int, default=2, help="measured epochs per number of images")
    arguments = parser.parse_args(given)
    torch.set_num_threads(1)
    start = time.perf_counter()
    (mode, *_) = MODES[arguments.device]
    steps = Patience(arguments.rounds, 1, arguments.seconds)
    frame = with_exponents(measure(SIZES, mode, steps, Patience(arguments.epochs, 0, math.inf))).round(4)
    target = paths.BENCHMARKS / "growth.csv"
    files.write_csv(frame, target)
    made = provenance("growth", seconds=time.perf_counter() - start)
    files.write_json(made, paths.BENCHMARKS / "growth.provenance.json")
    print(frame.to_string(index=False))
    print(f"written to {target.relative_to(paths.ROOT)}")


if __name__ == "__main__":
    main()
