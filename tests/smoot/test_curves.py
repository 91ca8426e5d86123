"""Curves on a sum-of-pixels model and against brute force."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from sums import SumOfPixels
from torch import Tensor, nn

from smoot.curves import deletion_curve, insertion_curve, perturbation_curves
from smoot.masking import fill_masked

# Five pixels, P = 5: at fractions 0, 0.3, 0.5, 1 that is 0, 2, 3, 5 pixels (1.5 and 2.5 are rounded up).
PIXELS = torch.tensor([[2.0, 5.0, 1.0, 4.0, 3.0]])
FRACTIONS = (0.0, 0.3, 0.5, 1.0)
ZERO = torch.tensor([0])


def curve(kind: Any, inputs: Tensor = PIXELS, saliency: Tensor = PIXELS, **settings: Any) -> Any:
    targets = torch.zeros(len(inputs), dtype=torch.int64)
    settings = {"score": "log_odds", "fractions": FRACTIONS} | settings
    return kind(SumOfPixels(), inputs, targets, saliency, **settings)


def area(scores: list[float]) -> float:
    """Trapezoids over FRACTIONS."""
    first, second, third, last = scores
    return 0.3 * (first + second) / 2 + 0.2 * (second + third) / 2 + 0.5 * (third + last) / 2


@pytest.mark.parametrize("shape", [(1, 5), (1, 1, 5), (1, 1, 1, 5), (1, 1, 5, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_curves_by_hand_when_steps_do_not_divide_the_pixels(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    inputs = PIXELS.view(shape).to(dtype)
    saliency = inputs if len(shape) == 2 else inputs[:, 0]
    deletion = curve(deletion_curve, inputs, saliency)
    assert deletion.score.tolist() == [15, 6, 3, 0]  # 5 and 4 go first, then 3
    insertion = curve(insertion_curve, inputs, saliency)
    assert insertion.score.tolist() == [0, 9, 12, 15]
    for result in (deletion, insertion):
        torch.testing.assert_close(result.fraction, torch.tensor(FRACTIONS))
        assert result.auc.ndim == 0 and result.score.dtype == torch.float32
        assert result.auc.item() == pytest.approx(area(result.score.tolist()))


def test_the_other_scores_by_hand() -> None:
    probability = curve(deletion_curve, score="probability")
    expected = torch.tensor([1 / (1 + math.exp(-total)) for total in (15, 6, 3, 0)])
    torch.testing.assert_close(probability.score, expected)
    inputs = torch.tensor([[2.0, 5.0, 1.0, 4.0, -7.0]])
    accuracy = curve(deletion_curve, inputs, PIXELS, score="accuracy")
    # The saliency removes 5 and 4, then -7, then everything: sums 5, -4, 3, 0; equal logits answer class 0.
    assert accuracy.score.tolist() == [1, 0, 1, 1]


@pytest.mark.parametrize(
    ("settings", "deletion", "insertion"),
    [
        ({"fill": "constant", "value": 10.0}, [15, 26, 33, 50], [50, 39, 32, 15]),
        ({"fill": "mean"}, [15, 12, 12, 15], [15, 18, 18, 15]),
    ],
)
def test_fills_by_hand(settings: dict[str, Any], deletion: list[float], insertion: list[float]) -> None:
    assert curve(deletion_curve, **settings).score.tolist() == deletion
    assert curve(insertion_curve, **settings).score.tolist() == insertion


def test_scores_are_means_over_images_whatever_the_batches() -> None:
    inputs = torch.cat([PIXELS, 2 * PIXELS, torch.ones(1, 5)])
    # After 0, 2, 3, 5 pixels: 15, 6, 3, 0; twice that; and 5, 3, 2, 0.
    expected = torch.tensor([50 / 3, 21 / 3, 11 / 3, 0])
    for batch_size in (1, 2, 3, 5, 11, 256):
        torch.testing.assert_close(curve(deletion_curve, inputs, inputs, batch_size=batch_size).score, expected)


def test_ties_go_by_index_in_a_large_image_too() -> None:
    inputs = torch.arange(1000.0)[None]
    result = curve(deletion_curve, inputs, torch.ones(1, 1000), fractions=(0.0, 0.3, 1.0))
    assert result.score.tolist() == [499500, 499500 - 44850, 0]  # 0 to 299 go first


@pytest.mark.parametrize("kind", [deletion_curve, insertion_curve])
def test_random_fill_is_drawn_once_per_image(kind: Any, recorded: Callable, generator: Callable) -> None:
    inputs, saliency = torch.rand(3, 2, 4, 4), torch.rand(3, 4, 4)
    model, targets = SumOfPixels(), torch.zeros(3, dtype=torch.int64)
    with recorded(model) as calls:
        first = kind(model, inputs, targets, saliency, generator=generator(0), fill="uniform")
    steps = torch.cat([call.inputs for call in calls]).view(11, 3, 2, 4, 4)
    order = saliency.flatten(1).argsort(dim=1, descending=True)
    for step, (before, after) in enumerate(itertools.pairwise(steps)):
        first_pixel, end = (math.floor(share / 10 * 16 + 0.5) for share in (step, step + 1))
        changed = (before != after).any(1).flatten(1)
        for pixels, row in zip(order[:, first_pixel:end].tolist(), changed, strict=True):
            assert row.nonzero().flatten().tolist() == sorted(pixels)
    again = kind(model, inputs, targets, saliency, generator=generator(0), fill="uniform")
    other = kind(model, inputs, targets, saliency, generator=generator(1), fill="uniform")
    assert torch.equal(first.score, again.score) and not torch.equal(first.score, other.score)


# -- all three from one pass

FILLS = ["uniform", "mean", "constant"]


def ranked(saliency: Tensor) -> list[list[int]]:
    """Pixel indices of each image, most salient first, ties by index: written out."""
    return [sorted(range(row.numel()), key=lambda pixel: (-float(row[pixel]), pixel)) for row in saliency.flatten(1)]


def brute_force(
    model: nn.Module, inputs: Tensor, targets: Tensor, filled: Tensor, orders: list[list[int]], removed: bool
) -> list[float]:
    """Mean probability at each tenth, one image and one step at a time."""
    scores = []
    for step in range(11):
        total = 0.0
        for image, target, other, order in zip(inputs, targets, filled, orders, strict=True):
            first = set(order[: math.floor(step / 10 * len(order) + 0.5)])
            perturbed = image.clone().flatten(1)
            for pixel in order:
                if (pixel in first) == removed:
                    perturbed[:, pixel] = other.flatten(1)[:, pixel]
            total += model(perturbed.view(1, *image.shape)).softmax(1)[0, target].item()
        scores.append(total / len(inputs))
    return scores


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("batch_size", [7, 256])
def test_all_three_curves_by_brute_force(
    small_net: Callable, batch: Callable, generator: Callable, fill: Any, batch_size: int
) -> None:
    model, (images, labels) = small_net().eval(), batch()
    saliency = (5 * torch.rand(8, 6, 6)).floor()  # many ties
    settings: dict[str, Any] = {"fill": fill, "value": 0.3}
    curves = perturbation_curves(
        model, images, labels, saliency, batch_size=batch_size, generator=generator(0), **settings
    )
    draw = generator(0)
    filled = fill_masked(images, torch.ones(8, 6, 6, dtype=torch.bool), generator=draw, **settings)
    ranking = torch.rand(8, 6, 6, generator=draw)
    expected = {"deletion": (saliency, True), "insertion": (saliency, False), "random": (ranking, True)}
    with torch.no_grad():
        for name, (maps, removed) in expected.items():
            curve = getattr(curves, name)
            scores = brute_force(model, images, labels, filled, ranked(maps), removed)
            assert curve.score.tolist() == pytest.approx(scores, abs=1e-6), name
            areas = [0.1 * (a + b) / 2 for a, b in itertools.pairwise(scores)]
            assert curve.auc.item() == pytest.approx(sum(areas), abs=1e-6), name


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("score", ["probability", "accuracy", "log_odds"])
def test_one_pass_gives_what_the_single_curves_give_whatever_the_batches(
    small_net: Callable, batch: Callable, generator: Callable, fill: Any, score: Any
) -> None:
    model, (images, labels) = small_net(), batch(13)
    saliency = torch.rand(13, 6, 6)
    settings: dict[str, Any] = {"fill": fill, "score": score}
    given = (model, images, labels, saliency)
    together = perturbation_curves(*given, generator=generator(0), **settings)
    for single in (deletion_curve, insertion_curve):
        alone = single(*given, generator=generator(0), **settings)
        torch.testing.assert_close(vars(getattr(together, single.__name__.removesuffix("_curve"))), vars(alone))
    assert not torch.equal(together.random.score, together.deletion.score)
    for batch_size in (1, 13, 50):
        other = perturbation_curves(*given, generator=generator(0), batch_size=batch_size, **settings)
        for kind in ("deletion", "insertion", "random"):
            torch.testing.assert_close(vars(getattr(other, kind)), vars(getattr(together, kind)))


def test_the_random_curve_follows_the_generator_and_not_the_saliency(generator: Callable) -> None:
    inputs, targets = torch.rand(20, 30), torch.zeros(20, dtype=torch.int64)

    def random(saliency: Tensor, seed: int) -> Tensor:
        return perturbation_curves(SumOfPixels(), inputs, targets, saliency, generator=generator(seed)).random.score

    assert torch.equal(random(inputs, 0), random(-inputs, 0))
    assert not torch.equal(random(inputs, 0), random(inputs, 1))


def test_along_a_random_ranking_the_sum_falls_by_the_share_removed(generator: Callable) -> None:
    inputs, targets = torch.rand(4000, 20), torch.zeros(4000, dtype=torch.int64)
    curves = perturbation_curves(
        SumOfPixels(), inputs, targets, inputs, score="log_odds", generator=generator(9), batch_size=4096
    )
    torch.testing.assert_close(curves.random.score, 10 * (1 - curves.random.fraction), rtol=0, atol=0.1)
    assert curves.deletion.auc < curves.random.auc - 1 and curves.insertion.auc > curves.random.auc + 1
