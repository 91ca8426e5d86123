"""Evaluation against numbers by hand, against second implementations, and for leaving the network alone."""

import itertools
import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import digits, fresh, run, same, split, weights
from torch import Tensor, nn

from smoot.saliency import input_gradient
from smoot.workbench.config import RunConfig
from smoot.workbench.data import ImageData
from smoot.workbench.evaluation import GRADIENT_EDGES, Evaluation, evaluate_network
from smoot.workbench.training import train_epoch


def image_data(images: Tensor, labels: list[int], classes: int) -> ImageData:
    """A data set whose training part nothing may touch."""
    nothing = torch.full((1, *images.shape[1:]), math.nan)
    return ImageData("some", nothing, torch.tensor([-1]), images, torch.tensor(labels), classes, "sha")


def linear(weight: list[list[float]]) -> nn.Sequential:
    layer = nn.Linear(len(weight[0]), len(weight), bias=False)
    layer.weight.data = torch.tensor(weight)
    return nn.Sequential(nn.Flatten(), layer)


def half_trained(config: RunConfig) -> nn.Module:
    """A network that answers most digits rightly, some of them with little confidence."""
    state, part = fresh(config), split(config)
    for epoch in (1, 2, 3):
        train_epoch(state, part.train_images, part.train_labels, config, epoch=epoch)
    return state.network


FIRST = 60  # images that explain every class
CONFIG = run("plain", "resnet10_narrow", dataset={"train_images": 200}, evaluation={"curve_images": FIRST})


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    return half_trained(CONFIG)


@pytest.fixture(scope="module")
def measured(trained: nn.Module) -> Evaluation:
    return evaluate_network(trained, digits(), CONFIG)


def with_numbers(**evaluation: Any) -> RunConfig:
    return replace(CONFIG, evaluation=replace(CONFIG.evaluation, **evaluation))


# -- accuracy, likelihood, calibration, noise


def test_accuracy_and_likelihood_by_hand() -> None:
    pixels = [[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.3, 0.4, 0.8], [0.6, 0.5, 0.1]]
    labels = [0, 1, 2, 1]  # the last one is answered 0
    images = image_data(torch.tensor(pixels).view(4, 1, 1, 3), labels, 3)
    metrics = evaluate_network(linear([[4.0, 0, 0], [0, 4.0, 0], [0, 0, 4.0]]), images, CONFIG).metrics
    shares = [
        math.exp(4 * row[label]) / sum(math.exp(4 * pixel) for pixel in row)
        for row, label in zip(pixels, labels, strict=True)
    ]
    assert metrics["accuracy"] == 0.75
    assert metrics["nll"] == pytest.approx(-sum(math.log(share) for share in shares) / 4, rel=1e-6)


def answers(network: nn.Module, images: Tensor) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        logits = network.eval()(images).double().numpy()
    odds: np.ndarray[Any, Any] = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def test_accuracy_and_likelihood_of_a_trained_network_against_numpy(trained: nn.Module, measured: Evaluation) -> None:
    shares, labels = answers(trained, digits().test_images), digits().test_labels.numpy()
    right = (shares.argmax(axis=1) == labels).mean()
    assert 0.4 < right < 1  # there is something to measure
    assert measured.metrics["accuracy"] == right
    assert measured.metrics["nll"] == pytest.approx(-np.log(shares[np.arange(360), labels]).mean(), rel=1e-5)


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
    metrics = evaluate_network(network, image_data(images, labels.tolist(), 3), with_numbers(ece_bins=bins)).metrics
    assert metrics["ece"] == pytest.approx(error, rel=1e-4) and error > 0.01


def noisy_images(config: RunConfig, network: nn.Module) -> Tensor:
    """The images that accuracy under noise is measured on."""
    seen: list[Tensor] = []
    handle = network.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].detach().clone()))
    evaluate_network(network, digits(), replace(config, evaluation=replace(config.evaluation, batch_size=360)))
    handle.remove()
    assert torch.equal(seen[0], digits().test_images)
    return seen[1]


