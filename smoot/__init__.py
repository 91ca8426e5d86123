"""Saliency-guided training with an adaptive mask schedule, and measures of the saliency it gives.

Read in this order: ``saliency`` (input gradients and maps), ``masking`` (which pixels, and what replaces
them), ``scheduler`` (how much, decided during training), ``objective`` (the loss of one batch, and the
drop-in ``SaliencyGuidedLoss``), ``curves`` (what the network answers when salient pixels go) and
``metrics`` (how good a map is by itself). The core needs torch and nothing else;
``smoot.workbench`` holds the experiments around it.
"""

from smoot.curves import (
    PerturbationCurve,
    PerturbationCurves,
    deletion_curve,
    insertion_curve,
    perturbation_curves,
)
from smoot.masking import (
    fill_masked,
    lowest_mass_mask,
    lowest_saliency_mask,
    protected_random_mask,
    random_mask,
)
from smoot.metrics import gini_sparseness, pointing_game, rank_correlation, relevance_mass, relevance_rank
from smoot.objective import Guidance, GuidedLoss, SaliencyGuidedLoss, guided_loss, kl_consistency
from smoot.saliency import input_gradient, saliency_map, smooth_gradient
from smoot.scheduler import AdaptiveSchedule, ConstantSchedule, Feedback, MaskPlan, MaskSchedule

__version__ = "0.1.0"

__all__ = [
    "AdaptiveSchedule",
    "ConstantSchedule",
    "Feedback",
    "Guidance",
    "GuidedLoss",
    "MaskPlan",
    "MaskSchedule",
    "PerturbationCurve",
    "PerturbationCurves",
    "SaliencyGuidedLoss",
    "deletion_curve",
    "fill_masked",
    "gini_sparseness",
    "guided_loss",
    "input_gradient",
    "insertion_curve",
    "kl_consistency",
    "lowest_mass_mask",
    "lowest_saliency_mask",
    "perturbation_curves",
    "pointing_game",
    "protected_random_mask",
    "random_mask",
    "rank_correlation",
    "relevance_mass",
    "relevance_rank",
    "saliency_map",
    "smooth_gradient",
]
