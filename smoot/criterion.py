"""The drop-in for any training loop: a criterion that owns its schedule and gives it feedback."""

import copy
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any
from weakref import WeakSet

import torch
import torch.distributed as dist
from torch import Tensor, nn

from smoot.checks import check_above_zero
from smoot.guidance import Guidance
from smoot.modes import buffers_kept, evaluation_mode, roots
from smoot.objective import GuidedLoss, guided_loss
from smoot.parallel import averaged, check_wrapper, num_ranks, summed, unwrapped
from smoot.per_image import PerImageSchedule
from smoot.preflight import check_step
from smoot.scheduler import GapSchedule, MaskPlan, MaskSchedule
from smoot.step import Backward, Pass, guided_backward
from smoot.task import Model, Task

NO_MASKS = MaskPlan(image_fraction=0.0)
UNMEASURED = 10_000  # steps after which a gap that was never measured is worth a warning
Batches = Iterable[Sequence[Tensor]]
THROUGH_CALL = 6  # frames from a warning in `_learns` to the line that calls the criterion


class SaliencyGuidedLoss(nn.Module):
    """A criterion that owns its schedule and gives it feedback; by default it trains with SMOOT.

    Create ``criterion = SaliencyGuidedLoss()``, call in the loop ``loss = criterion(model, images, labels).total`` and
    ``loss.backward()``, and after each epoch ``criterion.measure(model, training, validation)``: before the first of
    these calls nothing is masked. With the model or the criterion in ``eval()``, or under ``torch.no_grad()``, the loss
    is the task's own and the schedule learns nothing.

    In training under an initialised process group every rank masks under the same plan, because the schedule learns
    from the feedback of all of them. A rank whose batch is empty takes part with a loss of 0.

    ``state_dict()`` holds the state of schedule and generator as tensors. The criterion has no parameters or buffers,
    so that it may be part of the model.

    Args:
        schedule: gives the plans; by default ``GapSchedule()``.
        guidance: how images are masked and compared; by default ``Guidance(reduction="signed_mean", fill="mean")``.
        task: how answers are scored; by default :class:`smoot.task.Classification`, one class per image.
        generator: source of the random images, pixels and fills, on the inputs' device.
        process_group: of the processes that train together; by default all of them.
    """

    def __init__(
        self,
        schedule: MaskSchedule | None = None,
        guidance: Guidance | None = None,
        *,
        task: Task | None = None,
        generator: torch.Generator | None = None,
        process_group: dist.ProcessGroup | None = None,
    ) -> None:
        super().__init__()
        self.schedule: MaskSchedule = GapSchedule() if schedule is None else schedule
        self.guidance = Guidance(reduction="signed_mean", fill="mean") if guidance is None else guidance
        self.task = task
        self.generator = generator
        self.process_group = process_group
        self._checked: WeakSet[nn.Module] = WeakSet()

    def extra_repr(self) -> str:
        """Schedule, guidance and task."""
        task = "" if self.task is None else f", task={self.task}"
        return f"schedule={self.schedule}, guidance={self.guidance}{task}"

    def __call__(self, model: Model, inputs: Tensor, targets: Tensor, *, index: Tensor | None = None) -> GuidedLoss:
        """See :meth:`forward`."""
        loss: GuidedLoss = super().__call__(model, inputs, targets, index=index)
        return loss

    def forward(self, model: Model, inputs: Tensor, targets: Tensor, *, index: Tensor | None = None) -> GuidedLoss:
        """The guided loss of one batch; see :func:`smoot.objective.guided_loss` for shapes and errors.

        Args:
            model: the classifier, as there.
            inputs: the images, as there.
            targets: the labels, as there.
            index: ``(N,)`` int64, the images' numbers in the training set, which a
                :class:`smoot.per_image.PerImageSchedule` needs; other schedules do not use it.
        """
        if not self._learns(model, THROUGH_CALL) or not torch.is_grad_enabled():
            return guided_loss(model, inputs, targets, NO_MASKS, self.guidance, task=self.task)
        plan = self._plan(index, inputs)
        inputs, targets, weight = self._prepared(model, inputs, targets)
        with nullcontext() if weight else buffers_kept(model):
            loss = guided_loss(model, inputs, targets, plan, self.guidance, task=self.task, generator=self.generator)
        return self._fed_back(loss, weight, index)

    def backward(
        self,
        model: Model,
        inputs: Tensor,
        targets: Tensor,
        *,
        index: Tensor | None = None,
        backward: Backward | None = None,
        scale: float = 1.0,
    ) -> GuidedLoss:
        """The guided loss of one batch with its gradients, in fewer passes; see :func:`smoot.step.guided_backward`.

        Replaces ``criterion(...)`` and ``total.backward()``: it adds the same gradients to the parameters' ``.grad``
        and gives the schedule the same feedback.

        Args:
            model: the classifier, as for the call.
            inputs: the images.
            targets: the labels.
            index: the images' numbers in the training set.
            backward: as for :func:`smoot.step.guided_backward`.
            scale: factor on the gradients, above 0, such as 1 / n where n batches are accumulated.
        """
        check_above_zero("scale", scale)
        if not torch.is_grad_enabled():
            raise RuntimeError("backward without gradients: to evaluate, use criterion(model, images, labels)")
        learns, weight, plan = self._learns(model, 3), 1.0, NO_MASKS
        if learns:
            plan = self._plan(index, inputs)
            inputs, targets, weight = self._prepared(model, inputs, targets)
        with nullcontext() if weight else buffers_kept(model):
            loss = guided_backward(
                model,
                inputs,
                targets,
                plan,
                self.guidance,
                task=self.task,
                generator=self.generator,
                backward=Pass(backward, scale * weight),
            )
        return self._fed_back(loss, weight, index) if learns else loss

    def measure(self, model: Model, training: Batches, validation: Batches) -> float:
        """Measures the generalisation gap: how many images a :class:`smoot.scheduler.GapSchedule` masks from now on.

        A :class:`smoot.per_image.PerImageSchedule` passes the held-out loss to its rule.

        Call it after each epoch. Both losses are cross-entropies in eval mode, without gradients; of several processes,
        each of which must call it, they are means over the images of all. A thousand images of each kind are enough.

        Args:
            model: as for the call.
            training: batches ``(inputs, targets)`` of images that the model trains on, such as the first ones of a
                loader; what a batch holds beside them is not used.
            validation: batches of images that it does not train on: not those that choose the best epoch.

        Returns:
            The share of the images that is masked from now on, in [0, 1].

        Raises:
            TypeError: if the schedule is neither a gap schedule nor one of numbers per image.
            ValueError: if there are no training or no validation images.
            FloatingPointError: if a loss is not finite.
        """
        if not isinstance(self.schedule, GapSchedule | PerImageSchedule):
            raise TypeError(
                f"the schedule is a {type(self.schedule).__name__}: only a GapSchedule or PerImageSchedule reads losses"
            )
        sums = [self._losses(model, batches) for batches in (training, validation)]
        (trained, seen), (validated, held_out) = summed(torch.stack(sums), self.process_group).tolist()
        if not (seen and held_out):
            raise ValueError(f"{seen:.0f} training and {held_out:.0f} validation images: expected some of each")
        return self.schedule.measure(trained / seen, validated / held_out)

    def _losses(self, model: Model, batches: Batches) -> Tensor:
        """The sum of the cross-entropies in eval mode and the number of images, as float64 on their device."""
        model = unwrapped(model)  # of several processes one may have fewer batches: their forwards must not wait
        total = torch.zeros(2, dtype=torch.float64)
        with evaluation_mode(model), torch.no_grad():
            for inputs, targets, *_ in batches:
                if len(inputs):
                    feedback = guided_loss(model, inputs, targets, NO_MASKS, self.guidance, task=self.task).feedback
                    loss = torch.as_tensor(feedback.loss, dtype=torch.float64, device=inputs.device)
                    total = total.to(inputs.device) + torch.stack([loss, torch.ones_like(loss)]) * len(inputs)
        return total

    def check(self, model: Model, inputs: Tensor, targets: Tensor) -> None:
        """Tries one masked step on a few images; see :func:`smoot.preflight.check_step`.

        The first training call with a model does so by itself.
        """
        check_step(model, inputs, targets, self.guidance, task=self.task)

    def _learns(self, model: Model, stacklevel: int) -> bool:
        """Whether this is a training step: the model's mode decides as well as the criterion's."""
        if isinstance(model, Tensor) or not callable(model):
            raise TypeError(
                f"model is a {type(model).__name__}: this criterion calls the model itself; write "
                "`criterion(model, images, labels).total` in place of `criterion(model(images), labels)`"
            )
        held = roots(model)
        if not held:
            raise TypeError(
                "no torch.nn.Module is found behind this function, so its modes and buffers cannot be kept: pass the "
                "module, or a function that refers to it"
            )
        if self.training and torch.is_grad_enabled() and not any(root.training for root in held):
            warnings.warn(
                "the model is in eval mode, so this call counts as evaluation: nothing is masked and the schedule "
                "learns nothing; call model.train() to train",
                stacklevel=stacklevel,
            )
        return self.training and any(root.training for root in held)

    def _prepared(self, model: Model, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, float]:
        """The batch and its weight: beside other ranks, two images of weight 0 stand in for an empty one."""
        weight = 1.0
        check_wrapper(model)
        if (
            self.generator is not None
            and isinstance(inputs, Tensor)
            and self.generator.device.type != inputs.device.type
        ):
            raise ValueError(
                f"generator is on {self.generator.device}, the inputs on {inputs.device}: make it with "
                f"torch.Generator({inputs.device.type!r})"
            )
        if num_ranks(self.process_group) > 1 and isinstance(inputs, Tensor) and len(inputs) == 0:
            inputs, targets, weight = *stand_ins(inputs, targets, self._counted_label()), 0.0
        for root in roots(model):
            if root not in self._checked:
                self.check(model, inputs, targets)
                self._checked.add(root)
        return inputs, targets, weight

    def _counted_label(self) -> int:
        """A label that counts in the loss, so that the loss of what stands in for an empty batch is a number."""
        weight, ignored = getattr(self.task, "weight", None), getattr(self.task, "ignore_index", None)
        if isinstance(weight, Tensor):
            return int(weight.argmax())
        return 1 if ignored == 0 else 0

    def _plan(self, index: Tensor | None, inputs: Tensor) -> MaskPlan:
        """What the schedule masks of these images. Those that stand in for an empty batch have no numbers."""
        if not isinstance(self.schedule, PerImageSchedule) or not isinstance(inputs, Tensor):
            return self.schedule.plan
        if index is None:
            raise TypeError(
                "index is missing: a PerImageSchedule needs the images' numbers in the training set, "
                "criterion(model, images, labels, index=index); let the data set return them with its images"
            )
        if isinstance(index, Tensor) and len(index) != len(inputs):
            raise ValueError(f"index holds {len(index)} numbers for {len(inputs)} images: expected one per image")
        return self.schedule.plan_for(index, inputs.device) if len(inputs) else self.schedule.plan

    def _fed_back(self, loss: GuidedLoss, weight: float, index: Tensor | None) -> GuidedLoss:
        if not weight:
            nothing = {name: getattr(loss, name) * 0.0 for name in ("total", "classification", "consistency")}
            empty = replace(loss.feedback, num_images=0)
            loss = replace(loss, **nothing, logits=loss.logits[:0], feedback=empty)
        feedback = averaged(loss.feedback, self.process_group)
        self.schedule.step(feedback)
        if isinstance(self.schedule, GapSchedule) and self.schedule.unmeasured_steps == UNMEASURED:
            warnings.warn(
                f"nothing was masked in {UNMEASURED:,} steps, because the gap was never measured: call "
                "criterion.measure(model, training, validation) after each epoch",
                stacklevel=THROUGH_CALL,
            )
        if isinstance(self.schedule, PerImageSchedule) and index is not None:
            added = self.schedule.changes(index, loss.answers if weight else None, feedback)
            self.schedule.learn(summed(added, self.process_group))
        return replace(loss, feedback=feedback)

    def __getattr__(self, name: str) -> Any:
        """The tensors of ``state_dict()`` by their names, which checkpointing libraries look up."""
        if name.startswith("schedule_"):
            state = self.schedule.state_dict()
            if name.removeprefix("schedule_") in state:
                return state[name.removeprefix("schedule_")]
        if name == "generator_state" and self.generator is not None:
            return self.generator.get_state()
        return super().__getattr__(name)

    def __getstate__(self) -> dict[str, Any]:
        """Without the models that were checked, which are the caller's."""
        return {name: value for name, value in vars(self).items() if name != "_checked"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        nn.Module.__setstate__(self, state)
        self._checked = WeakSet()

    def __deepcopy__(self, memo: dict[int, Any]) -> "SaliencyGuidedLoss":
        """A copy trains with the same processes."""
        memo[id(self.process_group)] = self.process_group
        twin = memo[id(self)] = type(self).__new__(type(self))
        twin.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return twin

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for name, value in self.schedule.state_dict().items():
            destination[f"{prefix}schedule_{name}"] = value
        if self.generator is not None:
            destination[f"{prefix}generator_state"] = self.generator.get_state()

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any) -> None:
        """Loads what :meth:`_save_to_state_dict` saved; without any of it, warns and starts afresh.

        Raises:
            ValueError: for the state of another schedule, of the same one with other settings, or of a generator on
                another kind of device. Schedule and generator then are as before.
        """
        own = {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}
        state = {
            name.removeprefix("schedule_"): value.cpu() for name, value in own.items() if name.startswith("schedule_")
        }
        if not state:
            warnings.warn(f"the state dict has no {prefix}schedule_...: the mask schedule starts afresh", stacklevel=2)
            return
        draws = own["generator_state"].cpu() if self.generator is not None and "generator_state" in own else None
        if self.generator is not None and draws is not None:
            _check_generator_state(draws, self.generator.device, f"{prefix}generator_state")
        self.schedule.load_state_dict(state)
        if self.generator is not None and draws is not None:
            self.generator.set_state(draws)


def _check_generator_state(state: Tensor, device: torch.device, name: str) -> None:
    """Raises ValueError unless a generator on the device can take the state."""
    try:
        torch.Generator(device).set_state(state)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"{name} is not the state of a generator on {device}: give the criterion a generator on the device that it "
            "was saved with, or remove this entry to go on with other random numbers"
        ) from error


def stand_ins(inputs: Tensor, targets: Tensor, label: int = 0) -> tuple[Tensor, Tensor]:
    """Two images shaped like those of an empty batch, ramps of which nothing is constant, and targets for them.

    Args:
        inputs, targets: without images.
        label: of the two, where targets are labels; others are the same for all classes.
    """
    shape = (2, *inputs.shape[1:])
    ramp = torch.linspace(0.0, 1.0, math.prod(shape), device=inputs.device).view(shape)
    target = 1 / targets.shape[1] if targets.is_floating_point() and targets.ndim > 1 else label
    return ramp.to(inputs.dtype), targets.new_full((2, *targets.shape[1:]), target)
