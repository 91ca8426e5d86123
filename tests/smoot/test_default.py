"""The committed studies: their copied numbers are those of their records, and the default is what they chose."""

import re
from dataclasses import asdict, replace

import pandas as pd
import pytest
from workbench.studies.choice import choose

from smoot.criterion import GUIDANCE, PLAN, SaliencyGuidedLoss
from smoot.scheduler import AdaptiveSchedule
from workbench.config import paths
from workbench.config.cells import Cell
from workbench.config.files import read_history
from workbench.config.profile import load_grid, load_run
from workbench.config.run import MethodConfig
from workbench.reporting.questions import load_study
from workbench.results import records as results

TUNED = {  # what the confirmation compares with: its family's settings, and the study that tried them
    "sgt_searched": ("oracle", [f"images100_pixels{k}" for k in (10, 30, 50, 70, 90)]),
    "plain_regularised": (
        "baselines",
        ["plain_erasing_25", "plain_erasing_50", "plain_smooth", "plain_erasing_smooth"],
    ),
    "masked_labels": ("baselines", [f"masked_labels_k{k}" for k in (10, 30, 50, 70)]),
    "high_low": ("baselines", [f"high_low_k{k}" for k in (10, 30, 50, 70)]),
    "smoot_searched": ("baselines", ["competence_mass", *(f"competence_k{k}" for k in (30, 50, 70))]),
}


def method(name: str, profile: str) -> MethodConfig:
    dataset, backbone, _ = next(iter(load_grid(profile).cells()))
    return load_run(dataset, backbone, name, 0, profile).method


def test_the_default_is_the_first_of_the_choice_that_decides_how_many_images() -> None:
    study = load_study("choice")
    assert study is not None and study.choice is not None
    ranked = choose(results.read_records(load_grid("choice")), study.choice).table.dropna(subset="rank")
    in_order = [method(name, "choice") for name in ranked.sort_values("rank")["method"]]
    deciding = [one for one in in_order if one.adaptive is not None and one.adaptive.images != "all"]
    chosen, first = method("smoot", "laptop"), in_order[0]
    assert (chosen.plan, chosen.guidance, chosen.adaptive) == (
        deciding[0].plan,
        deciding[0].guidance,
        deciding[0].adaptive,
    )
    recommended = method("sgt_mean_fill", "laptop")
    assert first.adaptive is not None and first.adaptive.images == "all"
    assert (recommended.guidance, asdict(recommended.plan)) == (first.guidance, asdict(first.plan))


def test_the_drop_in_is_the_default() -> None:
    chosen, criterion = method("smoot", "laptop"), SaliencyGuidedLoss()
    assert chosen.adaptive is not None and isinstance(criterion.schedule, AdaptiveSchedule)
    assert (criterion.schedule.base, criterion.guidance) == (chosen.plan, chosen.guidance) == (PLAN, GUIDANCE)
    own = AdaptiveSchedule(chosen.plan, **chosen.adaptive.constants())
    assert vars(criterion.schedule)["images"] == own.images and criterion.schedule.decay == own.decay


@pytest.mark.parametrize("tuned", TUNED)
def test_the_confirmation_compares_with_the_best_of_each_family(tuned: str) -> None:
    profile, family = TUNED[tuned]
    accuracy = results.read_records(load_grid(profile)).groupby("method")["accuracy"].mean()[family]
    best = str(accuracy.idxmax())
    assert replace(method(best, profile), name=tuned) == method(tuned, "confirmation")


@pytest.mark.parametrize("profile", ["confirmation", "conditions", "settings", "paper"])
def test_every_profile_that_confirms_has_the_default_and_seeds_of_its_own(profile: str) -> None:
    assert method("smoot", profile) == method("smoot", "laptop")
    for name in ("plain", "sgt", "sgt_improved"):
        assert method(name, profile) == method(name, "laptop")
    chosen_on = {seed for study in ("choice", "oracle", "schedule", "baselines") for seed in load_grid(study).seeds}
    assert profile == "paper" or not chosen_on & set(load_grid(profile).seeds)


def test_make_studies_runs_every_study() -> None:
    text = (paths.ROOT / "Makefile").read_text(encoding="utf-8")
    named = re.findall(r"^(?:STUDIES|COLOUR) := (.+)$", text, flags=re.MULTILINE)
    assert sorted(" ".join(named).split()) == sorted(
        file.parent.name for file in paths.ROOT.glob("studies/*/params.yaml")
    )


def test_the_controls_of_the_schedule_are_those_of_its_histories() -> None:
    (dataset, backbone), *_ = load_grid("schedule").settings
    cell = Cell("schedule", dataset, backbone, "smoot")
    histories = pd.concat([read_history(cell.history_path(seed)) for seed in load_grid("schedule").seeds])
    shares = histories.groupby("epoch")["masked_share"].mean()
    sequence, ramp = (method(name, "schedule").sequence for name in ("shuffled", "time_ramp"))
    assert sequence is not None and sequence.image_fractions == pytest.approx(shares.tolist(), abs=0.0006)
    assert method("same_mean", "schedule").plan.image_fraction == pytest.approx(shares.mean(), abs=0.001)
    assert ramp is not None and sum(ramp.image_fractions) / len(shares) == pytest.approx(shares.mean(), abs=0.001)
