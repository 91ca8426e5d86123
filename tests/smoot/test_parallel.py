"""Training in several processes: the same plans everywhere, one synchronisation per step, the whole batch's course."""

from typing import Any

import pytest
import torch
from ranks import (
    HALF,
    MEAN_FILL,
    RANKS,
    WAYS,
    WRAPPERS,
    Course,
    LayersInTurn,
    gap_batches,
    images_of,
    network,
    one_hot,
    per_image_course,
    run_ranks,
    whole_course,
)
from torch import Tensor, nn

from smoot import Classification, ConstantSchedule, Feedback, MultiLabel, guided_loss
from smoot.criterion import SaliencyGuidedLoss, stand_ins
from smoot.parallel import averaged, check_wrapper, num_ranks, unsynchronised, unwrapped

DISTRIBUTED = tuple(wrapper for wrapper in WRAPPERS if wrapper != "sharded")
Brought = list[dict[str, Any]]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Brought, list[int | None]]:
    """What came of all scenarios, and the exit codes of the processes."""
    return run_ranks(RANKS, tmp_path_factory.mktemp("ranks"))


@pytest.fixture
def brought(ended: tuple[Brought, list[int | None]]) -> Brought:
    """What each rank brought back."""
    assert all(ended[0]), f"a rank brought nothing back: exit codes {ended[1]}"
    return ended[0]


