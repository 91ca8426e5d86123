"""Architectures of timm that differ in kind: is each coupled, and do both ways to its gradients agree?"""

import copy

import pytest
import timm
import torch

from smoot.coupling import images_are_coupled
from smoot.objective import guided_loss
from smoot.scheduler import MaskPlan
from smoot.step import guided_backward

# Image size; whether an image's answer depends on the others of its batch in training mode.
FAMILIES = {
    "cait_xxs24_224": (32, False),
    "convnextv2_atto": (32, False),
    "cs3darknet_s": (32, True),
    "densenet121": (32, True),
    "dla46_c": (32, True),
    "edgenext_xx_small": (32, False),
    "gmlp_ti16_224": (32, False),
    "lambda_resnet26t": (32, True),
    "levit_128s": (64, True),
    "mobilenetv3_small_050": (32, True),
    "mobilevit_xxs": (32, True),
    "nf_resnet26": (32, False),
    "poolformer_s12": (32, False),
    "regnety_002": (32, True),
    "repvgg_a0": (32, True),
    "resnet10t": (32, True),
    "swin_tiny_patch4_window7_224": (32, False),
    "vit_tiny_patch16_224": (32, False),
    "xcit_nano_12_p16_224": (32, True),
}
SIZED = ("cait", "gmlp", "levit", "swin", "vit", "xcit")


@pytest.mark.filterwarnings("default")  # some of these warn of timm's own matters when they are made
@pytest.mark.parametrize("name", FAMILIES)
def test_both_ways_give_the_same_gradients_and_buffers(name: str) -> None:
    """In double precision, where no rounding changes the order of pixels: the step is wrong if the two differ."""
    size, coupled = FAMILIES[name]
    settings = {"img_size": size} if name.startswith(SIZED) else {}
    settings |= {"window_size": 4} if name.startswith("swin") else {}
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
