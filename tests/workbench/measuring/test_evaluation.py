"""Evaluation against numbers by hand, against second implementations, and for leaving the network alone."""

import itertools
import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import digits, fresh, run, same, trained_network, weights
from torch import Tensor, nn

from smoot.saliency import input_gradient
from workbench.config.run import ModelConfig, RunConfig
from workbench.data import sets as data
from workbench.data.sets import ImageData
from workbench.measuring.evaluation import GRADIENT_EDGES, Evaluation, evaluate_network, evaluate_run
from workbench.measuring.judge import JUDGES
from workbench.measuring.localisation import grid_pointing
from workbench.measuring.map_quality import (
    Subject,
    attribution_metrics,
    control_maps,
    map_quality,
    maps_of,
    measured_maps,
)
from workbench.measuring.robustness import attacked, blurred, noisy
from workbench.reporting.chance import controlled
from workbench.training.inference import accuracy
from workbench.training.networks import save_weights


def image_data(images: Tensor, labels: list[int], classes: int) -> ImageData:
    """A data set whose training part nothing may touch."""
    nothing = torch.full((1, *images.shape[1:]), math.nan)
    return ImageData("some", nothing, torch.tensor([-1]), images, torch.tensor(labels), classes, "sha")


def linear(weight: list[list[float]]) -> nn.Sequential:
    layer = nn.Linear(len(weight[0]), len(weight), bias=False)
    layer.weight.data = torch.tensor(weight)
    return nn.Sequential(nn.Flatten(), layer)


FIRST = 60  # images that explain every class
CONFIG = run("plain", "resnet10_narrow", dataset={"train_images": 200}, evaluation={"curve_images": FIRST})


@cache
def trained() -> nn.Module:
    return trained_network(CONFIG)


@cache
def judges() -> dict[str, nn.Module]:
    config = run("plain", "two_conv_small", dataset={"train_images": 400})
    return {name: trained_network(replace(config, seed=seed)) for name, seed in zip(JUDGES, (9, 8), strict=True)}


@cache
def measured() -> Evaluation:
    return evaluate_network(trained(), digits(), CONFIG, judges())


def evaluated(network: nn.Module, images: ImageData, config: RunConfig = CONFIG) -> Evaluation:
    """What does not depend on a judge: the network is its own."""
    return evaluate_network(network, images, config, {"judge": network})


def with_numbers(**evaluation: Any) -> RunConfig:
    return replace(CONFIG, evaluation=replace(CONFIG.evaluation, **evaluation))


def subject(config: RunConfig = CONFIG) -> Subject:
    """The first digits as :func:`evaluate_network` should explain them."""
    images, labels = digits().test_images[:FIRST], digits().test_labels[:FIRST]
    predictions = torch.from_numpy(answers(trained(), images)).argmax(1)
    return Subject(trained(), judges(), images, labels, predictions, images.mean(1) > 0.1, config)


# -- a run


def stored(network: nn.Module, file: Path) -> Path:
    save_weights(network.state_dict(), file)
    return file


def test_a_run_is_measured_with_its_stored_network_and_judges(tmp_path: Path) -> None:
    weights, kept = stored(trained(), tmp_path / "run"), stored_judges(tmp_path)
    found = evaluate_run(CONFIG, digits(), weights, kept)
    assert found.metrics == measured().metrics and found.curves == measured().curves
    last = replace(CONFIG, training=replace(CONFIG.training, channels_last=True))  # an order of the same numbers
    assert evaluate_run(last, digits(), weights, kept).metrics == pytest.approx(dict(measured().metrics), rel=1e-3)
    with pytest.raises(FileNotFoundError, match="missing is missing: train this run first"):
        evaluate_run(CONFIG, digits(), tmp_path / "missing", kept)


def stored_judges(folder: Path) -> dict[str, tuple[ModelConfig, Path]]:
    return {name: (run().backbone, stored(network, folder / name)) for name, network in judges().items()}


def test_development_images_stand_in_for_the_test_split(tmp_path: Path) -> None:
    config = replace(CONFIG, dataset=replace(CONFIG.dataset, development_images=90))
    found = evaluate_run(config, digits(), stored(trained(), tmp_path / "run"), stored_judges(tmp_path))
    index = data.split(digits(), **config.split_arguments()).development_index
    images, labels = digits().train_images[index], digits().train_labels[index]
    assert len(index) == 90 and found.metrics["accuracy"] == accuracy(trained(), images, labels, batch_size=64)


# -- accuracy, likelihood, calibration


