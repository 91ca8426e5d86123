"""A whole guided step: the gradients of the loss, from fewer passes, without waiting for the device."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from states import gradients, same
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch.utils.flop_counter import FlopCounterMode

from smoot import Guidance, GuidedLoss, SaliencyGuidedLoss, guided_loss, lowest_saliency_mask
from smoot.coupling import images_are_coupled
from smoot.saliency import input_gradient, saliency_map
from smoot.scheduler import AdaptiveSchedule, ConstantSchedule, MaskPlan
from smoot.step import cross_entropy_gradient, guided_backward
from smoot.task import target_score

CLASSES, SIZE = 5, 8


def plain_net(*, norm: Callable[[int], nn.Module] = lambda _: nn.Identity(), seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1),
        norm(6),
        nn.Tanh(),
        nn.Conv2d(6, 4, 3, stride=2),
        norm(4),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(4 * 3 * 3, CLASSES),
    )


NETS: dict[str, Callable[[], nn.Module]] = {
    "without batch statistics": plain_net,
    "batch norm": lambda: plain_net(norm=nn.BatchNorm2d),
    "layer statistics": lambda: plain_net(norm=lambda n: nn.GroupNorm(2, n)),
    "batch norm in eval mode": lambda: plain_net(norm=nn.BatchNorm2d).eval(),
}
PLANS = {
    "nothing": MaskPlan(image_fraction=0.0),
    "half the pixels": MaskPlan(),
    "half the images": MaskPlan(image_fraction=0.5),
    "random pixels": MaskPlan(ranking="random"),
    "protected": MaskPlan(ranking="protected", mask_fraction=0.4, protected=0.2),
    "highest": MaskPlan(ranking="highest", mask_fraction=0.3),
    "no pixel": MaskPlan(mask_fraction=0.005),
}
GUIDANCE = {
    "default": Guidance(),
    "eval": Guidance(saliency_pass="eval"),
    "as published": Guidance(score="log_prob", reduction="signed_mean", saliency_pass="eval", detach_target=False),
    "both sides": Guidance(detach_target=False),
    "signed": Guidance(score="log_prob", reduction="signed_mean"),
    "logit": Guidance(score="logit"),
    "smoothed": Guidance(label_smoothing=0.1),
    "labels asked": Guidance(fill="mean", consistency="cross_entropy"),
    "statistics moved": Guidance(masked_statistics="update", kl_weight=2.0),
}


def batch(size: int = 10, seed: int = 1, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    images = torch.rand(size, 2, SIZE, SIZE, generator=draw, dtype=torch.float64).to(dtype)
    return images, torch.randint(CLASSES, (size,), generator=draw)


def numbers(loss: GuidedLoss) -> dict[str, Tensor]:
    """The tensors of a loss, those of its answers included."""
    answers = {} if loss.answers is None else vars(loss.answers)
    found = vars(loss) | {f"answers.{name}": value for name, value in answers.items()}
    return {name: value.detach() for name, value in found.items() if isinstance(value, Tensor)}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("guidance", GUIDANCE.values(), ids=GUIDANCE)
@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
def test_gradients_numbers_and_buffers_are_those_of_the_loss(
    make: Callable[[], nn.Module], guidance: Guidance, plan: MaskPlan
) -> None:
    first, draws = make().double(), [torch.Generator().manual_seed(2) for _ in range(2)]
    second = copy.deepcopy(first)
    loss = guided_loss(first, *batch(), plan, guidance, generator=draws[0])
    loss.total.backward()
    found = guided_backward(second, *batch(), plan, guidance, generator=draws[1])
    assert gradients(first)
    torch.testing.assert_close(gradients(second), gradients(first), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(numbers(found), numbers(loss), rtol=1e-9, atol=1e-12, equal_nan=True)
    torch.testing.assert_close(list(second.buffers()), list(first.buffers()))
    assert [module.training for module in first.modules()] == [module.training for module in second.modules()]


def test_nothing_returned_holds_a_graph_and_inputs_stay_as_they_were() -> None:
    images, labels = batch(dtype=torch.float32)
    before = images.clone()
    found = guided_backward(plain_net(), images, labels, MaskPlan())
    assert found.answers is not None
    returned = [*vars(found).values(), *vars(found.answers).values()]
    assert not any(value.requires_grad for value in returned if isinstance(value, Tensor))
    assert torch.equal(images, before) and not images.requires_grad and images.grad is None


def test_a_plain_plan_adds_the_gradient_of_the_cross_entropy_to_the_bit() -> None:
    first, (images, labels) = plain_net(norm=nn.BatchNorm2d), batch(dtype=torch.float32)
    second = copy.deepcopy(first)
    for _ in range(2):
        F.cross_entropy(first(images), labels).backward()
        guided_backward(second, images, labels, MaskPlan(image_fraction=0.0))
        torch.testing.assert_close(gradients(second), gradients(first), rtol=0, atol=0)


# -- passes


@pytest.mark.parametrize(("fraction", "sizes"), [(0.0, [10]), (0.3, [10, 3]), (1.0, [10, 10])])
def test_forwards(fraction: float, sizes: list[int], recorded: Callable) -> None:
    model, (images, labels) = plain_net(), batch(dtype=torch.float32)
    images_are_coupled(model, images)  # tried once, before
    with recorded(model) as calls:
        guided_backward(model, images, labels, MaskPlan(image_fraction=fraction))
    assert [len(call.inputs) for call in calls] == sizes


def flops(work: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


@pytest.mark.parametrize(("fraction", "share"), [(0.5, 0.5), (1.0, 1.0)])
def test_arithmetic_is_that_of_three_forwards_and_three_of_the_masked(fraction: float, share: float) -> None:
    """And of the inputs' own gradient in the first layer, one forward of it, which plain training leaves out."""
    model, (images, labels) = plain_net(), batch(dtype=torch.float32)
    plain = flops(lambda: F.cross_entropy(model(images), labels).backward())
    first_layer = flops(lambda: model[0](images))
    images_are_coupled(model, images)  # tried once, before
    guided = flops(lambda: guided_backward(model, images, labels, MaskPlan(image_fraction=fraction)))
    assert guided == plain * (1 + share) + first_layer


