"""The schedule that a configuration asks for."""

from dataclasses import replace

import pytest
from tiny_runs import METHODS, run

from smoot.scheduler import AdaptiveSchedule, ConstantSchedule, Feedback, MaskPlan, SequenceSchedule
from workbench.config.run import MethodConfig, RunConfig, SequenceConfig
from workbench.training.guided import create_schedule

FED = Feedback(0.5, 1.0, 10, 8)


def sequenced(seed: int = 0, **sequence: object) -> RunConfig:
    config = run("sgt_improved", seed=seed)
    method = replace(config.method, schedule="sequence", plan=MaskPlan(), sequence=SequenceConfig(**sequence))
    return replace(config, method=method)


def plans(config: RunConfig, num_steps: int) -> list[MaskPlan]:
    schedule = create_schedule(config, num_steps)
    assert isinstance(schedule, SequenceSchedule)
    found = []
    for _ in range(num_steps):
        found.append(schedule.plan)
        schedule.step(FED)
    return found


def test_each_method_gets_its_schedule() -> None:
    for method in METHODS:
        config = run(method)
        schedule = create_schedule(config, 10)
        if method == "smoot":
            assert isinstance(schedule, AdaptiveSchedule)
            assert (schedule.base, schedule.decay) == (config.method.plan, 0.95)
        else:
            assert schedule == ConstantSchedule(config.method.plan)


def test_an_adaptive_schedule_gets_every_constant_of_its_own() -> None:
    config = run("smoot")
    assert config.method.adaptive is not None
    changed = replace(config.method.adaptive, decay=0.5, feedback="validation")
    schedule = create_schedule(replace(config, method=replace(config.method, adaptive=changed)), 10)
    assert isinstance(schedule, AdaptiveSchedule)
    assert schedule.decay == 0.5


def test_shares_are_stretched_over_the_steps() -> None:
    found = [plan.image_fraction for plan in plans(sequenced(image_fractions=(0.0, 0.25, 1.0)), 7)]
    assert found == [0.0, 0.0, 0.0, 0.25, 0.25, 1.0, 1.0]


def test_shuffled_shares_are_the_same_ones_in_an_order_of_the_seed() -> None:
    shares = tuple(index / 20 for index in range(20))
    first, second, other = (
        [plan.image_fraction for plan in plans(sequenced(seed, image_fractions=shares, shuffled=True), 20)]
        for seed in (0, 0, 1)
    )
    assert first == second != other
    assert sorted(first) == sorted(other) == list(shares) != first


def test_rankings_take_turns_and_the_rest_of_the_plan_stays() -> None:
    found = plans(sequenced(image_fractions=(0.0, 1.0), rankings=("highest", "saliency")), 4)
    assert [plan.ranking for plan in found] == ["highest", "saliency", "highest", "saliency"]
    assert [plan.image_fraction for plan in found] == [0.0, 0.0, 1.0, 1.0]
    assert {plan.mask_fraction for plan in found} == {0.5}


def test_a_block_belongs_to_its_schedule() -> None:
    guidance = run().method.guidance
    with pytest.raises(ValueError, match="schedule is 'constant': the block 'sequence' belongs to 'sequence'"):
        MethodConfig("m", "constant", MaskPlan(), guidance, sequence=SequenceConfig((0.5,)))
    with pytest.raises(ValueError, match="plan sets image_fraction: leave it out, the schedule 'sequence' sets it"):
        MethodConfig("m", "sequence", MaskPlan(image_fraction=0.5), guidance, sequence=SequenceConfig((0.5,)))
    with pytest.raises(ValueError, match="image_fractions is empty"):
        SequenceConfig(())
    with pytest.raises(ValueError, match=r"image_fractions is 1\.5"):
        SequenceConfig((0.5, 1.5))
