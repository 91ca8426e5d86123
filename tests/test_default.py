"""The default method is one and the same everywhere, and the confirmation compares it with the best of each family."""

import re
from dataclasses import replace

import pandas as pd
import pytest

from smoot.criterion import SaliencyGuidedLoss
from smoot.guidance import Guidance
from smoot.scheduler import AdaptiveSchedule, MaskPlan
from workbench.config import paths
from workbench.config.profile import load_grid, load_method

CHOICE_SEEDS = {0, 1, 2, 3, 4}  # the default was chosen on them, in a study that is no more: docs/replication.md
REGULARISED = ("erasing_25", "erasing_50", "smooth", "erasing_smooth")
TUNED = {  # what the confirmation compares with: its family's settings, and the study that tried them
    "sgt_searched": ("oracle", [f"images100_pixels{k}" for k in (10, 30, 50, 70, 90)]),
    "plain_regularised": ("baselines", [f"plain_{kind}" for kind in REGULARISED]),
    "masked_labels": ("baselines", [f"masked_labels_k{k}" for k in (10, 30, 50, 70)]),
    "high_low": ("baselines", [f"high_low_k{k}" for k in (10, 30, 50, 70)]),
    "smoot_searched": ("baselines", [f"competence_k{k}" for k in (30, 50, 70)]),
}


def test_the_drop_in_is_the_default() -> None:
    chosen, criterion, bare = load_method("smoot", "laptop"), SaliencyGuidedLoss(), AdaptiveSchedule()
    assert chosen.adaptive is not None and isinstance(criterion.schedule, AdaptiveSchedule)
    assert criterion.guidance == chosen.guidance == Guidance()
    assert criterion.schedule.base == bare.base == chosen.plan == MaskPlan()
    assert criterion.schedule.decay == bare.decay == chosen.adaptive.decay


@pytest.mark.parametrize("tuned", TUNED)
def test_the_confirmation_compares_with_the_best_of_each_family(tuned: str) -> None:
    profile, family = TUNED[tuned]
    (setting,) = load_grid(profile).setting_paths
    accuracy = pd.read_csv(setting.runs).groupby("method")["accuracy"].mean()[family]
    best = str(accuracy.idxmax())
    assert replace(load_method(best, profile), name=tuned) == load_method(tuned, "confirmation")


@pytest.mark.parametrize("profile", ["confirmation", "conditions", "settings"])
def test_every_profile_that_confirms_has_seeds_of_its_own(profile: str) -> None:
    chosen_on = {seed for study in ("oracle", "baselines", "recipe") for seed in load_grid(study).seeds} | CHOICE_SEEDS
    assert not chosen_on & set(load_grid(profile).seeds)


def test_make_studies_runs_every_study() -> None:
    text = (paths.ROOT / "Makefile").read_text(encoding="utf-8")
    named = re.findall(r"^(?:STUDIES|COLOUR) := (.+)$", text, flags=re.MULTILINE)
    assert sorted(" ".join(named).split()) == sorted(
        file.parent.name for file in paths.ROOT.glob("studies/*/params.yaml")
    )