def test_noise_is_the_same_for_every_method_and_backbone_and_another_for_another_seed(trained: nn.Module) -> None:
    noisy = noisy_images(CONFIG, trained)
    noise = noisy - digits().test_images
    assert float(noise.std()) == pytest.approx(0.3, rel=0.02) and abs(float(noise.mean())) < 0.01
    assert noisy.amin() < 0 and noisy.amax() > 1  # not cut off
    for method in ("sgt", "smoot"):
        torch.manual_seed(9)
        assert torch.equal(noisy_images(run(method), fresh(run(method)).network), noisy)
    assert not torch.equal(noisy_images(run(seed=1), trained), noisy)


def test_accuracy_under_noise_is_that_of_the_noisy_images(trained: nn.Module, measured: Evaluation) -> None:
    shares = answers(trained, noisy_images(CONFIG, trained))
    noisy = (shares.argmax(axis=1) == digits().test_labels.numpy()).mean()
    assert measured.metrics["accuracy_noise"] == noisy < measured.metrics["accuracy"]
    silent = evaluate_network(trained, digits(), with_numbers(noise_std=0.0)).metrics
    assert silent["accuracy_noise"] == silent["accuracy"]


# -- localisation and sparseness

# The two classes' weights differ by 4, -3, -2 and 1: so much is every pixel's saliency, whatever the image.
DIFFERENCES = linear([[4.0, -1.0, 0.0, 0.0], [0.0, 2.0, 2.0, -1.0]])


def four_pixels(*rows: list[float], labels: list[int]) -> ImageData:
    return image_data(torch.tensor(rows).view(-1, 1, 2, 2), labels, 2)


def test_localisation_by_hand_leaves_out_images_without_foreground() -> None:
    images = four_pixels(
        [0.5, 0.5, 0.1, 0.0],  # foreground: the pixels of 4 and 3; 0.1 is not above the threshold
        [0.0, 0.0, 0.2, 0.9],  # 2 and 1
        [0.1, 0.1, 0.0, 0.1],  # none
        [0.3, 0.0, 0.0, 0.4],  # 4 and 1; of the two most salient pixels one is inside
        labels=[0, 1, 0, 1],
    )
    metrics = evaluate_network(DIFFERENCES, images, CONFIG).metrics
    assert CONFIG.dataset.foreground_threshold == 0.1
    assert metrics["relevance_mass"] == pytest.approx((0.7 + 0.3 + 0.5) / 3)
    assert metrics["relevance_rank"] == pytest.approx((1.0 + 0.0 + 0.5) / 3)
    assert metrics["gini"] == pytest.approx((-3 * 1 - 1 * 2 + 1 * 3 + 3 * 4) / (4 * 10))


def test_foreground_is_judged_by_the_mean_over_channels() -> None:
    pixels = torch.tensor([[[0.18, 0.0]], [[0.0, 0.6]]])  # means 0.09 and 0.3: only the second pixel is foreground
    weight = [[3.0, 2.0, 0.0, 2.0], [0.0, 0.0, -3.0, 0.0]]  # by channel and pixel 3, 2 and 3, 2
    metrics = evaluate_network(linear(weight), image_data(pixels.view(1, 2, 1, 2), [0], 2), CONFIG).metrics
    assert metrics["relevance_mass"] == pytest.approx(2 / 5)
    assert metrics["relevance_rank"] == 0.0


def test_sparseness_is_that_of_all_images_with_and_without_foreground(trained: nn.Module) -> None:
    images = digits().test_images[:FIRST] * (torch.arange(FIRST) % 2).view(-1, 1, 1, 1)  # every other one is black
    labels = torch.from_numpy(answers(trained, images)).argmax(1)
    ascending = input_gradient(trained, images, labels).abs().mean(1).flatten(1).sort(dim=1).values.double().numpy()
    weight = 2 * np.arange(1, 65) - 64 - 1
    gini = (ascending * weight).sum(axis=1) / (64 * ascending.sum(axis=1))
    assert abs(gini.mean() - gini[1::2].mean()) > 1e-3
    metrics = evaluate_network(trained, image_data(images, labels.tolist(), 10), CONFIG).metrics
    assert metrics["gini"] == pytest.approx(gini.mean(), rel=1e-4)


