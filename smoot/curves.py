"""Perturbation curves: how a score falls as salient pixels are removed, and rises as they are shown."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from smoot.masking import Fill
from smoot.perturbation import CurveKind, CurveScore, CurveSettings, Explained, mean_scores

TENTHS = tuple(step / 10 for step in range(11))


@dataclass(frozen=True)
class PerturbationCurve:
    """A score against the share of perturbed pixels.

    Attributes:
        fraction: ``(S,)`` shares of most salient pixels that were removed (deletion) or shown (insertion).
        score: ``(S,)`` mean over the images.
        auc: 0-d, area under the curve by the trapezoidal rule over ``fraction``.
    """

    fraction: Tensor
    score: Tensor
    auc: Tensor


@dataclass(frozen=True)
class PerturbationCurves:
    """The curves of :func:`perturbation_curves`; ``random`` deletes along a random ranking."""

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
    gradient: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> PerturbationCurve:
    """Score while the most salient pixels are removed, most salient first, ties by pixel index.

    A random fill is drawn once an image, so that neighbouring steps differ only by the pixels between them.

    Formula:
        ``score(f) = mean over images of s(x with its floor(f P + 0.5) most salient pixels filled)``, and
        ``auc`` is the trapezoidal area under it over the given fractions. P is the number of pixels.
    Range:
        [0, 1] for ``probability`` and ``accuracy`` over fractions from 0 to 1; any number for ``log_odds``.
    Better:
        Lower: the removed pixels were needed.
    Source:
        Samek et al. 2017 (region perturbation); Petsiuk, Das, Saenko 2018 (RISE), who integrate the
        probability. At the same steps the area agrees with torchcam's to 1e-4; torchcam takes steps of
        ``ceil(P / steps)`` pixels and integrates over the share that was really removed, where it is the nominal
        f here: at most half a pixel's share apart for a score in [0, 1] that falls throughout.
    Fails when:
        The model is fragile: a filled image lies off the data, so a steep curve may say that the model breaks,
        not that the ranking is right. A model trained with the very same fill is robust to it and looks
        unfaithful. So read it beside a random ranking (the control), with at least two fills, and with
        an independent judge network in place of the model.

    Args:
        model: maps inputs to logits; run in eval mode without gradients, its modes are restored.
        inputs: ``(N, C, *pixels)`` or ``(N, F)``.
        targets: ``(N,)`` int64, the class that is scored.
        saliency: ``(N, *pixels)``, higher is more salient.
        fractions: increasing shares in [0, 1], at least two.
        fill: what replaces removed pixels, see :func:`smoot.masking.fill_masked`.
        value: the constant of fill ``constant``.
        score: ``probability`` of the target, ``accuracy`` (share of answers that are it), or ``log_odds``.
        batch_size: rows of one forward, images and steps mixed; halved for the rest when memory runs out.
        gradient: of the true class's score, like ``inputs``; needed by fill ``worst_case`` only.
        generator: source of a random fill, on the inputs' device.

    Returns:
        :class:`PerturbationCurve`, on the inputs' device.

    Raises:
        TypeError, ValueError: as :func:`smoot.saliency.input_gradient`; for fractions that do not increase,
            or a missing gradient.
        torch.OutOfMemoryError: if not even a forward of one row fits.
    """
    settings = CurveSettings(tuple(map(float, fractions)), fill, value, score, batch_size)
    explained = Explained(model, inputs, targets, saliency, gradient)
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
    gradient: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> PerturbationCurve:
    """Score while the most salient pixels are shown on an otherwise filled image.

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
        As :func:`deletion_curve`. Few pixels on a fill are further from the data than few holes in an image, so
        the early part of the curve says most about robustness to the fill.
    """
    settings = CurveSettings(tuple(map(float, fractions)), fill, value, score, batch_size)
    explained = Explained(model, inputs, targets, saliency, gradient)
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
    gradient: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> PerturbationCurves:
    """Deletion, insertion and their random control in one pass over the images.

    The same filled image serves all three; the whole image and the wholly filled one are answered once. Inserting
    along a random ranking is deleting along its reverse, so one curve is the control of both. Arguments and
    errors are those of :func:`deletion_curve`; its deletion and insertion are those of the single functions
    with a generator in the same state (the random ranking is drawn after the fill).

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
        Only one fill is shown. A fill that was used in training measures robustness to it too, which moves all
        three curves: deletion can look worse while the ranking is better. Two fills and the random control
        separate the two, and an independent judge network takes the trained model out of the question.

    Returns:
        :class:`PerturbationCurves`.
    """
    settings = CurveSettings(tuple(map(float, fractions)), fill, value, score, batch_size)
    explained = Explained(model, inputs, targets, saliency, gradient)
    curves = _curves(explained, settings, ("deletion", "insertion", "random"), generator)
    return PerturbationCurves(curves["deletion"], curves["insertion"], curves["random"])


def _curves(
    explained: Explained,
    settings: CurveSettings,
    kinds: Sequence[CurveKind],
    generator: torch.Generator | None,
) -> dict[CurveKind, PerturbationCurve]:
    """The asked kinds of curve, all from one pass."""
    fraction = torch.tensor(settings.fractions, device=explained.inputs.device)
    scores = mean_scores(explained, settings, kinds, generator)
    return {
        kind: PerturbationCurve(fraction, score, torch.trapezoid(score, fraction)) for kind, score in scores.items()
    }
