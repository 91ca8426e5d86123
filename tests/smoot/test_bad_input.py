"""Bad input, one row each: one clear error that names the value and what is allowed."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from clear_errors import Row, assert_clear
from torch import Tensor, nn

from smoot import Feedback, Guidance, SaliencyGuidedLoss, guided_loss, kl_consistency
from smoot.curves import deletion_curve, insertion_curve, perturbation_curves
from smoot.masking import fill_masked, lowest_saliency_mask, protected_random_mask, random_mask
from smoot.metrics import gini_sparseness, pointing_game, rank_correlation, relevance_mass, relevance_rank
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

# -- settings: the error names the setting, its value and what is allowed

MASK = MAP > 0.5
SMOOTH = partial(smooth_gradient, THREE_CLASSES, IMAGES, LABELS)
CURVE = partial(deletion_curve, THREE_CLASSES, IMAGES, LABELS, MAP)
SETTINGS: list[tuple[Callable[..., Any], str, Sequence[Any], tuple[str, ...]]] = [
    (partial(input_gradient, THREE_CLASSES, IMAGES, LABELS), "score", ["odds"], ("'log_odds'",)),
    (partial(target_score, IMAGES[:, 0, 0], LABELS), "score", ["p"], ("'logit'",)),
    (partial(saliency_map, IMAGES), "reduction", ["mean"], ("'signed_mean'", "'l2'")),
    (SMOOTH, "noise_std", [-0.1], ("[0, inf]",)),
    (SMOOTH, "num_samples", [0, -3, 2.5], ("at least 1",)),
    (partial(fill_masked, IMAGES, MASK), "fill", ["blur"], ("'uniform'", "'mean'")),
    (MaskPlan, "ranking", ["none", "top"], ("'protected'", "'highest'")),
    (MaskPlan, "max_effect", [-1.0, math.nan], ("[0, inf]",)),
    (AdaptiveSchedule, "decay", [1.0], ("below 1",)),
    (AdaptiveSchedule, "lag", [0, 1.5, True], ("a whole number of at least 1",)),
    (partial(Feedback, 0.5, 1.0, num_images=8), "num_classes", [1], ("[2, inf]",)),
    (partial(Feedback, 0.5, 1.0, 10), "num_images", [-1], ("[0, inf]",)),
    (Guidance, "consistency", ["mse"], ("'cross_entropy'",)),
    (Guidance, "score", ["odds"], ("'log_odds'",)),
    (Guidance, "reduction", ["sum"], ("'mean_abs'",)),
    (Guidance, "saliency_pass", ["train"], ("'reuse'", "'eval'")),
    (Guidance, "fill", ["noise"], ("'uniform'",)),
    (Guidance, "kl_weight", [-1.0], ("[0, inf]",)),
    (CURVE, "fill", ["blur"], ("'uniform'", "'mean'")),
    (CURVE, "score", ["margin"], ("'probability'",)),
    (CURVE, "batch_size", [0], ("at least 1",)),
    (CURVE, "fractions", [(0.5,)], ("at least two",)),
    (CURVE, "fractions", [(0.0, 0.5, 0.2), (0.0, 0.5, 0.5)], ("increasing",)),
    (partial(pointing_game, MAP, REGION), "tolerance", [-1, 1.5, True, None], ("at least 0",)),
    *(
        (call, setting, [-0.1, 1.5, math.nan], ("[0, 1]",))
        for call, setting in (
            (partial(lowest_saliency_mask, MAP), "fraction"),
            (partial(random_mask, (4, 3, 3)), "fraction"),
            (partial(protected_random_mask, MAP, protected=0.1), "fraction"),
            (partial(protected_random_mask, MAP, 0.1), "protected"),
            (MaskPlan, "image_fraction"),
            (MaskPlan, "mask_fraction"),
            (MaskPlan, "protected"),
            (AdaptiveSchedule, "decay"),
            (Guidance, "label_smoothing"),
        )
    ),
]
CORE += [
    Row(
        f"{getattr(call, 'func', call).__name__}: {setting} {value}",
        partial(call, **{setting: value}),
        (setting, repr(value), *allowed),
    )
    for call, setting, values, allowed in SETTINGS
    for value in values
]

# -- what schedules are told


def told(*feedback: Any) -> Callable[[], Any]:
    """A schedule that is told this."""
    return lambda: AdaptiveSchedule().step(Feedback(*feedback))


CORE += [
    Row("accuracy in percent", told(93.0, 1.0, 10, 8), ("accuracy", "93.0", "[0, 1]")),
    Row("negative loss", told(0.5, -1.0, 10, 8), ("loss", "-1.0", "[0, inf]")),
    Row("diverged", told(0.5, torch.tensor(math.nan), 10, 8), ("nan", "diverged"), FloatingPointError),
    Row("no plans", lambda: SequenceSchedule([]), ("plans is empty", "at least one MaskPlan")),
    Row(
        "shares", lambda: MaskPlan(mask_fraction=0.6, ranking="protected", protected=0.5), ("0.6", "0.5", "more than 1")
    ),
    Row("limit without saliency", lambda: MaskPlan(max_effect=1.0, ranking="random"), ("max_effect is", "'random'")),
    Row("foreign state", lambda: AdaptiveSchedule().load_state_dict({"step": 3}), ("step", "pending")),
    Row("state for a constant", lambda: ConstantSchedule().load_state_dict({"step": 3}), ("step", "another schedule")),
    Row(
        "state for a sequence",
        lambda: SequenceSchedule([MaskPlan()]).load_state_dict({"accuracy": 0.5}),
        ("accuracy", "steps"),
    ),
]

# -- arrays of single functions

CORE += [
    Row("flat gradient", lambda: saliency_map(IMAGES[0, 0, 0]), ("(3,)", "(N, C, *pixels)")),
    Row("fractions of another batch", lambda: lowest_saliency_mask(MAP, torch.tensor([0.1, 0.2])), ("(2,)", "(4,)")),
    *(
        Row(
            f"one fraction {bad}",
            lambda bad=bad: lowest_saliency_mask(MAP, torch.tensor([0.1, 0.2, bad, 0.0])),
            (str(bad), "[0, 1]"),
        )
        for bad in (1.25, math.nan)
    ),
    *(
        Row(f"fractions up to {bad}", lambda bad=bad: CURVE(fractions=(0.0, bad)), (str(bad), "[0, 1]"))
        for bad in (-0.1, 1.5, math.nan)
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
    Row("float mask", lambda: fill_masked(IMAGES, MASK.float()), ("torch.float32", "True = masked")),
    Row("mask with a channel axis", lambda: fill_masked(IMAGES, MASK[:, None]), ("(4, 1, 3, 3)", "(4, 3, 3)")),
    Row("mask of another batch", lambda: fill_masked(IMAGES, MASK[:3]), ("(3, 3, 3)", "(4, 3, 3)")),
    Row("filling integers", lambda: fill_masked(IMAGES.long(), MASK), ("torch.int64", "floating-point"), TypeError),
    Row("KL of two shapes", lambda: kl_consistency(torch.ones(4, 3), torch.ones(4, 2)), ("(4, 3)", "(4, 2)")),
    Row("KL of vectors", lambda: kl_consistency(torch.ones(4), torch.ones(4)), ("(4,)", "(N, C)")),
    *(
        Row(name, partial(deletion_curve, THREE_CLASSES, IMAGES, LABELS, saliency), words)
        for name, saliency, words in (
            ("map of another size", MAP[:, :2], ("(4, 2, 3)", "(4, 3, 3)")),
            ("map with channels", IMAGES, ("(4, 2, 3, 3)", "(4, 3, 3)")),
        )
    ),
    *(
        Row(f"{measure.__name__}: {name}", lambda call=measure, bad=bad: call(*bad), words)
        for measure in (relevance_mass, relevance_rank, pointing_game)
        for name, bad, words in (
            ("float region", (MAP, REGION.float()), ("torch.float32", "bool")),
            ("region of another size", (MAP, REGION[:, :2]), ("(4, 2, 3)", "(4, 3, 3)")),
            ("two empty regions", (MAP, MASK), ("2 regions are empty", "leave out those images")),
            ("negative saliency", (MAP - 0.5, REGION), ("negative", "mean_abs")),
        )
    ),
    Row("maps of two sizes", lambda: rank_correlation(MAP, MAP[:, :2]), ("(4, 2, 3)", "(4, 3, 3)")),
    Row("Gini of a signed map", lambda: gini_sparseness(MAP - 0.5), ("negative", "mean_abs")),
]


@pytest.mark.parametrize("row", CORE, ids=lambda row: row.name)
def test_bad_input_is_one_clear_error(row: Row) -> None:
    with pytest.raises(row.error) as caught:
        row.call()
    assert_clear(caught.value, row.error, row.words)
