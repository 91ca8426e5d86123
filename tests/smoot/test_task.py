"""Tasks beside one label per image: soft targets, weights, ignored labels, answers per pixel, several labels."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from states import gradients
from torch import Tensor, nn

from smoot import Guidance, SaliencyGuidedLoss, consistency, guided_backward, guided_loss, input_gradient
from smoot.scheduler import ConstantSchedule, MaskPlan
from smoot.task import Classification, MultiLabel, Score, Task, class_scores, target_score

NOTHING = MaskPlan(image_fraction=0.0)
IMAGES = torch.rand(6, 2, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = torch.tensor([0, 2, 1, 1, 0, 2])
MIXED = 0.7 * F.one_hot(LABELS, 3).double() + 0.3 * F.one_hot(LABELS.flip(0), 3).double()
PLACES = torch.arange(6 * 9).view(6, 3, 3) % 3
SOME = torch.where(torch.arange(6 * 9).view(6, 3, 3) % 4 == 0, 9, PLACES)
SOME[5] = 9  # an image without any label
PRESENT = (torch.arange(18).view(6, 3) % 2).double()
WEIGHT = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
BINARY = F.binary_cross_entropy_with_logits


def per_image() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(36, 3)).double()


def per_pixel() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Conv2d(4, 3, 1)).double()


# Name, model, task, targets, and the loss of torch that the task must equal.
Case = tuple[Callable[[], nn.Module], Task, Tensor, Callable[..., Tensor], dict[str, Any]]
CASES: dict[str, Case] = {
    "labels": (per_image, Classification(), LABELS, F.cross_entropy, {}),
    "weights": (per_image, Classification(weight=WEIGHT), LABELS, F.cross_entropy, {"weight": WEIGHT}),
    "smoothed": (per_image, Classification(label_smoothing=0.1), LABELS, F.cross_entropy, {"label_smoothing": 0.1}),
    "sum": (per_image, Classification(reduction="sum"), LABELS, F.cross_entropy, {"reduction": "sum"}),
    "mixed": (per_image, Classification(), MIXED, F.cross_entropy, {}),
    "mixed, weights": (per_image, Classification(weight=WEIGHT), MIXED, F.cross_entropy, {"weight": WEIGHT}),
    "pixels": (per_pixel, Classification(), PLACES, F.cross_entropy, {}),
    "some pixels": (per_pixel, Classification(ignore_index=9), SOME, F.cross_entropy, {"ignore_index": 9}),
    "several": (per_image, MultiLabel(), PRESENT, BINARY, {}),
    "several, positives": (per_image, MultiLabel(pos_weight=WEIGHT), PRESENT, BINARY, {"pos_weight": WEIGHT}),
}


@pytest.mark.parametrize("name", CASES)
def test_without_masks_the_loss_is_torchs(name: str) -> None:
    make, task, targets, loss, settings = CASES[name]
    model = make()
    found = guided_loss(model, IMAGES, targets, NOTHING, task=task)
    assert torch.equal(found.total, loss(model(IMAGES), targets, **settings))


@pytest.mark.parametrize("name", CASES)
def test_the_step_gives_the_gradients_of_the_loss(name: str) -> None:
    make, task, targets, _, _ = CASES[name]
    plan, one, two = MaskPlan(image_fraction=0.7, mask_fraction=0.4), make(), make()
    loss = guided_loss(one, IMAGES, targets, plan, task=task, generator=torch.Generator().manual_seed(1))
    loss.total.backward()
    found = guided_backward(two, IMAGES, targets, plan, task=task, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(found.total, loss.total.detach())
    torch.testing.assert_close(gradients(two), gradients(one))
    assert loss.consistency > 0 and loss.masked_share > 0.5


@pytest.mark.parametrize("name", CASES)
def test_the_term_alone_added_to_the_loss_is_the_whole(name: str) -> None:
    """Both gradients through the clean answers' graph, by hand."""
    make, task, targets, loss, settings = CASES[name]
    plan, one, two = MaskPlan(mask_fraction=0.4), make(), make()
    guidance = Guidance(kl_weight=0.5, detach_target=False)
    draws = [torch.Generator().manual_seed(1) for _ in range(2)]
    whole = guided_loss(one, IMAGES, targets, plan, guidance, task=task, generator=draws[0])
    variable = IMAGES.clone().requires_grad_()
    logits = two(variable)
    term = consistency(two, variable, logits, targets, plan, guidance, task=task, generator=draws[1])
    size = len(IMAGES) if task.reduction == "sum" else 1
    torch.testing.assert_close(loss(logits, targets, **settings) + 0.5 * size * term, whole.total)


