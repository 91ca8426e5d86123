"""Several attribution methods on one network: which runs, which numbers, which maps."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import digits, fresh, run
from workbench.measuring.attribution_quality import attribution_metrics, attribution_samples, explained_in_every_way
from workbench.measuring.sanity import cascading_randomisation

from workbench.config.run import RunConfig
from workbench.measuring.map_quality import Subject, map_quality, named_maps
from workbench.training.inference import answers

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


def subject(config: RunConfig | None = None, count: int = 20) -> Subject:
    network, judge = fresh(run()).network, fresh(run(seed=5)).network
    images, labels = digits().test_images[:count], digits().test_labels[:count]
    right = torch.arange(count) % 3 == 0  # as if some were learned
    predictions = torch.where(right, labels, answers(network, images, batch_size=count).argmax(1))
    return Subject(network, judge, images, labels, predictions, images[:, 0] > 0.1, config or configured())


@cache
def measured() -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    return attribution_metrics(subject())


def test_only_listed_cells_and_seeds_are_explained_in_every_way() -> None:
    cell = "digits/two_conv_small/smoot"
    assert explained_in_every_way(configured(cells=("a/b/c", cell)))
    assert not explained_in_every_way(configured(cells=("digits/two_conv_small/plain",)))
    assert not explained_in_every_way(configured(1, cells=(cell,)))
    assert explained_in_every_way(configured(1, cells=(cell,), seeds=(0, 1)))
    assert not explained_in_every_way(configured(cells=()))


def test_every_method_has_the_numbers_of_a_record() -> None:
    metrics, _ = measured()
    assert tuple(metrics) == NAMES
    assert all(set(numbers) == METRICS for numbers in metrics.values())


def test_numbers_are_those_of_the_maps_of_the_first_images() -> None:
    few = subject().first(12)
    for name in NAMES:
        maps_of = named_maps(name, few)
        direct = map_quality(few, maps_of(few.network, few.images, few.predictions), maps_of).metrics
        found = measured()[0][name]
        for key in METRICS - {"sanity_spearman", "sanity_ssim"}:
            assert found[key] == direct[key], (name, key)
    alone = attribution_metrics(subject(count=12))
    assert alone == measured()


def test_the_cascade_is_recorded_layer_by_layer() -> None:
    metrics, sanity = measured()
    few = subject().first(12)
    draws = few.draws("sanity")
    expected = cascading_randomisation(few.network, few.images, few.predictions, NAMES, batch_size=64, generator=draws)
    assert sanity["layers"] == list(expected.layers) and set(sanity) == {"layers", *NAMES}
    for name in NAMES:
        assert sanity[name] == {"spearman": list(expected.spearman[name]), "ssim": list(expected.ssim[name])}
        assert metrics[name]["sanity_spearman"] == expected.spearman[name][-1]
        assert metrics[name]["sanity_ssim"] == expected.ssim[name][-1]


def test_controls_fail_the_sanity_check() -> None:
    for name in ("random", "edges"):
        assert measured()[0][name]["sanity_spearman"] == pytest.approx(1.0)
    assert measured()[0]["gradient"]["sanity_spearman"] < 0.9


def test_sample_maps_are_those_of_the_asked_images() -> None:
    asked = subject()
    maps = attribution_samples(asked, NAMES, [3, 11, 18])
    assert maps.shape == (4, 3, 8, 8) and maps.dtype == np.float32
    rows = torch.tensor([3, 11, 18])
    for name, found in zip(NAMES, maps, strict=True):
        expected = named_maps(name, asked)(asked.network, asked.images[rows], asked.predictions[rows])
        assert np.array_equal(found, expected.numpy())
    assert attribution_samples(asked, (), [3, 11]).shape == (0, 2, 8, 8)


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(ValueError, match="name is 'lime'"):
        attribution_metrics(subject(configured(names=("lime",))))