def test_saliency_is_that_of_the_answer_and_not_of_the_label(trained: nn.Module) -> None:
    images = digits().test_images[:FIRST]
    labels = (torch.from_numpy(answers(trained, images)).argmax(1) + 1) % 10  # all answers are wrong
    samples = evaluate_network(trained, image_data(images, labels.tolist(), 10), CONFIG).samples
    shown, asked = torch.from_numpy(samples.images), torch.from_numpy(samples.labels)
    assert samples.predictions.tolist() == ((asked - 1) % 10).tolist()
    expected = input_gradient(trained, shown, (asked - 1) % 10, of="log_odds").abs().mean(1)
    other = input_gradient(trained, shown, asked, of="log_odds").abs().mean(1)
    found = torch.from_numpy(samples.saliency)
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-5)
    assert not torch.allclose(found, other, rtol=1e-2, atol=1e-5)


# -- curves


def curve_by_hand(
    images: Tensor, labels: Tensor, ranking: Tensor, network: nn.Module, fill: float, *, insertion: bool = False
) -> list[float]:
    """Accuracy at 0, 1, ... of the most salient pixels removed (or shown), one image and pixel after the other."""
    pixels = ranking[0].numel()
    scores = []
    for count in range(pixels + 1):
        right = 0
        for image, label, values in zip(images, labels, ranking.flatten(1), strict=True):
            first = sorted(range(pixels), key=lambda pixel, values=values: -float(values[pixel]))[:count]
            changed = [pixel for pixel in range(pixels) if (pixel in first) != insertion]
            flat = image.clone().view(-1)
            flat[changed] = fill
            right += int(network(flat.view(1, 1, 2, 2)).argmax()) == int(label)
        scores.append(right / len(images))
    return scores


def test_curves_against_a_loop_over_images_and_pixels() -> None:
    source = torch.Generator().manual_seed(4)
    images = torch.rand(12, 1, 2, 2, generator=source)
    labels = (DIFFERENCES(images).argmax(1) + (torch.arange(12) % 4 == 0)) % 2
    settings = with_numbers(curve_steps=4, curve_images=10, batch_size=3)
    found = evaluate_network(DIFFERENCES, image_data(images, labels.tolist(), 2), settings)
    images, labels = images[:10], labels[:10]
    draw = torch.Generator().manual_seed(CONFIG.stream("random ranking"))
    rankings = {
        "deletion": torch.tensor([4.0, 3.0, 2.0, 1.0]).expand(10, 4),
        "random": torch.rand(10, 2, 2, generator=draw),
    }
    for name, fill in {"mean": CONFIG.dataset.mean[0], "black": 0.0}.items():
        expected = {
            kind: curve_by_hand(images, labels, ranking, DIFFERENCES, fill) for kind, ranking in rankings.items()
        }
        expected["insertion"] = curve_by_hand(images, labels, rankings["deletion"], DIFFERENCES, fill, insertion=True)
        for kind, scores in expected.items():
            assert found.curves[name][kind] == pytest.approx(scores)
            area = sum((a + b) / 2 / 4 for a, b in itertools.pairwise(scores))
            assert found.metrics[f"{kind}_auc_{name}"] == pytest.approx(area)
    assert found.curves["fraction"] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert len({tuple(found.curves["mean"][kind]) for kind in ("deletion", "insertion", "random")}) == 3


def test_the_gap_is_insertion_minus_deletion(measured: Evaluation) -> None:
    metrics = measured.metrics
    for fill in ("mean", "black"):
        assert metrics[f"gap_{fill}"] == metrics[f"insertion_auc_{fill}"] - metrics[f"deletion_auc_{fill}"] != 0
    assert metrics["gap_mean"] != metrics["gap_black"]


def test_all_curves_meet_at_their_ends(trained: nn.Module, measured: Evaluation) -> None:
    shares = answers(trained, digits().test_images[:FIRST])
    whole = (shares.argmax(axis=1) == digits().test_labels[:FIRST].numpy()).mean()
    for fill in ("mean", "black"):
        curves = {kind: measured.curves[fill][kind] for kind in ("deletion", "insertion", "random")}
        assert all(len(scores) == 5 for scores in curves.values())
        assert curves["deletion"][0] == curves["insertion"][-1] == curves["random"][0] == pytest.approx(whole)
        assert curves["deletion"][-1] == curves["insertion"][0] == curves["random"][-1] < whole


