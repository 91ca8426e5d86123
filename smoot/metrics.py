"""How good a saliency map is: faithfulness, localisation, sparseness."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from smoot.checks import (
    check_between,
    check_choice,
    check_count,
    check_inputs,
    check_logits,
    check_map_shape,
    check_saliency,
    check_targets,
)
from smoot.masking import Fill, fill_masked, pixel_count
from smoot.modes import evaluation_mode
from smoot.saliency import at_least_float32, target_score

CurveScore = Literal["probability", "accuracy", "log_odds"]
TENTHS = tuple(step / 10 for step in range(11))


@dataclass(frozen=True)
class PerturbationCurve:
    """A score against the share of perturbed pixels.

    Attributes:
        fraction: ``(S,)`` shares of most salient pixels that were removed (deletion) or shown (insertion).
        score: ``(S,)`` mean over the images.
        auc: 0-d, area under the curve by the trapezoidal rule.
    """

    fraction: Tensor
    score: Tensor
    auc: Tensor


def deletion_curve(  # noqa: PLR0913 - the settings of one curve, all by name
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    saliency: Tensor,
    *,
    fractions: Sequence[float] | Tensor = TENTHS,
    fill: Fill = "constant",
    value: float = 0.0,
    score: CurveScore = "probability",
    batch_size: int = 256,
    generator: torch.Generator | None = None,
) -> PerturbationCurve:
    """Score while the most salient pixels are removed (Petsiuk et al. 2018). Lower is better.

    At fraction f the ``floor(f * P + 0.5)`` most salient pixels are replaced; ties by pixel index. A random
    fill is drawn once an image, so that neighbouring steps differ only by the pixels between them. A curve
    also measures how robust the model is to the fill: compare with a random ranking and use two fills.

    Args:
        model: maps inputs to logits; run in eval mode without gradients, its modes are restored.
        inputs: ``(N, C, *pixels)`` or ``(N, F)``.
        targets: ``(N,)`` int64, the class that is scored.
        saliency: ``(N, *pixels)``, higher is more salient.
        fractions: increasing shares in [0, 1], at least two.
        fill: ``uniform``, ``mean`` or ``constant``, see :func:`smoot.masking.fill_masked`.
        value: the constant of fill ``constant``.
        score: ``probability`` of the target, ``accuracy`` (share of answers that are it), or ``log_odds``.
        batch_size: images per forward.
        generator: source of a random fill.

    Returns:
        :class:`PerturbationCurve`.

    Raises:
        TypeError, ValueError: as :func:`smoot.saliency.input_gradient`; for fractions that do not increase.
    """
    settings = _Settings(tuple(map(float, fractions)), fill, value, score, batch_size)
    return _curve(model, inputs, targets, saliency, settings, generator, insertion=False)


def insertion_curve(  # noqa: PLR0913 - the settings of one curve, all by name
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    saliency: Tensor,
    *,
    fractions: Sequence[float] | Tensor = TENTHS,
    fill: Fill = "constant",
    value: float = 0.0,
    score: CurveScore = "probability",
    batch_size: int = 256,
    generator: torch.Generator | None = None,
) -> PerturbationCurve:
    """Score while the most salient pixels are shown on an otherwise filled image. Higher is better.

    At fraction f the ``floor(f * P + 0.5)`` most salient pixels are shown. Arguments, result and errors are
    those of :func:`deletion_curve`.
    """
    settings = _Settings(tuple(map(float, fractions)), fill, value, score, batch_size)
    return _curve(model, inputs, targets, saliency, settings, generator, insertion=True)


def relevance_mass(saliency: Tensor, region: Tensor) -> Tensor:
    """Share of the saliency that lies inside the region (Arras et al. 2022). In [0, 1], higher is better.

    Args:
        saliency: ``(N, *pixels)``, non-negative.
        region: ``(N, *pixels)`` bool, the object's pixels; none of the regions may be empty.

    Returns:
        ``(N,)``; NaN for an image without any saliency.

    Raises:
        ValueError: for negative saliency, a region of another shape or type, or an empty region.
    """
    saliency, region = _checked_region(saliency, region)
    return (saliency * region).sum(1) / saliency.sum(1)


def relevance_rank(saliency: Tensor, region: Tensor) -> Tensor:
    """Share of the K most salient pixels that lie inside a region of K pixels (Arras et al. 2022).

    In [0, 1], higher is better. Ties by pixel index. Arguments and errors as for :func:`relevance_mass`.

    Returns:
        ``(N,)``.
    """
    saliency, region = _checked_region(saliency, region)
    size = region.sum(1)
    among_first = _descending_rank(saliency) < size.unsqueeze(1)
    return (among_first & region).sum(1) / size


def gini_sparseness(saliency: Tensor) -> Tensor:
    """Gini index of the saliency over pixels (Chalasani et al. 2020; Hurley & Rickard 2009).

    0 if all pixels are equal, ``1 - 1/P`` if one pixel holds everything; higher is sparser. It says nothing
    about being right: a random network can have sparse maps.

    Args:
        saliency: ``(N, *pixels)``, non-negative.

    Returns:
        ``(N,)``; NaN for an image without any saliency.
    """
    check_saliency(saliency, non_negative=True)
    ascending = at_least_float32(saliency).flatten(1).sort(dim=1).values
    num_pixels = ascending.shape[1]
    weight = 2 * torch.arange(1, num_pixels + 1, device=saliency.device, dtype=ascending.dtype) - num_pixels - 1
    return (weight * ascending).sum(1) / (num_pixels * ascending.sum(1))


@dataclass(frozen=True)
class _Settings:
    """What a curve is measured with; checked once."""

    fractions: tuple[float, ...]
    fill: Fill
    value: float
    score: CurveScore
    batch_size: int

    def __post_init__(self) -> None:
        check_choice("fill", self.fill, ("uniform", "mean", "constant"))
        check_choice("score", self.score, get_args(CurveScore))
        check_count("batch_size", self.batch_size)
        for fraction in self.fractions:
            check_between("fraction", fraction)
        rising = all(a < b for a, b in zip(self.fractions, self.fractions[1:], strict=False))
        if len(self.fractions) < 2 or not rising:
            raise ValueError(f"fractions are {self.fractions}: expected at least two increasing shares in [0, 1]")


def _curve(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    saliency: Tensor,
    settings: _Settings,
    generator: torch.Generator | None,
    *,
    insertion: bool,
) -> PerturbationCurve:
    """Deletion masks the most salient pixels, insertion all others: one engine for both."""
    check_inputs(inputs)
    check_targets(targets, len(inputs))
    check_saliency(saliency)
    check_map_shape("saliency", saliency, inputs)
    counts = [pixel_count(fraction, saliency[0].numel()) for fraction in settings.fractions]
    scores: list[list[Tensor]] = [[] for _ in counts]
    with evaluation_mode(model), torch.no_grad():
        for start in range(0, len(inputs), settings.batch_size):
            rows = slice(start, start + settings.batch_size)
            images, labels, maps = inputs[rows], targets[rows], saliency[rows]
            everything = torch.ones_like(maps, dtype=torch.bool)
            filled = fill_masked(images, everything, fill=settings.fill, value=settings.value, generator=generator)
            rank = _descending_rank(maps.flatten(1)).view_as(maps)
            for step, count in enumerate(counts):
                masked = (rank >= count) if insertion else (rank < count)
                perturbed = torch.where(masked if images.ndim == 2 else masked.unsqueeze(1), filled, images)
                logits = check_logits(model(perturbed), labels)
                scores[step].append(_score(logits, labels, settings.score))
    score = torch.stack([torch.cat(batches).mean() for batches in scores]).float()
    fraction = torch.tensor(settings.fractions, device=inputs.device)
    return PerturbationCurve(fraction, score, torch.trapezoid(score, fraction))


def _score(logits: Tensor, targets: Tensor, score: CurveScore) -> Tensor:
    """The curve's score of each image, ``(N,)``."""
    if score == "accuracy":
        return (logits.argmax(1) == targets).float()
    if score == "log_odds":
        return target_score(logits, targets, "log_odds")
    return target_score(logits, targets, "log_prob").exp()


def _descending_rank(flat: Tensor) -> Tensor:
    """Rank of each pixel ``(N, P)``, 0 for the most salient; ties by pixel index."""
    order = flat.argsort(dim=1, descending=True, stable=True)
    return torch.empty_like(order).scatter_(1, order, torch.arange(flat.shape[1], device=flat.device).expand_as(order))


def _checked_region(saliency: Tensor, region: Tensor) -> tuple[Tensor, Tensor]:
    """Both flattened to ``(N, P)`` after checks."""
    check_saliency(saliency, non_negative=True)
    if region.dtype != torch.bool or region.shape != saliency.shape:
        raise ValueError(
            f"region is {region.dtype} {tuple(region.shape)}: "
            f"expected torch.bool {tuple(saliency.shape)} like the saliency"
        )
    flat = region.flatten(1)
    if flat.device.type == "cpu" and not flat.any(1).all():
        raise ValueError(f"{int((~flat.any(1)).sum())} regions are empty: leave those images out, nothing can be hit")
    return at_least_float32(saliency).flatten(1), flat
