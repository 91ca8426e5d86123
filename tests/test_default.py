"""The default method is one and the same everywhere, and every study is run."""

import re

import pytest

from smoot import GapSchedule, Guidance, MaskPlan, SaliencyGuidedLoss
from workbench.config import paths
from workbench.config.profile import load_grid, load_method, load_run
from workbench.stages import choice
from workbench.studies.choice import PROFILES, choose
from workbench.training.guided import create_schedule


def test_the_drop_in_is_the_default() -> None:
    chosen, criterion, bare = load_method("smoot", "laptop"), SaliencyGuidedLoss(), GapSchedule()
    assert chosen.gap is not None and chosen.gap.held_out == "steering"
    assert isinstance(criterion.schedule, GapSchedule)
    assert criterion.guidance == chosen.guidance == Guidance(reduction="signed_mean", fill="mean")
    assert criterion.schedule.base == bare.base == chosen.plan == MaskPlan(mask_fraction=0.2)


@pytest.mark.parametrize("profile", ["laptop", "paper", "smoke"])
def test_every_profile_trains_the_default(profile: str) -> None:
    for dataset, backbone in load_grid(profile).settings:
        schedule = create_schedule(load_run(dataset, backbone, "smoot", 0, profile), 10, 100)
        assert isinstance(schedule, GapSchedule) and schedule.base == SaliencyGuidedLoss().schedule.base


@pytest.mark.parametrize("profiles", [PROFILES, (*PROFILES, "number_noise", "number_many")])
def test_the_committed_results_choose_the_default_over_three_regimes_and_over_five(profiles: tuple[str, ...]) -> None:
    found = choose([choice.regime(runs) for runs in choice.load_all(profiles)])
    assert found.loc[found["chosen"], "method"].tolist() == ["gap"]


def test_the_default_is_measured_on_seeds_that_its_choice_has_not_seen() -> None:
    studies = [file.parent.name for file in paths.ROOT.glob("studies/number*/params.yaml")]
    assert studies and not {seed for name in studies for seed in load_grid(name).seeds} & set(load_grid("laptop").seeds)


def test_make_studies_runs_every_study() -> None:
    text = (paths.ROOT / "Makefile").read_text(encoding="utf-8")
    named = re.findall(r"^(?:STUDIES|OF_FOLDERS|ON_GPU) := (.+)$", text, flags=re.MULTILINE)
    assert sorted(name.partition("/")[0] for name in " ".join(named).split()) == sorted(
        file.parent.name for file in paths.ROOT.glob("studies/*/params.yaml")
    )
