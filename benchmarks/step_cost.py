"""Time and memory of one training step of every method, relative to plain training, and the arithmetic limit.

``python benchmarks/step_cost.py`` (``make bench``) writes results/benchmarks/step_cost.csv and prints it. A step is
forward, backward and AdamW's update on one fixed batch of noise. The methods take turns within one process, each
round beginning with another one, so that a slow moment of the machine affects all of them. The cost of SMOOT depends
on the share of masked images, so it is measured with half and with all images masked. The columns:

- ``ms_per_step``: median over the rounds; ``relative_to_plain``: median of the ratios within each round.
- ``limit``: floating-point operations of the ideal step over those of plain training, both counted by torch's FLOP
  counter on their passes (see `steps.guided_passes`); ``achieved``: that limit over the measured ratio.
- ``memory_mb``: peak of one step with weights, optimiser state and batch.
- ``mask_overlap``: intersection over union of the masks in bfloat16 with those in float32.

``sgt_reference`` is SGT as published, written out in `steps.published_sgt` without the code of this package. Lines of
devices that this machine lacks stay in the file. A GPU machine needs torch, timm and pandas:
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
from measures import Arithmetic, Patience, interleaved, mask_overlap, step_peak
from steps import MODES, Mode, Subject, Variant, set_up, stepper, subjects, variants

from workbench.config import files, paths
from workbench.results.costs import COSTS
from workbench.runner.ledger import provenance

TABLE = "step_cost.csv"


@dataclass(frozen=True)
class Measured:
    """What was measured of one variant: milliseconds of each round, and peak memory in MiB."""

    variant: Variant
    times: list[float]
    memory: float


def devices(asked: str) -> list[str]:
    """The devices to measure, the CPU first: it is measured before CUDA is initialised."""
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
    del steps
    arithmetic = Arithmetic(set_up(subject, batch_size, Mode(mode.device)))
    found = [Measured(*columns) for columns in zip(compared, times, memory, strict=True)]
    overlaps = dict(overlap(subject, batch_size, mode, compared))
    settings: dict[str, Any] = {"network": name, "batch_size": batch_size, **asdict(mode)}
    return [
        settings | line(one, found[0], arithmetic) | {"mask_overlap": overlaps.get(one.variant.method, math.nan)}
        for one in found
    ]


def line(one: Measured, plain: Measured, arithmetic: Arithmetic) -> dict[str, Any]:
    """The columns of one variant, relative to plain training."""
    network = arithmetic.network
    limit = arithmetic.of(one.variant.passes(network)) / arithmetic.of(plain.variant.passes(network))
    ratio = statistics.median(own / other for own, other in zip(one.times, plain.times, strict=True))
    return {
        "method": one.variant.method,
        "image_fraction": one.variant.image_fraction,
        "ms_per_step": statistics.median(one.times),
        "relative_to_plain": ratio,
        "limit": limit,
        "achieved": limit / ratio,
        "memory_mb": one.memory,
        "relative_memory": one.memory / plain.memory,
        "rounds": len(one.times),
    }


def overlap(subject: Subject, batch_size: int, mode: Mode, compared: Sequence[Variant]) -> Iterator[tuple[str, float]]:
    """Mask overlap of the methods that rank by saliency, in bfloat16 only."""
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
    """The lines of the existing file for devices that are not measured now; none if its columns differ."""
    path = paths.BENCHMARKS / TABLE
    known = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=list(COSTS))
    return known[~known["device"].isin(measured)] if list(known.columns) == list(COSTS) else known.iloc[:0]


def main(given: Sequence[str] | None = None) -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: all that this machine has"
    )
    parser.add_argument("--networks", nargs="+", choices=list(subjects()), default=list(subjects()))
    parser.add_argument("--rounds", type=int, default=100, help="most measured steps of each method")
    parser.add_argument(
        "--seconds", type=float, default=25.0, help="for the rounds of one network; at least five are measured"
    )
    parser.add_argument("--warmup", type=int, default=1, help="rounds before them; three with torch.compile")
    parser.add_argument("--large", action="store_true", help="larger batches as well")
    arguments = parser.parse_args(given)
    torch.set_num_threads(1)
    patience = Patience(arguments.rounds, arguments.warmup, arguments.seconds)
    lines: list[dict[str, Any]] = []
    for device in devices(arguments.device):
        start = time.perf_counter()
        lines += measure_all(device, arguments.networks, arguments.large, patience)
        made = provenance("step_cost", seconds=time.perf_counter() - start)
        origin = paths.BENCHMARKS / "step_cost.provenance.json"
        known = files.read_json(origin) if origin.exists() else {}
        files.write_json(known | {device: files.simplified(made, device)}, origin)
    fresh = pd.DataFrame(lines)[list(COSTS)].round(4)
    others = kept(fresh["device"].unique().tolist())
    frame = pd.concat([fresh, others], ignore_index=True) if len(others) else fresh
    files.write_csv(frame, paths.BENCHMARKS / TABLE)
    print(frame.to_string(index=False))
    print(f"written to {(paths.BENCHMARKS / TABLE).relative_to(paths.ROOT)}")


if __name__ == "__main__":
    main()
