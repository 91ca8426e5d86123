"""The mask schedule that a run's configuration asks for."""

from dataclasses import replace

import torch

from smoot.scheduler import AdaptiveSchedule, ConstantSchedule, MaskPlan, MaskSchedule
from smoot.sequence import SequenceSchedule
from workbench.config.run import RunConfig


def create_schedule(config: RunConfig, num_steps: int) -> MaskSchedule:
    """The mask schedule of a run: all that tells plain training, SGT and SMOOT apart in the loop.

    Args:
        config: its method, and the seed of a shuffled sequence.
        num_steps: of the whole training, over which a sequence is stretched.
    """
    method = config.method
    if method.adaptive is not None:
        return AdaptiveSchedule(method.plan, **method.adaptive.constants())
    if method.sequence is not None:
        return SequenceSchedule(_plans(config, num_steps))
    return ConstantSchedule(method.plan)


def _plans(config: RunConfig, num_steps: int) -> list[MaskPlan]:
    """One plan a step of a method whose schedule is fixed beforehand."""
    sequence, base = config.method.sequence, config.method.plan
    assert sequence is not None
    shares, rankings = sequence.image_fractions, sequence.rankings or (base.ranking,)
    places = torch.arange(num_steps)
    if sequence.shuffled:
        draws = torch.Generator().manual_seed(config.stream("schedule"))
        places = torch.randperm(num_steps, generator=draws)
    return [
        replace(base, image_fraction=shares[place * len(shares) // num_steps], ranking=rankings[step % len(rankings)])
        for step, place in enumerate(places.tolist())
    ]
