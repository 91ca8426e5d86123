"""Architectures of timm that differ in kind: is each coupled, and do both ways to its gradients agree?"""

import copy
from typing import Any

import pytest
import timm
import torch

from smoot import MaskPlan, guided_backward, guided_loss
from smoot.coupling import images_are_coupled

# Few and narrow layers of each kind, and whether an image's answer depends on the others of its batch in training mode.
FAMILIES: dict[str, tuple[dict[str, Any], bool]] = {
    "cait_xxs24_224": ({"img_size": 32, "depth": 2}, False),
    "convnextv2_atto": ({"depths": (1, 1, 1, 1)}, False),
    "cs3darknet_s": ({}, True),
    "densenet121": ({"block_config": (2, 2, 2, 2)}, True),
    "dla46_c": ({}, True),
    "edgenext_xx_small": ({"depths": (1, 1, 2, 1)}, False),
    "gmlp_ti16_224": ({"img_size": 32}, False),
    "lambda_resnet26t": ({"width_factor": 0.25}, True),
    "levit_128s": ({"img_size": 64, "depth": (1, 1, 1), "embed_dim": (32, 64, 96), "num_heads": (2, 4, 6)}, True),
    "mobilenetv3_small_050": ({}, True),
    "mobilevit_xxs": ({}, True),
    "nf_resnet26": ({"depths": (1, 1, 1, 1), "channels": (32, 64, 128, 256)}, False),
    "poolformer_s12": ({}, False),
    "regnety_002": ({}, True),
    "repvgg_a0": ({"width_factor": 0.25}, True),
    "resnet10t": ({}, True),
    "swin_tiny_patch4_window7_224": (
        {"img_size": 32, "window_size": 4, "depths": (2, 2), "num_heads": (2, 4), "embed_dim": 24},
        False,
    ),
    "vit_tiny_patch16_224": ({"img_size": 32, "depth": 2}, False),
    "xcit_nano_12_p16_224": ({"img_size": 32, "depth": 2}, True),
}


@pytest.mark.filterwarnings("default")  # some of these warn of timm's own matters when they are made
@pytest.mark.parametrize("name", FAMILIES)
def test_both_ways_give_the_same_gradients_and_buffers(name: str) -> None:
    """In double precision, where no rounding changes the order of pixels: the step is wrong if the two differ."""
    settings, coupled = FAMILIES[name]
    size = settings.get("img_size", 32)
    step = timm.create_model(name, num_classes=5, **settings).double().train()
    draws = [torch.Generator().manual_seed(seed) for seed in (0, 1, 1)]
    images = torch.rand(4, 3, size, size, generator=draws[0], dtype=torch.float64)
    labels, plan = torch.tensor([0, 3, 1, 3]), MaskPlan(image_fraction=0.75, mask_fraction=0.4)
    loss = copy.deepcopy(step)
    assert images_are_coupled(step, images) is coupled
    torch.manual_seed(2)
    guided_loss(loss, images, labels, plan, generator=draws[1]).total.backward()
    torch.manual_seed(2)
    guided_backward(step, images, labels, plan, generator=draws[2])
    largest = max(float(parameter.grad.abs().max()) for parameter in loss.parameters() if parameter.grad is not None)
    for (parameter, ours), reference in zip(step.named_parameters(), loss.parameters(), strict=True):
        if reference.grad is None:
            assert ours.grad is None
            continue
        assert ours.grad is not None
        # Some gradients are 0 but for rounding, such as that of a bias before a normalisation.
        scale = float(reference.grad.abs().max()) + 1e-9 * largest
        torch.testing.assert_close(ours.grad, reference.grad, rtol=1e-5, atol=1e-5 * scale, msg=parameter)
    for ours, reference in zip(step.buffers(), loss.buffers(), strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-12, atol=0)