@pytest.mark.parametrize(
    ("norm", "guidance", "backwards"),
    [
        (nn.BatchNorm2d, Guidance(), 2),
        (lambda channels: nn.GroupNorm(2, channels), Guidance(), 1),
        (lambda channels: nn.GroupNorm(2, channels), Guidance(score="logit"), 2),
    ],
)
def test_the_gradient_takes_a_backward_of_its_own_where_the_cross_entropy_ranks_otherwise(
    norm: Callable[[int], nn.Module], guidance: Guidance, backwards: int
) -> None:
    model, (images, labels) = plain_net(norm=norm), batch(dtype=torch.float32)
    images_are_coupled(model, images)  # tried once, before
    counted: list[Tensor] = []

    def watch(module: nn.Module, inputs: Any, logits: Tensor) -> None:
        logits.register_hook(counted.append)

    model.register_forward_hook(watch)
    guided_backward(model, images, labels, MaskPlan(), guidance)
    assert len(counted) == backwards + 1  # of the clean images, and one of the masked


# -- certain answers


@pytest.mark.parametrize("scale", [1.0, 30.0, 60.0])
def test_the_loss_gradient_is_exact_where_automatic_differentiation_gives_nothing(scale: float) -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(64, CLASSES, generator=draw)
    targets = logits.argmax(1)
    index = targets.unsqueeze(1)
    logits.scatter_add_(1, index, torch.full((64, 1), scale))
    exact = logits.double()
    others = exact.scatter(1, index, -torch.inf).softmax(1)
    wanted = torch.sigmoid(-target_score(exact, targets)).unsqueeze(1) * others.scatter(1, index, -1.0) / 64
    found = cross_entropy_gradient(logits, targets)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=0)
    variable = logits.clone().requires_grad_()
    F.cross_entropy(variable, targets).backward()
    assert variable.grad is not None
    torch.testing.assert_close(found, variable.grad, rtol=1e-4, atol=1e-8)
    if scale >= 30:
        assert not variable.grad.gather(1, index).any() and (found.gather(1, index) < 0).all()


def test_masks_of_certain_images_agree_with_those_in_double_precision() -> None:
    model = plain_net()
    images, labels = batch(32)
    with torch.no_grad():
        labels = model.double()(images).argmax(1)
        for parameter in model[-1].parameters():
            parameter.mul_(1000.0)  # so certain that float32 knows no doubt
    exact = saliency_map(input_gradient(model, images, labels))
    single = copy.deepcopy(model).float()
    assert (single(images.float()).log_softmax(1).gather(1, labels.unsqueeze(1)) == 0).float().mean() > 0.3
    variable = images.float().requires_grad_()
    logits = single(variable)
    logits.backward(cross_entropy_gradient(logits, labels))
    assert variable.grad is not None
    found, wanted = (lowest_saliency_mask(maps, 0.5) for maps in (saliency_map(variable.grad), exact))
    overlap = (found & wanted).flatten(1).sum(1) / (found | wanted).flatten(1).sum(1)
    assert overlap.mean() > 0.99


