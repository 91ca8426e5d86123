"""Curves of a run's settings: by hand, by name, by seed."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_runs import run
from torch import Tensor, nn

from smoot.curves import perturbation_curves
from workbench.config.run import RunConfig
from workbench.measuring.faithfulness import faithfulness_curves, named_fill

# The two classes' weights differ by 4, -3, -2 and 1.
NETWORK = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
NETWORK[1].weight.data = torch.tensor([[4.0, -1.0, 0.0, 0.0], [0.0, 2.0, 2.0, -1.0]])
SALIENCY = torch.tensor([4.0, 3.0, 2.0, 1.0]).view(1, 2, 2).expand(10, 2, 2)


def images() -> tuple[Tensor, Tensor]:
    pixels = torch.rand(10, 1, 2, 2, generator=torch.Generator().manual_seed(4))
    return pixels, (NETWORK(pixels).argmax(1) + (torch.arange(10) % 4 == 0)) % 2


def with_numbers(seed: int = 0, **evaluation: Any) -> RunConfig:
    config = run(seed=seed)
    return replace(config, evaluation=replace(config.evaluation, **evaluation))


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
    config = with_numbers(curve_steps=4, batch_size=3)
    found = faithfulness_curves(NETWORK, *images(), SALIENCY, config)
    ranking = torch.rand(10, 2, 2, generator=torch.Generator().manual_seed(config.seed_for("random ranking")))
    for name, fill in {"mean": config.dataset.mean[0], "black": 0.0}.items():
        expected = {
            "deletion": by_hand(SALIENCY, fill),
            "insertion": by_hand(SALIENCY, fill, insertion=True),
            "random": by_hand(ranking, fill),
        }
        for kind, scores in expected.items():
            assert found.curves[name][kind] == pytest.approx(scores)
            area = sum((a + b) / 2 / 4 for a, b in itertools.pairwise(scores))
            assert found.metrics[f"{kind}_auc_{name}"] == pytest.approx(area)
        gap = found.metrics[f"insertion_auc_{name}"] - found.metrics[f"deletion_auc_{name}"]
        assert found.metrics[f"gap_{name}"] == gap != 0
    assert len({tuple(scores) for scores in found.curves["mean"].values()}) == 3
    assert len(found.metrics) == 8


def test_fills_by_name() -> None:
    dataset = replace(run().dataset, mean=(0.2, 0.6), std=(1.0, 1.0))
    assert named_fill("mean", dataset) == ("constant", pytest.approx(0.4))
    assert named_fill("black", dataset) == ("constant", 0.0)
    assert named_fill("noise", dataset) == ("uniform", 0.0)


def test_a_noise_fill_is_that_of_the_core_from_the_same_seed() -> None:
    config = with_numbers(fills=("noise",), curve_steps=2, batch_size=4)
    found = faithfulness_curves(NETWORK, *images(), SALIENCY, config)
    expected = perturbation_curves(
        NETWORK,
        *images(),
        SALIENCY,
        fractions=(0.0, 0.5, 1.0),
        fill="uniform",
        score="accuracy",
        generator=torch.Generator().manual_seed(config.seed_for("random ranking")),
    )
    assert found.curves["noise"]["deletion"] == expected.deletion.score.tolist()
    assert found.curves["noise"]["random"] == expected.random.score.tolist()
    assert found.metrics["insertion_auc_noise"] == float(expected.insertion.auc)