def test_a_loss_per_image_holds_each_images_own_divergence() -> None:
    plan, model = MaskPlan(image_fraction=0.5, mask_fraction=0.4), per_image()
    draws = [torch.Generator().manual_seed(1) for _ in range(2)]
    single = guided_loss(model, IMAGES, LABELS, plan, task=Classification(reduction="none"), generator=draws[0])
    mean = guided_loss(model, IMAGES, LABELS, plan, generator=draws[1])
    assert single.total.shape == (6,)
    torch.testing.assert_close(single.total.mean(), mean.total)
    plain = F.cross_entropy(model(IMAGES), LABELS, reduction="none")
    assert ((single.total - plain).abs() > 1e-12).sum() == 3  # the masked ones
    with pytest.raises(ValueError, match="'none'"):
        guided_backward(model, IMAGES, LABELS, plan, task=Classification(reduction="none"))


@pytest.mark.parametrize("score", ["logit", "log_prob", "log_odds"])
def test_scores_of_all_classes_are_those_of_each(score: Score) -> None:
    logits = torch.tensor([[3.0, -2.0, 0.5], [60.0, 0.0, -60.0]], dtype=torch.float64)
    for label in range(3):
        expected = target_score(logits, torch.full((2,), label), score)
        torch.testing.assert_close(class_scores(logits, score)[:, label], expected)


def test_one_hot_probabilities_are_labels() -> None:
    task, logits, hot = Classification(), per_image()(IMAGES).detach(), F.one_hot(LABELS, 3).double()
    torch.testing.assert_close(task.scores(logits, hot, "log_odds"), task.scores(logits, LABELS, "log_odds"))
    torch.testing.assert_close(task.losses(logits, hot), task.losses(logits, LABELS))
    assert task.accuracy(logits, hot) == task.accuracy(logits, LABELS)


def test_soft_targets_tell_the_schedule_a_perfect_answer_is_perfect() -> None:
    """The cross-entropy against mixed labels never reaches 0; its excess over their entropy does."""
    task, logits = Classification(), MIXED.clamp(min=1e-300).log()
    loss = task.loss(logits, MIXED)
    assert loss > 0.4 and task.plain_loss(logits, MIXED, loss).item() == pytest.approx(0.0, abs=1e-12)
    assert task.accuracy(logits, MIXED).item() == pytest.approx(MIXED.amax(1).mean().item())


