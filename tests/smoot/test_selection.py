"""Which images a plan masks and which of them count, on hand-made logits."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch

from smoot.scheduler import MaskPlan
from smoot.selection import choose_images, image_weights

# Log-odds of label 0 with two classes: z_0 - z_1 = 2, -1, 5, 0.5, -1, 2.
LOGITS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [5.0, 0.0], [0.5, 0.0], [1.0, 2.0], [3.0, 1.0]])
ZEROS = torch.zeros(6, dtype=torch.int64)


def choose(order: str, count: int, generator: torch.Generator | None = None) -> list[int]:
    return choose_images(MaskPlan(order=order), LOGITS, ZEROS, count, generator).tolist()


@pytest.mark.parametrize(("order", "ranked"), [("hardest", [1, 4, 3, 0, 5, 2]), ("easiest", [2, 0, 5, 3, 1, 4])])
def test_hardest_and_easiest_by_log_odds_ties_by_index(order: str, ranked: list[int]) -> None:
    for count in range(2, 6):
        assert choose(order, count) == ranked[:count]
    assert sorted(choose(order, 6)) == list(range(6))


@pytest.mark.parametrize("order", ["hardest", "easiest"])
def test_ties_go_by_index_in_a_large_batch_too(order: str) -> None:
    logits, targets = torch.zeros(500, 3), torch.zeros(500, dtype=torch.int64)
    logits[::7, 0] = 1.0 if order == "easiest" else -1.0
    chosen = choose_images(MaskPlan(order=order), logits, targets, 200, None).tolist()
    first = list(range(0, 500, 7))
    assert chosen == first + [image for image in range(500) if image % 7][: 200 - len(first)]


def test_the_label_decides_what_is_hard_and_log_odds_differ_from_log_prob_of_the_runner_up() -> None:
    # Three classes, labels 0, 1, 2; log-odds: 1 - log(2) = 0.31, 3 - log(e^2.9 + 1) = 0.05, 0.
    logits = torch.tensor([[1.0, 0.0, 0.0], [0.0, 3.0, 2.9], [math.log(0.5)] * 2 + [0.0]])
    targets = torch.tensor([0, 1, 2])
    assert choose_images(MaskPlan(order="hardest"), logits, targets, 2, None).tolist() == [2, 1]
    assert choose_images(MaskPlan(order="easiest"), logits, targets, 2, None).tolist() == [0, 1]


def test_random_images_are_distinct_repeatable_and_equally_likely(generator: Callable) -> None:
    assert choose("random", 3, generator(1)) == choose("random", 3, generator(1))
    source, seen = generator(0), torch.zeros(6)
    for _ in range(2000):
        images = choose("random", 2, source)
        assert len(set(images)) == 2
        seen[images] += 1
    assert (seen / 2000 - 2 / 6).abs().max() < 0.045  # four standard errors


def test_all_images_need_no_draw(generator: Callable) -> None:
    source = generator(0)
    before = source.get_state()
    assert choose("random", 6, source) == list(range(6))
    assert torch.equal(source.get_state(), before)


# -- weights

MASK = torch.tensor([[True, False], [True, True], [False, False], [True, False]])
RIGHT = torch.tensor([True, False, True, True])
COST = torch.tensor([0.3, 0.1, 0.0, 0.2])
LOG_ODDS = torch.tensor([1.0, -2.0, 0.5, 3.0])


def weigh(**plan: object) -> list[float]:
    return image_weights(MaskPlan(**plan), MASK, RIGHT, COST, LOG_ODDS, 10).tolist()


def test_an_image_without_a_masked_pixel_weighs_nothing() -> None:
    assert weigh(order="random") == [1, 1, 0, 1]
    assert weigh(order="hardest") == [1, 1, 0, 1]


def test_easiest_drops_wrong_answers_and_only_easiest_does() -> None:
    assert weigh(order="easiest") == [1, 0, 0, 1]


def test_the_budget_by_hand() -> None:
    # Sorted costs 0.1, 0.2, 0.3 of images 1, 3, 0; sums over 10 images: 0.01, 0.03, 0.06.
    assert weigh(budget=0.005) == [0, 0, 0, 0]
    assert weigh(budget=0.02) == [0, 1, 0, 0]
    assert weigh(budget=0.05) == [0, 1, 0, 1]
    assert weigh(budget=0.07) == [1, 1, 0, 1]
    assert weigh(budget=math.inf) == [1, 1, 0, 1]
    assert weigh(budget=0.035, order="easiest") == [0, 0, 0, 1]
    assert weigh(budget=math.inf, order="easiest") == [1, 0, 0, 1]


def test_the_budget_in_other_orders_by_hand() -> None:
    # Image 2 has no masked pixel: it neither counts nor costs. As they come: images 0, 1, 3 at 0.03, 0.04, 0.06.
    assert weigh(budget=0.035, spend="random") == [1, 0, 0, 0]
    assert weigh(budget=0.045, spend="random") == [1, 1, 0, 0]
    # Hardest first: images 1, 0, 3 at 0.01, 0.04, 0.06; easiest first: 3, 0, 1 at 0.02, 0.05, 0.06.
    assert weigh(budget=0.045, spend="hardest") == [1, 1, 0, 0]
    assert weigh(budget=0.025, spend="easiest") == [0, 0, 0, 1]
    assert weigh(budget=0.055, spend="easiest") == [1, 0, 0, 1]
    assert all(weigh(budget=0.07, spend=order) == [1, 1, 0, 1] for order in ("random", "hardest", "easiest"))


def test_an_image_beyond_the_budget_ends_the_spending() -> None:
    # Smallest first would still take image 1 (0.1) beside image 3 (0.2); easiest first stops at image 0 (0.3).
    assert weigh(budget=0.035, spend="easiest") == [0, 0, 0, 1]
    assert weigh(budget=0.035) == [0, 1, 0, 1]


@pytest.mark.parametrize("order", ["random", "easiest"])
@pytest.mark.parametrize("budget", [0.01, 0.05, 0.1, 0.2, 0.4])
def test_no_subset_within_the_budget_is_larger(budget: float, order: str) -> None:
    source = torch.Generator().manual_seed(8)
    for _ in range(20):
        costs = torch.rand(7, generator=source, dtype=torch.float64).square()
        mask = torch.rand(7, 3, generator=source) < 0.6
        right = torch.rand(7, generator=source) < 0.7
        eligible = [image for image in range(7) if mask[image].any() and (right[image] or order == "random")]
        best = max(
            len(subset)
            for size in range(len(eligible) + 1)
            for subset in itertools.combinations(eligible, size)
            if sum(float(costs[image]) for image in subset) / 8 <= budget
        )
        weights = image_weights(MaskPlan(order=order, budget=budget), mask, right, costs, torch.zeros(7), 8)
        taken = weights.nonzero().flatten().tolist()
        assert len(taken) == best and set(taken) <= set(eligible)
        assert float((weights * costs).sum()) / 8 <= budget
        assert weights.dtype == torch.float64 and set(weights.tolist()) <= {0.0, 1.0}
