"""The engine of the perturbation curves: an image with some of its pixels filled, and what a model answers.

What is asked of every image is a *span*: the pixels whose rank in a ranking lies in ``[first, last)`` are
filled. Ranks and filled images are made once; a forward gets rows that mix images and spans, so that few
images at many steps fill a batch too, and only ``batch_size`` perturbed images exist at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
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
from smoot.modes import evaluation_mode, out_of_memory
from smoot.saliency import target_score

CurveScore = Literal["probability", "accuracy", "log_odds"]
CurveKind = Literal["deletion", "insertion", "random"]


@dataclass(frozen=True)
class CurveSettings:
    """What a curve is measured with; checked once. Fields as in :func:`smoot.curves.deletion_curve`."""

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
        rising = all(a < b for a, b in zip(self.fractions, self.fractions[1:], strict=False))
        if len(self.fractions) < 2 or not rising:
            raise ValueError(f"fractions are {self.fractions}: expected at least two increasing shares in [0, 1]")


@dataclass(frozen=True)
class Explained:
    """A model, the images it is asked about, and their saliency; checked once.

    Attributes:
        inputs: ``(N, C, *pixels)`` or ``(N, F)``.
        targets: ``(N,)`` int64.
        saliency: ``(N, *pixels)``.
        gradient: like ``inputs``; None unless the fill is ``worst_case``.
    """

    model: nn.Module
    inputs: Tensor
    targets: Tensor
    saliency: Tensor
    gradient: Tensor | None

    def __post_init__(self) -> None:
        check_inputs(self.inputs)
        check_targets(self.targets, len(self.inputs))
        check_saliency(self.saliency)
        check_map_shape("saliency", self.saliency, self.inputs)


@dataclass(frozen=True)
class _Span:
    """Filled are the pixels whose rank in one of the rankings lies in ``[first, last)``."""

    ranking: int
    first: int
    last: int


@dataclass(frozen=True)
class _Rows:
    """Every image under every span, as rows ``span * N + image`` that are made when asked for.

    Attributes:
        images: ``(N, C, P)``.
        filled: ``(N, C, P)``, the same with every pixel filled.
        ranks: ``(R * N, P)`` int32, rank of each pixel in each of R rankings, 0 for the most salient.
        spans: ``(Q, 3)`` int32: ranking, first and last of each span.
    """

    images: Tensor
    filled: Tensor
    ranks: Tensor
    spans: Tensor

    def __len__(self) -> int:
        return len(self.images) * len(self.spans)

    def perturbed(self, rows: Tensor) -> Tensor:
        """The given rows ``(B,)`` as images ``(B, C, P)``."""
        image = rows % len(self.images)
        ranking, first, last = self.spans.index_select(0, rows // len(self.images)).split(1, dim=1)
        rank = self.ranks.index_select(0, ranking.squeeze(1) * len(self.images) + image)
        masked = (rank >= first) & (rank < last)
        filled, images = self.filled.index_select(0, image), self.images.index_select(0, image)
        return torch.where(masked.unsqueeze(1), filled, images)


def mean_scores(
    explained: Explained,
    settings: CurveSettings,
    kinds: Sequence[CurveKind],
    generator: torch.Generator | None,
) -> dict[CurveKind, Tensor]:
    """The mean score over the images at every fraction of the asked kinds of curve, each ``(S,)`` float32.

    Spans that several curves have in common (nothing filled, everything filled) are answered once.
    """
    num_pixels = explained.saliency[0].numel()
    counts = [pixel_count(fraction, num_pixels) for fraction in settings.fractions]
    asked = {kind: [_span(kind, count, num_pixels) for count in counts] for kind in kinds}
    index = {span: place for place, span in enumerate(dict.fromkeys(chain.from_iterable(asked.values())))}
    with evaluation_mode(explained.model), torch.no_grad():
        rows = _rows(explained, settings, tuple(index), generator, random="random" in kinds)
        answers = _answers(explained, rows, settings)
    means = answers.view(len(index), -1).mean(1)
    return {kind: means[[index[span] for span in spans]] for kind, spans in asked.items()}


def _span(kind: CurveKind, count: int, num_pixels: int) -> _Span:
    """What is filled when ``count`` pixels are removed or shown; one name for nothing and for everything."""
    first, last = (count, num_pixels) if kind == "insertion" else (0, count)
    same_in_all = last - first in (0, num_pixels)
    return _Span(0, 0, last - first) if same_in_all else _Span(int(kind == "random"), first, last)


def _rows(
    explained: Explained,
    settings: CurveSettings,
    spans: tuple[_Span, ...],
    generator: torch.Generator | None,
    *,
    random: bool,
) -> _Rows:
    """Fills and ranks every image once; the random ranking is drawn after the fill."""
    inputs, saliency = explained.inputs, explained.saliency
    everything = torch.ones_like(saliency, dtype=torch.bool)
    filled = fill_masked(
        inputs, everything, fill=settings.fill, value=settings.value, gradient=explained.gradient, generator=generator
    )
    ranks = [_descending_rank(saliency.flatten(1))]
    if random:
        draw = torch.rand(saliency.shape, generator=generator, device=saliency.device)
        ranks.append(_descending_rank(draw.flatten(1)))
    fields = [[span.ranking, span.first, span.last] for span in spans]
    shape = (len(inputs), -1, saliency[0].numel())
    bounds = torch.tensor(fields, dtype=torch.int32, device=inputs.device)
    return _Rows(inputs.reshape(shape), filled.reshape(shape), torch.cat(ranks), bounds)


def _answers(explained: Explained, rows: _Rows, settings: CurveSettings) -> Tensor:
    """The score of every row; when memory runs out the batch is halved and the work goes on where it was."""
    shape = explained.inputs.shape[1:]
    answers: list[Tensor] = []
    done, batch_size = 0, settings.batch_size
    while done < len(rows):
        chunk = torch.arange(done, min(done + batch_size, len(rows)), device=explained.inputs.device)
        labels = explained.targets[chunk % len(explained.targets)]
        try:
            logits = explained.model(rows.perturbed(chunk).view(-1, *shape))
            answers.append(_score(check_logits(logits, labels), labels, settings.score))
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if len(chunk) == 1:
                raise torch.OutOfMemoryError(
                    f"a forward of one input of shape {tuple(shape)} does not fit into memory: "
                    f"free memory on {explained.inputs.device}, or use a smaller model or smaller inputs"
                ) from error
            batch_size = len(chunk) // 2
        else:
            done += len(chunk)
    return torch.cat(answers)


def _score(logits: Tensor, targets: Tensor, score: CurveScore) -> Tensor:
    """The curve's score of each row, ``(B,)``."""
    if score == "accuracy":
        return (logits.argmax(1) == targets).float()
    if score == "log_odds":
        return target_score(logits, targets, "log_odds").float()
    return target_score(logits, targets, "log_prob").exp().float()


def _descending_rank(flat: Tensor) -> Tensor:
    """Rank of each pixel ``(N, P)`` as int32, 0 for the most salient; ties by pixel index."""
    order = flat.argsort(dim=1, descending=True, stable=True)
    places = torch.arange(flat.shape[1], device=flat.device, dtype=torch.int32).expand_as(order)
    return torch.empty_like(places, memory_format=torch.contiguous_format).scatter_(1, order, places)
