"""The tables: frames in, a :class:`~smoot.workbench.typesetting.Table` out; no files.

Frames hold one row per method and seed; fractions become per cent and differences of fractions points.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import pandas as pd

from smoot.workbench.typesetting import (
    NOTHING,
    Setting,
    Table,
    all_facts,
    display_name,
    fixed,
    interval,
    plus_minus,
    probability,
)

Columns: TypeAlias = Mapping[str, tuple[str, float, int]]  # metric: header, factor, decimals
Row: TypeAlias = tuple[dict[str, object], dict[str, str]]  # numbers and text of one line

ACCURACY: Columns = {
    "accuracy": ("Accuracy (%) ↑", 100, 2),
    "nll": ("NLL (nats) ↓", 1, 3),
    "ece": ("ECE (%) ↓", 100, 2),
    "accuracy_noise": ("Accuracy under noise (%) ↑", 100, 2),
}
MASKING: Columns = {
    "masked_share": ("Images masked (%)", 100, 1),
    "masked_pixels": ("Their pixels masked (%)", 100, 1),
    "information_loss": ("Information lost (nats)", 1, 3),
    "flip_share": ("Answers changed (%)", 100, 1),
    "cross_entropy_rise": ("Cross-entropy rise (nats)", 1, 3),
}
COSTS = (
    "network",
    "method",
    "image_fraction",
    "ms_per_step",
    "relative_to_plain",
    "unit_limit",
    "device",
    "batch_size",
)
SPREAD = "± is the standard deviation over seeds"


def _quality(fills: Sequence[str]) -> Columns:
    """The columns of saliency quality: four areas for each fill, then localisation and sparseness."""
    columns: dict[str, tuple[str, float, int]] = {}
    for fill in fills:
        columns[f"gap_{fill}"] = (f"Gap, {fill} ↑", 100, 1)
        columns[f"deletion_auc_{fill}"] = (f"Deletion, {fill} ↓", 100, 1)
        columns[f"random_auc_{fill}"] = (f"Random, {fill}", 100, 1)
        columns[f"insertion_auc_{fill}"] = (f"Insertion, {fill} ↑", 100, 1)
    columns["relevance_mass"] = ("Relevance mass ↑", 100, 1)
    columns["relevance_rank"] = ("Relevance rank ↑", 100, 1)
    columns["gini"] = ("Gini (sparser ↑)", 100, 1)
    return columns


def _summarised(rows: pd.DataFrame, columns: Columns, bare: Sequence[str] = ()) -> Row:
    """Means and standard deviations over the rows; as text without the deviation for ``bare`` metrics."""
    numbers: dict[str, object] = {}
    texts = {}
    for metric, (header, factor, digits) in columns.items():
        mean, sd = factor * float(rows[metric].mean(skipna=False)), factor * float(rows[metric].std(ddof=1))
        numbers |= {f"{metric}_mean": mean, f"{metric}_sd": sd}
        texts[header] = fixed(mean, digits) if metric in bare else plus_minus(mean, sd, digits)
    return numbers, texts


def _table(name: str, title: str, caption: str, rows: Sequence[Row]) -> Table:
    data, display = pd.DataFrame([row[0] for row in rows]), pd.DataFrame([row[1] for row in rows])
    return Table(name, title, caption, data, display)


def difference_text(comparison: Mapping[str, float]) -> str:
    """``+0.86 [+0.35, +1.37], p = 0.008`` in points, from a row of `statistics.comparisons_frame`."""
    difference, low, high = (100 * comparison[key] for key in ("difference", "low", "high"))
    return f"{interval(difference, low, high)}, {probability(comparison['p_holm'])}"


def _differences(method: str, comparisons: pd.DataFrame) -> Row:
    """A method's paired differences to every reference; empty where the pair stands in another line."""
    factors = dict.fromkeys(("difference", "low", "high"), 100)
    factors |= dict.fromkeys(("effect_size", "p_value", "p_holm", "p_wilcoxon"), 1)
    numbers: dict[str, object] = {}
    texts = {}
    for reference in comparisons["reference"].unique():
        pair = comparisons[(comparisons["method"] == method) & (comparisons["reference"] == reference)]
        found = pair.to_dict("records")[0] if len(pair) else None
        for key, factor in factors.items():
            numbers[f"{key}_{reference}"] = factor * found[key] if found else float("nan")
        texts[f"Minus {display_name(reference)}"] = difference_text(found) if found else NOTHING
    return numbers, texts