def test_fills_are_the_data_sets_mean_and_black_and_noise() -> None:
    """Two channels of means 0.2 and 0.6; what stands in a wholly removed image."""
    config = with_numbers(fills=("mean", "black", "noise"), curve_steps=1)
    config = replace(config, dataset=replace(config.dataset, mean=(0.2, 0.6), std=(1.0, 1.0)))
    network, seen = linear([[1.0] * 8, [0.0] * 8]), []
    network.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].detach().clone()))
    images = 0.25 + 0.5 * torch.rand(6, 2, 2, 2)
    evaluate_network(network, image_data(images, [0] * 6, 2), config)
    ends = seen[-18:]  # three fills, of each: deletion, insertion and random, at 0 and at 1
    untouched = [torch.equal(end, images) for end in ends]
    assert untouched == [True, False, False, True, True, False] * 3
    removed = [end for end, whole in zip(ends, untouched, strict=True) if not whole]
    for mean, black, noise in zip(removed[:3], removed[3:6], removed[6:], strict=True):
        assert torch.equal(mean, torch.full_like(images, (0.2 + 0.6) / 2)) and not black.any()
        low, high = images.flatten(1).amin(1), images.flatten(1).amax(1)
        assert (noise.flatten(1).amin(1) >= low).all() and (noise.flatten(1).amax(1) <= high).all()
        assert noise.unique().numel() == images.numel()


def test_curves_with_noise_are_the_same_for_every_method(trained: nn.Module) -> None:
    found = [
        evaluate_network(trained, digits(), replace(run(method), evaluation=with_numbers(fills=("noise",)).evaluation))
        for method in ("plain", "smoot")
    ]
    assert found[0].curves == found[1].curves and set(found[0].curves) == {"fraction", "noise"}


def test_the_control_is_drawn_from_the_seed_alone(trained: nn.Module, measured: Evaluation) -> None:
    same_seed = evaluate_network(trained, digits(), replace(CONFIG, method=run("smoot").method))
    other = evaluate_network(trained, digits(), replace(CONFIG, seed=1))
    for fill in ("mean", "black"):
        assert same_seed.curves[fill] == measured.curves[fill]
        assert other.curves[fill]["random"] != measured.curves[fill]["random"]
        assert other.curves[fill]["deletion"] == measured.curves[fill]["deletion"]


# -- samples


def test_samples_are_the_first_image_of_each_class(trained: nn.Module, measured: Evaluation) -> None:
    labels = digits().test_labels.tolist()
    first = [labels.index(label) for label in range(10)]
    assert max(first) < FIRST
    assert measured.samples.labels.tolist() == list(range(10))
    assert np.array_equal(measured.samples.images, digits().test_images[first].numpy())
    assert measured.samples.predictions.tolist() == answers(trained, digits().test_images[first]).argmax(1).tolist()
    assert measured.samples.saliency.shape == (10, 8, 8) and measured.samples.saliency.dtype == np.float32


def test_a_class_that_the_first_images_do_not_show_has_no_sample(trained: nn.Module) -> None:
    samples = evaluate_network(trained, digits(), with_numbers(curve_images=7)).samples
    shown = sorted(set(digits().test_labels[:7].tolist()))
    assert 1 < len(shown) < 7  # some class twice, some not at all
    assert samples.labels.tolist() == shown


