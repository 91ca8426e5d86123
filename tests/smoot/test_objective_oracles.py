"""The guided loss against SGT as published and other independent write-ups of what it should be."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from published import SGT_GUIDANCE, SGT_PLAN
from states import gradients
from torch import Tensor, nn

from smoot import Guidance, MaskPlan
from smoot.objective import guided_loss

# -- SGT as published, written out on its own


def sgt_as_published(model: nn.Module, images: Tensor, labels: Tensor, noise: Tensor) -> Tensor:
    """Ismail et al. 2021, Algorithm 1, with a loop over the images and no code of ours."""
    rows = torch.arange(len(images))
    variable = images.clone().requires_grad_()
    model.eval()
    true_class = torch.log(torch.softmax(model(variable), dim=1))[rows, labels]
    saliency = torch.autograd.grad(true_class.sum(), variable)[0].mean(dim=1)
    model.train()
    clean = model(images)
    masked = images.clone()
    for image in range(len(images)):
        lowest = saliency[image].flatten().argsort()[: saliency[image].numel() // 2]
        low, high = images[image].min(), images[image].max()
        masked[image].view(3, -1)[:, lowest] = (low + noise[image] * (high - low)).view(3, -1)[:, lowest]
    p, q = torch.softmax(clean, dim=1), torch.softmax(model(masked), dim=1)
    divergence = (p * (p / q).log()).sum(dim=1).mean()
    return -p[rows, labels].log().mean() + divergence


@pytest.mark.parametrize("batch_norm", [True, False])
def test_the_sgt_plan_is_sgt_as_published(
    small_net: Callable, batch: Callable, generator: Callable, batch_norm: bool
) -> None:
    images, labels = batch(dtype=torch.float64)
    noise = torch.rand(images.shape, dtype=torch.float64, generator=generator(5))
    model = small_net(batch_norm=batch_norm, dropout=0.3, dtype=torch.float64)
    model(images)  # running statistics that are neither fresh nor those of the batch
    reference = copy.deepcopy(model)
    torch.manual_seed(0)
    expected = sgt_as_published(reference, images, labels, noise)
    torch.manual_seed(0)
    loss = guided_loss(model, images, labels, SGT_PLAN, SGT_GUIDANCE, generator=generator(5))
    assert loss.consistency > 0.001
    torch.testing.assert_close(loss.total, expected)
    loss.total.backward()
    expected.backward()
    torch.testing.assert_close(gradients(model), gradients(reference))
    torch.testing.assert_close(dict(model.named_buffers()), dict(reference.named_buffers()))


# -- a partial, weighted, smoothed loss whose settings all differ from those above, written out on its own


def partial_loss_by_hand(
    model: nn.Module, images: Tensor, labels: Tensor, chosen: list[int], saliency_pass: str, detach: bool
) -> Tensor:
    """A third of the pixels of the chosen images by magnitude of the log-odds' gradient, mean fill, weight 1.5."""
    variable = images.clone().requires_grad_()
    clean = model(variable)
    p = clean.softmax(1)
    model.train(saliency_pass == "reuse")
    answer = p if saliency_pass == "reuse" else model(variable).softmax(1)
    model.train()
    true = answer.gather(1, labels[:, None]).squeeze(1)
    saliency = torch.autograd.grad((true / (1 - true)).log().sum(), variable, retain_graph=True)[0]
    masked = images[chosen].clone()
    for row, image in enumerate(chosen):
        lowest = saliency[image].abs().mean(0).flatten().argsort()[:12]
        for channel in range(3):
            masked[row, channel].view(-1)[lowest] = images[image, channel].mean()
    target = p[chosen].detach() if detach else p[chosen]
    q = model(masked).softmax(1)
    divergence = (target * (target / q).log()).sum()
    return F.cross_entropy(clean, labels, label_smoothing=0.1) + 1.5 * divergence / len(images)


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("saliency_pass", ["reuse", "eval"])
def test_a_partial_plan_divides_by_the_whole_batch(
    small_net: Callable, batch: Callable, generator: Callable, saliency_pass: str, detach: bool
) -> None:
    images, labels = batch(dtype=torch.float64)
    model = small_net(dtype=torch.float64)
    reference = copy.deepcopy(model)
    drawn = torch.randperm(8, generator=generator(3))[:4].tolist()
    expected = partial_loss_by_hand(reference, images, labels, drawn, saliency_pass, detach)
    plan = MaskPlan(image_fraction=0.5, mask_fraction=1 / 3)
    settings = {"fill": "mean", "kl_weight": 1.5, "label_smoothing": 0.1, "detach_target": detach}
    guidance = Guidance(saliency_pass=saliency_pass, **settings)
    loss = guided_loss(model, images, labels, plan, guidance, generator=generator(3))
    torch.testing.assert_close(loss.total, expected)
    assert loss.masked_share == 0.5 and loss.masked_pixels == pytest.approx(1 / 3)
    loss.total.backward()
    expected.backward()
    torch.testing.assert_close(gradients(model), gradients(reference))


def test_the_loss_leaves_parameter_gradients_and_inputs_alone(small_net: Callable, batch: Callable) -> None:
    for guidance in (Guidance(), SGT_GUIDANCE):
        model, (images, labels) = small_net(), batch()
        model[0].weight.grad = torch.full_like(model[0].weight, 7.0)
        kept = images.clone()
        loss = guided_loss(model, images, labels, MaskPlan(), guidance)
        assert (model[0].weight.grad == 7.0).all() and model[5].weight.grad is None
        assert torch.equal(images, kept) and not images.requires_grad
        assert all(module.training for module in model.modules())
        loss.total.backward()
        assert images.grad is None and model[5].weight.grad is not None