def answers(network: nn.Module, images: Tensor) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        logits = network.eval()(images).double().numpy()
    odds: np.ndarray[Any, Any] = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def test_accuracy_and_likelihood_of_a_trained_network_against_numpy() -> None:
    shares, labels = answers(trained(), digits().test_images), digits().test_labels.numpy()
    right = (shares.argmax(axis=1) == labels).mean()
    assert 0.4 < right < 1  # there is something to measure
    assert measured().metrics["accuracy"] == right
    assert measured().metrics["nll"] == pytest.approx(-np.log(shares[np.arange(360), labels]).mean(), rel=1e-5)


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_calibration_against_numpy(bins: int) -> None:
    images = torch.rand(400, 1, 1, 3, generator=torch.Generator().manual_seed(2))
    network = linear([[6.0, 0, 0], [0, 6.0, 0], [0, 0, 6.0]])
    shares = answers(network, images)
    # two of three answers are right, the certain and the uncertain ones alike
    labels = (shares.argmax(axis=1) + (np.arange(400) % 3 == 0)) % 3
    confidence, right = shares.max(axis=1), shares.argmax(axis=1) == labels
    error, signs = 0.0, set()
    for low, high in itertools.pairwise(np.arange(bins + 1) / bins):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            signs.add(right[inside].mean() > confidence[inside].mean())
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert len(signs) == min(bins, 2)  # too certain here, too uncertain there: the number of bins matters
    metrics = evaluated(network, image_data(images, labels.tolist(), 3), with_numbers(ece_bins=bins)).metrics
    assert metrics["ece"] == pytest.approx(error, rel=1e-4) and error > 0.01


# -- what is put together


def test_numbers_are_those_of_the_parts_on_the_first_images_with_the_runs_draws() -> None:
    images, labels, asked = digits().test_images, digits().test_labels, subject()
    quality = map_quality(asked, maps_of("gradient", asked), "gradient")
    controls = {name: measured_maps(asked, [saliency])[0] for name, saliency in control_maps(asked).items()}
    attack = {"epsilon": 0.03, "steps": 2, "batch_size": 64, "generator": asked.draws("attack")}
    disturbed = {
        "noise": noisy(images[:80], 0.3, asked.draws("noise")),
        "blur": blurred(images[:80], 1.0),
        "pgd": attacked(trained(), images[:20], labels[:20], **attack),
    }
    grids = {"count": 4, "batch_size": 64, "generator": asked.draws("mosaics")}
    expected = {
        **{name: measured().metrics[name] for name in ("accuracy", "nll", "ece")},
        **{
            f"accuracy_{name}": accuracy(trained(), pixels, labels[: len(pixels)], batch_size=64)
            for name, pixels in disturbed.items()
        },
        **quality.metrics,
        "grid_pointing": grid_pointing(trained(), images[:FIRST], labels[:FIRST], **grids),
        **{f"{kind}_{name}": value for kind, own in controls.items() for name, value in own.metrics.items()},
    }
    assert measured().metrics == expected
    assert measured().curves["fraction"] == [0.0, 0.25, 0.5, 0.75, 1.0]
    for fill in ("mean", "black"):
        by_chance = controls["random"].curves[fill]
        control = {"random": by_chance["deletion"], "judge_random": by_chance["judge_deletion"]}
        assert measured().curves[fill] == {**quality.curves[fill], **control}
    assert expected["accuracy_noise"] < expected["accuracy"] and 0 < expected["grid_pointing"] < 1
    share = float((images[:FIRST] > 0.1).double().mean())
    assert expected["random_relevance_mass"] == pytest.approx(share, abs=0.05)
    assert expected["random_gini"] == pytest.approx(1 / 3, abs=0.03)  # of uniform numbers
    assert abs(expected["random_gap_mean"]) < 0.1 < expected["edges_relevance_mass"]


# -- localisation and sparseness

# The two classes' weights differ by 4, -3, -2 and 1: so much is every pixel's saliency, whatever the image.
DIFFERENCES = linear([[4.0, -1.0, 0.0, 0.0], [0.0, 2.0, 2.0, -1.0]])


def four_pixels(*rows: list[float], labels: list[int]) -> ImageData:
    return image_data(torch.tensor(rows).view(-1, 1, 2, 2), labels, 2)


def test_foreground_is_judged_by_the_mean_over_channels() -> None:
    pixels = torch.tensor([[[0.18, 0.0]], [[0.0, 0.6]]])  # means 0.09 and 0.3: only the second pixel is foreground
    weight = [[3.0, 2.0, 0.0, 2.0], [0.0, 0.0, -3.0, 0.0]]  # by channel and pixel 3, 2 and 3, 2
    metrics = evaluated(linear(weight), image_data(pixels.view(1, 2, 1, 2), [0], 2)).metrics
    assert metrics["relevance_mass"] == pytest.approx(2 / 5)
    assert metrics["relevance_rank"] == 0.0


