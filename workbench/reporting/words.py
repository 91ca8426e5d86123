"""Names and numbers as tables, captions and figures show them; names of methods stand in ``methods.yaml``."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

Titles: TypeAlias = Mapping[str, str]  # of methods, in the order in which they are shown

NAMES = {
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "block_mnist": "BlockMNIST",
    "shortcut_mnist": "Shortcut-MNIST",
    "digits": "Digits",
    "block_digits": "BlockDigits",
    "shortcut_digits": "Shortcut-Digits",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "cifar10_jpeg": "CIFAR-10 (JPEG q75)",
    "caltech101": "Caltech-101",
    "image_folder": "Image folder",
    "resnet10": "ResNet-10",
    "efficientnet_lite0": "EfficientNet-Lite0",
    "resnet10_narrow": "ResNet-10 (narrow)",
    "resnet10_thin": "ResNet-10 (thin)",
    "resnet10_strided": "ResNet-10 (strided)",
    "resnet10_thin_strided": "ResNet-10 (thin, strided)",
    "resnet10_thin_averaged": "ResNet-10 (thin, averaging)",
    "vit_tiny_patch4": "ViT-Tiny (patches of 4)",
    "resnet18": "ResNet-18",
    "resnet50": "ResNet-50",
    "vit": "ViT (6 blocks)",
    "vit_patch7": "ViT (patches of 7)",
    "two_conv": "Two-conv",
    "two_conv_small": "Two-conv (small)",
    "gradient": "Gradient",
    "input_x_gradient": "Input × gradient",
    "smooth_gradient": "SmoothGrad",
    "integrated_gradients": "Integrated gradients",
    "random": "Random",
    "edges": "Edges",
}
DIGITS = tuple(f"digit {digit}" for digit in range(10))
CLASSES: Mapping[str, Sequence[str]] = {  # of a data set, in the order of their numbers
    **dict.fromkeys(("mnist", "block_mnist", "shortcut_mnist", "digits", "block_digits", "shortcut_digits"), DIGITS),
    "fashion_mnist": (
        *("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
    ),
    "cifar10_jpeg": ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
    "caltech101": (
        *("airplane", "bonsai", "brain", "butterfly", "car", "chandelier", "face", "grand piano", "hawksbill"),
        *("helicopter", "kangaroo", "ketch", "leopard", "menorah", "motorbike", "watch"),
    ),
}
ATTRIBUTIONS = ("gradient", "input_x_gradient", "smooth_gradient", "integrated_gradients", "random", "edges")
NOTHING = "–"


def display_name(key: str) -> str:
    """The name of a data set, a backbone or an attribution; a key without one stands for itself."""
    return NAMES.get(key, key)


def class_name(dataset: str, label: int) -> str:
    """The name of a class of a data set, or ``class 3`` where none is known."""
    known = CLASSES.get(dataset, ())
    return known[label] if label < len(known) else f"class {label}"


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
