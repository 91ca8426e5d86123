"""All numbers of a set of maps together: names, parts, seeds."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_runs import digits, fresh, run
from torch import Tensor, nn

from smoot.metrics import gini_sparseness
from workbench.measuring.attribution import attribution_map
from workbench.measuring.faithfulness import curve_settings, faithfulness
from workbench.measuring.judge import judge_curves
from workbench.measuring.localisation import localisation
from workbench.measuring.map_quality import Subject, map_quality, named_maps, place_and_shape
from workbench.training.inference import answers

COUNT = 30


def subject(seed: int = 0, **evaluation: Any) -> Subject:
    config = run(seed=seed)
    config = replace(config, evaluation=replace(config.evaluation, **evaluation))
    network, judge = fresh(run()).network, fresh(run(seed=5)).network
    images, labels = digits().test_images[:COUNT], digits().test_labels[:COUNT]
    predictions = answers(network, images, batch_size=COUNT).argmax(1)
    return Subject(network, judge, images, labels, predictions, images[:, 0] > 0.1, config)


def maps(seed: int = 0) -> Tensor:
    return torch.rand(COUNT, 8, 8, generator=torch.Generator().manual_seed(seed))


def still(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    return maps()


def test_it_is_the_sum_of_its_parts() -> None:
    asked = subject()
    found = map_quality(asked, maps(), still)
    settings = curve_settings(asked.config)
    own = faithfulness(asked.network, asked.images, asked.labels, maps(), settings)
    judged = judge_curves(asked.judge, asked.images, asked.labels, maps(), settings)
    placed = localisation(maps(), asked.regions, 1).numbers()
    shape = {"gini": pytest.approx(float(gini_sparseness(maps()).mean())), "stability": pytest.approx(1.0)}
    right = {name: pytest.approx(value) for name, value in right_alone(asked).items()}
    assert dict(found.metrics) == {**own.areas, **judged.areas, **right, **placed, **shape}
    assert list(found.metrics) == [*own.areas, *judged.areas, *right, *placed, *shape]
    assert own.areas["gap_mean"] != judged.areas["judge_gap_mean"]
    for fill in ("mean", "black"):
        assert found.curves[fill] == {**own.curves[fill], **judged.curves[fill]}
        assert len(found.curves[fill]) == 6


def test_the_answer_is_explained_and_noise_is_that_of_the_run() -> None:
    seen: list[tuple[nn.Module, Tensor, Tensor]] = []

    def watching(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        seen.append((network, images, targets))
        return maps()

    for asked in (subject(stability_std=0.2), subject(seed=1, stability_std=0.2)):
        map_quality(asked, maps(), watching)
        assert seen[-1][0] is asked.network and torch.equal(seen[-1][2], asked.predictions)
        noise = seen[-1][1] - asked.images
        assert float(noise.std()) == pytest.approx(0.2, rel=0.05)
    assert len(seen) == 2 and not torch.equal(seen[0][1], seen[1][1])


def test_the_tolerance_is_the_configured_one() -> None:
    found = [place_and_shape(subject(pointing_tolerance=pixels), maps())["pointing_game"] for pixels in (0, 2)]
    assert found[0] < found[1]


def test_sparseness_is_that_of_all_images_with_and_without_a_region() -> None:
    asked = subject()
    half = replace(asked, regions=asked.regions & (torch.arange(COUNT) % 2 == 0).view(-1, 1, 1))
    first, second = place_and_shape(asked, maps()), place_and_shape(half, maps())
    assert first["gini"] == second["gini"]
    assert first["relevance_mass"] != second["relevance_mass"]
    nowhere = place_and_shape(replace(asked, regions=torch.zeros_like(asked.regions)), maps())
    assert math.isnan(nowhere["relevance_mass"]) and nowhere["gini"] == first["gini"]


def test_the_first_images_only() -> None:
    few = subject().first(7)
    for name in ("images", "labels", "predictions", "regions"):
        assert torch.equal(getattr(few, name), getattr(subject(), name)[:7])


def test_named_maps_start_from_the_runs_seed_at_every_call() -> None:
    asked = subject(batch_size=8)
    images, targets = asked.images, asked.predictions
    for name in ("gradient", "random", "smooth_gradient"):
        maps_of = named_maps(name, asked)
        first = maps_of(asked.network, images, targets)
        assert torch.equal(maps_of(asked.network, images, targets), first)
        draws = torch.Generator().manual_seed(asked.config.seed_for("attributions"))
        expected = attribution_map(name, asked.network, images, targets, batch_size=8, generator=draws)
        assert torch.equal(first, expected)
    other = named_maps("random", subject(seed=1, batch_size=8))
    assert not torch.equal(
        other(asked.network, images, targets), named_maps("random", asked)(asked.network, images, targets)
    )


def right_alone(asked: Subject) -> dict[str, float]:
    """The judge's gap for each fill on the images that the network answers rightly."""
    right = asked.predictions == asked.labels
    assert 0 < int(right.sum()) < COUNT
    settings = curve_settings(asked.config)
    judged = judge_curves(asked.judge, asked.images[right], asked.labels[right], maps()[right], settings)
    return {f"judge_gap_right_{fill}": judged.areas[f"judge_gap_{fill}"] for fill in ("mean", "black")}


def test_the_judge_on_rightly_answered_images() -> None:
    asked = subject()
    found = map_quality(asked, maps(), still).metrics
    expected = right_alone(asked)
    assert {name: found[name] for name in expected} == expected
    assert expected["judge_gap_right_mean"] != found["judge_gap_mean"]
    nothing = replace(asked, labels=(asked.predictions + 1) % 10)
    assert math.isnan(map_quality(nothing, maps(), still).metrics["judge_gap_right_mean"])
