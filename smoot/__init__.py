"""Saliency-guided training with an adaptive mask schedule, and measures of the saliency it gives.

Read in this order: ``saliency`` (input gradients and maps), ``masking`` (which pixels, and what replaces
them), ``scheduler`` (how much, decided during training), ``objective`` (the loss of one batch), ``step``
(the same with its backward, at the least cost), ``criterion`` (the drop-in ``SaliencyGuidedLoss``), ``curves``
(what the network answers when salient pixels go) and ``metrics`` (how good a map is by itself). The core needs
torch and nothing else; ``workbench`` holds the experiments around it.

A name is imported when it is first used: ``import smoot`` alone, and every command of the workbench that needs
no torch, starts without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smoot.criterion import SaliencyGuidedLoss
    from smoot.curves import (
        PerturbationCurve,
        PerturbationCurves,
        deletion_curve,
        insertion_curve,
        perturbation_curves,
    )
    from smoot.guidance import Guidance
    from smoot.masking import (
        fill_masked,
        lowest_mass_mask,
        lowest_saliency_mask,
        protected_random_mask,
        random_mask,
    )
    from smoot.metrics import gini_sparseness, pointing_game, rank_correlation, relevance_mass, relevance_rank
    from smoot.objective import GuidedLoss, guided_loss, kl_consistency
    from smoot.saliency import input_gradient, saliency_map, smooth_gradient
    from smoot.scheduler import AdaptiveSchedule, ConstantSchedule, Feedback, MaskPlan, MaskSchedule
    from smoot.step import guided_backward

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
    "guided_backward",
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

# The same as the imports above, for the time of running: tests hold the two together.
_NAMES = {
    "criterion": "SaliencyGuidedLoss",
    "curves": "PerturbationCurve PerturbationCurves deletion_curve insertion_curve perturbation_curves",
    "guidance": "Guidance",
    "masking": "fill_masked lowest_mass_mask lowest_saliency_mask protected_random_mask random_mask",
    "metrics": "gini_sparseness pointing_game rank_correlation relevance_mass relevance_rank",
    "objective": "GuidedLoss guided_loss kl_consistency",
    "saliency": "input_gradient saliency_map smooth_gradient",
    "scheduler": "AdaptiveSchedule ConstantSchedule Feedback MaskPlan MaskSchedule",
    "step": "guided_backward",
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """A name of ``__all__``, or a module of the core, imported now (PEP 562)."""
    if name in _NAMES:
        return import_module(f"smoot.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'smoot' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"smoot.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_NAMES})
