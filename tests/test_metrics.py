"""Curves on a sum-of-pixels model and closed forms of the other measures."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smoot.masking import random_mask
from smoot.metrics import deletion_curve, gini_sparseness, insertion_curve, relevance_mass, relevance_rank

DTYPES = [torch.float32, torch.bfloat16]


class SumOfPixels(nn.Module):
    """Logits (sum of all pixels, 0): the log-odds of class 0 are the sum itself."""

    def forward(self, inputs: Tensor) -> Tensor:
        total = inputs.flatten(1).sum(1)
        return torch.stack([total, torch.zeros_like(total)], dim=1)


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
@pytest.mark.parametrize("dtype", DTYPES)
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
    for batch_size in (1, 2, 3, 256):
        torch.testing.assert_close(curve(deletion_curve, inputs, inputs, batch_size=batch_size).score, expected)
    spatial = torch.rand(7, 3, 4, 5)
    maps = torch.rand(7, 4, 5)
    one = curve(insertion_curve, spatial, maps, batch_size=7)
    torch.testing.assert_close(one.score, curve(insertion_curve, spatial, maps, batch_size=3).score)


def test_ties_go_by_pixel_index_and_all_channels_of_a_pixel_go_together(recorded: Callable) -> None:
    inputs = torch.arange(1.0, 9.0).view(1, 2, 2, 2)
    model = SumOfPixels()
    with recorded(model) as calls:
        deletion_curve(model, inputs, ZERO, torch.ones(1, 2, 2), fractions=(0.0, 0.25, 0.5, 1.0))
    seen = [call.inputs.flatten().tolist() for call in calls]
    assert seen == [
        [1, 2, 3, 4, 5, 6, 7, 8],
        [0, 2, 3, 4, 0, 6, 7, 8],
        [0, 0, 3, 4, 0, 0, 7, 8],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ]


def test_ties_go_by_index_in_a_large_image_too() -> None:
    inputs = torch.arange(1000.0)[None]
    result = curve(deletion_curve, inputs, torch.ones(1, 1000), fractions=(0.0, 0.3, 1.0))
    assert result.score.tolist() == [499500, 499500 - 44850, 0]  # 0 to 299 go first


def test_the_default_steps_are_tenths() -> None:
    result = deletion_curve(SumOfPixels(), PIXELS, ZERO, PIXELS)
    torch.testing.assert_close(result.fraction, torch.linspace(0, 1, 11))
    assert result.score[0].item() == pytest.approx(1 / (1 + math.exp(-15)))
    assert result.score[-1].item() == pytest.approx(0.5)


@pytest.mark.parametrize("kind", [deletion_curve, insertion_curve])
def test_random_fill_is_drawn_once_an_image(kind: Any, recorded: Callable, generator: Callable) -> None:
    inputs, saliency = torch.rand(3, 2, 4, 4), torch.rand(3, 4, 4)
    model, targets = SumOfPixels(), torch.zeros(3, dtype=torch.int64)
    with recorded(model) as calls:
        first = kind(model, inputs, targets, saliency, fill="uniform", generator=generator(0))
    order = saliency.flatten(1).argsort(dim=1, descending=True)
    for step, (before, after) in enumerate(itertools.pairwise(calls)):
        count = [math.floor(share / 10 * 16 + 0.5) for share in (step, step + 1)]
        changed = (before.inputs != after.inputs).any(1).flatten(1)
        for image in range(3):
            expected = set(order[image, count[0] : count[1]].tolist())
            assert set(changed[image].nonzero().flatten().tolist()) == expected
    again = kind(model, inputs, targets, saliency, fill="uniform", generator=generator(0))
    other = kind(model, inputs, targets, saliency, fill="uniform", generator=generator(1))
    assert torch.equal(first.score, again.score) and not torch.equal(first.score, other.score)


@pytest.mark.parametrize("fill", ["uniform", "mean", "constant"])
def test_the_ends_of_both_curves_meet(
    small_net: Callable[..., nn.Sequential], batch: Callable, generator: Callable, fill: str
) -> None:
    model, (images, labels) = small_net().eval(), batch()
    saliency = torch.rand(8, 6, 6)
    with torch.no_grad():
        clean = model(images).softmax(1).gather(1, labels[:, None]).mean()
    deletion = deletion_curve(model, images, labels, saliency, fill=fill, generator=generator(0))
    insertion = insertion_curve(model, images, labels, saliency, fill=fill, generator=generator(0))
    torch.testing.assert_close(deletion.score[0], clean)
    torch.testing.assert_close(insertion.score[-1], clean)
    torch.testing.assert_close(deletion.score[-1], insertion.score[0])


def test_a_better_ranking_deletes_faster_and_inserts_faster() -> None:
    inputs = torch.rand(50, 30)
    for score in ("log_odds", "probability"):
        for kind, sign in ((deletion_curve, -1), (insertion_curve, 1)):
            best, random, worst = (
                curve(kind, inputs, saliency, score=score, fractions=(0.0, 0.1, 0.2, 0.4, 0.7, 1.0)).auc
                for saliency in (inputs, torch.rand(50, 30), -inputs)
            )
            assert sign * best > sign * random > sign * worst


def test_the_model_and_the_inputs_are_left_as_they_were(
    small_net: Callable[..., nn.Sequential], batch: Callable, recorded: Callable
) -> None:
    model, (images, labels) = small_net(dropout=0.5), batch()
    model[1].eval()
    modes = [module.training for module in model.modules()]
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    kept, saliency = images.clone(), torch.rand(8, 6, 6)
    kept_saliency = saliency.clone()
    with recorded(model) as calls:
        result = deletion_curve(model, images, labels, saliency, batch_size=5)
    assert len(calls) == 2 * 11 and not any(call.training for call in calls)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in model.named_buffers())
    assert torch.equal(images, kept) and torch.equal(saliency, kept_saliency)
    assert not result.score.requires_grad and all(p.grad is None for p in model.parameters())


# -- localisation

HALF = torch.tensor([[True, True, False, False]])


@pytest.mark.parametrize(
    ("saliency", "mass", "rank"),
    [
        ([4.0, 3.0, 2.0, 1.0], 0.7, 1.0),
        ([1.0, 2.0, 3.0, 4.0], 0.3, 0.0),
        ([4.0, 0.0, 3.0, 1.0], 0.5, 0.5),
        ([0.0, 5.0, 0.0, 0.0], 1.0, 1.0),  # the tie among zeros goes to the first pixel
        ([0.0, 0.0, 5.0, 0.0], 0.0, 0.5),
        ([1.0, 1.0, 1.0, 1.0], 0.5, 1.0),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_relevance_by_hand(saliency: list[float], mass: float, rank: float, dtype: torch.dtype) -> None:
    maps = torch.tensor([saliency], dtype=dtype)
    assert relevance_mass(maps, HALF).tolist() == pytest.approx([mass])
    assert relevance_rank(maps, HALF).tolist() == pytest.approx([rank])


def test_relevance_of_images_with_regions_of_their_own() -> None:
    saliency = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 8.0]]])
    region = torch.tensor([[[False, False], [False, True]], [[True, True], [True, False]]])
    assert relevance_mass(saliency, region).tolist() == pytest.approx([0.4, 0.0])
    assert relevance_rank(saliency, region).tolist() == pytest.approx([1.0, 2 / 3])
    everything = torch.ones_like(region)
    assert relevance_mass(saliency, everything).tolist() == [1, 1]
    assert relevance_rank(saliency, everything).tolist() == [1, 1]


def test_relevance_of_random_maps_is_the_regions_share(generator: Callable) -> None:
    saliency = torch.rand(2000, 8, 8, generator=generator(0))
    region = random_mask((2000, 8, 8), 0.25, generator=generator(1))
    assert relevance_mass(saliency, region).mean().item() == pytest.approx(0.25, abs=0.01)
    assert relevance_rank(saliency, region).mean().item() == pytest.approx(0.25, abs=0.01)


def test_no_saliency_has_no_relevance_mass() -> None:
    mass = relevance_mass(torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 3.0]]), HALF.repeat(2, 1))
    assert mass[0].isnan() and mass[1] == 0.25


# -- sparseness


@pytest.mark.parametrize("dtype", DTYPES)
def test_gini_closed_forms(dtype: torch.dtype) -> None:
    def gini(values: list[float]) -> float:
        return gini_sparseness(torch.tensor([values], dtype=dtype)).item()

    assert gini([3.0, 3.0, 3.0, 3.0, 3.0]) == pytest.approx(0.0, abs=1e-6)
    assert gini([0.0, 0.0, 7.0, 0.0]) == pytest.approx(1 - 1 / 4)
    assert gini([4.0, 1.0, 3.0, 2.0]) == pytest.approx(0.25)  # (-3 * 1 - 2 + 3 + 3 * 4) / (4 * 10)
    assert gini([0.0, 1.0]) == pytest.approx(0.5)
    assert math.isnan(gini([0.0, 0.0, 0.0]))


@pytest.mark.parametrize("shape", [(3, 12), (3, 4, 5)])
def test_gini_is_half_the_relative_mean_difference(shape: tuple[int, ...]) -> None:
    saliency = torch.rand(shape).square()
    expected = []
    for row in saliency.flatten(1).double():
        differences = (row[:, None] - row[None, :]).abs().mean()
        expected.append(float(differences / (2 * row.mean())))
    assert gini_sparseness(saliency).tolist() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(gini_sparseness(1000 * saliency), gini_sparseness(saliency))


def test_half_precision_maps_are_measured_in_float32() -> None:
    saliency = torch.rand(2, 1000).to(torch.bfloat16)  # bfloat16 cannot count to 1000
    region = torch.rand(2, 1000) < 0.4
    for half, full in (
        (gini_sparseness(saliency), gini_sparseness(saliency.double())),
        (relevance_mass(saliency, region), relevance_mass(saliency.double(), region)),
    ):
        assert half.dtype == torch.float32
        torch.testing.assert_close(half.double(), full, rtol=1e-5, atol=0)