def test_gradients_are_counted_by_magnitude_and_none_is_lost(measured: Evaluation) -> None:
    images = four_pixels([0.5, 0.5, 0.1, 0.0], [0.0, 0.0, 0.2, 0.9], [0.4, 0.2, 0.2, 0.9], labels=[0, 1, 0])
    counts = {}
    for scale in (1.0, 0.0, 1e-12, 1e9):
        scaled = linear((DIFFERENCES.get_parameter("1.weight") * scale).tolist())
        samples = evaluate_network(scaled, images, CONFIG).samples
        assert np.array_equal(samples.gradient_edges, GRADIENT_EDGES)
        counts[scale] = samples.gradient_counts
    expected = np.zeros(66, dtype=np.int64)
    for magnitude in (4, 3, 2, 1):
        expected[math.floor((math.log10(magnitude) + 8) * 6)] += 3  # six bins a decade, from 10^-8 on
    assert expected.max() == 3
    assert np.array_equal(counts[1.0], expected)
    assert counts[0.0].tolist() == counts[1e-12].tolist() == [12] + [0] * 65
    assert counts[1e9].tolist() == [0] * 65 + [12]
    assert measured.samples.gradient_counts.sum() == FIRST * 64


# -- what is used, and what is left alone


def test_curves_and_saliency_see_the_first_images_only(trained: nn.Module, measured: Evaluation) -> None:
    first = replace(digits(), test_images=digits().test_images[:FIRST], test_labels=digits().test_labels[:FIRST])
    alone = evaluate_network(trained, first, CONFIG)
    about_all = {"accuracy", "nll", "ece", "accuracy_noise"}
    for name in set(measured.metrics) - about_all:
        assert alone.metrics[name] == pytest.approx(measured.metrics[name], rel=1e-5), name
    assert alone.metrics["nll"] != pytest.approx(measured.metrics["nll"], rel=1e-3)
    assert alone.curves == measured.curves


def test_the_names_are_those_of_a_record(measured: Evaluation) -> None:
    kinds = ("deletion_auc", "insertion_auc", "random_auc", "gap")
    by_fill = {f"{kind}_{fill}" for kind in kinds for fill in ("mean", "black")}
    others = {"accuracy", "nll", "ece", "accuracy_noise", "relevance_mass", "relevance_rank", "gini"}
    assert set(measured.metrics) == others | by_fill
    assert set(measured.curves) == {"fraction", "mean", "black"}
    assert all(type(value) is float and math.isfinite(value) for value in measured.metrics.values())
    fractions = set(measured.metrics) - {"nll", "gap_mean", "gap_black"}
    assert all(0 <= measured.metrics[name] <= 1 for name in fractions)


def test_measured_twice_it_is_the_same(trained: nn.Module, measured: Evaluation) -> None:
    torch.manual_seed(1234)
    again = evaluate_network(trained, digits(), CONFIG)
    assert json.dumps([again.metrics, again.curves]) == json.dumps([measured.metrics, measured.curves])
    for name in ("images", "labels", "predictions", "saliency", "gradient_counts"):
        assert np.array_equal(getattr(again.samples, name), getattr(measured.samples, name)), name


def test_the_batch_size_changes_nothing_but_rounding(trained: nn.Module, measured: Evaluation) -> None:
    parts = evaluate_network(trained, digits(), with_numbers(batch_size=7))
    assert parts.metrics == pytest.approx(measured.metrics, rel=1e-4)
    assert parts.curves["fraction"] == measured.curves["fraction"]
    for fill in ("mean", "black"):
        for kind, scores in measured.curves[fill].items():
            assert parts.curves[fill][kind] == pytest.approx(scores, abs=1e-6)


@pytest.mark.parametrize("name", ["two_conv_small", "resnet10_narrow"])
def test_the_network_is_left_as_it_was(name: str) -> None:
    network = fresh(run("plain", name)).network
    network.train()
    frozen = next(module for module in network.modules() if isinstance(module, nn.Dropout | nn.BatchNorm2d))
    frozen.eval()
    before, modes = weights(network), [module.training for module in network.modules()]
    random = torch.get_rng_state()
    images = digits().test_images.clone()
    evaluate_network(network, digits(), CONFIG)
    assert same(weights(network), before)
    assert [module.training for module in network.modules()] == modes and modes.count(False) == 1
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
    assert torch.equal(digits().test_images, images)
    assert torch.equal(torch.get_rng_state(), random)


def test_a_network_in_training_mode_is_measured_in_eval_mode(trained: nn.Module, measured: Evaluation) -> None:
    trained.train()
    again = evaluate_network(trained, digits(), CONFIG)
    trained.eval()
    assert again.metrics == measured.metrics
