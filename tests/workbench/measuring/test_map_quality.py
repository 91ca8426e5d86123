"""All numbers of a set of maps together: names, parts, seeds."""

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import digits, fresh, run
from torch import Tensor

from smoot.metrics import gini_sparseness
from workbench.config.run import RunConfig
from workbench.measuring import map_quality as measuring
from workbench.measuring.attribution import attribution_map
from workbench.measuring.faithfulness import faithfulness_curves
from workbench.measuring.judge import judge_curves
from workbench.measuring.localisation import region_scores
from workbench.measuring.map_quality import (
    Subject,
    attribution_metrics,
    attribution_samples,
    gets_all_attributions,
    map_quality,
    maps_of,
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


def test_it_is_the_sum_of_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    monkeypatch.setattr(measuring, "maps_of", lambda name, subject, images: seen.append(images) or maps())
    for seed in (0, 1):
        asked = subject(seed, stability_std=0.2)
        found = map_quality(asked, maps(), "gradient")
        own = faithfulness_curves(asked.network, asked.images, asked.labels, maps(), asked.config)
        judged = judge_curves(asked.judge, asked.images, asked.labels, maps(), asked.config)
        placed = region_scores(maps(), asked.regions, 1)
        shape = {"gini": pytest.approx(float(gini_sparseness(maps()).mean())), "stability": pytest.approx(1.0)}
        expected = {**own.metrics, **judged.metrics, **right_alone(asked), **placed, **shape}
        assert dict(found.metrics) == expected and list(found.metrics) == list(expected)
        assert own.metrics["gap_mean"] != judged.metrics["judge_gap_mean"] != expected["judge_gap_right_mean"]
        for fill in ("mean", "black"):
            assert found.curves[fill] == {**own.curves[fill], **judged.curves[fill]}
            assert len(found.curves[fill]) == 6
        assert float((seen[-1] - asked.images).std()) == pytest.approx(0.2, rel=0.05)
    assert len(seen) == 2 and not torch.equal(*seen)  # other noise for another seed


def right_alone(asked: Subject) -> dict[str, float]:
    """The judge's gap for each fill on the images that the network classifies correctly."""
    right = asked.predictions == asked.labels
    assert 0 < int(right.sum()) < COUNT
    judged = judge_curves(asked.judge, asked.images[right], asked.labels[right], maps()[right], asked.config)
    return {f"judge_gap_right_{fill}": judged.metrics[f"judge_gap_{fill}"] for fill in ("mean", "black")}


def test_without_a_correct_image_the_gap_over_correct_images_is_undefined() -> None:
    asked = subject()
    nothing = replace(asked, labels=(asked.predictions + 1) % 10)
    assert math.isnan(map_quality(nothing, maps(), "gradient").metrics["judge_gap_right_mean"])


def test_sparseness_is_that_of_all_images_with_and_without_a_region() -> None:
    asked = subject()
    half = replace(asked, regions=asked.regions & (torch.arange(COUNT) % 2 == 0).view(-1, 1, 1))
    first, second = place_and_shape(asked, maps()), place_and_shape(half, maps())
    assert first["gini"] == second["gini"]
    assert first["relevance_mass"] != second["relevance_mass"]
    nowhere = place_and_shape(replace(asked, regions=torch.zeros_like(asked.regions)), maps())
    assert math.isnan(nowhere["relevance_mass"]) and nowhere["gini"] == first["gini"]


@pytest.mark.parametrize("name", ["gradient", "random", "smooth_gradient"])
def test_named_maps_start_from_the_runs_seed_at_every_call(name: str) -> None:
    asked = subject(batch_size=8)
    draws = torch.Generator().manual_seed(asked.config.seed_for("attributions"))
    images, targets = asked.images, asked.predictions
    expected = attribution_map(name, asked.network, images, targets, batch_size=8, generator=draws)
    assert torch.equal(maps_of(name, asked), expected) and torch.equal(maps_of(name, asked, images), expected)
    other = maps_of(name, subject(seed=1, batch_size=8))
    assert torch.equal(other, expected) == (name == "gradient")
    assert torch.equal(maps_of(name, asked, 1 - images), expected) == (name == "random")


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


def with_attributions(count: int = 20) -> Subject:
    asked = replace(subject().only(slice(count)), config=configured())
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


def test_numbers_are_those_of_the_maps_of_the_first_images() -> None:
    metrics, sanity = measured()
    assert tuple(metrics) == NAMES and all(set(numbers) == METRICS for numbers in metrics.values())
    few = with_attributions(count=12)
    draws = few.draws("sanity")
    layers, cascade = cascading_randomisation(
        few.network, few.images, few.predictions, NAMES, batch_size=64, generator=draws
    )
    assert sanity == {"layers": layers, **cascade}
    for name in NAMES:
        last = {f"sanity_{kind}": values[-1] for kind, values in cascade[name].items()}
        direct = {**map_quality(few, maps_of(name, few), name).metrics, **last}
        assert metrics[name] == {key: direct[key] for key in METRICS}


def test_sample_maps_are_those_of_the_asked_images() -> None:
    asked = with_attributions()
    maps = attribution_samples(asked, NAMES, [3, 11, 18])
    assert maps.shape == (4, 3, 8, 8) and maps.dtype == np.float32
    for name, found in zip(NAMES, maps, strict=True):
        if name != "random":  # whose draws depend on the number of images
            assert np.allclose(found, maps_of(name, asked)[[3, 11, 18]].numpy(), atol=1e-6)
    assert attribution_samples(asked, (), [3, 11]).shape == (0, 2, 8, 8)
