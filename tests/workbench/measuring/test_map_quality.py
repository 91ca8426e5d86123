"""All numbers of a set of maps together: names, parts, seeds."""

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import digits, fresh, run, trained_network
from torch import Tensor, nn

from smoot.metrics import gini_sparseness
from workbench.config.run import RunConfig
from workbench.measuring import map_quality as measuring
from workbench.measuring.attribution import attribution_map
from workbench.measuring.faithfulness import Curves, areas, faithfulness_curves
from workbench.measuring.judge import JUDGES, judge_curves
from workbench.measuring.localisation import region_scores
from workbench.measuring.map_quality import (
    Subject,
    attribution_metrics,
    attribution_samples,
    control_maps,
    gets_all_attributions,
    map_quality,
    maps_of,
    measured_maps,
    place_and_shape,
)
from workbench.measuring.stability import cascading_randomisation
from workbench.training.inference import predict

COUNT = 30


def subject(seed: int = 0, **evaluation: Any) -> Subject:
    config = run(seed=seed, evaluation=evaluation)
    network, regions = fresh(run()).network, digits().test_images[:COUNT, 0] > 0.1
    images, labels = digits().test_images[:COUNT], digits().test_labels[:COUNT]
    predictions = predict(network, images, batch_size=COUNT).argmax(1)
    return Subject(network, judges(), images, labels, predictions, regions, config)


@cache
def judges() -> dict[str, nn.Module]:
    return {name: trained_network(run(seed=seed)) for name, seed in zip(JUDGES, (5, 6), strict=True)}


def maps(seed: int = 0) -> Tensor:
    return torch.rand(COUNT, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_it_is_the_sum_of_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    monkeypatch.setattr(measuring, "maps_of", lambda name, subject, images: seen.append(images) or maps())
    for seed in (0, 1):
        asked = subject(seed, stability_std=0.2)
        found = map_quality(asked, maps(), "gradient")
        (own,) = faithfulness_curves(asked.network, asked.images, asked.labels, [maps()], asked.config)
        judged = {name: curves_of(judge, asked) for name, judge in asked.judges.items()}
        gaps = {
            f"{name}_gap_right_{fill}": areas(curves)[f"gap_{fill}"]
            for name, curves in judged.items()
            for fill in ("mean", "black")
        }
        placed = region_scores(maps(), asked.regions, 1)
        shape = {"gini": pytest.approx(float(gini_sparseness(maps()).mean())), "stability": pytest.approx(1.0)}
        expected = {**areas(own), **placed, **gaps, **shape}
        assert dict(found.metrics) == expected
        assert len({expected["gap_mean"], gaps["judge_gap_right_mean"], gaps["second_judge_gap_right_mean"]}) > 1
        for fill in ("mean", "black"):
            of_judge = {f"judge_{kind}": scores for kind, scores in judged["judge"][fill].items()}
            assert found.curves[fill] == {**own[fill], **of_judge} and len(of_judge) == 2
        assert float((seen[-1] - asked.images).std()) == pytest.approx(0.2, rel=0.05)
    assert len(seen) == 2 and not torch.equal(*seen)  # other noise for another seed


def curves_of(judge: nn.Module, asked: Subject) -> Curves:
    assert 0 < int((asked.predictions == asked.labels).sum()) < COUNT
    return judge_curves(judge, asked.images, asked.labels, asked.predictions, [maps()], asked.config)[0]


def test_maps_measured_together_have_the_numbers_that_each_has_alone() -> None:
    asked = subject()
    together = measured_maps(asked, [maps(), maps(1)])
    alone = [measured_maps(asked, [saliency])[0] for saliency in (maps(), maps(1))]
    assert together == alone and alone[0] != alone[1]


def test_controls_are_noise_of_the_runs_seed_and_edges_of_the_image() -> None:
    found, again, other = (control_maps(subject(seed)) for seed in (0, 0, 1))
    assert list(found) == ["random", "edges"]
    draws = torch.Generator().manual_seed(subject().config.seed_for("random map"))
    assert torch.equal(found["random"], torch.rand(COUNT, 8, 8, generator=draws))
    assert torch.equal(found["random"], again["random"]) and not torch.equal(found["random"], other["random"])
    assert torch.equal(found["edges"], maps_of("edges", subject())) and torch.equal(found["edges"], other["edges"])


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


NAMES = ("gradient", "input_x_gradient", "random", "edges")
METRICS = {
    *(f"{kind}_{fill}" for kind in ("deletion_auc", "insertion_auc", "gap") for fill in ("mean", "black")),
    *(f"{judge}_gap_right_{fill}" for judge in JUDGES for fill in ("mean", "black")),
    *("relevance_mass", "relevance_rank", "pointing_game", "gini", "stability", "sanity_spearman", "sanity_ssim"),
}


def configured(seed: int = 0, **settings: Any) -> RunConfig:
    chosen = replace(run().evaluation.attributions, **{"names": NAMES, "images": 12} | settings)
    return run("smoot", seed=seed, evaluation={"attributions": chosen})


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
        assert metrics[name] == {**map_quality(few, maps_of(name, few), name).metrics, **last}


def test_sample_maps_are_those_of_the_asked_images() -> None:
    asked = with_attributions()
    maps = attribution_samples(asked, NAMES, [3, 11, 18])
    assert maps.shape == (4, 3, 8, 8) and maps.dtype == np.float32
    for name, found in zip(NAMES, maps, strict=True):
        if name != "random":  # whose draws depend on the number of images
            assert np.allclose(found, maps_of(name, asked)[[3, 11, 18]].numpy(), atol=1e-6)
    assert attribution_samples(asked, (), [3, 11]).shape == (0, 2, 8, 8)
