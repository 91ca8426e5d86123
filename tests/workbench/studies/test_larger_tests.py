"""What the documents say of the larger tests and of the study of the stem: recomputed from the committed results."""

import re

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import timm
import torch
from paired import difference, interval, prose, shown, table

from workbench.config import paths
from workbench.results.samples import relative_saliency

TEXT = prose("docs/replication.md")
PLAIN_TEXT = re.sub(r" points(?= \[)", "", TEXT).replace("+", "")
GAP, MASS = "judge_gap_right_mean", "relevance_mass"
PHOTOGRAPHS = "photographs_scratch/caltech101-resnet18"


@pytest.mark.parametrize(
    ("profile", "method", "other", "measure", "digits"),
    [
        ("full_size", "plain", "smoot", "accuracy", 2),
        ("full_size", "plain", "sgt", "accuracy", 1),
        ("full_size", "smoot", "plain", MASS, 1),
        ("full_size", "share_25", "random", MASS, 1),
        ("full_size", "smoot", "plain", "judge_gap_right_black", 1),
        ("full_size", "smoot", "plain", "second_judge_gap_right_mean", 1),
        ("full_size", "share_25", "smoot", GAP, 1),
        ("full_size", "share_25", "smoot", "second_judge_gap_right_mean", 1),
        ("full_size", "sgt", "smoot", GAP, 1),
        ("full_size", "sgt", "smoot", "second_judge_gap_right_mean", 1),
        ("photographs_scratch", "plain", "sgt", "accuracy", 1),
        ("photographs_scratch", "plain", "smoot", "accuracy", 1),
        ("photographs_scratch", "smoot", "plain", "accuracy_noise", 1),
    ],
)
def test_the_differences_in_the_text(profile: str, method: str, other: str, measure: str, digits: int) -> None:
    values = difference(table(profile), method, other, measure)
    assert len(values) == 3 and re.search(rf"(?<![\d.−]){re.escape(shown(values, digits))}", PLAIN_TEXT)


def test_on_all_of_fashion_mnist_only_the_constant_share_is_clearly_above_a_random_map_on_the_object() -> None:
    runs = table("full_size")
    methods = set(runs["method"])
    found = {method: interval(difference(runs, method, "random", MASS)) for method in methods}
    assert {method for method, (_, low, _) in found.items() if low > 0} == {"share_25"}
    assert {method for method, (_, _, high) in found.items() if high < 0} == {"random_mask", "sgt_improved"}
    for method in methods:
        _, low, high = interval(difference(runs, method, "random", GAP))
        assert low < 0 < high
    noise = runs.groupby("method")["accuracy_noise"].mean().mul(100)
    for method, words in {
        "smoot": "answers {} % of the",
        "plain": "plain training {} %",
        "share_25": "a constant 25 % of the images {} %",
        "sgt": "SGT {} % ([all",
    }.items():
        assert words.format(f"{noise[method]:.1f}") in TEXT


def test_on_photographs_no_map_is_above_chance_for_the_judge_and_all_are_for_the_others() -> None:
    runs = table("photographs_scratch")
    methods = set(runs["method"])
    found = {method: interval(difference(runs, method, "random", GAP)) for method in methods}
    assert not any(low > 0 for _, low, _ in found.values())
    assert {method for method, (_, _, high) in found.items() if high > 0} == {"random_mask"}
    for measure, least, most in (("gap_mean", 33, 48), ("second_judge_gap_right_mean", 16, 20)):
        means = [difference(runs, method, "random", measure).mean() for method in methods]
        assert (round(min(means)), round(max(means))) == (least, most)
        assert f"{least} to {most}" in TEXT


def maps(setting: str, method: str) -> npt.NDArray[np.float64]:
    with np.load(paths.ROOT / "results" / setting / "samples.npz") as samples:
        return np.asarray(samples[f"{method}/saliency"], dtype=np.float64)


def alike(found: npt.NDArray[np.float64]) -> float:
    """Mean correlation of two different maps ``(N, H, W)``."""
    together = np.corrcoef(found.reshape(len(found), -1))
    return float(together[np.triu_indices(len(found), 1)].mean())


@pytest.mark.parametrize(
    ("setting", "methods", "words"),
    [
        (PHOTOGRAPHS, ("plain", "smoot"), "by {} on average for plain training and {} for SMOOT"),
        ("photographs/caltech101-efficientnet_lite0", ("plain",), "with EfficientNet-Lite0 by {}."),
        ("laptop/fashion_mnist-resnet10_strided", ("plain", "smoot"), "{} and {} with the strided ResNet"),
        (
            "full_size/fashion_mnist-resnet10_strided",
            ("plain", "smoot"),
            "{} and {} with the one on all of Fashion-MNIST",
        ),
        ("laptop/fashion_mnist-two_conv_small", ("plain", "smoot"), "{} and {} with the two-convolution net"),
        ("resnet18/cifar10_jpeg-resnet18", ("plain", "smoot"), "{} and {} with ResNet-18 on CIFAR-10"),
        ("full_cifar10/cifar10_jpeg-resnet10_thin", ("sgt_improved",), "SGT improved's grid on CIFAR-10 has {}"),
    ],
)
def test_how_alike_the_maps_of_different_classes_are(setting: str, methods: tuple[str, ...], words: str) -> None:
    assert words.format(*(f"{alike(maps(setting, method)):.2f}" for method in methods)) in TEXT


