"""Perturbation curves: how a score falls as salient pixels are removed, and rises as they are shown.

Every point of a curve fills, in each image, the pixels whose rank lies in a *span* ``[first, last)``. Ranks and
filled images are computed once; a batch mixes images and spans, so that few images at many steps fill it too, and
at most ``batch_size`` perturbed images exist at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Literal, NamedTuple, get_args

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
    is_out_of_memory,
)
from smoot.masking import Fill, fill_masked, pixel_count
from smoot.modes import evaluation_mode
from smoot.task import target_score

CurveScore = Literal["probability", "accuracy", "log_odds"]
CurveKind = Literal["deletion", "insertion", "random"]

TENTHS = tuple(step / 10 for step in range(11))


@dataclass(frozen=True)
class PerturbationCurve:
    """A score as a function of the fraction of perturbed pixels.

    Attributes:
        fraction: ``(S,)``, in [0, 1]: the most salient pixels, removed (deletion) or shown (insertion).
        score: ``(S,)``, mean over the images.
        auc: 0-d, area under the curve by the trapezoidal rule over ``fraction``.
    """

    fraction: Tensor
    score: Tensor
    auc: Tensor


@dataclass(frozen=True)
class PerturbationCurves:
    """The curves of :func:`perturbation_curves`; ``random`` is deletion in a random order."""

    deletion: PerturbationCurve
    insertion: PerturbationCurve
    random: PerturbationCurve


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
    """Score as pixels are removed, the most salient first; of equal ones that with the lower index.

    A random fill is drawn once per image, so that neighbouring steps differ only by the pixels between them.

    Formula:
        ``score(f) = mean over images of s(x with its floor(f P + 0.5) most salient pixels filled)``, and
        ``auc`` is the trapezoidal area under it over the given fractions. P is the number of pixels.
    Range:
        [0, 1] for ``probability`` and ``accuracy`` over fractions from 0 to 1; any number for ``log_odds``.
    Better:
        Lower: the removed pixels were needed.
    Source:
        Samek et al. 2017 (region perturbation); Petsiuk, Das, Saenko 2018 (RISE), who integrate the
        probability. At the same steps the area agrees with torchcam's to 1e-4. torchcam takes steps of
        ``ceil(P / steps)`` pixels and integrates over the fraction of pixels really removed, this function over
        the requested f: for a falling score in [0, 1] the areas differ by at most 1 / (2 P).
    Fails when:
        The model is not robust to the fill: filled images are unlike the data, so a steep curve may show that the
        model breaks, not that the ranking is right. Conversely a model trained with the same fill is robust to
        it, and its maps look unfaithful. Compare with a random ranking (the control), use at least two fills, and
        repeat it with an independent judge network in place of the model.

    Args:
        model: maps inputs to logits ``(N, C)``; run in eval mode without gradients, its modes are restored.
        inputs: ``(N, C, *pixels)`` or ``(N, F)``.
        targets: ``(N,)`` int64, the classes that are scored.
        saliency: ``(N, *pixels)``, higher is more salient.
        fractions: increasing, in [0, 1], at least two.
        fill: what replaces removed pixels, see :func:`smoot.masking.fill_masked`.
        value: the constant of fill ``constant``.
        score: ``probability`` of the target, ``accuracy`` (1 if the target is predicted, else 0), or ``log_odds``.
        batch_size: perturbed images in one forward pass; halved for the rest if memory runs out.
        generator: source of a random fill, on the inputs' device.

    Returns:
        :class:`PerturbationCurve`, on the inputs' device.

    Raises:
        TypeError, ValueError: as :func:`smoot.saliency.input_gradient`; ValueError also for fractions that do not
            increase, an unknown fill or score, or saliency of a wrong shape.
        torch.OutOfMemoryError: if a forward pass of one image does not fit into memory.
    """
    settings = _Settings(tuple(map(float, fractions)), fill, value, score, batch_size)
    explained = _Explained(model, inputs, targets, saliency)
    return _curves(explained, settings, ("deletion",), generator)["deletion"]


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
    """Score as pixels are shown on an otherwise filled image, the most salient first.

    Arguments, result and errors are those of :func:`deletion_curve`.

    Formula:
        ``score(f) = mean over images of s(filled image with the floor(f P + 0.5) most salient pixels shown)``;
        ``auc`` as for deletion.
    Range:
        [0, 1] for ``probability`` and ``accuracy`` over fractions from 0 to 1; any number for ``log_odds``.
    Better:
        Higher: the shown pixels suffice.
    Source:
        Petsiuk, Das, Saenko 2018 (RISE). They insert into a blurred image; here the fill is a setting.
    Fails when:
        As :func:`deletion_curve`. A few pixels on a fill are less like the data than an image with a few pixels
        filled, so the first part of the curve mostly measures robustness to the fill.
    """
    settings = _Settings(tuple(map(float, fractions)), fill, value, score, batch_size)
    explained = _Explained(model, inputs, targets, saliency)
    return _curves(explained, settings, ("insertion",), generator)["insertion"]


def perturbation_curves(  # noqa: PLR0913 - the settings of three curves, all by name
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
) -> PerturbationCurves:
    """Deletion, insertion and their random control in one pass over the images.

    All three use the same filled images, and the clean and the wholly filled image are classified once. Insertion in
    a random order is deletion in the reverse order, so one curve is the control of both. Arguments and errors are
    those of :func:`deletion_curve`. With a generator in the same state, deletion and insertion equal the results of
    the single functions, because the random order is drawn after the fill.

    Formula:
        ``gap = insertion.auc - deletion.auc``; the control is ``random.auc``.
    Range:
        The gap lies in [-1, 1] for ``probability`` and ``accuracy`` over fractions from 0 to 1; about 0 for a
        random map.
    Better:
        Higher gap; deletion below ``random.auc``, insertion above it.
    Source:
        Petsiuk, Das, Saenko 2018 (RISE); the control by a random ranking as in Hooker et al. 2019 (ROAR).
    Fails when:
        Only one fill is used. If the model was trained with it, all three curves also measure robustness to it:
        deletion can be worse though the ranking is better. Two fills and the random control separate the two, and
        an independent judge network does not depend on the trained model at all.

    Returns:
        :class:`PerturbationCurves`.
    """
    settings = _Settings(tuple(map(float, fractions)), fill, value, score, batch_size)
    explained = _Explained(model, inputs, targets, saliency)
    curves = _curves(explained, settings, ("deletion", "insertion", "random"), generator)
    return PerturbationCurves(curves["deletion"], curves["insertion"], curves["random"])


@dataclass(frozen=True)
class _Settings:
    """How a curve is measured, checked; attributes as the arguments of :func:`deletion_curve`."""

    fractions: tuple[float, ...]
    fill: Fill
    value: float
    score: CurveScore
    batch_size: int

    def __post_init__(self) -> None:
        check_choice("fill", self.fill, get_args(Fill))
        check_choice("score", self.score, get_args(CurveScore))
        check_count("batch_size", self.batch_size)
        for fraction in self.fractions:
            check_between("fraction", fraction)
        if len(self.fractions) < 2 or not all(a < b for a, b in pairwise(self.fractions)):
            raise ValueError(f"fractions are {self.fractions}: expected at least two increasing numbers in [0, 1]")


@dataclass(frozen=True)
class _Explained:
    """A model, images and their saliency, checked; attributes as the arguments of :func:`deletion_curve`."""

    model: nn.Module
    inputs: Tensor
    targets: Tensor
    saliency: Tensor

    def __post_init__(self) -> None:
        check_inputs(self.inputs)
        check_targets(self.targets, len(self.inputs))
        check_saliency(self.saliency)
        check_map_shape("saliency", self.saliency, self.inputs)


class _Span(NamedTuple):
    """Filled are the pixels whose rank lies in ``[first, last)``, in ranking 0 (by saliency) or 1 (random)."""

    ranking: int
    first: int
    last: int


@dataclass(frozen=True)
class _PerturbedImages:
    """Every image under every span, as rows ``span * N + image`` that are computed on request.

    Attributes:
        images: ``(N, C, P)``.
        filled: ``(N, C, P)``, the same with every pixel filled.
        ranks: ``(R * N, P)`` int32, the rank of each pixel in each of R rankings, 0 for the most salient.
        spans: ``(Q, 3)`` int32: ranking, first and last of each span.
    """

    images: Tensor
    filled: Tensor
    ranks: Tensor
    spans: Tensor

    def __len__(self) -> int:
        return len(self.images) * len(self.spans)

    def rows(self, rows: Tensor) -> Tensor:
        """The given rows ``(B,)`` as perturbed images ``(B, C, P)``."""
        image = rows % len(self.images)
        ranking, first, last = self.spans.index_select(0, rows // len(self.images)).split(1, dim=1)
        rank = self.ranks.index_select(0, ranking.squeeze(1) * len(self.images) + image)
        masked = (rank >= first) & (rank < last)
        filled, images = self.filled.index_select(0, image), self.images.index_select(0, image)
        return torch.where(masked.unsqueeze(1), filled, images)


def _curves(
    explained: _Explained, settings: _Settings, kinds: Sequence[CurveKind], generator: torch.Generator | None
) -> dict[CurveKind, PerturbationCurve]:
    """The requested kinds of curve. Spans that several of them share are classified once."""
    num_pixels = explained.saliency[0].numel()
    counts = [pixel_count(fraction, num_pixels) for fraction in settings.fractions]
    spans = {kind: [_span(kind, count, num_pixels) for count in counts] for kind in kinds}
    index = {span: place for place, span in enumerate(dict.fromkeys(chain.from_iterable(spans.values())))}
    with evaluation_mode(explained.model), torch.no_grad():
        perturbed = _perturbed_images(explained, settings, tuple(index), generator, random="random" in kinds)
        means = _scores(explained, perturbed, settings).view(len(index), -1).mean(1)
    fraction = torch.tensor(settings.fractions, device=explained.inputs.device)
    scores = {kind: means[[index[span] for span in own]] for kind, own in spans.items()}
    return {
        kind: PerturbationCurve(fraction, score, torch.trapezoid(score, fraction)) for kind, score in scores.items()
    }


def _span(kind: CurveKind, count: int, num_pixels: int) -> _Span:
    """What is filled once ``count`` pixels are removed or shown; the same span for all kinds if none or all are."""
    first, last = (count, num_pixels) if kind == "insertion" else (0, count)
    same_for_all = last - first in (0, num_pixels)
    return _Span(0, 0, last - first) if same_for_all else _Span(int(kind == "random"), first, last)


def _perturbed_images(
    explained: _Explained,
    settings: _Settings,
    spans: tuple[_Span, ...],
    generator: torch.Generator | None,
    *,
    random: bool,
) -> _PerturbedImages:
    """Fills and ranks every image once; the random ranking is drawn after the fill."""
    inputs, saliency = explained.inputs, explained.saliency
    all_pixels = torch.ones_like(saliency, dtype=torch.bool)
    filled = fill_masked(inputs, all_pixels, fill=settings.fill, value=settings.value, generator=generator)
    ranks = [_descending_rank(saliency.flatten(1))]
    if random:
        draw = torch.rand(saliency.shape, generator=generator, device=saliency.device)
        ranks.append(_descending_rank(draw.flatten(1)))
    shape = (len(inputs), -1, saliency[0].numel())
    bounds = torch.tensor(spans, dtype=torch.int32, device=inputs.device)
    return _PerturbedImages(inputs.reshape(shape), filled.reshape(shape), torch.cat(ranks), bounds)


def _scores(explained: _Explained, perturbed: _PerturbedImages, settings: _Settings) -> Tensor:
    """The score of every row, ``(Q * N,)``; if memory runs out, the rest is done in batches of half the size."""
    shape = explained.inputs.shape[1:]
    scores: list[Tensor] = []
    done, batch_size = 0, settings.batch_size
    while done < len(perturbed):
        rows = torch.arange(done, min(done + batch_size, len(perturbed)), device=explained.inputs.device)
        labels = explained.targets[rows % len(explained.targets)]
        try:
            logits = explained.model(perturbed.rows(rows).view(-1, *shape))
            scores.append(_score(check_logits(logits, labels), labels, settings.score))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if len(rows) == 1:
                raise torch.OutOfMemoryError(
                    f"a forward pass of one input of shape {tuple(shape)} does not fit into memory: "
                    f"free memory on {explained.inputs.device}, or use a smaller model or smaller inputs"
                ) from error
            batch_size = len(rows) // 2
        else:
            done += len(rows)
    return torch.cat(scores)


def _score(logits: Tensor, targets: Tensor, score: CurveScore) -> Tensor:
    """The score of each row, ``(B,)`` float32."""
    if score == "accuracy":
        return (logits.argmax(1) == targets).float()
    if score == "log_odds":
        return target_score(logits, targets, "log_odds").float()
    return target_score(logits, targets, "log_prob").exp().float()


def _descending_rank(flat: Tensor) -> Tensor:
    """Rank of each pixel, ``(N, P)`` int32, 0 for the most salient; of equal ones the lower index comes first."""
    order = flat.argsort(dim=1, descending=True, stable=True)
    places = torch.arange(flat.shape[1], device=flat.device, dtype=torch.int32).expand_as(order)
    return torch.empty_like(places, memory_format=torch.contiguous_format).scatter_(1, order, places)
