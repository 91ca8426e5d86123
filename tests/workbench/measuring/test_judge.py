"""The judges: trained apart from every run, and asked about other networks' maps."""

import math
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from tiny_runs import digits, run, same, weights
from torch import Tensor, nn

from smoot.saliency import input_gradient, saliency_map
from workbench.config.profile import load_judge
from workbench.config.run import JudgeConfig
from workbench.data.sets import split
from workbench.measuring import judge as judging
from workbench.measuring.faithfulness import areas, faithfulness_curves
from workbench.measuring.judge import TrainedJudge, judge_curves, train_judge
from workbench.training.inference import accuracy

CPU = torch.device("cpu")
JUDGE = replace(load_judge("smoke"), train_images=700, validation_images=100, epochs=6, learning_rate=0.01, seed=1000)


def trained(config: JudgeConfig = JUDGE, **named: Any) -> TrainedJudge:
    settings: dict[str, Any] = {"fills": ("mean", "black"), "device": CPU} | named
    return train_judge(config, run().dataset, run().backbone, digits(), **settings)


@cache
def whole() -> TrainedJudge:
    return trained()


@cache
def long_trained(probability: float) -> nn.Module:
    return trained(replace(JUDGE, epochs=25, erase_probability=probability)).network


def test_it_answers_rightly_and_says_so() -> None:
    judge = whole()
    part = split(digits(), train_images=700, validation_images=100, seed=1000)
    assert judge.accuracy == accuracy(judge.network, digits().test_images, digits().test_labels, batch_size=360) > 0.7
    assert judge.validation_accuracy == accuracy(
        judge.network, part.validation_images, part.validation_labels, batch_size=100
    )
    assert not judge.network.training


def test_it_depends_on_its_own_seed_and_on_no_runs() -> None:
    short = replace(JUDGE, epochs=1)
    first = weights(trained(short).network)
    torch.manual_seed(77)
    state = torch.get_rng_state()
    assert same(weights(trained(short).network), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not same(weights(trained(replace(short, seed=1001)).network), first)
    more = run(dataset={"train_images": 5, "validation_images": 7}).dataset
    again = train_judge(short, more, run().backbone, digits(), fills=("mean", "black"), device=CPU)
    assert same(weights(again.network), first)


def test_it_is_trained_on_erased_images_of_its_own_part_of_the_training_split(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    batches: list[Tensor] = []

    def watching(images: Tensor, **settings: Any) -> Tensor:
        asked.append(settings)
        batches.append(images)
        return images

    monkeypatch.setattr(judging, "erase", watching)
    trained(replace(JUDGE, epochs=1, erase_probability=0.4), fills=("mean", "noise"))
    assert len(asked) == 700 // 32
    assert all(settings["probability"] == 0.4 for settings in asked)
    assert asked[0]["fills"] == [("constant", run().dataset.mean[0]), ("uniform", 0.0)]
    own = {
        image.numpy().tobytes()
        for image in split(digits(), train_images=700, validation_images=100, seed=1000).train_images
    }
    assert {image.numpy().tobytes() for batch in batches for image in batch} <= own


@pytest.mark.parametrize("fill", [run().dataset.mean[0], 0.0])
def test_erasing_makes_it_fit_for_images_with_removed_pixels(fill: float) -> None:
    images, labels = digits().test_images, digits().test_labels
    masked = torch.rand(360, 1, 8, 8, generator=torch.Generator().manual_seed(1)) < 0.6
    tough, plain = (
        accuracy(long_trained(probability), images.masked_fill(masked, fill), labels, batch_size=360)
        for probability in (0.75, 0.0)
    )
    assert tough > plain + 0.05


def test_its_curves_are_those_of_the_images_that_were_answered_rightly() -> None:
    images, labels = digits().test_images[:50], digits().test_labels[:50]
    right = torch.arange(50) % 3 > 0
    answers, maps = torch.where(right, labels, (labels + 1) % 10), [torch.rand(50, 8, 8) for _ in range(2)]
    found = judge_curves(whole().network, images, labels, answers, maps, run())
    few = [saliency[right] for saliency in maps]
    assert found == faithfulness_curves(whole().network, images[right], labels[right], few, run())
    assert found[0] != found[1]


def test_without_a_right_answer_its_curves_are_undefined() -> None:
    images, labels = digits().test_images[:9], digits().test_labels[:9]
    (found,) = judge_curves(whole().network, images, labels, (labels + 1) % 10, [torch.rand(9, 8, 8)], run())
    assert set(found) == {"mean", "black"} and set(found["mean"]) == {"deletion", "insertion"}
    assert all(len(scores) == 5 and all(map(math.isnan, scores)) for scores in found["black"].values())
    assert math.isnan(areas(found)["gap_black"])


def test_it_prefers_maps_of_the_digits_to_random_maps_and_those_to_reversed_ones() -> None:
    images, labels = digits().test_images[:200], digits().test_labels[:200]
    saliency = saliency_map(input_gradient(long_trained(0.0), images, labels))
    random = torch.rand(200, 8, 8, generator=torch.Generator().manual_seed(2))
    maps = [saliency, random, saliency.max() - saliency]
    curves = judge_curves(whole().network, images, labels, labels, maps, run())
    gaps = [areas(own)["gap_mean"] for own in curves]
    assert gaps[0] > 0.1 > abs(gaps[1]) and gaps[2] < -0.1
