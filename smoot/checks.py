"""Checks of what goes into a computation: its shape, type, range and precision; and of what went wrong in it.

Checks that read values (NaN, label range) run on CPU tensors only, because on an accelerator the host would wait
for the device at every step. There a NaN shows in the loss, and the loss function raises for a label out of range.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """Raises half precision to float32 and leaves other types as they are."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def check_choice(name: str, value: Any, allowed: Iterable[Any]) -> None:
    """Raises ValueError unless ``value`` is one of ``allowed``."""
    allowed = tuple(allowed)
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}: expected one of {', '.join(map(repr, allowed))}")


def check_between(name: str, value: float, low: float = 0.0, high: float = 1.0) -> None:
    """Raises ValueError unless ``value`` is a number in ``[low, high]``; NaN is not."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}: expected a number in [{low:g}, {high:g}]")


def check_above_zero(name: str, value: float, high: float = math.inf) -> None:
    """Raises ValueError unless ``value`` is a finite number above 0, and at most ``high``."""
    check_between(name, value, 0.0, high)
    if value in (0, math.inf):
        raise ValueError(f"{name} is {value!r}: expected a finite number above 0")


def check_count(name: str, value: int) -> int:
    """Returns ``value``; raises ValueError unless it is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is {value!r}: expected a whole number of at least 1")
    return value


def check_inputs(inputs: Tensor) -> None:
    """Raises unless ``inputs`` is a non-empty floating-point ``(N, C, H, W)``, ``(N, C, T)`` or ``(N, F)``.

    Raises:
        TypeError: if it is no tensor or an integer tensor.
        ValueError: if it is empty, has fewer than two axes, or (on the CPU) holds NaN or infinity.
    """
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        got = inputs.dtype if isinstance(inputs, Tensor) else type(inputs).__name__
        raise TypeError(
            f"inputs are {got}: expected a floating-point tensor; convert images with "
            "`inputs.float() / 255`; of tokens pass the embeddings, not the ids"
        )
    if inputs.ndim < 2 or inputs.numel() == 0:
        raise ValueError(
            f"inputs have shape {tuple(inputs.shape)}: expected a non-empty batch (N, C, H, W), (N, C, T) or (N, F)"
        )
    if inputs.device.type == "cpu" and not _is_finite(inputs):
        raise ValueError("inputs hold NaN or infinite values: expected finite numbers; look at the data loading")


def _is_finite(tensor: Tensor) -> bool:
    """Whether every element is finite; tries the sum first, which takes a tenth of the time but may overflow."""
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


def check_targets(targets: Tensor, batch_size: int) -> None:
    """Raises unless ``targets`` are ``(N,)`` int64 class labels for a batch of ``batch_size``.

    Raises:
        TypeError: if it is no tensor or not int64.
        ValueError: if the shape is another one.
    """
    if not isinstance(targets, Tensor) or targets.dtype != torch.int64:
        got = targets.dtype if isinstance(targets, Tensor) else type(targets).__name__
        raise TypeError(f"targets are {got}: expected class labels as an int64 tensor of shape (N,)")
    if targets.shape != (batch_size,):
        raise ValueError(f"targets have shape {tuple(targets.shape)}: expected ({batch_size},), one label per image")


def check_logits(logits: Any, targets: Tensor) -> Tensor:
    """Returns ``logits`` if they are ``(N, C)`` with ``C >= 2`` and (on the CPU) every label below C.

    Raises:
        TypeError: if the model returned anything but a tensor.
        ValueError: if the shape or the number of classes does not fit the targets.
    """
    answers = check_answers(logits, len(targets))
    if answers.ndim > 2:
        raise ValueError(f"the model returned shape {tuple(answers.shape)}: expected logits ({len(targets)}, C)")
    check_labels(targets, answers.shape[1])
    return answers


def check_answers(logits: Any, batch_size: int, least: int = 2) -> Tensor:
    """Returns ``logits`` if they are a tensor ``(N, C, *places)`` with at least so many classes.

    Raises:
        TypeError: if the model returned anything else.
        ValueError: if the shape is another one.
    """
    if not isinstance(logits, Tensor):
        raise TypeError(
            f"the model returned a {type(logits).__name__}: expected a tensor of logits (N, C), or an output with "
            "`.logits`; wrap the model so that it returns its logits alone"
        )
    if logits.ndim < 2 or len(logits) != batch_size or logits.shape[1] < least:
        raise ValueError(
            f"the model returned shape {tuple(logits.shape)} for {batch_size} images: "
            f"expected logits ({batch_size}, C) with C >= {least} classes"
        )
    return logits


def check_labels(labels: Tensor, classes: int) -> None:
    """Raises ValueError unless (on the CPU) int64 labels, if there are any, lie in [0, classes - 1]."""
    if labels.device.type != "cpu" or not labels.numel():
        return
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise ValueError(
            f"targets lie in [{low}, {high}] but the model has {classes} outputs: expected labels in [0, {classes - 1}]"
        )


def check_saliency(saliency: Tensor, *, non_negative: bool = False) -> None:
    """Raises ValueError unless ``saliency`` is a non-empty floating-point ``(N, *pixels)``, on the CPU without NaN.

    Args:
        saliency: what is checked.
        non_negative: whether negative values are an error as well (on the CPU).
    """
    if not isinstance(saliency, Tensor):
        raise ValueError(f"saliency is a {type(saliency).__name__}: expected a tensor (N, *pixels)")
    if not saliency.is_floating_point() or saliency.ndim < 2 or saliency.numel() == 0:
        raise ValueError(
            f"saliency is {saliency.dtype} {tuple(saliency.shape)}: "
            "expected a non-empty floating-point tensor (N, *pixels) without a channel axis"
        )
    if saliency.device.type != "cpu":
        return
    if torch.isnan(saliency).any():
        raise ValueError("saliency holds NaN: expected numbers; look at the model's outputs")
    if non_negative and (saliency < 0).any():
        raise ValueError("saliency holds negative values: expected a magnitude such as saliency_map(..., 'mean_abs')")


def check_map_shape(name: str, array: Tensor, inputs: Tensor) -> None:
    """Raises ValueError unless ``array`` is ``(N, *pixels)`` for ``inputs`` ``(N, C, *pixels)`` or ``(N, F)``."""
    expected = inputs.shape if inputs.ndim == 2 else inputs.shape[:1] + inputs.shape[2:]
    if array.shape != expected:
        raise ValueError(
            f"{name} has shape {tuple(array.shape)}: expected {tuple(expected)} for inputs {tuple(inputs.shape)}"
        )


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether the error says that the memory of an accelerator or of the CPU is used up."""
    message = str(error)
    on_cpu = "not enough memory" in message or "can't allocate memory" in message
    return on_cpu or isinstance(error, torch.OutOfMemoryError)