def untrained_maps(**options: bool) -> npt.NDArray[np.float64]:
    """Mean map of three untrained ResNets-18 on the photographs of the study, as for trained ones."""
    with np.load(paths.ROOT / "results" / PHOTOGRAPHS / "samples.npz") as samples:
        images = torch.from_numpy(samples["plain/images"]).float()
    assert float(images.max()) <= 1
    found = []
    for seed in range(3):
        torch.manual_seed(seed)
        network = timm.create_model("resnet18", num_classes=16, **options).eval()
        pixels = images.clone().requires_grad_()
        network((pixels - 0.5) / 0.5).amax(1).sum().backward()
        assert pixels.grad is not None
        found.append(pixels.grad.abs().mean(1))
    return np.mean([relative_saliency(one.numpy()) for one in found], axis=0)


def test_the_lattice_is_there_before_training_and_comes_from_shortcuts_that_skip_pixels() -> None:
    skipping, averaging = untrained_maps(), untrained_maps(avg_down=True)
    assert f"with three untrained ResNets-18 it is {alike(skipping):.2f}, with shortcuts that average" in TEXT
    assert f"(timm's `avg_down`) {alike(averaging):.2f}." in TEXT


STEMS = ("resnet10_thin", "resnet10_thin_strided", "resnet10_thin_averaged")


def of_stem(name: str, method: str, other: str, measure: str) -> "pd.Series[float]":
    """Method minus other on the networks of one stem of `studies/stem`, in points."""
    runs = pd.read_csv(paths.ROOT / "results" / "stem" / f"fashion_mnist-{name}" / "runs.csv")
    return difference(runs, method, other, measure)


@pytest.mark.parametrize(("measure", "digits"), [(GAP, 1), (MASS, 1), ("accuracy", 2)])
def test_what_masking_gains_with_each_stem(measure: str, digits: int) -> None:
    gains = [shown(of_stem(name, "smoot", "plain", measure), digits) for name in STEMS]
    assert f"{gains[0]}, {gains[1]} and {gains[2]}" in PLAIN_TEXT


def test_averaging_shortcuts_are_not_the_whole_reason() -> None:
    averaged, strided = (shown(of_stem(name, "plain", "random", MASS), 1) for name in (STEMS[2], STEMS[1]))
    assert f"on the object at {averaged} instead of {strided}" in PLAIN_TEXT
    same, less = (alike(maps(f"stem/fashion_mnist-{name}", "plain")) for name in (STEMS[1], STEMS[2]))
    assert f"they correlate by {less:.2f} instead of {same:.2f}" in TEXT
    for judge in ("judge", "second_judge"):
        for fill in ("mean", "black"):
            assert abs(of_stem(STEMS[2], "plain", "random", f"{judge}_gap_right_{fill}").mean()) < 2


def test_what_is_said_of_resnet18_on_cifar10() -> None:
    runs = table("resnet18")
    accuracy = runs.pivot(index="seed", columns="method", values="accuracy").mul(100)
    assert (accuracy.idxmin(axis=1) == "sgt").all() and (accuracy.idxmax(axis=1) == "random_mask").all()
    assert f"(on average {(accuracy['smoot'] - accuracy['sgt']).mean():.1f} points below SMOOT)" in TEXT
    assert f"SMOOT's mean is {(accuracy['smoot'] - accuracy['plain']).mean():.1f} points above plain" in TEXT
    ece = runs.groupby("method")["ece"].mean().mul(100)
    assert f"({ece['smoot']:.1f} against {ece['plain']:.1f} %), as every masking method's is" in TEXT
    assert ece.idxmax() == "plain"
    above = {method: difference(runs, method, "random", GAP).mean() for method in ece.index}
    assert (round(min(above.values())), round(max(above.values()))) == (2, 5)
    edges = runs[runs["method"] == "plain"]
    assert round(100 * float((edges[f"edges_{GAP}"] - edges[f"random_{GAP}"]).mean())) == 3


def test_how_accurate_the_judges_of_the_larger_tests_are() -> None:
    for profile, words in {
        "resnet18": "which answers {} % rightly, puts every|the second, at {} %, none clearly",
        "photographs_scratch": "which answers {} % of the test images|a narrow ResNet that answers {} % (16",
    }.items():
        judges = pd.read_csv(paths.ROOT / "results" / profile / "judges.csv")["accuracy"]
        for accuracy, said in zip(judges, words.split("|"), strict=True):
            assert said.format(f"{100 * accuracy:.0f}") in TEXT
    noise = table("photographs_scratch").groupby("method")["accuracy_noise"].mean().mul(100)
    assert f"({noise['smoot']:.1f}, {noise['random_mask']:.1f} and {noise['sgt']:.1f} %)" in TEXT
    masked = table("photographs_scratch", "epochs").query("method == 'smoot'")["masked_share"].mean()
    assert f"SMOOT, which masks {100 * masked:.0f} % of the images" in TEXT
