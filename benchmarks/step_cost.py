"""What a training step costs: time and memory of every method beside plain training's, and what arithmetic allows.

``python benchmarks/step_cost.py`` (``make bench``) writes results/benchmarks/step_cost.csv and prints it. A step is
forward, backward and AdamW's update on one fixed batch of noise. The methods take turns within one process, every
round beginning with another one, so that a slow moment of the machine hits all of them; times are medians, and
``relative_to_plain`` is the median of the rounds' own ratios. SMOOT's cost follows the share of masked images, so it
is measured at a half and at all of them; ``smoot_budget`` masks all and counts those that its budget allows.
``sgt_reference`` is SGT as published, written out in `step_methods.published` without this package's code.

``limit``: the ideal step's floating-point operations over plain's. Both are counted by torch's FLOP counter on runs
of their pieces: forwards, backwards to the parameters, to the input alone, to both (see `step_methods.guided_passes`).
``achieved`` is the limit over the measured ratio. ``memory_mb`` is the peak of one step with weights, optimiser state
and batch. ``mask_overlap``: intersection over union of bfloat16's masks with float32's.

Lines of devices that this machine has not stay in the file as they were. A GPU machine needs torch, timm and pandas:
``PYTHONPATH=. python benchmarks/step_cost.py --device cuda``.
"""

import argparse
import gc
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd
import torch
from step_measures import Arithmetic, Patience, interleaved, mask_overlap, step_peak
from step_methods import Variant, stepper, variants
from step_subjects import MODES, Mode, Subject, set_up, subjects

from workbench.config import files, paths
from workbench.results.costs import COSTS
from workbench.runner.provenance import facts

TABLE = "step_cost.csv"


@dataclass(frozen=True)
class Measured:
    """What was found for one variant: milliseconds of each round, MiB, and the share of images that counted."""

    variant: Variant
    times: list[float]
    memory: float
    share: float


def devices(asked: str) -> list[str]:
    """The CPU first: it is measured before CUDA is touched."""
    there = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    if asked not in ("auto", *there):
        raise SystemExit(f"device {asked!r} is not available: this machine has {', '.join(there)}; or use auto")
    return there if asked == "auto" else [asked]


def measure(name: str, subject: Subject, batch_size: int, mode: Mode, patience: Patience) -> list[dict[str, Any]]:
    """The lines of one network with one batch size."""
    compared = variants()
    memory = []
    for variant in compared:
        memory.append(step_peak(lambda: set_up(subject, batch_size, mode), variant, mode))
        gc.collect()
    steps = [stepper(variant, set_up(subject, batch_size, mode)) for variant in compared]
    times = interleaved(steps, replace(patience, warmup=max(patience.warmup, 3 * mode.compiled)), mode)
    shares = [
        float(step()) if math.isnan(variant.image_fraction) else variant.image_fraction
        for variant, step in zip(compared, steps, strict=True)
    ]
    del steps
    arithmetic = Arithmetic(set_up(subject, batch_size, Mode(mode.device)))
    found = [Measured(*columns) for columns in zip(compared, times, memory, shares, strict=True)]
    overlaps = dict(overlap(subject, batch_size, mode, compared))
    settings: dict[str, Any] = {"network": name, "batch_size": batch_size, **asdict(mode)}
    return [
        settings | line(one, found[0], arithmetic) | {"mask_overlap": overlaps.get(one.variant.method, math.nan)}
        for one in found
    ]


def line(one: Measured, plain: Measured, arithmetic: Arithmetic) -> dict[str, Any]:
    """What is known of a variant beside plain training."""
    network = arithmetic.network
    least = arithmetic.of(one.variant.passes(network, one.share)) / arithmetic.of(plain.variant.passes(network, 0.0))
    ratio = statistics.median(own / other for own, other in zip(one.times, plain.times, strict=True))
    return {
        "method": one.variant.method,
        "image_fraction": one.share,
        "ms_per_step": statistics.median(one.times),
        "relative_to_plain": ratio,
        "limit": least,
        "achieved": least / ratio,
        "memory_mb": one.memory,
        "relative_memory": one.memory / plain.memory,
        "rounds": len(one.times),
    }


def overlap(subject: Subject, batch_size: int, mode: Mode, compared: Sequence[Variant]) -> Iterator[tuple[str, float]]:
    """Agreement of the masks of the methods that rank by saliency, in bfloat16 only."""
    for variant in compared:
        if mode.precision == "bf16" and variant.image_fraction == 1.0 and variant.method != "random_mask":
            yield variant.method, mask_overlap(subject, batch_size, mode.device, variant)


def measure_all(device: str, networks: Sequence[str], large: bool, patience: Patience) -> Iterator[dict[str, Any]]:
    """All lines of a device, network by network."""
    for name in networks:
        subject = subjects()[name]
        sizes = [*([subject.batches[device]] if device in subject.batches else [])]
        sizes += [subject.large[device]] if large and device in subject.large else []
        for batch_size in sizes:
            for mode in MODES[device]:
                start = time.perf_counter()
                yield from measure(name, subject, batch_size, mode, patience)
                print(f"{name}, {batch_size} images, {mode}: {time.perf_counter() - start:.0f} s", flush=True)


def kept(measured: Sequence[str]) -> pd.DataFrame:
    """The lines of the file as it is that are of other devices than those measured; none from an older format."""
    path = paths.BENCHMARKS / TABLE
    known = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=list(COSTS))
    return known[~known["device"].isin(measured)] if list(known.columns) == list(COSTS) else known.iloc[:0]


def main(given: Sequence[str] | None = None) -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: every one there is")
    parser.add_argument("--networks", nargs="+", choices=list(subjects()), default=list(subjects()))
    parser.add_argument("--rounds", type=int, default=100, help="most measured steps of each method")
    parser.add_argument("--seconds", type=float, default=25.0, help="for a network's rounds; five are made in any case")
    parser.add_argument("--warmup", type=int, default=1, help="rounds before them; three with torch.compile")
    parser.add_argument("--large", action="store_true", help="larger batches as well")
    arguments = parser.parse_args(given)
    torch.set_num_threads(1)
    patience = Patience(arguments.rounds, arguments.warmup, arguments.seconds)
    lines: list[dict[str, Any]] = []
    for device in devices(arguments.device):
        start = time.perf_counter()
        lines += measure_all(device, arguments.networks, arguments.large, patience)
        made = facts("step_cost", seconds=time.perf_counter() - start)
        files.update_provenance(paths.BENCHMARKS / "step_cost.provenance.json", device, made)
    fresh = pd.DataFrame(lines)[list(COSTS)].round(4)
    others = kept(fresh["device"].unique().tolist())
    frame = pd.concat([fresh, others], ignore_index=True) if len(others) else fresh
    files.write_csv(frame, paths.BENCHMARKS / TABLE)
    print(frame.to_string(index=False))
    print(f"written to {(paths.BENCHMARKS / TABLE).relative_to(paths.ROOT)}")


if __name__ == "__main__":
    main()
