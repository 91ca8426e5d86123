"""``smoot train`` where a step draws nothing, in this process: alone or a rank, which can be told to fail.

``FAULT=RANK:STEP:KIND`` ends a rank in some step, counted from 1: ``error`` raises one, ``kill`` sends SIGKILL.
"""

import os
import signal
import sys
from dataclasses import replace
from typing import Any

import torch

import smoot
from smoot.cli import main, ranks, training
from smoot.cli.recipe import Method


class FractionByGap(smoot.GapSchedule):
    """Masks every image, and more of each the wider the gap is."""

    @property
    def plan(self) -> smoot.MaskPlan:
        return replace(self.base, image_fraction=1.0, mask_fraction=0.2 + 0.5 * self.gap)


class Failing(smoot.SaliencyGuidedLoss):
    """Fails in a step if the fault is this rank's."""

    steps = 0

    def backward(self, *arguments: Any, **named: Any) -> smoot.GuidedLoss:
        self.steps += 1
        rank, step, kind = os.environ.get("FAULT", "-1:0:none").split(":")
        if (ranks.rank(), self.steps) == (int(rank), int(step)):
            if kind == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ValueError("a rank fails: expected so")
        return super().backward(*arguments, **named)


def still(method: Method, device: torch.device, seed: int) -> smoot.SaliencyGuidedLoss:
    """The loss that all methods have here."""
    guidance = smoot.Guidance(reduction="signed_mean", fill="mean")
    return Failing(FractionByGap(), guidance, generator=torch.Generator(device).manual_seed(seed))


if __name__ == "__main__":
    training.criterion_of = still
    ranks.PATIENCE = float(os.environ.get("RANKS_PATIENCE", ranks.PATIENCE))
    sys.exit(main())
