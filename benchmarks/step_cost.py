"""What a training step costs: every method on every backbone of the laptop profile, relative to plain training.

``make bench`` writes results/benchmarks/step_cost.csv and prints it. Methods take turns within one process,
so that a slow moment of the machine hits all of them; the figures are medians, to be read as ratios. SMOOT's
cost follows the share of masked images, so it is measured at a half and at all of them.

The arithmetic limit counts forwards of the batch: a forward is 1, a backward to the parameters 2, one to the
input alone 1. Plain is 3; SGT as published 8 (saliency pass 2, two forwards and backwards 6); a reused forward
with the share r of images masked 4 + 3r; random masks 3 + 3r.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import pandas as pd
import torch

from smoot.objective import guided_loss
from smoot.scheduler import MaskPlan
from smoot.workbench import paths, storage
from smoot.workbench.config import RunConfig, load_grid, load_run
from smoot.workbench.models import create_backbone
from smoot.workbench.provenance import facts

IMAGE_SHAPE, NUM_CLASSES = (1, 28, 28), 10
SMOOT_SHARES = (0.5, 1.0)


@dataclass(frozen=True)
class Variant:
    """One line of the table."""

    network: str
    method: str
    plan: MaskPlan
    config: RunConfig

    @property
    def units(self) -> float:
        """Forwards of the batch that the step's arithmetic needs."""
        share, guidance = self.plan.image_fraction, self.config.method.guidance
        if share == 0.0:
            return 3.0
        saliency = 0.0 if self.plan.ranking == "random" else 2.0 * share if guidance.saliency_pass == "eval" else 1.0
        return 3.0 + saliency + 3.0 * share


def variants(network: str, method: str) -> list[Variant]:
    """A method as configured; an adaptive one at fixed shares of masked images."""
    config = load_run("fashion_mnist", network, method, 0, "laptop")
    plan = config.method.plan
    shares = (plan.image_fraction,) if config.method.adaptive is None else SMOOT_SHARES
    return [Variant(network, method, replace(plan, image_fraction=share), config) for share in shares]


def stepper(variant: Variant) -> Callable[[], float]:
    """A call that makes one training step and returns its milliseconds."""
    training = variant.config.training
    torch.manual_seed(0)
    network = create_backbone(
        variant.config.backbone, variant.config.dataset, image_shape=IMAGE_SHAPE, num_classes=NUM_CLASSES
    )
    if training.channels_last:
        network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=training.learning_rate)
    images = torch.rand(training.batch_size, *IMAGE_SHAPE)
    labels = torch.randint(NUM_CLASSES, (training.batch_size,))

    def step() -> float:
        start = time.perf_counter()
        loss = guided_loss(network, images, labels, variant.plan, variant.config.method.guidance)
        optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        optimizer.step()
        return 1000.0 * (time.perf_counter() - start)

    return step


def measure(network: str, methods: tuple[str, ...], rounds: int, warmup: int) -> list[dict[str, object]]:
    """The lines of one network, all methods in turn in every round."""
    lines = [variant for method in methods for variant in variants(network, method)]
    steps = [stepper(variant) for variant in lines]
    times: list[list[float]] = [[] for _ in lines]
    for turn in range(warmup + rounds):
        for index, step in enumerate(steps):
            took = step()
            if turn >= warmup:
                times[index].append(took)
    plain = next(times[index] for index, variant in enumerate(lines) if variant.plan.image_fraction == 0.0)
    return [
        {
            "network": variant.network,
            "method": variant.method,
            "image_fraction": variant.plan.image_fraction,
            "ms_per_step": statistics.median(took),
            "relative_to_plain": statistics.median(a / b for a, b in zip(took, plain, strict=True)),
            "unit_limit": variant.units / 3.0,
            "device": "cpu",
            "batch_size": variant.config.training.batch_size,
        }
        for variant, took in zip(lines, times, strict=True)
    ]


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=100, help="measured steps of each method")
    parser.add_argument("--warmup", type=int, default=10, help="steps before them")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    grid = load_grid("laptop")
    lines = [
        line
        for network in grid.backbones
        for line in measure(network, grid.methods, arguments.rounds, arguments.warmup)
    ]
    frame = pd.DataFrame(lines).round(3)
    target = paths.BENCHMARKS / "step_cost.csv"
    storage.write_csv(frame, target)
    made = facts("step_cost", seconds=time.perf_counter() - start)
    storage.write_json(made, paths.BENCHMARKS / "step_cost.provenance.json")
    print(frame.to_string(index=False))
    print(f"written to {target.relative_to(paths.ROOT)}")


if __name__ == "__main__":
    main()
