"""The default method is one and the same everywhere, and every study is run."""

import re

from smoot.criterion import SaliencyGuidedLoss
from smoot.guidance import Guidance
from smoot.scheduler import AdaptiveSchedule, MaskPlan
from workbench.config import paths
from workbench.config.profile import load_grid, load_method


def test_the_drop_in_is_the_default() -> None:
    chosen, criterion, bare = load_method("smoot", "laptop"), SaliencyGuidedLoss(), AdaptiveSchedule()
    assert chosen.adaptive is not None and isinstance(criterion.schedule, AdaptiveSchedule)
    assert criterion.guidance == chosen.guidance == Guidance()
    assert criterion.schedule.base == bare.base == chosen.plan == MaskPlan()
    assert criterion.schedule.decay == bare.decay == chosen.adaptive.decay


def test_the_default_is_measured_on_seeds_that_its_choice_has_not_seen() -> None:
    studies = [file.parent.name for file in paths.ROOT.glob("studies/number*/params.yaml")]
    assert studies and not {seed for name in studies for seed in load_grid(name).seeds} & set(load_grid("laptop").seeds)


def test_make_studies_runs_every_study() -> None:
    text = (paths.ROOT / "Makefile").read_text(encoding="utf-8")
    named = re.findall(r"^(?:STUDIES|OF_FOLDERS) := (.+)$", text, flags=re.MULTILINE)
    assert sorted(name.partition("/")[0] for name in " ".join(named).split()) == sorted(
        file.parent.name for file in paths.ROOT.glob("studies/*/params.yaml")
    )
