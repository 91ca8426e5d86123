"""Saliency-guided training with an adaptive mask schedule, and measures of the saliency it gives.

The modules, in reading order; each uses only those before it:

1. ``task``: what a model is asked, and how its answers are scored.
2. ``saliency``: input gradients, and the maps made from them.
3. ``masking``: which pixels are masked, and what replaces them.
4. ``feedback``: what a schedule learns from one step.
5. ``scheduler``: how much is masked, decided during training.
6. ``parallel``: several processes that train one model.
7. ``coupling``: whether images are answered together.
8. ``guidance``: how images are masked and compared.
9. ``objective``: the loss of one batch.
10. ``step``: the same loss with its gradients, in fewer passes.
11. ``preflight``: one step tried, so that a model which cannot take part is refused.
12. ``per_image``: a number of masked pixels for each training image.
13. ``criterion``: the drop-in :class:`SaliencyGuidedLoss`.
14. ``metrics``: how good a saliency map is by itself.
15. ``curves``: how the model's answers change as salient pixels are removed or shown.

``checks`` (errors for bad input) and ``modes`` (the state of a model for a while) serve all of them. The package needs
torch and nothing else.
"""

from smoot.criterion import SaliencyGuidedLoss
from smoot.curves import PerturbationCurve, PerturbationCurves, deletion_curve, insertion_curve, perturbation_curves
from smoot.feedback import Feedback
from smoot.guidance import Guidance
from smoot.masking import fill_masked, lowest_saliency_mask, protected_random_mask, random_mask
from smoot.metrics import gini_sparseness, pointing_game, rank_correlation, relevance_mass, relevance_rank
from smoot.objective import GuidedLoss, consistency, guided_loss, kl_consistency
from smoot.per_image import HeldOut, InformationLoss, PerImageSchedule, PublicCode, Staircase
from smoot.saliency import input_gradient, saliency_map, smooth_gradient
from smoot.scheduler import AdaptiveSchedule, ConstantSchedule, GapSchedule, MaskPlan, MaskSchedule, SequenceSchedule
from smoot.step import guided_backward
from smoot.task import Classification, MultiLabel

__version__ = "0.2.0"

__all__ = [
    "AdaptiveSchedule",
    "Classification",
    "ConstantSchedule",
    "Feedback",
    "GapSchedule",
    "Guidance",
    "GuidedLoss",
    "HeldOut",
    "InformationLoss",
    "MaskPlan",
    "MaskSchedule",
    "MultiLabel",
    "PerImageSchedule",
    "PerturbationCurve",
    "PerturbationCurves",
    "PublicCode",
    "SaliencyGuidedLoss",
    "SequenceSchedule",
    "Staircase",
    "consistency",
    "deletion_curve",
    "fill_masked",
    "gini_sparseness",
    "guided_backward",
    "guided_loss",
    "input_gradient",
    "insertion_curve",
    "kl_consistency",
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