def accuracy_table(frame: pd.DataFrame, comparisons: pd.DataFrame, methods: Sequence[str], about: Setting) -> Table:
    """Accuracy, calibration and robustness on one data set and backbone, with paired differences.

    Args:
        frame: ``accuracy``, ``nll``, ``ece``, ``accuracy_noise`` for each method and seed.
        comparisons: of ``accuracy``, from `statistics.comparisons_frame`.
        methods: rows, in order.
        about: what the caption says of the runs.
    """
    rows = []
    for method in methods:
        own = frame[frame["method"] == method]
        numbers, texts = _summarised(own, ACCURACY)
        paired, paired_texts = _differences(method, comparisons)
        head = {"Method": display_name(method), "n": str(len(own))}
        rows.append(({"method": method, "n": len(own)} | numbers | paired, head | texts | paired_texts))
    caption = (
        f"{about.facts}; the best epoch is chosen on {about.validation_images:,} other training images; {SPREAD}; "
        f"noise: Gaussian, sd {about.noise_std:g}, pixels in [0, 1]. Last columns: accuracy minus that of the "
        "method named, in points, paired by seed, with 95 % confidence interval; p: paired t-test, "
        f"Holm-adjusted over this table's {len(comparisons)} pairs. {about.origin}"
    )
    return _table(f"accuracy_{about.dataset}_{about.backbone}", f"Accuracy, {about.name}", caption, rows)


def saliency_table(frame: pd.DataFrame, methods: Sequence[str], fills: Sequence[str], about: Setting) -> Table:
    """Quality of the saliency maps on one data set and backbone.

    Args:
        frame: gap and areas for each fill, relevance and Gini index, for each method and seed.
        methods: rows, in order.
        fills: what removed pixels were replaced by, in order.
        about: what the caption says of the runs.
    """
    columns = _quality(fills)
    bare = [metric for metric in columns if not metric.startswith("gap_")]
    rows = []
    for method in methods:
        own = frame[frame["method"] == method]
        numbers, texts = _summarised(own, columns, bare)
        rows.append(({"method": method, "n": len(own)} | numbers, {"Method": display_name(method)} | texts))
    caption = (
        f"{about.facts}, curves on {about.curve_images:,} of them; all numbers in %, means over seeds, "
        f"{SPREAD}. Gap: insertion minus deletion, the areas under the accuracy curve while the most salient "
        f"pixels are shown or removed first and the others filled ({' or '.join(fills)}). Random: the area "
        "for a random ranking, the control, whose gap is 0 in expectation. Relevance: share of the saliency, "
        f"and of the most salient pixels, on the object. {about.origin}"
    )
    name, title = f"saliency_{about.dataset}_{about.backbone}", f"Saliency quality, {about.name}"
    return _table(name, title, caption, rows)


def _grid_rows(frame: pd.DataFrame, methods: Sequence[str], abouts: Sequence[Setting], columns: Columns) -> list[Row]:
    """One line per data set, backbone and method."""
    rows = []
    for about in abouts:
        here = frame[(frame["dataset"] == about.dataset) & (frame["backbone"] == about.backbone)]
        for method in methods:
            own = here[here["method"] == method]
            numbers, texts = _summarised(own, columns)
            keys = {"dataset": about.dataset, "backbone": about.backbone, "method": method}
            shown = zip(("Data", "Backbone", "Method"), map(display_name, keys.values()), strict=True)
            rows.append((keys | {"n": len(own)} | numbers, dict(shown) | texts))
    return _blank_repeats(rows)


