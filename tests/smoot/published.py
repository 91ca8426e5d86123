"""Saliency-guided training as Ismail et al. (2021) published it, in this package's settings."""

from smoot import Guidance, MaskPlan

SGT_PLAN = MaskPlan(image_fraction=1.0, mask_fraction=0.5)
SGT_GUIDANCE = Guidance(
    score="log_prob",
    reduction="signed_mean",
    saliency_pass="eval",
    fill="uniform",
    masked_statistics="update",
    detach_target=False,
)
