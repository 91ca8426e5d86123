"""Bad input, one row each: one clear error that names the value and what is allowed."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from clear_errors import Row, assert_clear
from torch import Tensor, nn

from smoot.criterion import SaliencyGuidedLoss
from smoot.curves import deletion_curve, insertion_curve, perturbation_curves
from smoot.feedback import Feedback
from smoot.guidance import Guidance
from smoot.masking import fill_masked, lowest_saliency_mask, protected_random_mask, random_mask
from smoot.metrics import gini_sparseness, pointing_game, rank_correlation, relevance_mass, relevance_rank
from smoot.objective import guided_loss, kl_consistency
from smoot.saliency import input_gradient, saliency_map, smooth_gradient
from smoot.scheduler import AdaptiveSchedule, ConstantSchedule, MaskPlan, SequenceSchedule
from smoot.task import target_score


class Returns(nn.Module):
    """Answers with whatever the function makes of the flat pixels."""

    def __init__(self, answer: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, inputs: Tensor) -> Any:
        return self.answer(inputs.flatten(1))


THREE_CLASSES = Returns(lambda pixels: pixels[:, :3])
IMAGES = torch.linspace(0, 1, 4 * 2 * 3 * 3).view(4, 2, 3, 3)
LABELS = torch.tensor([0, 1, 2, 0])
MAP = torch.linspace(0, 1, 36).view(4, 3, 3)
REGION = MAP > 0.05
NAN_IMAGES = IMAGES.clone()
NAN_IMAGES[2, 1, 0, 0] = math.nan
NAN_MAP = MAP.clone()
NAN_MAP[1, 1, 1] = math.nan

# -- every entry of the core that takes a model and a batch, with every bad batch

ENTRIES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "input_gradient": input_gradient,
    "smooth_gradient": smooth_gradient,
    "guided_loss, plain": lambda *batch: guided_loss(*batch, MaskPlan(image_fraction=0.0)),
    "guided_loss, masked": lambda *batch: guided_loss(*batch, MaskPlan()),
    "guided_loss, eval pass": lambda *batch: guided_loss(*batch, MaskPlan(), Guidance(saliency_pass="eval")),
    "SaliencyGuidedLoss": SaliencyGuidedLoss(AdaptiveSchedule()),
    # Batches of four rows: the first holds the images as they are.
    "deletion_curve": lambda *batch: deletion_curve(*batch, MAP, batch_size=4),
    "insertion_curve": lambda *batch: insertion_curve(*batch, MAP, batch_size=4),
    "perturbation_curves": lambda *batch: perturbation_curves(*batch, MAP, batch_size=4),
}
BATCHES: list[tuple[str, Any, Any, Any, type[Exception], tuple[str, ...]]] = [
    ("integer images", THREE_CLASSES, (IMAGES * 255).byte(), LABELS, TypeError, ("torch.uint8", "float()")),
    ("images as a list", THREE_CLASSES, IMAGES.tolist(), LABELS, TypeError, ("list", "floating-point")),
    ("empty batch", THREE_CLASSES, IMAGES[:0], LABELS[:0], ValueError, ("(0, 2, 3, 3)", "non-empty")),
    ("no batch axis", THREE_CLASSES, IMAGES[0, 0, 0], LABELS, ValueError, ("(3,)", "(N, C, H, W)")),
    ("NaN images", THREE_CLASSES, NAN_IMAGES, LABELS, ValueError, ("NaN", "finite", "data loading")),
    ("infinite images", THREE_CLASSES, IMAGES / 0, LABELS, ValueError, ("infinite", "finite")),
    ("fewer labels than images", THREE_CLASSES, IMAGES, LABELS[:3], ValueError, ("(3,)", "(4,)")),
    ("one-hot labels", THREE_CLASSES, IMAGES, LABELS[:, None], ValueError, ("(4, 1)", "(4,)")),
    ("float labels", THREE_CLASSES, IMAGES, LABELS.float(), TypeError, ("torch.float32", "int64")),
    ("labels as a list", THREE_CLASSES, IMAGES, LABELS.tolist(), TypeError, ("list", "int64")),
    ("label too large", THREE_CLASSES, IMAGES, LABELS + 1, ValueError, ("[1, 3]", "3 outputs", "[0, 2]")),
    ("negative label", THREE_CLASSES, IMAGES, LABELS - 1, ValueError, ("[-1, 1]", "[0, 2]")),
    (
        "a model with too few classes",
        Returns(lambda pixels: pixels[:, :2]),
        IMAGES,
        LABELS,
        ValueError,
        ("[0, 2]", "2 outputs", "[0, 1]"),
    ),
    ("one class", Returns(lambda pixels: pixels[:, :1]), IMAGES, LABELS * 0, ValueError, ("(4, 1)", "C >= 2")),
    ("a model that returns a tuple", Returns(lambda p: (p[:, :3], p)), IMAGES, LABELS, TypeError, ("tuple", "logits")),
    ("a model that returns a dict", Returns(lambda p: {"out": p}), IMAGES, LABELS, TypeError, ("dict", "logits")),
    ("logits without a batch axis", Returns(lambda p: p[0, :3]), IMAGES, LABELS, ValueError, ("(3,)", "(4, C)")),
    ("logits of another batch", Returns(lambda p: p[:2, :3]), IMAGES, LABELS, ValueError, ("(2, 3)", "(4, C)")),
    ("logits per pixel", Returns(lambda p: p.view(4, 2, 9)), IMAGES, LABELS, ValueError, ("(4, 2, 9)", "(4, C)")),
]
CORE = [
    Row(f"{entry}: {name}", lambda call=call, batch=batch: call(*batch), words, error)
    for entry, call in ENTRIES.items()
    for name, *batch, error, words in BATCHES
]

# -- settings and arrays of single functions

CORE += [
    Row("score", lambda: input_gradient(THREE_CLASSES, IMAGES, LABELS, score="odds"), ("'odds'", "'log_odds'")),
    Row("score of logits", lambda: target_score(IMAGES[:, 0, 0], LABELS, "p"), ("'p'", "'logit'")),
    Row("reduction", lambda: saliency_map(IMAGES, reduction="mean"), ("'mean'", "'signed_mean'", "'l2'")),
    Row("flat gradient", lambda: saliency_map(IMAGES[0, 0, 0]), ("(3,)", "(N, C, *pixels)")),
    Row(
        "negative noise",
        lambda: smooth_gradient(THREE_CLASSES, IMAGES, LABELS, noise_std=-0.1),
        ("noise_std", "-0.1", "[0, inf]"),
    ),
    *(
        Row(
            f"{number} noisy copies",
            lambda number=number: smooth_gradient(THREE_CLASSES, IMAGES, LABELS, num_samples=number),
            ("num_samples", str(number), "at least 1"),
        )
        for number in (0, -3, 2.5)
    ),
]

CORE += [
    Row(f"{name} {fraction}", lambda call=call, fraction=fraction: call(fraction), (str(fraction), "[0, 1]"))
    for fraction in (-0.1, 1.5, math.nan)
    for name, call in {
        "lowest_saliency_mask, fraction": lambda value: lowest_saliency_mask(MAP, value),
        "random_mask, fraction": lambda value: random_mask((4, 3, 3), value),
        "protected_random_mask, fraction": lambda value: protected_random_mask(MAP, value, 0.1),
        "protected_random_mask, protected": lambda value: protected_random_mask(MAP, 0.1, value),
        "MaskPlan, image_fraction": lambda value: MaskPlan(image_fraction=value),
        "MaskPlan, mask_fraction": lambda value: MaskPlan(mask_fraction=value),
        "MaskPlan, protected": lambda value: MaskPlan(protected=value),
        "AdaptiveSchedule, decay": lambda value: AdaptiveSchedule(decay=value),
        "Guidance, label_smoothing": lambda value: Guidance(label_smoothing=value),
        "deletion_curve, fractions": lambda value: deletion_curve(
            THREE_CLASSES, IMAGES, LABELS, MAP, fractions=(0.0, value)
        ),
    }.items()
]

CORE += [
    Row("fractions of another batch", lambda: lowest_saliency_mask(MAP, torch.tensor([0.1, 0.2])), ("(2,)", "(4,)")),
    Row(
        "one fraction out of range",
        lambda: lowest_saliency_mask(MAP, torch.tensor([0.1, 0.2, 1.25, 0.0])),
        ("1.25", "[0, 1]"),
    ),
    Row(
        "one fraction NaN",
        lambda: lowest_saliency_mask(MAP, torch.tensor([0.1, 0.2, math.nan, 0.0])),
        ("nan", "[0, 1]"),
    ),
    Row(
        "shares that add up to more than 1", lambda: protected_random_mask(MAP, 0.7, 0.4), ("0.7", "0.4", "more than 1")
    ),
    *(
        Row(f"{name}: {kind}", lambda call=call, bad=bad: call(bad), words)
        for name, call in {
            "lowest_saliency_mask": lambda saliency: lowest_saliency_mask(saliency, 0.5),
            "protected_random_mask": lambda saliency: protected_random_mask(saliency, 0.5, 0.1),
            "gini_sparseness": gini_sparseness,
            "relevance_mass": lambda saliency: relevance_mass(saliency, REGION),
            "pointing_game": lambda saliency: pointing_game(saliency, REGION),
            "rank_correlation, first": lambda saliency: rank_correlation(saliency, MAP),
            "rank_correlation, second": lambda saliency: rank_correlation(MAP, saliency),
            "deletion_curve": lambda saliency: deletion_curve(THREE_CLASSES, IMAGES, LABELS, saliency),
        }.items()
        for kind, bad, words in (
            ("NaN saliency", NAN_MAP, ("NaN",)),
            ("integer saliency", MAP.long(), ("torch.int64", "floating-point")),
            ("flat saliency", MAP[0, 0], ("(3,)", "(N, *pixels)")),
            ("empty saliency", MAP[:0], ("(0, 3, 3)", "non-empty")),
            ("saliency as a list", MAP.tolist(), ("list", "tensor")),
        )
    ),
]

MASK = MAP > 0.5
CORE += [
    Row("fill", lambda: fill_masked(IMAGES, MASK, fill="blur"), ("'blur'", "'uniform'", "'mean'")),
    Row("float mask", lambda: fill_masked(IMAGES, MASK.float()), ("torch.float32", "True = masked")),
    Row("mask with a channel axis", lambda: fill_masked(IMAGES, MASK[:, None]), ("(4, 1, 3, 3)", "(4, 3, 3)")),
    Row("mask of another batch", lambda: fill_masked(IMAGES, MASK[:3]), ("(3, 3, 3)", "(4, 3, 3)")),
    Row("filling integers", lambda: fill_masked(IMAGES.long(), MASK), ("torch.int64", "floating-point"), TypeError),
]

CORE += [
    Row("ranking", lambda: MaskPlan(ranking="none"), ("ranking", "'none'", "'protected'")),
    Row("highest by another name", lambda: MaskPlan(ranking="top"), ("ranking", "'top'", "'highest'")),
    Row(
        "plan's shares",
        lambda: MaskPlan(mask_fraction=0.6, ranking="protected", protected=0.5),
        ("0.6", "0.5", "more than 1"),
    ),
    Row("no forgetting", lambda: AdaptiveSchedule(decay=1.0), ("decay", "1.0", "below 1")),
    Row("one class", lambda: Feedback(0.5, 1.0, 1, 8), ("num_classes", "1", "[2, inf]")),
    Row("fewer than no images", lambda: Feedback(0.5, 1.0, 10, -1), ("num_images", "-1", "[0, inf]")),
    Row(
        "accuracy in percent",
        lambda: AdaptiveSchedule().step(Feedback(93.0, 1.0, 10, 8)),
        ("accuracy", "93.0", "[0, 1]"),
    ),
    Row("negative loss", lambda: AdaptiveSchedule().step(Feedback(0.5, -1.0, 10, 8)), ("loss", "-1.0", "[0, inf]")),
    Row(
        "diverged",
        lambda: AdaptiveSchedule().step(Feedback(0.5, torch.tensor(math.nan), 10, 8)),
        ("nan", "diverged"),
        FloatingPointError,
    ),
    Row("foreign state", lambda: AdaptiveSchedule().load_state_dict({"step": 3}), ("step", "pending")),
    Row("state for a constant", lambda: ConstantSchedule().load_state_dict({"step": 3}), ("step", "another schedule")),
]

CORE += [
    Row("no plans", lambda: SequenceSchedule([]), ("plans is empty", "at least one MaskPlan")),
    Row(
        "state for a sequence",
        lambda: SequenceSchedule([MaskPlan()]).load_state_dict({"accuracy": 0.5}),
        ("accuracy", "steps"),
    ),
    Row("what is asked of masked images", lambda: Guidance(consistency="mse"), ("'mse'", "'cross_entropy'")),
    Row("guidance's score", lambda: Guidance(score="odds"), ("score is 'odds'", "'log_odds'")),
    Row("guidance's reduction", lambda: Guidance(reduction="sum"), ("reduction", "'sum'", "'mean_abs'")),
    Row("saliency pass", lambda: Guidance(saliency_pass="train"), ("'train'", "'reuse'", "'eval'")),
    Row("guidance's fill", lambda: Guidance(fill="noise"), ("fill", "'noise'", "'uniform'")),
    Row("KL weight", lambda: Guidance(kl_weight=-1.0), ("kl_weight", "-1.0", "[0, inf]")),
    Row("KL of two shapes", lambda: kl_consistency(torch.ones(4, 3), torch.ones(4, 2)), ("(4, 3)", "(4, 2)")),
    Row("KL of vectors", lambda: kl_consistency(torch.ones(4), torch.ones(4)), ("(4,)", "(N, C)")),
]


def on_curve(saliency: Tensor = MAP, **settings: Any) -> Callable[[], Any]:
    """A deletion curve with one bad setting."""
    return lambda: deletion_curve(THREE_CLASSES, IMAGES, LABELS, saliency, **settings)


CORE += [
    Row("map of another size", on_curve(saliency=MAP[:, :2]), ("(4, 2, 3)", "(4, 3, 3)")),
    Row("map with channels", on_curve(saliency=IMAGES), ("(4, 2, 3, 3)", "(4, 3, 3)")),
    Row("curve's fill", on_curve(fill="blur"), ("'blur'", "'uniform'", "'mean'")),
    Row("curve's score", on_curve(score="margin"), ("'margin'", "'probability'")),
    Row("curve's batch size", on_curve(batch_size=0), ("batch_size", "0", "at least 1")),
    Row("one fraction", on_curve(fractions=(0.5,)), ("(0.5,)", "at least two")),
    Row("falling fractions", on_curve(fractions=(0.0, 0.5, 0.2)), ("(0.0, 0.5, 0.2)", "increasing")),
    Row("equal fractions", on_curve(fractions=(0.0, 0.5, 0.5)), ("(0.0, 0.5, 0.5)", "increasing")),
    *(
        Row(f"{measure.__name__}: {name}", lambda call=measure, bad=bad: call(*bad), words)
        for measure in (relevance_mass, relevance_rank, pointing_game)
        for name, bad, words in (
            ("float region", (MAP, REGION.float()), ("torch.float32", "bool")),
            ("region of another size", (MAP, REGION[:, :2]), ("(4, 2, 3)", "(4, 3, 3)")),
            ("two empty regions", (MAP, MAP > 0.5), ("2 regions are empty", "leave out those images")),
            ("negative saliency", (MAP - 0.5, REGION), ("negative", "mean_abs")),
        )
    ),
    *(
        Row(
            f"tolerance {tolerance}",
            lambda tolerance=tolerance: pointing_game(MAP, REGION, tolerance=tolerance),
            ("tolerance", str(tolerance), "at least 0"),
        )
        for tolerance in (-1, 1.5, True, None)
    ),
    Row("maps of two sizes", lambda: rank_correlation(MAP, MAP[:, :2]), ("(4, 2, 3)", "(4, 3, 3)")),
    Row("Gini of a signed map", lambda: gini_sparseness(MAP - 0.5), ("negative", "mean_abs")),
]


@pytest.mark.parametrize("row", CORE, ids=lambda row: row.name)
def test_bad_input_is_one_clear_error(row: Row) -> None:
    with pytest.raises(row.error) as caught:
        row.call()
    assert_clear(caught.value, row.error, row.words)