def test_saliency_is_that_of_the_answer_and_not_of_the_label() -> None:
    images = digits().test_images[:FIRST]
    labels = (torch.from_numpy(answers(trained(), images)).argmax(1) + 1) % 10  # all answers are wrong
    samples = evaluated(trained(), image_data(images, labels.tolist(), 10)).samples
    shown, asked = torch.from_numpy(samples.images), torch.from_numpy(samples.labels)
    assert samples.predictions.tolist() == ((asked - 1) % 10).tolist()
    expected = input_gradient(trained(), shown, (asked - 1) % 10, score="log_odds").abs().mean(1)
    other = input_gradient(trained(), shown, asked, score="log_odds").abs().mean(1)
    found = torch.from_numpy(samples.saliency)
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-5)
    assert not torch.allclose(found, other, rtol=1e-2, atol=1e-5)


def test_known_regions_take_the_place_of_the_foreground() -> None:
    images = four_pixels([0.5, 0.5, 0.5, 0.5], [0.4, 0.4, 0.4, 0.4], labels=[0, 1])
    regions = torch.tensor([[1, 0, 0, 0], [0, 0, 1, 1]]).bool().view(2, 2, 2)
    for given, expected in ((None, 1.0), (regions, (0.4 + 0.3) / 2)):
        metrics = evaluated(DIFFERENCES, replace(images, test_regions=given)).metrics
        assert metrics["relevance_mass"] == pytest.approx(expected)


# -- the seed


def test_the_control_is_drawn_from_the_seed_alone() -> None:
    same_seed = evaluate_network(trained(), digits(), replace(CONFIG, method=run("smoot").method), judges())
    other = evaluate_network(trained(), digits(), replace(CONFIG, seed=1), judges())
    assert same_seed.metrics == measured().metrics
    for fill in ("mean", "black"):
        assert same_seed.curves[fill] == measured().curves[fill]
        assert other.curves[fill]["random"] != measured().curves[fill]["random"]
        assert other.curves[fill]["deletion"] == measured().curves[fill]["deletion"]


# -- other attribution methods


def listed() -> RunConfig:
    names, networks = ("gradient", "random", "edges"), (CONFIG.network,)
    return with_numbers(attributions=replace(CONFIG.evaluation.attributions, names=names, networks=networks))


def test_listed_runs_alone_get_all_attributions() -> None:
    found = evaluate_network(trained(), digits(), listed(), judges())
    attributions, sanity = attribution_metrics(subject(listed()))
    assert found.attributions == attributions and found.sanity == sanity
    assert tuple(found.attributions) == ("gradient", "random", "edges")
    assert found.metrics == measured().metrics  # nothing else depends on it
    for other in (measured(), evaluated(trained(), digits(), replace(listed(), seed=1))):
        assert other.attributions == {} and other.sanity == {}
        assert other.samples.attribution_names.size == 0 and other.samples.attributions.shape == (0, 10, 8, 8)
    samples = found.samples
    assert samples.attribution_names.tolist() == ["gradient", "random", "edges"]
    assert samples.attributions.shape == (3, 10, 8, 8) and samples.attributions.dtype == np.float32
    assert np.allclose(samples.attributions[0], samples.saliency, rtol=1e-3, atol=1e-5)


# -- samples


@pytest.mark.parametrize(("count", "classes"), [(FIRST, 10), (10, 8)])  # some classes have several images, some none
def test_samples_are_the_first_image_of_each_class_shown(count: int, classes: int) -> None:
    samples = evaluated(trained(), digits(), with_numbers(curve_images=count)).samples
    labels = digits().test_labels[:count].tolist()
    shown = sorted(set(labels))
    first = digits().test_images[[labels.index(label) for label in shown]]
    assert samples.labels.tolist() == shown and len(shown) == classes
    assert np.array_equal(samples.images, first.numpy())
    assert samples.predictions.tolist() == answers(trained(), first).argmax(1).tolist()
    assert samples.saliency.shape == (classes, 8, 8) and samples.saliency.dtype == np.float32


