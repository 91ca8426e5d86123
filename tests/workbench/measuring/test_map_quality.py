"""All numbers of a set of maps together: names, parts, seeds."""

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import digits, fresh, run
from torch import Tensor, nn

from smoot.metrics import gini_sparseness
from workbench.config.run import RunConfig
from workbench.measuring.attribution import attribution_map
from workbench.measuring.faithfulness import faithfulness_curves
from workbench.measuring.judge import judge_curves
from workbench.measuring.localisation import region_scores
from workbench.measuring.map_quality import (
    Subject,
    attribution_metrics,
    attribution_samples,
    gets_all_attributions,
    map_function,
    map_quality,
    place_and_shape,
)
from workbench.measuring.stability import cascading_randomisation
from workbench.training.inference import predict

COUNT = 30


def subject(seed: int = 0, **evaluation: Any) -> Subject:
    config = run(seed=seed)
    config = replace(config, evaluation=replace(config.evaluation, **evaluation))
    network, judge = fresh(run()).network, fresh(run(seed=5)).network
    images, labels = digits().test_images[:COUNT], digits().test_labels[:COUNT]
    predictions = predict(network, images, batch_size=COUNT).argmax(1)
    return Subject(network, judge, images, labels, predictions, images[:, 0] > 0.1, config)


def maps(seed: int = 0) -> Tensor:
    return torch.rand(COUNT, 8, 8, generator=torch.Generator().manual_seed(seed))


def still(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    return maps()


def test_it_is_the_sum_of_its_parts() -> None:
    asked = subject()
    found = map_quality(asked, maps(), still)
    own = faithfulness_curves(asked.network, asked.images, asked.labels, maps(), asked.config)
    judged = judge_curves(asked.judge, asked.images, asked.labels, maps(), asked.config)
    placed = region_scores(maps(), asked.regions, 1)
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
        maps_of = map_function(name, asked)
        first = maps_of(asked.network, images, targets)
        assert torch.equal(maps_of(asked.network, images, targets), first)
        draws = torch.Generator().manual_seed(asked.config.seed_for("attributions"))
        expected = attribution_map(name, asked.network, images, targets, batch_size=8, generator=draws)
        assert torch.equal(first, expected)
    other = map_function("random", subject(seed=1, batch_size=8))
    assert not torch.equal(
        other(asked.network, images, targets), map_function("random", asked)(asked.network, images, targets)
    )


def right_alone(asked: Subject) -> dict[str, float]:
    """The judge's gap for each fill on the images that the network answers rightly."""
    right = asked.predictions == asked.labels
    assert 0 < int(right.sum()) < COUNT
    judged = judge_curves(asked.judge, asked.images[right], asked.labels[right], maps()[right], asked.config)
    return {f"judge_gap_right_{fill}": judged.areas[f"judge_gap_{fill}"] for fill in ("mean", "black")}


def test_the_judge_on_rightly_answered_images() -> None:
    asked = subject()
    found = map_quality(asked, maps(), still).metrics
    expected = right_alone(asked)
    assert {name: found[name] for name in expected} == expected
    assert expected["judge_gap_right_mean"] != found["judge_gap_mean"]
    nothing = replace(asked, labels=(asked.predictions + 1) % 10)
    assert math.isnan(map_quality(nothing, maps(), still).metrics["judge_gap_right_mean"])


# -- several attribution methods

NAMES = ("gradient", "input_x_gradient", "random", "edges")
METRICS = {
    *(f"{kind}_{fill}" for kind in ("deletion_auc", "insertion_auc", "gap") for fill in ("mean", "black")),
    *(f"{kind}_{fill}" for kind in ("judge_gap", "judge_gap_right") for fill in ("mean", "black")),
    *("relevance_mass", "relevance_rank", "pointing_game", "gini", "stability", "sanity_spearman", "sanity_ssim"),
}


def configured(seed: int = 0, **settings: Any) -> RunConfig:
    config = run("smoot", seed=seed)
    chosen = replace(config.evaluation.attributions, **{"names": NAMES, "images": 12} | settings)
    return replace(config, evaluation=replace(config.evaluation, attributions=chosen))


def with_attributions(config: RunConfig | None = None, count: int = 20) -> Subject:
    asked = replace(subject().first(count), config=config or configured())
    right = torch.arange(count) % 3 == 0  # as if some were learned
    return replace(asked, predictions=torch.where(right, asked.labels, asked.predictions))


@cache
def measured() -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    return attribution_metrics(with_attributions())


def test_only_listed_networks_and_seeds_get_all_attributions() -> None:
    network = "digits-two_conv_small/smoot"
    assert gets_all_attributions(configured(networks=("a-b/c", network)))
    assert not gets_all_attributions(configured(networks=("digits-two_conv_small/plain",)))
    assert not gets_all_attributions(configured(1, networks=(network,)))
    assert gets_all_attributions(configured(1, networks=(network,), seeds=(0, 1)))


def test_every_method_has_the_numbers_of_a_record() -> None:
    metrics, _ = measured()
    assert tuple(metrics) == NAMES
    assert all(set(numbers) == METRICS for numbers in metrics.values())


def test_numbers_are_those_of_the_maps_of_the_first_images() -> None:
    few = with_attributions().first(12)
    for name in NAMES:
        maps_of = map_function(name, few)
        direct = map_quality(few, maps_of(few.network, few.images, few.predictions), maps_of).metrics
        found = measured()[0][name]
        for key in METRICS - {"sanity_spearman", "sanity_ssim"}:
            assert found[key] == direct[key], (name, key)
    alone = attribution_metrics(with_attributions(count=12))
    assert alone == measured()


def test_the_cascade_is_recorded_layer_by_layer() -> None:
    metrics, sanity = measured()
    few = with_attributions().first(12)
    draws = few.draws("sanity")
    expected = cascading_randomisation(few.network, few.images, few.predictions, NAMES, batch_size=64, generator=draws)
    assert sanity["layers"] == list(expected.layers) and set(sanity) == {"layers", *NAMES}
    for name in NAMES:
        assert sanity[name] == {"spearman": list(expected.spearman[name]), "ssim": list(expected.ssim[name])}
        assert metrics[name]["sanity_spearman"] == expected.spearman[name][-1]
        assert metrics[name]["sanity_ssim"] == expected.ssim[name][-1]


def test_sample_maps_are_those_of_the_asked_images() -> None:
    asked = with_attributions()
    maps = attribution_samples(asked, NAMES, [3, 11, 18])
    assert maps.shape == (4, 3, 8, 8) and maps.dtype == np.float32
    rows = torch.tensor([3, 11, 18])
    for name, found in zip(NAMES, maps, strict=True):
        expected = map_function(name, asked)(asked.network, asked.images[rows], asked.predictions[rows])
        assert np.array_equal(found, expected.numpy())
    assert attribution_samples(asked, (), [3, 11]).shape == (0, 2, 8, 8)