# -- no waiting


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("guidance", GUIDANCE.values(), ids=GUIDANCE)
def test_no_value_is_asked_from_the_device(plan: MaskPlan, guidance: Guidance) -> None:
    """On the device ``meta`` tensors have no values: whoever asks for one, as ``.item()`` does, gets an error."""
    model = plain_net(norm=nn.BatchNorm2d).to("meta")
    images, labels = torch.empty(10, 2, SIZE, SIZE, device="meta"), torch.empty(10, dtype=torch.int64, device="meta")
    found = guided_backward(model, images, labels, plan, guidance)
    assert found.total.device.type == "meta"
    with pytest.raises(RuntimeError):
        float(found.total)


def test_the_backward_runs_in_the_precision_of_the_forward() -> None:
    model, (images, labels) = plain_net(), batch(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = guided_backward(model, images, labels, MaskPlan())
    assert all(gradient.dtype == torch.float32 and gradient.isfinite().all() for gradient in gradients(model))
    exact = F.cross_entropy(plain_net()(images), labels).detach()
    assert float(found.classification) == pytest.approx(float(exact), rel=0.02)


# -- the drop-in


def test_the_criterion_does_the_same_and_its_schedule_learns() -> None:
    images, labels = batch(dtype=torch.float32)
    first, second = plain_net(), plain_net()
    criteria = [SaliencyGuidedLoss(AdaptiveSchedule(), generator=torch.Generator().manual_seed(3)) for _ in range(2)]
    for _ in range(3):
        criteria[0](first, images, labels).total.backward()
        criteria[1].backward(second, images, labels)
    torch.testing.assert_close(gradients(second), gradients(first), rtol=1e-4, atol=1e-6)
    states = [criterion.state_dict() for criterion in criteria]
    assert same(*states) and states[1]["schedule_means"].all()


@pytest.mark.parametrize("guidance", [Guidance(), Guidance(detach_target=False)], ids=["one side", "both"])
def test_a_model_that_has_no_gradient_to_give_is_an_error_as_ever(guidance: Guidance) -> None:
    model, (images, labels) = plain_net().requires_grad_(False), batch(dtype=torch.float32)
    criterion = SaliencyGuidedLoss(ConstantSchedule(MaskPlan(ranking="random")), guidance)
    with pytest.raises(RuntimeError, match="does not require grad"):
        criterion.backward(model, images, labels)


@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0:RuntimeWarning")
@pytest.mark.parametrize("norm", [lambda _: nn.Identity(), nn.BatchNorm2d], ids=["no statistics", "batch norm"])
def test_a_compiled_network_is_compiled_for_a_few_shapes_and_then_never_again(norm: Callable[[int], nn.Module]) -> None:
    """With and without the inputs' gradient, with and without moving statistics, one size and then any size."""
    torch._dynamo.reset()
    counter = CompileCounter()
    network = torch.compile(plain_net(norm=norm), backend=counter)
    images, labels = batch(16, dtype=torch.float32)
    compiled = []
    for count in (16, 0, 3, 5, 8, 11, 13, 16, 4, 7, 2, 9, 12):
        guided_backward(network, images, labels, MaskPlan(image_fraction=count / 16))
        compiled.append(counter.frame_count)
    assert compiled[2:] == [compiled[2]] * 11 and compiled[2] <= 4


def test_in_eval_mode_the_criterion_is_plain_and_its_schedule_learns_nothing(recorded: Callable) -> None:
    model, (images, labels) = plain_net(), batch(dtype=torch.float32)
    criterion = SaliencyGuidedLoss(ConstantSchedule(MaskPlan())).eval()
    with recorded(model) as calls:
        assert criterion.backward(model, images, labels).masked_share == 0
    assert [len(call.inputs) for call in calls] == [10]
    adaptive = SaliencyGuidedLoss(AdaptiveSchedule()).eval()
    adaptive.backward(model, images, labels)
    assert not adaptive.state_dict()["schedule_means"].any()