def test_ignored_places_count_nowhere() -> None:
    task, model = Classification(ignore_index=9), per_pixel()
    logits = model(IMAGES).detach()
    kept = SOME != 9
    right = (logits.argmax(1) == SOME)[kept].double().mean()
    torch.testing.assert_close(task.accuracy(logits, SOME), right)
    scores = task.scores(logits, SOME, "log_prob")
    by_hand = logits.log_softmax(1).gather(1, SOME.clamp(max=2).unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(scores[0], by_hand[0][kept[0]].mean())
    # The image without labels is ranked by what the model answers.
    torch.testing.assert_close(scores[5], logits[5].log_softmax(0).amax(0).mean())


def test_a_class_that_is_ignored_is_never_right() -> None:
    logits = torch.tensor([[3.0, 0.0], [3.0, 0.0], [0.0, 3.0], [3.0, 0.0]])
    task = Classification(ignore_index=0)
    assert task.accuracy(logits, torch.tensor([0, 0, 1, 1])) == 0.5
    assert task.num_images(torch.tensor([0, 0, 1, 1])) == 2


def test_a_batch_without_labels_teaches_the_schedule_nothing() -> None:
    criterion = SaliencyGuidedLoss(task=Classification(ignore_index=9))
    criterion(per_image(), IMAGES, LABELS)
    before = criterion.schedule.plan
    criterion(per_image(), IMAGES, torch.full((6,), 9))
    assert criterion.schedule.plan == before


def test_the_divergence_of_several_labels_is_that_of_bernoulli_distributions() -> None:
    clean, masked = torch.tensor([[0.4, -1.0]]), torch.tensor([[2.0, 0.0]])
    p, q = (torch.distributions.Bernoulli(logits=value) for value in (clean, masked))
    expected = torch.distributions.kl_divergence(p, q).mean(1)
    torch.testing.assert_close(MultiLabel().divergences(clean, masked), expected)


@pytest.mark.parametrize(
    ("task", "targets", "error", "words"),
    [
        (Classification(), LABELS.float(), TypeError, "int64"),
        (Classification(), LABELS + 1, ValueError, r"\[0, 2\]"),
        (Classification(), 2 * MIXED, ValueError, "add up to 1"),
        (Classification(), PLACES, ValueError, r"\(6,\)"),
        (Classification(weight=WEIGHT[:2]), LABELS, ValueError, "2 entries"),
        (MultiLabel(), LABELS, TypeError, "floating point"),
        (MultiLabel(), PRESENT + 1, ValueError, r"\[0, 1\]"),
    ],
)
def test_targets_that_do_not_fit_are_refused(task: Task, targets: Tensor, error: type[Exception], words: str) -> None:
    for plan in (NOTHING, MaskPlan()):
        with pytest.raises(error, match=words):
            guided_loss(per_image(), IMAGES, targets, plan, task=task)


SMOOTH = Guidance(label_smoothing=0.1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Classification(reduction="max"), "'max'"),
        (lambda: Classification(label_smoothing=2.0), "label_smoothing"),
        (lambda: Classification(weight=torch.ones(2, 2)), "weight"),
        (lambda: MultiLabel(reduction="sum"), "'sum'"),
        (lambda: guided_loss(per_pixel(), IMAGES, PLACES, NOTHING, task=Classification(reduction="sum")), "'sum'"),
        (lambda: guided_loss(per_image(), IMAGES, PRESENT, NOTHING, task=MultiLabel(weight=WEIGHT[:2])), "weight"),
        (lambda: guided_loss(per_image(), IMAGES, LABELS, MaskPlan(), Guidance(channel_axis=-4)), "channel_axis"),
        (lambda: guided_loss(per_image(), IMAGES, LABELS, NOTHING, SMOOTH, task=Classification()), "set it in the"),
    ],
)
def test_tasks_out_of_range_are_refused(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


# -- other inputs


def test_tokens_are_masked_whole_and_their_dimensions_never(recorded: Callable) -> None:
    tokens, model = torch.rand(4, 7, 3), nn.Sequential(nn.Flatten(), nn.Linear(21, 3))
    guidance = Guidance(channel_axis=-1, fill="constant", fill_value=9.0)
    with recorded(model) as calls:
        loss = guided_loss(model, tokens, LABELS[:4], MaskPlan(mask_fraction=3 / 7), guidance)
    seen = calls[-1].inputs
    masked = (seen == 9.0).all(2)
    assert (masked.sum(1) == 3).all() and torch.equal(seen[~masked], tokens[~masked])
    assert loss.masked_pixels.item() == pytest.approx(3 / 7)


def test_clips_are_masked_frame_by_frame_and_pixel_by_pixel() -> None:
    clips = torch.rand(2, 3, 4, 5, 5)
    model = nn.Sequential(nn.Conv3d(3, 2, 3), nn.Flatten(), nn.Linear(36, 3))
    loss = guided_loss(model, clips, LABELS[:2], MaskPlan(mask_fraction=0.25))
    assert loss.masked_share == 1 and loss.masked_pixels.item() == pytest.approx(0.25)


def test_a_table_is_filled_by_the_means_of_its_features(recorded: Callable) -> None:
    table, model = torch.tensor([[1.0, 100.0, 7.0], [3.0, 300.0, 7.0]]), nn.Linear(3, 3)
    with recorded(model) as calls:
        guided_loss(model, table, LABELS[:2], MaskPlan(mask_fraction=1.0), Guidance(fill="feature_mean"))
    assert calls[-1].inputs.tolist() == [[2, 200, 7]] * 2


@pytest.mark.parametrize("way", ["call", "backward"])
def test_inputs_that_carry_a_graph_keep_it(way: str) -> None:
    """A trained layer in front of the model gets the gradient that the model as a whole would give it."""
    front, model = nn.Conv2d(2, 2, 1).double(), per_image()
    loss = SaliencyGuidedLoss(ConstantSchedule(MaskPlan(mask_fraction=0.4)), Guidance(fill="constant"))
    shown = front(IMAGES)
    if way == "call":
        loss(model, shown, LABELS).total.backward()
    else:
        loss.backward(model, shown, LABELS)
    rank = input_gradient(model, shown.detach(), LABELS).abs().mean(1).flatten(1).argsort(dim=1)
    kept = torch.ones(6, 25, dtype=torch.float64).scatter(1, rank[:, :10], 0.0).view(6, 1, 5, 5)
    again = front(IMAGES)
    clean, after = model(again), model(again * kept)
    divergence = F.kl_div(after.log_softmax(1), clean.detach().softmax(1), reduction="batchmean")
    expected = torch.autograd.grad(F.cross_entropy(clean, LABELS) + divergence, list(front.parameters()))
    torch.testing.assert_close(gradients(front), list(expected))


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_one_dropout_draw_for_both_passes_leaves_the_masks_as_the_only_difference(share: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(50, 200), nn.Dropout(0.5), nn.Linear(200, 3)).double()
    plan = MaskPlan(image_fraction=share, mask_fraction=1 / 25)

    def divergence(shared: bool, function: Callable[..., Any]) -> float:
        return float(function(model, IMAGES, LABELS, plan, Guidance(shared_dropout=shared)).information_loss)

    for function in (guided_loss, guided_backward):
        assert divergence(True, function) < 0.05 * divergence(False, function)
