"""Input gradients and saliency maps against closed forms, captum and float64."""

import copy
import math
from collections.abc import Callable

import captum.attr
import pytest
import timm
import torch
from states import copied, gradients, same
from torch import Tensor, nn

from smoot.masking import lowest_saliency_mask
from smoot.saliency import input_gradient, saliency_map, smooth_gradient
from smoot.task import target_score

SHAPES = [(4, 3, 5, 6), (4, 2, 7), (4, 9)]
LABELS = torch.tensor([2, 0, 1, 2])


def weights_of(model: nn.Sequential, targets: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The true class's weights of a linear classifier, laid out like its inputs."""
    return model[1].weight.detach()[targets].view(shape)


# -- closed forms


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_logit_gradient_of_a_linear_model_is_its_weights(
    linear: Callable[..., nn.Sequential], shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    model = linear(shape, dtype=dtype)
    gradient = input_gradient(model, torch.randn(shape, dtype=dtype), LABELS, score="logit")
    assert gradient.dtype == dtype and gradient.shape == shape and not gradient.requires_grad
    assert torch.equal(gradient, weights_of(model, LABELS, shape))


def by_hand(weight: list[list[float]], logits: list[float], label: int, score: str) -> list[float]:
    """Gradient of one image's score for z = W x, written out in plain Python."""
    shares = [math.exp(logit) for logit in logits]
    if score == "log_odds":  # its own class is no rival of the true one
        shares[label] = 0.0
    return [
        pixel[label] - sum(share * value for share, value in zip(shares, pixel, strict=True)) / sum(shares)
        for pixel in zip(*weight, strict=True)
    ]


@pytest.mark.parametrize("score", ["log_prob", "log_odds"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_other_scores_of_a_linear_model_equal_their_formulas(
    linear: Callable[..., nn.Sequential], shape: tuple[int, ...], score: str
) -> None:
    model, inputs = linear(shape), torch.randn(shape)
    weight, logits = model[1].weight.tolist(), model(inputs).tolist()
    expected = [by_hand(weight, logits[i], int(label), score) for i, label in enumerate(LABELS)]
    gradient = input_gradient(model, inputs, LABELS, score=score)
    torch.testing.assert_close(gradient, torch.tensor(expected).view(shape), rtol=1e-4, atol=1e-6)


def test_target_scores_of_hand_made_logits() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [math.log(3.0), 0.0]])  # p = (1/4, 3/4) and (3/4, 1/4)
    expected = {
        "logit": [math.log(3.0), 0.0],
        "log_prob": [math.log(0.75), math.log(0.25)],
        "log_odds": [math.log(3.0), -math.log(3.0)],
    }
    found = {score: target_score(logits, torch.tensor([1, 1]), score).tolist() for score in expected}
    assert found == {score: pytest.approx(values, rel=1e-6) for score, values in expected.items()}


def test_half_precision_logits_are_scored_in_float32() -> None:
    logits = torch.tensor([[1.0, 0.5, 0.25]], dtype=torch.bfloat16)
    score = target_score(logits, torch.tensor([0]), "log_odds")
    assert score.dtype == torch.float32
    assert score.item() == pytest.approx(1.0 - math.log(math.exp(0.5) + math.exp(0.25)), abs=1e-6)


def test_log_prob_is_log_odds_times_the_doubt(small_net: Callable, batch: Callable) -> None:
    model, (images, labels) = small_net(dtype=torch.float64).eval(), batch(dtype=torch.float64)
    doubt = 1 - model(images).softmax(1).gather(1, labels[:, None])
    log_odds = input_gradient(model, images, labels, score="log_odds")
    log_prob = input_gradient(model, images, labels, score="log_prob")
    torch.testing.assert_close(log_prob, log_odds * doubt[:, :, None, None].detach())


@pytest.mark.parametrize("score", ["logit", "log_prob", "log_odds"])
def test_central_differences_agree(small_net: Callable, batch: Callable, score: str) -> None:
    model, (images, labels) = small_net(dtype=torch.float64).eval(), batch(2, dtype=torch.float64)

    def by_formula(pixels: Tensor) -> Tensor:
        logits = model(pixels)
        logit, probability = (values.gather(1, labels[:, None]).squeeze(1) for values in (logits, logits.softmax(1)))
        odds = probability / (1 - probability)
        return {"logit": logit, "log_prob": probability.log(), "log_odds": odds.log()}[score]

    gradient, step = input_gradient(model, images, labels, score=score), 1e-5
    with torch.no_grad():
        for pixel in [(0, 0, 0), (1, 2, 3), (2, 5, 5), (0, 4, 1)]:
            shift = torch.zeros_like(images)
            shift[(slice(None), *pixel)] = step
            difference = (by_formula(images + shift) - by_formula(images - shift)) / (2 * step)
            torch.testing.assert_close(gradient[(slice(None), *pixel)], difference, rtol=1e-6, atol=1e-9)


# -- oracles


def test_captum_agrees_on_a_small_timm_net() -> None:
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=5).eval()
    images, labels = torch.rand(3, 3, 32, 32), torch.tensor([4, 0, 2])
    wrapped = {"logit": model, "log_prob": nn.Sequential(model, nn.LogSoftmax(dim=1))}
    for score, network in wrapped.items():
        oracle = captum.attr.Saliency(network)
        variable = images.clone().requires_grad_()
        expected = oracle.attribute(variable, target=labels, abs=False).detach()
        assert expected.abs().max() > 0
        torch.testing.assert_close(input_gradient(model, images, labels, score=score), expected)


def confident_net(margin: float) -> tuple[nn.Sequential, Tensor, Tensor]:
    """A nonlinear net, images whose answers lead by 0.7 to 1 times ``margin`` nats, and those answers."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(40, 30), nn.Tanh(), nn.Linear(30, 4))
    images = torch.randn(5000, 1, 5, 8)
    with torch.no_grad():
        logits = model(images)
        lead = logits.topk(2, dim=1).values.diff(dim=1).neg().squeeze(1)
        model[3].weight *= margin / lead.max()
        model[3].bias *= margin / lead.max()
    sure = lead >= 0.7 * lead.max()
    return model, images[sure], logits.argmax(1)[sure]


def bottom_half(gradient: Tensor) -> Tensor:
    return lowest_saliency_mask(saliency_map(gradient), 0.5)


def overlap(one: Tensor, other: Tensor) -> float:
    """Intersection over union of two masks."""
    return float((one & other).sum() / (one | other).sum())


def test_log_odds_keeps_its_gradient_where_log_prob_loses_it() -> None:
    model, images, labels = confident_net(28.0)
    assert len(images) >= 8
    double = copy.deepcopy(model).double()
    truth = input_gradient(double, images.double(), labels, score="log_odds")
    gradient = input_gradient(model, images, labels, score="log_odds")
    torch.testing.assert_close(gradient.double(), truth, rtol=1e-3, atol=1e-4)
    # In float64 both scores rank alike; in float32 only the log-odds still does.
    exact = bottom_half(input_gradient(double, images.double(), labels, score="log_prob"))
    assert overlap(bottom_half(truth), exact) > 0.99
    assert overlap(bottom_half(gradient), exact) > 0.99
    assert overlap(bottom_half(input_gradient(model, images, labels, score="log_prob")), exact) < 0.8


def test_log_prob_vanishes_altogether_on_very_confident_images() -> None:
    model, images, labels = confident_net(400.0)
    gradient = input_gradient(model, images, labels, score="log_odds")
    truth = input_gradient(copy.deepcopy(model).double(), images.double(), labels, score="log_odds")
    vanished = input_gradient(model, images, labels, score="log_prob").flatten(1).abs().amax(1) == 0
    assert vanished.all()
    torch.testing.assert_close(gradient.double(), truth, rtol=1e-3, atol=1e-3)
    assert (gradient.flatten(1).abs().amax(1) > 1).all()


# -- what a saliency pass must leave alone


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


@pytest.mark.parametrize("state", ["train", "eval", "mixed", "only the head trains"])
def test_every_submodule_gets_its_own_mode_back(
    small_net: Callable, batch: Callable, recorded: Callable, state: str
) -> None:
    model = small_net(dropout=0.5)
    model.train(state in ("train", "mixed"))
    if state == "mixed":
        model[1].eval()
    if state == "only the head trains":
        model[5].train()
    before = modes(model)
    with recorded(model[3]) as calls:
        input_gradient(model, *batch())
    assert modes(model) == before
    assert [call.training for call in calls] == [False]


def test_modes_come_back_when_the_model_raises(small_net: Callable) -> None:
    model = small_net().append(nn.Linear(5, 5))  # gets four
    model[1].eval()
    before = modes(model)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        input_gradient(model, torch.rand(2, 3, 6, 6), torch.tensor([0, 1]))
    assert modes(model) == before


def test_buffers_parameter_gradients_and_random_state_stay(small_net: Callable, batch: Callable) -> None:
    model, (images, labels) = small_net(dropout=0.5), batch()
    model(images)  # moves the running statistics away from their initial values
    model[0].weight.grad = torch.full_like(model[0].weight, 7.0)
    state, random_state = copied(model.state_dict()), torch.get_rng_state()
    for _ in range(2):
        input_gradient(model, images, labels)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert state.keys() >= {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert same(model.state_dict(), state)
    assert all(parameter.requires_grad for parameter in model.parameters())
    (gradient,) = gradients(model)
    assert (gradient == 7.0).all()


def test_inputs_stay_and_frozen_parameters_or_no_grad_do_no_harm(small_net: Callable, batch: Callable) -> None:
    model, (images, labels) = small_net(), batch()
    kept = images.clone()
    gradient = input_gradient(model, images, labels)
    assert torch.equal(images, kept) and not images.requires_grad and images.grad is None
    with torch.no_grad():
        assert torch.equal(input_gradient(model, images, labels), gradient)
    watched = images.clone().requires_grad_()
    assert torch.equal(input_gradient(model, watched, labels), gradient) and watched.grad is None
    assert torch.equal(input_gradient(model.requires_grad_(False), images, labels), gradient)


def test_the_gradient_is_that_of_eval_mode(small_net: Callable, batch: Callable) -> None:
    model, (images, labels) = small_net(), batch()

    def plainly(network: nn.Module) -> Tensor:
        variable = images.clone().requires_grad_()
        network(variable).gather(1, labels[:, None]).sum().backward()
        return variable.grad

    gradient = input_gradient(model, images, labels, score="logit")
    torch.testing.assert_close(gradient, plainly(copy.deepcopy(model).eval()))
    assert not torch.allclose(gradient, plainly(copy.deepcopy(model).train()), rtol=0.1)


# -- SmoothGrad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_smoothing_changes_nothing_for_a_linear_model(
    linear: Callable[..., nn.Sequential], shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    model = linear(shape, dtype=dtype)
    smooth = smooth_gradient(model, torch.randn(shape, dtype=dtype), LABELS, score="logit", num_samples=7)
    assert smooth.dtype == dtype
    torch.testing.assert_close(smooth, weights_of(model, LABELS, shape), rtol=1e-6, atol=0)


class Squares(nn.Module):
    """Logit 0 is the sum of squared pixels, so its gradient is twice the pixels it saw."""

    def forward(self, inputs: Tensor) -> Tensor:
        squares = inputs.flatten(1).square().sum(1)
        return torch.stack([squares, torch.zeros_like(squares)], dim=1)


def test_smoothing_averages_the_gradients_at_the_noisy_copies(recorded: Callable) -> None:
    model, images, targets = Squares(), torch.randn(2, 1, 8, 8), torch.tensor([0, 0])
    kept = images.clone()
    with recorded(model) as calls:
        smooth = smooth_gradient(model, images, targets, score="logit", num_samples=5)
    assert len(calls) == 5 and torch.equal(images, kept)
    torch.testing.assert_close(smooth, 2 * torch.stack([call.inputs for call in calls]).mean(0))
    assert not torch.equal(calls[0].inputs, calls[1].inputs)


def test_the_noise_scales_with_each_images_range(recorded: Callable) -> None:
    images = torch.linspace(0, 1, 400).view(1, 1, 20, 20).repeat(2, 1, 1, 1)
    images[1] *= 10  # ranges 1 and 10
    model = Squares()
    with recorded(model) as calls:
        smooth_gradient(model, images, torch.tensor([0, 0]), noise_std=0.2, num_samples=25)
    noise = torch.stack([call.inputs for call in calls]) - images
    spread = noise.flatten(3).std(dim=(0, 2, 3))
    torch.testing.assert_close(spread, torch.tensor([0.2, 2.0]), rtol=0.03, atol=0)


def test_smoothing_without_noise_is_the_input_gradient_and_a_generator_repeats_it(
    small_net: Callable, batch: Callable, generator: Callable
) -> None:
    model, (images, labels) = small_net(), batch()
    still = smooth_gradient(model, images, labels, noise_std=0.0, num_samples=1)
    assert torch.equal(still, input_gradient(model, images, labels))
    state = torch.get_rng_state()
    first, again, other = (
        smooth_gradient(model, images, labels, num_samples=2, generator=generator(seed)) for seed in (5, 5, 6)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


# -- reduction over channels


def test_reductions_of_a_pixel_with_channels_three_and_minus_four() -> None:
    gradient = torch.tensor([3.0, -4.0]).view(1, 2, 1, 1)
    expected = {"signed_mean": -0.5, "mean_abs": 3.5, "max_abs": 4.0, "l2": 5.0}
    for reduction, value in expected.items():
        result = saliency_map(gradient, reduction=reduction)
        assert result.shape == (1, 1, 1) and result.item() == pytest.approx(value)
    assert saliency_map(gradient).item() == 3.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_maps_have_no_channel_axis_and_keep_type(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    gradient = torch.randn(shape).to(dtype)
    pixels = shape[2:] if len(shape) > 2 else shape[1:]
    for reduction in ("signed_mean", "mean_abs", "max_abs", "l2"):
        result = saliency_map(gradient, reduction=reduction)
        assert result.shape == (4, *pixels) and result.dtype == dtype
        if len(shape) == 2:  # features are one channel
            assert torch.equal(result, gradient if reduction == "signed_mean" else gradient.abs())


def test_saliency_under_inference_mode_is_that_outside(small_net: Callable, batch: Callable) -> None:
    net, (images, labels) = small_net(), batch()
    outside = input_gradient(net, images, labels)
    with torch.inference_mode():
        assert torch.equal(input_gradient(net, images * 1, labels * 1), outside)