def test_gradients_are_counted_by_magnitude_and_none_is_lost() -> None:
    images = four_pixels([0.5, 0.5, 0.1, 0.0], [0.0, 0.0, 0.2, 0.9], [0.4, 0.2, 0.2, 0.9], labels=[0, 1, 0])
    counts = {}
    for scale in (1.0, 0.0, 1e-12, 1e9):
        scaled = linear((DIFFERENCES.get_parameter("1.weight") * scale).tolist())
        samples = evaluated(scaled, images).samples
        assert np.array_equal(samples.gradient_edges, GRADIENT_EDGES)
        counts[scale] = samples.gradient_counts
    expected = np.zeros(66, dtype=np.int64)
    for magnitude in (4, 3, 2, 1):
        expected[math.floor((math.log10(magnitude) + 8) * 6)] += 3  # six bins a decade, from 10^-8 on
    assert expected.max() == 3
    assert np.array_equal(counts[1.0], expected)
    assert counts[0.0].tolist() == counts[1e-12].tolist() == [12] + [0] * 65
    assert counts[1e9].tolist() == [0] * 65 + [12]
    assert measured().samples.gradient_counts.sum() == FIRST * 64


# -- what is used, and what is left alone


def test_the_names_are_those_of_a_record() -> None:
    areas = ("deletion_auc", "insertion_auc", "gap", "judge_gap_right", "second_judge_gap_right")
    right = {"accuracy", "nll", "ece", "accuracy_noise", "accuracy_blur", "accuracy_pgd"}
    placed = {"relevance_mass", "relevance_rank", "pointing_game", "gini"}
    of_maps = placed | {f"{area}_{fill}" for area in areas for fill in ("mean", "black")}
    controls = {f"{control}_{name}" for control in ("random", "edges") for name in of_maps}
    assert set(measured().metrics) == right | of_maps | controls | {"grid_pointing", "stability"}
    assert of_maps == set(controlled(("mean", "black")))
    assert set(measured().curves) == {"fraction", "mean", "black"}
    kinds = {f"{who}{kind}" for who in ("", "judge_") for kind in ("deletion", "insertion", "random")}
    assert set(measured().curves["mean"]) == set(measured().curves["black"]) == kinds
    assert all(type(value) is float and math.isfinite(value) for value in measured().metrics.values())
    signed = {"nll", "stability"} | {name for name in measured().metrics if "gap" in name}
    assert all(0 <= measured().metrics[name] <= 1 for name in set(measured().metrics) - signed)
    assert all(-1 <= measured().metrics[name] <= 1 for name in signed - {"nll"})


def test_measured_twice_and_in_whatever_mode_it_is_the_same() -> None:
    torch.manual_seed(1234)
    for network in (trained(), *judges().values()):
        network.train()
    again = evaluate_network(trained(), digits(), CONFIG, judges())
    for network in (trained(), *judges().values()):
        network.eval()
    assert json.dumps([again.metrics, again.curves]) == json.dumps([measured().metrics, measured().curves])
    for name in ("images", "labels", "predictions", "saliency", "gradient_counts"):
        assert np.array_equal(getattr(again.samples, name), getattr(measured().samples, name)), name


def test_the_batch_size_changes_nothing_but_rounding() -> None:
    parts = evaluate_network(trained(), digits(), with_numbers(batch_size=7), judges())
    expected = dict(measured().metrics) | {"accuracy_pgd": parts.metrics["accuracy_pgd"]}  # its start is drawn by batch
    assert parts.metrics == pytest.approx(expected, rel=1e-3)
    for fill in ("mean", "black"):
        for kind, scores in measured().curves[fill].items():
            assert parts.curves[fill][kind] == pytest.approx(scores, abs=1e-6)


def frozen_layer(network: nn.Module) -> nn.Module:
    """The network in training mode but for one layer."""
    network.train()
    next(module for module in network.modules() if isinstance(module, nn.Dropout | nn.BatchNorm2d)).eval()
    return network


@pytest.mark.parametrize("name", ["two_conv_small", "resnet10_narrow"])
def test_networks_are_left_as_they_were(name: str) -> None:
    networks = [frozen_layer(fresh(run("plain", kind)).network) for kind in (name, "two_conv_small")]
    before = [weights(network) for network in networks]
    modes = [[module.training for module in network.modules()] for network in networks]
    random, images = torch.get_rng_state(), digits().test_images.clone()
    evaluate_network(networks[0], digits(), listed(), {"judge": networks[1]})
    for network, tensors, training in zip(networks, before, modes, strict=True):
        assert same(weights(network), tensors)
        assert [module.training for module in network.modules()] == training and training.count(False) == 1
        assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
    assert torch.equal(digits().test_images, images)
    assert torch.equal(torch.get_rng_state(), random)
