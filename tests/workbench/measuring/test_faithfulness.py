"""Curves of a run's settings: by hand, by name, by seed."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from tiny_runs import run
from torch import Tensor, nn

from smoot.curves import perturbation_curves
from workbench.measuring.faithfulness import areas, faithfulness_curves, named_fill

# The two classes' weights differ by 4, -3, -2 and 1.
NETWORK = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
NETWORK[1].weight.data = torch.tensor([[4.0, -1.0, 0.0, 0.0], [0.0, 2.0, 2.0, -1.0]])
SALIENCY = torch.tensor([4.0, 3.0, 2.0, 1.0]).view(1, 2, 2).expand(10, 2, 2)


class Wrapped(nn.Module):
    """A function as a network."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.forward = function


def images() -> tuple[Tensor, Tensor]:
    pixels = torch.rand(10, 1, 2, 2, generator=torch.Generator().manual_seed(4))
    return pixels, (NETWORK(pixels).argmax(1) + (torch.arange(10) % 4 == 0)) % 2


def by_hand(ranking: Tensor, fill: float, *, insertion: bool = False) -> list[float]:
    """Accuracy at 0, 1, ... of the most salient pixels removed (or shown), one image and pixel after the other."""
    scores = []
    for count in range(5):
        right = 0
        for image, label, values in zip(*images(), ranking.flatten(1), strict=True):
            first = sorted(range(4), key=lambda pixel, values=values: -float(values[pixel]))[:count]
            flat = image.clone().view(-1)
            flat[[pixel for pixel in range(4) if (pixel in first) != insertion]] = fill
            right += int(NETWORK(flat.view(1, 1, 2, 2)).argmax()) == int(label)
        scores.append(right / 10)
    return scores


def test_curves_against_a_loop_over_images_and_pixels() -> None:
    config = run(evaluation={"curve_steps": 4, "batch_size": 3})
    reverse = 5 - SALIENCY
    found = faithfulness_curves(NETWORK, *images(), [SALIENCY, reverse], config)
    for saliency, curves in zip((SALIENCY, reverse), found, strict=True):
        metrics = areas(curves)
        for name, fill in {"mean": config.dataset.mean[0], "black": 0.0}.items():
            expected = {"deletion": by_hand(saliency, fill), "insertion": by_hand(saliency, fill, insertion=True)}
            assert set(curves[name]) == set(expected)
            for kind, scores in expected.items():
                assert curves[name][kind] == pytest.approx(scores)
                area = sum((a + b) / 2 / 4 for a, b in itertools.pairwise(scores))
                assert metrics[f"{kind}_auc_{name}"] == pytest.approx(area)
            assert metrics[f"gap_{name}"] == metrics[f"insertion_auc_{name}"] - metrics[f"deletion_auc_{name}"] != 0
        assert len(metrics) == 6
    assert found[0] != found[1]


def test_the_ends_that_all_maps_share_are_classified_once() -> None:
    config, seen = run(evaluation={"curve_steps": 4, "batch_size": 100, "fills": ("black",)}), []

    def counted(pixels: Tensor) -> Tensor:
        seen.append(len(pixels))
        return NETWORK(pixels)

    faithfulness_curves(Wrapped(counted), *images(), [SALIENCY, 5 - SALIENCY], config)
    assert sum(seen) == 10 * (2 + 2 * 2 * 3)  # two ends, then deletion and insertion of each map between them


def test_fills_by_name() -> None:
    dataset = replace(run().dataset, mean=(0.2, 0.6), std=(1.0, 1.0))
    assert named_fill("mean", dataset) == ("constant", pytest.approx(0.4))
    assert named_fill("black", dataset) == ("constant", 0.0)
    assert named_fill("noise", dataset) == ("uniform", 0.0)


def test_a_noise_fill_is_that_of_the_core_from_the_same_seed() -> None:
    config = run(evaluation={"fills": ("noise",), "curve_steps": 4, "batch_size": 4})
    (found,) = faithfulness_curves(NETWORK, *images(), [SALIENCY], config)
    expected = perturbation_curves(
        NETWORK,
        *images(),
        SALIENCY,
        fractions=(0.0, 0.25, 0.5, 0.75, 1.0),
        fill="uniform",
        score="accuracy",
        generator=torch.Generator().manual_seed(config.seed_for("random fill")),
    )
    assert found["noise"]["deletion"] == expected.deletion.score.tolist()
    assert found["noise"]["insertion"] == expected.insertion.score.tolist()
    assert areas(found)["insertion_auc_noise"] == pytest.approx(float(expected.insertion.auc))