def _blank_repeats(rows: list[Row]) -> list[Row]:
    """Data set and backbone as text only where they change."""
    shown: list[Row] = []
    for place, (numbers, texts) in enumerate(rows):
        above = rows[place - 1][1] if place else {}
        same_data = above.get("Data") == texts["Data"]
        same = {"Data": same_data, "Backbone": same_data and above.get("Backbone") == texts["Backbone"]}
        shown.append((numbers, texts | {key: "" for key, repeated in same.items() if repeated}))
    return shown


def summary_table(
    frame: pd.DataFrame, methods: Sequence[str], fills: Sequence[str], abouts: Sequence[Setting]
) -> Table:
    """The whole grid at a glance: one line per data set, backbone and method.

    Args:
        frame: all metrics of all records.
        methods: lines within each data set and backbone, in order.
        fills: what removed pixels were replaced by, in order.
        abouts: the data sets and backbones, in order.
    """
    available = {**ACCURACY, **_quality(fills)}
    gaps = [f"gap_{fill}" for fill in fills]
    shown = ["accuracy", "ece", "accuracy_noise", *gaps, "relevance_mass"]
    columns = {metric: available[metric] for metric in shown}
    caption = f"All numbers in %; {SPREAD}. Gap: insertion minus deletion area for each fill. {all_facts(abouts)}"
    return _table("summary", "All results", caption, _grid_rows(frame, methods, abouts, columns))


def masking_table(histories: pd.DataFrame, methods: Sequence[str], abouts: Sequence[Setting]) -> Table:
    """What masking did during training: means over epochs, then over seeds.

    Args:
        histories: one row per epoch of every run; NaN where nothing was masked.
        methods: lines within each data set and backbone, in order; those that never mask are left out.
        abouts: the data sets and backbones, in order.
    """
    keys = ["dataset", "backbone", "method", "seed"]
    by_seed = histories.groupby(keys)[list(MASKING)].mean().reset_index()
    masking = [m for m in methods if by_seed[by_seed["method"] == m]["masked_share"].max() > 0]
    caption = (
        f"Means over the epochs of training, on training batches; {SPREAD}. Information lost: "
        f"KL(p(x) ‖ p(masked x)) of the masked images. {all_facts(abouts)}"
    )
    return _table("masking", "What masking did", caption, _grid_rows(by_seed, masking, abouts, MASKING))


def cost_table(costs: pd.DataFrame) -> Table:
    """Time of a training step relative to plain, beside what arithmetic allows.

    Args:
        costs: the columns `COSTS`, one line per network, method and share of masked images.
    """
    rows: list[Row] = []
    for cost in costs.to_dict("records"):
        texts = {
            "Network": display_name(cost["network"]),
            "Method": display_name(cost["method"]),
            "Images masked (%)": fixed(100 * cost["image_fraction"], 0),
            "ms a step ↓": fixed(cost["ms_per_step"], 1),
            "Relative to Plain ↓": f"{fixed(cost['relative_to_plain'])} ×",
            "Arithmetic limit": f"{fixed(cost['unit_limit'])} ×",
        }
        rows.append(({key: cost[key] for key in COSTS}, texts))
    settings = costs[["device", "batch_size"]].drop_duplicates().to_dict("records")
    machines = " and ".join(f"{setting['device']}, batches of {setting['batch_size']}" for setting in settings)
    caption = (
        f"Wall-clock time of one training step: {machines}. Arithmetic limit: the method's passes counted in "
        "forwards of the batch, relative to Plain's 3. Source: `results/benchmarks/step_cost.csv`, written "
        "by `make bench`."
    )
    return _table("cost", "Cost of a step", caption, rows)
