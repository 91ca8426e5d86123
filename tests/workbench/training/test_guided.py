"""Guided training: against a second loop, its random streams, schedules, history, checkpoints and errors."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_runs import METHODS, Spy, digits, fitted, fresh, run, same, silent, split, weights
from torch import Tensor, nn

from smoot.feedback import Feedback
from smoot.per_image import PerImageSchedule
from smoot.scheduler import AdaptiveSchedule, ConstantSchedule, GapSchedule, MaskPlan, SequenceSchedule
from smoot.step import guided_backward
from workbench.config.run import RunConfig
from workbench.config.schedules import GapConfig, PerImageConfig, SequenceConfig
from workbench.data import sets as data
from workbench.results.tables import EPOCH_COLUMNS
from workbench.training import checkpoints
from workbench.training import guided as training
from workbench.training.guided import TrainingDiverged, TrainState, create_schedule, fit, train_epoch
from workbench.training.networks import create_backbone

NETWORKS = ("two_conv_small", "resnet10_narrow")


def epoch_of(config: RunConfig, state: TrainState, epoch: int = 1) -> dict[str, float]:
    part = split(config)
    return train_epoch(state, part.train_images, part.train_labels, config, epoch=epoch)


def with_schedule(name: str, seed: int = 0, **blocks: Any) -> RunConfig:
    """SGT improved with another schedule, and images to steer it."""
    config = run("sgt_improved", seed=seed, dataset={"steering_images": 50})
    plan = MaskPlan(mask_fraction=0.2)
    return replace(config, method=replace(config.method, schedule=name, plan=plan, **blocks))


# -- the loop, written a second time


def reference(config: RunConfig) -> tuple[nn.Module, list[list[float]], list[tuple[float, float]]]:
    """Plain training as anyone would write it: network, losses by epoch, accuracy and loss on validation images."""
    settings, part = config.training, split(config)
    torch.manual_seed(config.seed_for("initialisation"))
    network = create_backbone(config.backbone, config.dataset, image_shape=(1, 8, 8), num_classes=10)
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    losses: list[list[float]] = []
    validated = []
    steps, total = len(part.train_images) // settings.batch_size, settings.epochs
    for epoch in range(1, total + 1):
        network.train()
        torch.manual_seed(config.seed_for("dropout", epoch))
        order = torch.randperm(72, generator=torch.Generator().manual_seed(config.seed_for("order", epoch)))
        losses.append([])
        for step in range(steps):
            done = ((epoch - 1) * steps + step) / (total * steps)
            optimizer.param_groups[0]["lr"] = settings.learning_rate * (0.5 * (1 + math.cos(math.pi * done)))
            rows = order[step * settings.batch_size : (step + 1) * settings.batch_size]
            loss = F.cross_entropy(network(part.train_images[rows]), part.train_labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[-1].append(float(loss.detach()))
        network.eval()
        with torch.no_grad():
            logits = network(part.validation_images)
        right = logits.argmax(1) == part.validation_labels
        validated.append((int(right.sum()) / len(right), float(F.cross_entropy(logits, part.validation_labels))))
    return network, losses, validated


@pytest.mark.parametrize("name", NETWORKS)
def test_plain_training_is_the_loop_that_anyone_would_write(name: str, tmp_path: Path) -> None:
    config = run("plain", name)
    network, losses, validated = reference(config)
    state = fitted(config, tmp_path / "checkpoint")
    assert same(state.network.state_dict(), network.state_dict())
    for row, values, (accuracy, loss) in zip(state.history, losses, validated, strict=True):
        assert len(values) == 72 // 16
        assert row["total"] == row["classification"] == pytest.approx(sum(values) / len(values), rel=1e-9)
        assert (row["validation_accuracy"], row["validation_loss"]) == (accuracy, pytest.approx(loss, rel=1e-5))
    assert losses[0][0] > losses[-1][-1]


# -- what methods share


def test_methods_share_images_order_and_the_first_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    seen, first, second = {}, [], []
    for method in METHODS:
        spy.images.clear()
        spy.losses.clear()
        state = fresh(run(method))
        for epoch in (1, 2):
            epoch_of(run(method), state, epoch)
        seen[method] = torch.stack(spy.images)
        first.append(spy.losses[0].logits)
        second.append(spy.losses[1].logits)
    assert seen["plain"].shape == (8, 16, 1, 8, 8)
    assert all(torch.equal(images, seen["plain"]) for images in seen.values())
    assert not torch.equal(seen["plain"][:4], seen["plain"][4:])
    assert all(torch.equal(logits, first[0]) for logits in first)  # with dropout in training mode
    assert all(not torch.equal(logits, second[0]) for logits in second[1:3])


@pytest.mark.parametrize("change", [{"fill": "constant"}, {"fill": "mean"}, {"reduction": "signed_mean"}])
def test_masks_and_fills_draw_nothing_from_dropouts_stream(change: dict[str, Any]) -> None:
    ends = []
    for method in ("sgt_improved", "random_mask"):
        config = run(method)
        guidance = replace(config.method.guidance, **change)
        for each in (config, replace(config, method=replace(config.method, guidance=guidance))):
            epoch_of(each, fresh(each))
            ends.append(torch.get_rng_state())
    assert all(torch.equal(end, ends[0]) for end in ends)
    torch.manual_seed(run().seed_for("dropout", 1))
    assert not torch.equal(torch.get_rng_state(), ends[0])  # dropout did draw


def test_masks_are_drawn_anew_in_every_epoch_and_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    spy, expected = Spy(monkeypatch), []
    for seed in (0, 1):
        config = run("random_mask", seed=seed)
        state = fresh(config)
        for epoch in (1, 2):
            epoch_of(config, state, epoch)
            expected += [config.seed_for("masks", epoch)] * 4
    assert spy.seeds == expected and len(set(expected)) == 4


def test_an_epoch_trains_in_training_mode_whatever_mode_the_network_was_in() -> None:
    ends = []
    for mode in (True, False):
        state = fresh(run("sgt"))
        state.network.train(mode)
        epoch_of(run("sgt"), state)
        assert all(module.training for module in state.network.modules())
        ends.append(weights(state.network))
    assert same(*ends)


# -- the learning rate


@pytest.mark.parametrize(
    ("warmup", "shares"),
    [
        (0, {0: 1.0, 2: (2 + math.sqrt(3)) / 4, 4: 0.75, 6: 0.5, 8: 0.25, 12: 0.0}),
        (1, {0: 0.25, 1: 0.5, 2: 0.75, 3: 1.0, 4: 1.0, 6: (2 + math.sqrt(2)) / 4, 8: 0.5, 12: 0.0}),
        (2, {0: 0.125, 3: 0.5, 7: 1.0, 8: 1.0, 10: 0.5, 12: 0.0}),
    ],
)
def test_the_learning_rate_warms_up_and_follows_half_a_cosine(warmup: int, shares: dict[int, float]) -> None:
    config = run(training={"warmup_epochs": warmup})  # 3 epochs of 72 // 16 = 4 steps
    state = fresh(config)
    rates = []
    state.optimizer.register_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    for epoch in (1, 2, 3):
        epoch_of(config, state, epoch)
    rates.append(state.optimizer.param_groups[0]["lr"])  # the one after the last step
    assert len(rates) == 13
    assert {step: rates[step] for step in shares} == pytest.approx(
        {step: 0.01 * share for step, share in shares.items()}, abs=1e-12
    )


# -- the schedule


def test_an_adaptive_plan_is_the_competence_of_the_steps_before(monkeypatch: pytest.MonkeyPatch) -> None:
    spy, config = Spy(monkeypatch), run("competence_k50", "resnet10_narrow", training={"epochs": 8})
    state, rows = fresh(config), []
    for epoch in range(1, 9):
        rows.append(epoch_of(config, state, epoch))
    weight = accuracy = entropy = 0.0
    expected = []
    for loss in spy.losses:
        right, rest = (accuracy / weight, 1 - entropy / weight / math.log(10)) if weight else (0.0, 0.0)
        expected.append(right * max(0.0, rest))
        accuracy = 0.95 * accuracy + 0.05 * float(loss.feedback.accuracy)
        entropy = 0.95 * entropy + 0.05 * float(loss.classification)
        weight = 0.95 * weight + 0.05
    assert [plan.image_fraction for plan in spy.plans] == pytest.approx(expected, rel=1e-9)
    assert expected[0] == 0.0 and expected[-1] > 0.3
    counts = [plan.num_images(16, at_least=2) for plan in spy.plans]  # images share batch statistics
    assert [float(loss.masked_share) * 16 for loss in spy.losses] == counts
    assert sum(counts) == pytest.approx(16 * sum(expected), abs=4)
    for index, row in enumerate(rows):
        assert row["competence"] == row["image_fraction"] == pytest.approx(sum(expected[4 * index :][:4]) / 4)


FED = Feedback(0.5, 1.0, 10, 8)


def plans(num_steps: int, seed: int = 0, **sequence: Any) -> list[MaskPlan]:
    config = with_schedule("sequence", seed, sequence=SequenceConfig(**sequence))
    schedule = create_schedule(config, num_steps, 72)
    assert isinstance(schedule, SequenceSchedule)
    found = []
    for _ in range(num_steps):
        found.append(schedule.plan)
        schedule.step(FED)
    return found


def test_each_method_gets_its_schedule() -> None:
    for method in METHODS[:-1]:
        constant = create_schedule(run(method), 10, 72)
        assert isinstance(constant, ConstantSchedule) and constant.base == run(method).method.plan
    schedule = create_schedule(run("smoot"), 10, 72)
    assert isinstance(schedule, GapSchedule) and schedule.base == run("smoot").method.plan
    method = run("competence_k50").method
    assert method.adaptive is not None
    for decay in (0.95, 0.5):
        changed = replace(method, adaptive=replace(method.adaptive, decay=decay))
        schedule = create_schedule(replace(run("competence_k50"), method=changed), 10, 72)
        assert isinstance(schedule, AdaptiveSchedule)
        assert (schedule.base, schedule.decay) == (method.plan, decay)


def test_shares_are_stretched_over_the_steps_while_rankings_take_turns() -> None:
    found = plans(7, image_fractions=(0.0, 0.25, 1.0), rankings=("highest", "saliency"))
    assert [plan.image_fraction for plan in found] == [0.0, 0.0, 0.0, 0.25, 0.25, 1.0, 1.0]
    assert [plan.ranking for plan in found] == ["highest", "saliency"] * 3 + ["highest"]
    assert {plan.mask_fraction for plan in found} == {0.2}
    alone = plans(2, image_fractions=(0.5,))
    assert {plan.ranking for plan in alone} == {MaskPlan().ranking}


def test_shuffled_shares_are_the_same_ones_in_an_order_of_the_seed() -> None:
    shares = tuple(index / 20 for index in range(20))
    first, second, other = (
        [plan.image_fraction for plan in plans(20, seed, image_fractions=shares, shuffled=True)] for seed in (0, 0, 1)
    )
    assert first == second != other
    assert sorted(first) == sorted(other) == list(shares) != first


# -- the history


def test_means_of_an_epoch_by_hand() -> None:
    nan = math.nan
    # total, classification, consistency, share | pixels, loss of information, flips, rise | accuracy
    steps = [
        [1.0, 1.0, 0.0, 0.0, nan, nan, nan, nan, 0.25],
        [2.0, 1.5, 0.5, 0.25, 0.4, 1.0, 0.0, 2.0, 0.50],
        [3.0, 2.0, 1.0, 0.75, 0.8, 3.0, 1.0, 4.0, 1.00],
    ]
    row = training._epoch_row(torch.tensor(steps, dtype=torch.float64), [(0.0, 0.1), (0.25, 0.2), (0.8, 0.6)], 4)
    means = {"total": 2.0, "classification": 1.5, "consistency": 0.5, "accuracy": 1.75 / 3, "masked_share": 1 / 3}
    pixels = 0.25 * 0.4 + 0.75 * 0.8  # an image counts as much as any other
    masked = {"masked_pixels": pixels, "information_loss": 2.5, "flip_share": 0.75, "cross_entropy_rise": 3.5}
    assert row == pytest.approx({"epoch": 4.0, **means, **masked, "image_fraction": 0.35, "competence": 0.3})


def test_the_history_says_what_masking_did(tmp_path: Path) -> None:
    methods = (*METHODS, "competence_k50")
    rows = {method: fitted(run(method), tmp_path / method).history[0] for method in methods}
    did = ("masked_pixels", "information_loss", "flip_share", "cross_entropy_rise")
    assert all(math.isnan(rows["plain"][name]) for name in did)
    assert (rows["plain"]["masked_share"], rows["plain"]["image_fraction"]) == (0.0, 0.0)
    assert [method for method in methods if not math.isnan(rows[method]["competence"])] == ["competence_k50"]
    for method in ("random_mask", "sgt", "sgt_improved"):
        row = rows[method]
        assert (row["masked_share"], row["image_fraction"], row["masked_pixels"]) == (1.0, 1.0, 0.5)
        assert row["information_loss"] == pytest.approx(row["consistency"], rel=1e-5)
        assert row["total"] == pytest.approx(row["classification"] + row["consistency"], rel=1e-5)
        assert row["information_loss"] > 0 and 0 <= row["flip_share"] <= 1
    assert math.isnan(rows["plain"]["first_order_change"]) and math.isfinite(rows["sgt"]["first_order_change"])
    assert set(rows["smoot"]) == set(rows["plain"]) == set(EPOCH_COLUMNS)


# -- taking up again


RUNS = {
    "smoot": run("smoot", "resnet10_narrow"),
    "competence": run("competence_k50", "resnet10_narrow"),
    "sgt_improved": run("sgt_improved"),
    "sgt": run("sgt", "resnet10_narrow", training={"channels_last": True, "warmup_epochs": 1}),
    "random_mask": run("random_mask", training={"precision": "bf16", "clip_norm": 0.5}),
    "gap": with_schedule("gap", gap=GapConfig("turns")),
    "per_image": with_schedule("per_image", per_image=PerImageConfig("information_loss")),
}


@pytest.mark.parametrize("config", RUNS.values(), ids=RUNS)
def test_a_run_taken_up_after_any_epoch_ends_the_same(config: RunConfig, tmp_path: Path) -> None:
    config = replace(config, training=replace(config.training, epochs=4))
    kept: list[bytes] = []

    def keep(step: int, **numbers: float) -> None:
        kept.append((tmp_path / "whole").read_bytes())

    whole = fitted(config, tmp_path / "whole", keep)
    assert len(kept) == len(set(kept)) == 4
    assert whole.history[-1]["masked_share"] > 0
    for done, content in enumerate(kept, start=1):
        checkpoint = tmp_path / f"after{done}"
        checkpoint.write_bytes(content)
        torch.manual_seed(1000 + done)  # a new process knows nothing of the old one's random state
        reported: list[int] = []
        resumed = fitted(config, checkpoint, lambda step, reported=reported, **_: reported.append(step))
        assert reported == list(range(done + 1, 5))
        assert same(resumed.network.state_dict(), whole.network.state_dict())
        assert same(resumed.best, whole.best)
        assert json.dumps(resumed.history) == json.dumps(whole.history)
        assert same(resumed.schedule.state_dict(), whole.schedule.state_dict())


def test_a_checkpoint_of_another_network_or_schedule_is_refused(tmp_path: Path) -> None:
    fitted(run("smoot"), tmp_path / "checkpoint")
    with pytest.raises(RuntimeError, match="backbone"):
        fitted(run("smoot", backbone="resnet10_narrow"), tmp_path / "checkpoint")
    with pytest.raises(ValueError, match="saved by another schedule"):
        fitted(run("sgt"), tmp_path / "checkpoint")


# -- the best epoch


@pytest.mark.parametrize(
    ("accuracies", "best"), [([0.5, 0.8, 0.8], 2), ([0.9, 0.8, 0.9], 1), ([0.1, 0.2, 0.3], 3), ([0.0, 0.0, 0.0], 1)]
)
def test_the_best_epoch_is_the_first_of_highest_validation_accuracy(
    accuracies: list[float], best: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after: list[dict[str, Tensor]] = []
    validation = split(run()).validation_images

    def score(network: nn.Module, images: Tensor, *_: Any) -> tuple[float, float]:
        if not torch.equal(images, validation):
            return 1.0 - accuracies[len(after) - 1], 0.0  # on images that were trained on: it decides nothing
        after.append(weights(network))
        return accuracies[len(after) - 1], 1.0 / len(after)  # the loss falls all the time

    monkeypatch.setattr(training, "_validate", score)
    state = fitted(run(), tmp_path / "checkpoint")
    assert [same(state.best, each) for each in after] == [epoch == best for epoch in (1, 2, 3)]


def test_the_test_split_is_never_trained_or_validated_on(tmp_path: Path) -> None:
    nothing = torch.full_like(digits().test_images, math.nan)
    blind = replace(digits(), test_images=nothing, test_labels=torch.full_like(digits().test_labels, -1))
    found = fit(run(), data.split(blind, **run().split_arguments()), 10, tmp_path / "blind", silent)
    assert same(found.best, fitted(run(), tmp_path / "seeing").best)


# -- divergence


@pytest.mark.parametrize("method", METHODS)
def test_far_too_large_a_learning_rate_stops_the_run_before_any_checkpoint(method: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged) as caught:
        fitted(run(method, training={"learning_rate": 1e30}), tmp_path / "checkpoint")
    told = f"digits-two_conv_small/{method}, seed 0, epoch 1, step 1: the "
    first = "network's answers are not finite" if "sgt" in method else "loss is nan"  # saliency comes before the loss
    assert str(caught.value).startswith(told + first)
    assert str(caught.value).endswith("; there is no checkpoint yet")
    assert list(tmp_path.iterdir()) == []


def test_losses_of_an_epoch_are_checked_once_more_together() -> None:
    training._check_finite(torch.tensor([1.0, 2.0]), 3)
    with pytest.raises(TrainingDiverged, match="epoch 3, step 6: the loss is inf"):
        training._check_finite(torch.tensor([1.0, math.inf, math.nan]), 3, 5)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_names_its_step_and_the_last_checkpoint(
    value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def poisoned(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        loss = guided_backward(*arguments, **named)
        return replace(loss, total=loss.total * value) if len(calls) == 2 * 4 + 3 else loss

    monkeypatch.setattr(training, "guided_backward", poisoned)
    checkpoint = tmp_path / "checkpoint"
    with pytest.raises(TrainingDiverged) as caught:
        fitted(run("smoot"), checkpoint)
    told = f"digits-two_conv_small/smoot, seed 0, epoch 3, step 2: the loss is {value}; {checkpoint} holds epoch 2"
    assert str(caught.value) == told
    content = checkpoints.load(checkpoint, torch.device("cpu"))
    assert content is not None
    assert [row["epoch"] for row in content["history"]] == [1.0, 2.0]
    assert all(torch.isfinite(tensor).all() for tensor in content["network"].values())


def test_a_schedule_that_refuses_its_feedback_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(schedule: ConstantSchedule, feedback: Feedback) -> MaskPlan:
        raise FloatingPointError("feedback is nonsense")

    monkeypatch.setattr(ConstantSchedule, "step", refuse)
    with pytest.raises(TrainingDiverged, match="epoch 1, step 0: feedback is nonsense; there is no checkpoint yet"):
        fitted(run(), tmp_path / "checkpoint")


# -- what the configuration asks for


def test_bf16_computes_in_half_precision_and_keeps_float_weights(tmp_path: Path) -> None:
    config = run("sgt", training={"precision": "bf16"})
    state = fresh(config)
    seen: list[torch.dtype] = []
    linear = next(module for module in state.network.modules() if isinstance(module, nn.Linear))
    linear.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    row = epoch_of(config, state)
    # A trial of the network, then clean, saliency and masked pass of four steps; the change after them is in float32.
    assert set(seen[:13]) == {torch.bfloat16} and set(seen[13:]) == {torch.float32}
    assert {parameter.dtype for parameter in state.network.parameters()} == {torch.float32}
    exact = epoch_of(run("sgt"), fresh(run("sgt")))
    assert row["total"] != exact["total"] and row["total"] == pytest.approx(exact["total"], rel=0.1)
    assert math.isfinite(fitted(config, tmp_path / "checkpoint").history[-1]["validation_loss"])


def test_channels_last_changes_the_layout_and_not_the_mathematics() -> None:
    rows = []
    for asked in (True, False):
        config = run("sgt_improved", "resnet10_narrow", training={"channels_last": asked})
        state = fresh(config)
        kernels = [p for p in state.network.parameters() if p.ndim == 4 and min(p.shape[1:]) > 1]
        rows.append(epoch_of(config, state))
        assert len(kernels) > 5
        assert all(kernel.is_contiguous(memory_format=torch.channels_last) == asked for kernel in kernels)
    assert rows[0]["total"] == pytest.approx(rows[1]["total"], rel=0.05)


def test_the_gradient_is_clipped_to_the_norm_asked_for() -> None:
    norms: dict[float | None, list[float]] = {None: [], 0.3: [], 1e6: []}
    for clip, found in norms.items():
        config = run(training={"clip_norm": clip})
        state = fresh(config)
        state.optimizer.register_step_pre_hook(lambda optimizer, *_, found=found: found.append(norm_in(optimizer)))
        epoch_of(config, state)
    assert min(norms[None]) > 0.3
    assert norms[0.3] == pytest.approx([0.3] * 4, rel=1e-4)
    assert norms[1e6] == norms[None]


def norm_in(optimizer: torch.optim.Optimizer) -> float:
    gradients = [parameter.grad.flatten() for parameter in optimizer.param_groups[0]["params"]]
    return float(torch.cat(gradients).norm())


def test_only_the_module_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []

    def compile(module: nn.Module) -> None:
        compiled.append(module)

    monkeypatch.setattr(nn.Module, "compile", compile)
    fresh(run())
    assert compiled == []
    state = fresh(run(training={"compile": True}))
    assert compiled == [state.network]
    assert not [name for name in state.network.state_dict() if "_orig_mod" in name]


def test_fit_reports_every_epoch(tmp_path: Path) -> None:
    told: list[tuple[int, dict[str, float]]] = []
    state = fitted(run("sgt"), tmp_path / "checkpoint", lambda step, **numbers: told.append((step, numbers)))
    assert [step for step, _ in told] == [1, 2, 3]
    for (_, numbers), row in zip(told, state.history, strict=True):
        expected = {"loss": row["total"], "accuracy": row["validation_accuracy"], "masked": row["masked_share"]}
        assert numbers == expected


def failed_step(error: Exception, config: RunConfig, patch: pytest.MonkeyPatch) -> BaseException:
    """What an epoch raises if its first step raises an error."""

    def broken(*arguments: Any, **named: Any) -> Any:
        raise error

    patch.setattr(training, "guided_backward", broken)
    with pytest.raises(Exception) as caught:
        epoch_of(config, fresh(config))
    return caught.value


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("DefaultCPUAllocator: not enough memory")]
)
def test_a_batch_that_does_not_fit_names_its_size_and_the_remedy(
    error: RuntimeError, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = failed_step(error, run(), monkeypatch)
    assert type(found) is training.BatchTooLarge and found.__suppress_context__
    assert str(found) == (
        "a step with 16 images of 1x8x8 does not fit into the memory of cpu: lower training.batch_size, now 16, "
        "to 8 or less, or set training.precision to bf16"
    )


@pytest.mark.parametrize("error", [RuntimeError("expected scalar type Float"), ValueError("saliency is negative")])
def test_other_errors_of_a_step_stay_what_they_are(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    assert failed_step(error, run("sgt"), monkeypatch) is error


def test_feedback_of_the_validation_images_comes_once_an_epoch(tmp_path: Path) -> None:
    config = run("competence_k50")
    assert config.method.adaptive is not None
    adaptive = replace(config.method.adaptive, feedback="validation", decay=0.0)
    state = fitted(replace(config, method=replace(config.method, adaptive=adaptive)), tmp_path / "checkpoint")
    assert state.history[0]["image_fraction"] == state.history[0]["masked_share"] == 0.0
    for before, row in itertools.pairwise(state.history):
        competence = before["validation_accuracy"] * max(0.0, 1 - before["validation_loss"] / math.log(10))
        assert row["image_fraction"] == row["competence"] == pytest.approx(competence, rel=1e-9)


def test_a_gap_needs_images_to_be_measured_on() -> None:
    config = with_schedule("gap", gap=GapConfig())
    with pytest.raises(ValueError, match=r"'sgt_improved' follows the generalisation gap, .* no steering_images"):
        replace(config, dataset=replace(config.dataset, steering_images=0))
    turns = with_schedule("gap", gap=GapConfig("turns"))
    replace(turns, dataset=replace(turns.dataset, steering_images=0))


def test_the_gap_is_measured_after_every_epoch_on_images_of_its_own(tmp_path: Path) -> None:
    config, gaps = with_schedule("gap", gap=GapConfig()), [0.0]
    part = split(config)
    assert not set(part.steering_index.tolist()) & {*part.train_index.tolist(), *part.validation_index.tolist()}

    def measure(step: int, **numbers: float) -> None:
        network = create_backbone(config.backbone, config.dataset, image_shape=(1, 8, 8), num_classes=10).eval()
        content = checkpoints.load(tmp_path / "checkpoint", torch.device("cpu"))
        assert content is not None
        network.load_state_dict(content["network"])
        with torch.no_grad():
            trained, held = (
                F.cross_entropy(network(images), labels)
                for images, labels in (
                    (part.train_images[:50], part.train_labels[:50]),
                    (part.steering_images, part.steering_labels),
                )
            )
        gaps.append(max(0.0, 1 - float(trained / held)))

    state = fitted(config, tmp_path / "checkpoint", measure)
    assert gaps[1] > 0
    assert [row["image_fraction"] for row in state.history] == pytest.approx(gaps[:-1], rel=1e-5)
    assert [row["masked_pixels"] for row in state.history[1:]] == pytest.approx([13 / 64] * (len(gaps) - 2))


def test_a_tenth_of_the_images_is_held_out_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = with_schedule("gap", gap=GapConfig("turns"))
    config = replace(config, training=replace(config.training, batch_size=72))
    part, spy, compared = split(config), Spy(monkeypatch), []
    validate = training._validate
    monkeypatch.setattr(training, "_validate", lambda *given: (compared.append(given[1]), validate(*given))[1])
    fitted(config, tmp_path / "checkpoint")
    for epoch, images in enumerate(spy.images, start=1):  # one step each
        held = torch.arange(72) % 10 == epoch
        trained = {image.numpy().tobytes() for image in images}
        assert trained == {image.numpy().tobytes() for image in part.train_images[~held]}
        _, _, first, second = compared[4 * (epoch - 1) : 4 * epoch]
        assert torch.equal(second, part.train_images[held])
        assert torch.equal(first, part.train_images[~held][: int(held.sum())])


def test_shuffled_numbers_belong_to_other_images_of_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = {"per_image": PerImageConfig("staircase"), "shuffled": PerImageConfig("staircase", shuffled=True)}
    seen = {}
    for name, block in blocks.items():
        spy, asked = Spy(monkeypatch), []
        plan_for = PerImageSchedule.plan_for
        monkeypatch.setattr(
            PerImageSchedule, "plan_for", lambda *given, f=plan_for, to=asked: (to.append(given[1]), f(*given))[1]
        )
        fitted(with_schedule("per_image", per_image=block), tmp_path / name)
        seen[name] = asked, spy.images
        monkeypatch.undo()
    for own, images, other, same_images in zip(*seen["per_image"], *seen["shuffled"], strict=True):
        assert torch.equal(images, same_images)  # the order of the data is the same
        assert sorted(own.tolist()) == sorted(other.tolist()) and not torch.equal(own, other)


def test_the_order_of_the_images_may_stay_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    config, spy = run("plain", training={"shuffled": False}), Spy(monkeypatch)
    state = fresh(config)
    for epoch in (1, 2):
        epoch_of(config, state, epoch)
    assert torch.equal(torch.cat(spy.images), split(config).train_images[:64].repeat(2, 1, 1, 1))


def test_adadelta_keeps_its_learning_rate(tmp_path: Path) -> None:
    state = fitted(run("plain", training={"optimizer": "adadelta", "learning_rate": 0.5}), tmp_path / "checkpoint")
    assert isinstance(state.optimizer, torch.optim.Adadelta)
    assert state.rate.get_last_lr() == [0.5]
    assert state.history[-1]["total"] < state.history[0]["total"]


@pytest.mark.parametrize("rule", ["information_loss", "staircase", "public_code"])
def test_a_number_per_image_is_moved_at_every_visit(rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"num_pixels": 64} if rule == "public_code" else {}
    bounds = ((0.25, 0.25), (0.0, 0.9))
    config = with_schedule("per_image", per_image=PerImageConfig(rule, settings, start=0.5, bounds=bounds))
    spy = Spy(monkeypatch)
    state = fitted(config, tmp_path / "checkpoint")
    assert isinstance(state.schedule, PerImageSchedule)
    assert all(torch.equal(plan.fractions, torch.full((16,), 0.25)) for plan in spy.plans[:4])
    visits = state.schedule.state_dict()["visits"]
    assert visits.sum() == 3 * 64 and visits.max() == 3  # three epochs of four steps of 16 images
    numbers, row = state.schedule.numbers, state.history[-1]
    assert (row["number_mean"], row["number_largest"]) == pytest.approx((float(numbers.mean()), float(numbers.max())))
    assert rule == "public_code" or len(set(numbers.tolist())) > 1


def test_erased_training_images_change_the_run_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    monkeypatch.setattr(training, "erase", lambda images, **asked: seen.append(images) or images)
    same_as_plain = epoch_of(run("plain", training={"erase_probability": 0.5}), fresh(run("plain")))
    assert len(seen) == 4 and same_as_plain == pytest.approx(epoch_of(run("plain"), fresh(run("plain"))), nan_ok=True)
    monkeypatch.undo()
    erased = epoch_of(run("plain", training={"erase_probability": 0.5}), fresh(run("plain")))
    assert erased["total"] != same_as_plain["total"]
