"""Words and numbers as tables, captions and figures show them; the table as Markdown, HTML and CSV."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import pandas as pd

from workbench.config import files as storage
from workbench.config import paths

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
ATTRIBUTIONS = ("gradient", "input_x_gradient", "smooth_gradient", "integrated_gradients", "random", "edges")
NOTHING = "–"
# Columns of words; all others are numbers.
WORDS = (
    "Data",
    "Backbone",
    "Method",
    "Network",
    "Attribution",
    "Measure",
    "Claim",
    "Family",
    "Verdict",
    "Stage",
    "Part",
    "Factor",
)


def display_name(key: str) -> str:
    """The name that text and figures use; a key without one stands for itself."""
    return NAMES.get(key, key)


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


@dataclass(frozen=True)
class Measurement:
    """How runs were measured; images are the first of the test split, standard deviations in [0, 1] pixels."""

    curve_images: int
    stability_std: float
    pointing_tolerance: int
    mosaics: int
    robustness_images: int
    noise_std: float
    blur_sigma: float
    pgd_images: int
    pgd_epsilon: float
    pgd_steps: int
    attribution_images: int


@dataclass(frozen=True)
class Setting:
    """What every caption has to say of the runs behind it: those of one data set and backbone.

    ``region`` is what the saliency should be on: ``foreground`` (the object), ``block`` (the half of the image
    with the digit) or ``shortcut`` (the patch, on which it should not be). ``test_images`` are those that were
    measured on, of the ``test`` split or ``development`` images; ``deviations`` says that some methods set training
    images or epochs otherwise.
    """

    dataset: str
    backbone: str
    region: str
    train_images: int
    train_total: int
    validation_images: int
    test_images: int
    epochs: int
    seeds: int
    code_versions: int
    source: str
    measured: Measurement
    measured_on: str = "test"
    deviations: bool = False

    @property
    def key(self) -> str:
        """``DATASET-BACKBONE``, as in parameters and stages."""
        return f"{self.dataset}-{self.backbone}"

    @property
    def place(self) -> str:
        """What stands at the end of a file's name."""
        return f"{self.dataset}_{self.backbone}"

    @property
    def name(self) -> str:
        return f"{display_name(self.dataset)}, {display_name(self.backbone)}"

    @property
    def facts(self) -> str:
        """``2,000 of 60,000 training images, 10 epochs, n = 5 seeds, 10,000 test images``."""
        seeds = f"n = {self.seeds} seed{'s' if self.seeds != 1 else ''}"
        images = f"{self.train_images:,} of {self.train_total:,}"
        if self.train_images == self.train_total:
            images = f"all {self.train_total:,}"
        training = f"{images} training images, {self.epochs} epoch{'s' if self.epochs != 1 else ''}"
        training += " where a method does not say otherwise" if self.deviations else ""
        return f"{training}, {seeds}, {self.test_images:,} {self.measured_on} images"

    @property
    def origin(self) -> str:
        """Where the numbers come from, and whether one version of the code made them."""
        mixed = f"; they come from {self.code_versions} versions of the code" if self.code_versions > 1 else ""
        return f"Source: run records in `{self.source}`{mixed}."


def all_facts(settings: Sequence[Setting]) -> str:
    """The facts of several settings, said once for each data set where its backbones share them."""
    names: dict[tuple[str, str], list[str]] = {}
    for about in settings:
        names.setdefault((about.dataset, about.facts), []).append(display_name(about.backbone))
    return " ".join(
        f"{display_name(dataset)} with {' and '.join(backbones)}: {facts}."
        for (dataset, facts), backbones in names.items()
    )


@dataclass(frozen=True)
class Table:
    """A table: numbers for machines, the same as text for readers, and the caption that goes with it.

    Attributes:
        name: the stem of its files.
        title: what it shows, without a final stop.
        caption: one paragraph of Markdown.
        data: numbers, one row per line of the table.
        display: text, headers included, as it is shown.
    """

    name: str
    title: str
    caption: str
    data: pd.DataFrame
    display: pd.DataFrame

    @property
    def markdown(self) -> str:
        """Title and caption, then the table with its numbers flush right."""
        columns = [str(column) for column in self.display.columns]
        rule = ["---" if column in WORDS else "--:" for column in columns]
        rows = [columns, rule, *self.display.astype(str).to_numpy().tolist()]
        lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        return f"**{self.title}.** {self.caption}\n\n{lines}\n"

    @property
    def html(self) -> str:
        """The table alone, without title and caption; cells with words have the class ``text``."""
        columns = [str(column) for column in self.display.columns]
        kinds = [' class="text"' if column in WORDS else "" for column in columns]

        def line(tag: str, cells: Sequence[object]) -> str:
            pairs = zip(kinds, cells, strict=True)
            return "".join(f"<{tag}{kind}>{escape(str(cell))}</{tag}>" for kind, cell in pairs)

        rows = [f"<tr>{line('td', row)}</tr>" for row in self.display.to_numpy().tolist()]
        head = f"<thead>\n<tr>{line('th', columns)}</tr>\n</thead>"
        return "\n".join(["<table>", head, "<tbody>", *rows, "</tbody>", "</table>"])

    def write(self, folder: Path) -> None:
        """Write ``NAME.md`` and ``NAME.csv``, rounded, so that the same records give the same bytes."""
        write_text(self.markdown, folder / f"{self.name}.md")
        storage.write_csv(self.data, folder / f"{self.name}.csv")


def write_text(text: str, path: Path) -> Path:
    """Write text, whole or not at all, with the same line ends on every system."""
    with paths.replacing(path) as temporary:
        temporary.write_bytes(text.encode())
    return path
