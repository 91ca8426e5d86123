"""The committed studies: the default is what they chose."""

from dataclasses import asdict

from smoot.criterion import GUIDANCE, PLAN, SaliencyGuidedLoss
from smoot.scheduler import AdaptiveSchedule
from smoot.workbench import results
from smoot.workbench.choice import choose
from smoot.workbench.config import MethodConfig, load_grid, load_run
from smoot.workbench.study import load_study


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
