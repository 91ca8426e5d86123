"""How a batch is masked and compared: the part of the method that no schedule changes."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from smoot.checks import check_between, check_choice
from smoot.masking import Fill
from smoot.saliency import Reduction, Score

SaliencyPass = Literal["reuse", "loss", "eval"]
Statistics = Literal["keep", "update"]
Consistency = Literal["kl", "cross_entropy"]


@dataclass(frozen=True)
class Guidance:
    """What is not scheduled.

    Attributes:
        of: score whose input gradient ranks the pixels, see :func:`smoot.saliency.target_score`.
        reduction: of the gradient over channels, see :func:`smoot.saliency.saliency_map`.
        saliency_pass: ``reuse`` takes the gradient of the score from the training-mode forward that the loss uses
            as well; ``eval`` from a forward of its own in eval mode; ``loss`` takes what the cross-entropy's own
            backward says of the inputs, for nothing (see :mod:`smoot.step`), which is the same as ``reuse`` unless
            images answer each other through batch statistics. Different methods, not only different costs.
        fill: what replaces masked pixels, see :func:`smoot.masking.fill_masked`.
        fill_value: the constant of fill ``constant``.
        masked_statistics: whether the masked pass moves the running statistics of normalisation layers. ``update``
            is what calling the model twice does, as SGT's published code: the statistics then describe a mixture
            of images and masked images, and clean images are answered worse at test time. ``keep`` leaves them
            to the clean images.
        consistency: what the masked images are asked for: the clean answers (``kl``, SGT), or the labels
            (``cross_entropy``, which makes masking an augmentation).
        kl_weight: lambda, the weight of the consistency term, at least 0.
        detach_target: whether p(clean) is a fixed target; SGT as published lets the gradient through.
        label_smoothing: of the cross-entropy term, in [0, 1).
    """

    of: Score = "log_odds"
    reduction: Reduction = "mean_abs"
    saliency_pass: SaliencyPass = "reuse"
    fill: Fill = "uniform"
    fill_value: float = 0.0
    masked_statistics: Statistics = "keep"
    consistency: Consistency = "kl"
    kl_weight: float = 1.0
    detach_target: bool = True
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_choice("of", self.of, get_args(Score))
        check_choice("reduction", self.reduction, get_args(Reduction))
        check_choice("saliency_pass", self.saliency_pass, get_args(SaliencyPass))
        check_choice("fill", self.fill, get_args(Fill))
        check_choice("masked_statistics", self.masked_statistics, get_args(Statistics))
        check_choice("consistency", self.consistency, get_args(Consistency))
        check_between("kl_weight", self.kl_weight, 0.0, torch.inf)
        check_between("label_smoothing", self.label_smoothing)
        if self.saliency_pass == "loss" and self.of == "logit":
            raise ValueError("saliency_pass 'loss' gives the gradient of the loss: of is 'logit', use 'log_odds'")
