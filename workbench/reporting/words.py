"""Names and numbers as tables, captions and figures show them."""

import math
from collections.abc import Iterable

NAMES = {
    "plain": "Plain",
    "random_mask": "Random mask",
    "sgt": "SGT",
    "sgt_improved": "SGT improved",
    "sgt_mean_fill": "SGT, mean fill",
    "sgt_searched": "SGT, searched k",
    "smoot": "SMOOT",
    "smoot_searched": "SMOOT, searched k",
    "plain_long": "Plain, longer",
    "plain_regularised": "Plain, regularised",
    "masked_labels": "Masked, labels",
    "high_low": "High and low masks",
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "block_mnist": "BlockMNIST",
    "shortcut_mnist": "Shortcut-MNIST",
    "digits": "Digits",
    "block_digits": "BlockDigits",
    "shortcut_digits": "Shortcut-Digits",
    "cifar10_jpeg": "CIFAR-10 (JPEG q75)",
    "resnet10_narrow": "ResNet-10 (narrow)",
    "resnet10_thin": "ResNet-10 (thin)",
    "vit_small": "ViT (small)",
    "vit_tiny_patch4": "ViT-Tiny (patches of 4)",
    "resnet18": "ResNet-18",
    "two_conv": "Two-conv",
    "two_conv_small": "Two-conv (small)",
    "gradient": "Gradient",
    "input_x_gradient": "Input × gradient",
    "smooth_gradient": "SmoothGrad",
    "integrated_gradients": "Integrated gradients",
    "random": "Random",
    "edges": "Edges",
}
MEASURED = {  # networks and methods of the cost benchmark alone
    "sgt_reference": "SGT as published",
    "smoot_reuse": "SMOOT, reused forward",
    "smoot_loss": "SMOOT, loss gradient",
    "smoot_budget": "SMOOT, budget",
    "vit": "ViT (6 blocks)",
    "resnet50": "ResNet-50",
}
ATTRIBUTIONS = ("gradient", "input_x_gradient", "smooth_gradient", "integrated_gradients", "random", "edges")
NOTHING = "–"


def display_name(key: str) -> str:
    """The name that text and figures use; a key without one stands for itself."""
    return NAMES.get(key, key)


def cost_name(key: str) -> str:
    """The name of a network or of a line of the benchmark."""
    return MEASURED.get(key) or display_name(key)


def fixed(value: float, digits: int = 2, *, sign: bool = False) -> str:
    """A number with so many decimals and a true minus sign; a dash if it is undefined."""
    if math.isnan(value):
        return NOTHING
    text = f"{round(value, digits) + 0.0:{'+' if sign else ''},.{digits}f}"
    return text.replace("-", "−")


def plus_minus(mean: float, sd: float, digits: int = 2) -> str:
    """``81.97 ± 0.62``; without the spread if there is none."""
    return fixed(mean, digits) if math.isnan(sd) else f"{fixed(mean, digits)} ± {fixed(sd, digits)}"


def interval(difference: float, low: float, high: float, digits: int = 2) -> str:
    """``+0.86 [+0.35, +1.37]``; without the interval if there is none."""
    text = fixed(difference, digits, sign=True)
    if math.isnan(low):
        return text
    return f"{text} [{fixed(low, digits, sign=True)}, {fixed(high, digits, sign=True)}]"


def probability(p: float) -> str:
    """``p = 0.008``, ``p < 0.001``; a dash if it is undefined."""
    if math.isnan(p):
        return f"p {NOTHING}"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def in_order(attributions: Iterable[str]) -> list[str]:
    """Attributions as tables and figures list them: those of `ATTRIBUTIONS` first, others by name."""
    return sorted(attributions, key=lambda name: (ATTRIBUTIONS.index(name) if name in ATTRIBUTIONS else 99, name))