def farthest(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference between tensors of the same names; infinite numbers may be equal."""
    assert one.keys() == other.keys()
    pairs = [(one[name].double(), other[name].double()) for name in one]
    return max(float(torch.where(first == second, 0.0, first - second).abs().max()) for first, second in pairs)


@pytest.mark.parametrize("norm", [False, True], ids=["no norm", "batch norm"])
@pytest.mark.parametrize("wrapper", DISTRIBUTED)
@pytest.mark.parametrize("way", WAYS)
def test_all_ranks_follow_the_same_plans_to_the_same_weights(
    brought: Brought, way: str, wrapper: str, norm: bool
) -> None:
    first, *others = [rank[f"adaptive {way} {wrapper} {norm}"] for rank in brought]
    assert len({plan.image_fraction for plan in first.plans}) > 5 and sum(first.masked) > 4
    for other in others:
        assert other.plans == first.plans
        assert farthest(other.weights, first.weights) == 0.0
        assert farthest(other.state, first.state) == 0.0
        assert other.masked[-1] == 0
    assert first.masked[-1] > 0  # the last batch has images on rank 0 alone


@pytest.mark.parametrize("norm", [False, True], ids=["no norm", "batch norm"])
@pytest.mark.parametrize("wrapper", DISTRIBUTED)
def test_both_ways_take_the_same_course(brought: Brought, wrapper: str, norm: bool) -> None:
    for rank in brought:
        called, backward = (rank[f"adaptive {way} {wrapper} {norm}"] for way in WAYS)
        assert called.masked == pytest.approx(backward.masked)
        assert farthest(called.weights, backward.weights) < 1e-9
    called, backward = (brought[0][f"adaptive {way} {wrapper} {norm}"] for way in WAYS)
    assert not norm or farthest(called.buffers, backward.buffers) < 1e-9


@pytest.mark.parametrize("wrapper", DISTRIBUTED)
@pytest.mark.parametrize("way", WAYS)
def test_every_bucket_of_gradients_is_reduced_once_per_step(brought: Brought, way: str, wrapper: str) -> None:
    for rank in brought:
        buckets = rank[f"adaptive {way} {wrapper} True"].buckets
        silent, loud = (buckets[::2], buckets[1::2]) if wrapper == "accumulated" else ([], buckets)
        assert not any(silent)
        assert all(sorted(step) == list(range(len(step))) for step in loud)
        assert len(loud[-1]) > 1


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("way", WAYS)
def test_parts_of_a_batch_follow_the_whole_batch(brought: Brought, way: str, wrapper: str) -> None:
    batches = [images_of(step, 12) for step in range(20)]
    alone = whole_course("call", wrapper, batches, parallel=False)
    fractions = [plan.mask_fraction for plan in alone.plans]
    assert len(set(fractions)) > 15 or wrapper == "accumulated"
    for rank in brought:
        course: Course = rank[f"whole {way} {wrapper}"]
        assert [plan.mask_fraction for plan in course.plans] == pytest.approx(fractions, abs=1e-12)
        weights = {name: value for name, value in course.weights.items() if name != "spare"}
        assert farthest(weights, alone.weights) < 1e-12


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("way", WAYS)
def test_a_rank_without_masked_images_keeps_step_with_the_others(brought: Brought, way: str, wrapper: str) -> None:
    first, *others = [rank[f"sparse {way} {wrapper}"] for rank in brought]
    assert first.masked.count(0.0) >= 3
    for other in others:
        assert min(other.masked) >= 1
        assert farthest(other.weights, first.weights) == 0.0


def test_layers_that_one_pass_alone_uses_are_synchronised_too(brought: Brought) -> None:
    batches = [images_of(step, 12) for step in range(20)]
    alone = whole_course("backward", "unused", batches, LayersInTurn, parallel=False)
    for rank in brought:
        weights = {name: value for name, value in rank["in turn"].weights.items() if name != "spare"}
        assert farthest(weights, alone.weights) < 1e-12


@pytest.mark.parametrize("way", WAYS)
def test_a_wrapper_inside_a_module_or_a_function_synchronises_once(brought: Brought, way: str) -> None:
    for rank in brought:
        for course, first in zip(rank[f"held {way}"], brought[0]["held call"], strict=True):
            assert all(len(step) == len(set(step)) for step in course.buckets)
            assert farthest(course.weights, first.weights) < 1e-12


@pytest.mark.parametrize("kind", ["labels", "probabilities"])
@pytest.mark.parametrize("way", WAYS)
def test_an_empty_batch_gives_no_gradient_and_moves_no_statistics(brought: Brought, way: str, kind: str) -> None:
    images, labels = images_of(0, 8)
    model = network(batch_norm=True)
    guided_loss(model, images, labels if kind == "labels" else one_hot(labels), HALF, MEAN_FILL).total.backward()
    fresh, moved = dict(network(batch_norm=True).named_buffers()), dict(model.named_buffers())
    expected = {name: value.detach() - 0.3 * value.grad / len(brought) for name, value in model.named_parameters()}
    for rank in brought:
        assert farthest(rank[f"empty {way} {kind}"].weights, expected) < 1e-12
        assert farthest(rank[f"empty {way} {kind}"].buffers, moved if rank is brought[0] else fresh) < 1e-12


def test_feedback_is_averaged_over_images(brought: Brought) -> None:
    numbers = range(len(brought))
    accuracy, loss = sum(numbers) / sum(numbers), sum(number**2 for number in numbers) / sum(numbers)
    assert all(rank["pooled"] == Feedback(accuracy, pytest.approx(loss), 4, sum(numbers)) for rank in brought)


@pytest.mark.parametrize("norm", [False, True], ids=["no norm", "batch norm"])
def test_the_gap_is_that_of_the_images_of_all_ranks(brought: Brought, norm: bool) -> None:
    model, losses = network(batch_norm=norm).eval(), []
    for parts in zip(*(gap_batches(rank) for rank in range(len(brought))), strict=True):
        batches = [batch for part in parts for batch in part]
        images, labels = (torch.cat(tensors) for tensors in zip(*batches, strict=True))
        losses.append(nn.functional.cross_entropy(model(images), labels).item())
    expected = 1 - losses[0] / losses[1]
    assert expected > 0.05
    assert [rank[f"gap {norm}"] for rank in brought] == [pytest.approx((expected, expected), rel=1e-12)] * len(brought)


@pytest.mark.parametrize("way", WAYS)
def test_one_rank_may_evaluate_by_itself(brought: Brought, way: str) -> None:
    assert [rank[f"evaluated {way}"] for rank in brought] == [[2.0]] * len(brought)


@pytest.mark.parametrize("way", WAYS)
def test_all_ranks_keep_the_numbers_of_all_images(brought: Brought, way: str) -> None:
    alone = per_image_course(way, parallel=False)
    assert len(set(alone["schedule_numbers"].tolist())) > 6
    for rank in brought:
        assert farthest(rank[f"per image {way}"], alone) < 1e-6


def test_groups_train_side_by_side(brought: Brought) -> None:
    courses: list[Course] = [rank["side by side"] for rank in brought]
    for group in (courses[:2], courses[2:]):
        assert all(course.plans == group[0].plans for course in group)
        assert all(farthest(course.weights, group[0].weights) == 0.0 for course in group)
    assert courses[0].plans != courses[-1].plans
    assert farthest(courses[0].weights, courses[-1].weights) > 1e-3


@pytest.mark.parametrize("way", [*WAYS, "function"])
def test_a_static_graph_is_refused(brought: Brought, way: str) -> None:
    assert all("make it with static_graph=False" in rank[f"static {way}"] for rank in brought)


def test_when_a_rank_dies_the_others_end_with_an_error(ended: tuple[Brought, list[int | None]]) -> None:
    assert ended[1] == [1] * (len(ended[0]) - 1) + [7]


def test_a_single_process_is_left_as_it_is(small_net: Any, batch: Any) -> None:
    feedback, model = Feedback(0.5, 1.0, 4, 3), small_net()
    assert num_ranks() == 1 and averaged(feedback) is feedback and unwrapped(model) is model
    check_wrapper(model)
    with unsynchronised(model):
        criterion = SaliencyGuidedLoss(ConstantSchedule())
        with pytest.raises(ValueError, match="empty"):
            criterion(model, batch(8)[0][:0], batch(8)[1][:0])


@pytest.mark.parametrize(
    ("task", "targets", "label"),
    [
        (Classification(), torch.zeros(0, dtype=torch.int64), 0),
        (Classification(ignore_index=0), torch.zeros(0, dtype=torch.int64), 1),
        (Classification(), torch.zeros(0, 4), 0),
        (MultiLabel(), torch.zeros(0, 4), 0),
    ],
)
def test_what_stands_in_for_an_empty_batch_has_a_finite_loss(task: Any, targets: Tensor, label: int) -> None:
    images, labels = stand_ins(torch.zeros(0, 3, 5, 5), targets, label)
    assert images.shape == (2, 3, 5, 5) and len(labels) == 2
    assert (images.std((1, 2, 3)) > 0).all() and (images.std(0) > 0).all()
    model = nn.Sequential(nn.Flatten(), nn.Linear(75, 4))
    loss = guided_loss(model, images, labels, HALF, task=task)
    loss.total.backward()
    assert loss.total.isfinite() and all(value.grad.isfinite().all() for value in model.parameters())
