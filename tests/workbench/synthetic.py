"""A checkout in a temporary folder with made-up results of every kind, for tests of tables and figures."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from smoot.workbench import paths, results, storage, tabulation
from smoot.workbench.cells import Cell, grid_cells
from smoot.workbench.config import Grid, load_grid, load_run

REPOSITORY = Path(__file__).parents[2]
FRACTIONS = [step / 10 for step in range(11)]
CLASSES = 10
# accuracy, nll, ece, accuracy under noise, gap, relevance mass: about what such networks reach
LEVELS = {
    "plain": (0.8197, 0.571, 0.069, 0.381, 0.261, 0.450),
    "random_mask": (0.8339, 0.492, 0.050, 0.740, 0.180, 0.482),
    "sgt": (0.7977, 0.579, 0.035, 0.621, 0.269, 0.586),
    "sgt_improved": (0.8296, 0.521, 0.058, 0.645, 0.428, 0.478),
    "smoot": (0.8284, 0.534, 0.065, 0.659, 0.401, 0.472),
}


@dataclass(frozen=True)
class Axes:
    """A grid by hand: anything with these attributes will do."""

    profile: str = "laptop"
    datasets: tuple[str, ...] = ("fashion_mnist",)
    backbones: tuple[str, ...] = ("resnet10_narrow",)
    methods: tuple[str, ...] = ("plain", "sgt", "smoot")
    seeds: tuple[int, ...] = (0, 1, 2)


def lay_out(root: Path, patch: pytest.MonkeyPatch, axes: Axes) -> Grid:
    """Point every path at ``root`` and put the laptop's parameters there, with other axes."""
    patch.setattr(paths, "ROOT", root)
    patch.setattr(paths, "BENCHMARKS", root / "results" / "benchmarks")
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    params["grid"] = {name: list(getattr(axes, name)) for name in ("datasets", "backbones", "methods")}
    params["seeds"] = list(axes.seeds)
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    return load_grid("laptop")


def run_record(cell: Cell, seed: int, **metrics: float) -> results.RunRecord:
    """A record with numbers near `LEVELS`; the same cell and seed give the same record."""
    draw = np.random.default_rng([*cell.method.encode(), *cell.dataset.encode(), *cell.backbone.encode(), seed])
    shared = np.random.default_rng(seed).normal(0, 0.005)  # what a seed does to every method
    accuracy, nll, ece, noise, gap, mass = LEVELS.get(cell.method, LEVELS["plain"])
    accuracy += shared + draw.normal(0, 0.003)
    curves: dict[str, object] = {"fraction": FRACTIONS}
    values = {
        "accuracy": accuracy,
        "nll": nll + draw.normal(0, 0.01),
        "ece": ece + draw.normal(0, 0.003),
        "accuracy_noise": noise + draw.normal(0, 0.02),
        "relevance_mass": mass + draw.normal(0, 0.01),
        "relevance_rank": mass + 0.08 + draw.normal(0, 0.01),
        "gini": 0.55 + draw.normal(0, 0.01),
    }
    for fill, weaker in {"mean": 1.0, "black": 0.6}.items():
        slopes = {"deletion": 3.5 + 6 * gap * weaker, "insertion": 1.5 + 9 * gap * weaker, "random": 2.5}
        x = np.array(FRACTIONS)
        lost = {
            name: (1 - np.exp(-(slope + draw.normal(0, 0.2)) * (x if name != "insertion" else 1 - x) ** 1.5))
            for name, slope in slopes.items()
        }
        lost["insertion"] = 1 - (1 - np.exp(-slopes["insertion"] * x)) * (1 + draw.normal(0, 0.01))
        curves[fill] = {name: ((accuracy - 0.1) * (1 - loss) + 0.1).tolist() for name, loss in lost.items()}
        areas = {name: float(np.trapezoid(curves[fill][name], x)) for name in results.CURVES}
        values |= {f"{name}_auc_{fill}": area for name, area in areas.items()}
        values[f"gap_{fill}"] = areas["insertion"] - areas["deletion"]
    config = load_run(cell.dataset, cell.backbone, cell.method, seed, cell.profile).as_dict()
    return results.RunRecord(
        cell=cell,
        seed=seed,
        config=config,
        metrics=values | metrics,
        curves=curves,
        history={"epochs": 10, "best_epoch": 9, "validation_accuracy": accuracy},
        code="c" * 64,
        packages={"torch": "2.11.0"},
        data=f"sha-of-{cell.dataset}",
    )


def history(cell: Cell, seed: int, epochs: int = 10) -> pd.DataFrame:
    """A training that learns; plain masks nothing, smoot masks more with competence, the others all."""
    draw = np.random.default_rng([*cell.method.encode(), seed])
    epoch = np.arange(1, epochs + 1)
    learned = 1 - np.exp(-epoch / 2.5)
    accuracy = 0.35 + 0.58 * learned + draw.normal(0, 0.006, epochs)
    loss = 1.6 - 1.4 * learned + draw.normal(0, 0.02, epochs)
    competence = np.clip(accuracy * (1 - loss / np.log(10)), 0, 1)
    share = {"plain": 0 * epoch, "smoot": competence}.get(cell.method, 1.0 + 0 * epoch)
    where = np.where(share > 0, 1.0, np.nan)
    pixels = {"smoot": 0.72 - 0.1 * learned + draw.normal(0, 0.01, epochs)}.get(cell.method, 0.5)
    lost = where * (0.15 + 0.5 * np.exp(-epoch / 2)) * {"sgt": 2.2, "random_mask": 1.5}.get(cell.method, 1.0)
    return pd.DataFrame(
        {
            "epoch": epoch,
            "total": loss + np.nan_to_num(lost),
            "classification": loss,
            "consistency": np.nan_to_num(lost * share),
            "accuracy": accuracy,
            "validation_accuracy": 0.3 + 0.52 * learned + draw.normal(0, 0.01, epochs),
            "validation_loss": 1.7 - 1.15 * learned + draw.normal(0, 0.03, epochs),
            "competence": competence if cell.method == "smoot" else np.nan,
            "image_fraction": share,
            "masked_share": share,
            "masked_pixels": where * pixels,
            "information_loss": lost,
            "flip_share": lost / 3,
            "cross_entropy_rise": lost / 2,
        }
    )


def samples(cell: Cell, images: np.ndarray | None = None) -> storage.Samples:
    """Ring-shaped "images" of every class (or those given) and blurred noise around them as saliency."""
    draw = np.random.default_rng([*cell.method.encode()])
    if images is None:
        y, x = np.mgrid[-1:1:28j, -1:1:28j]
        rings = [np.exp(-(((np.hypot(x, y) - 0.2 - 0.07 * k) / 0.15) ** 2)) for k in range(CLASSES)]
        images = np.stack(rings)[:, None]
    maps = images[:, 0] * draw.gamma(0.6, 1.0, images[:, 0].shape) + 0.1 * draw.gamma(1, 1, images[:, 0].shape)
    size = {"plain": 1.0, "sgt": 0.1, "random_mask": 0.5}.get(cell.method, 0.25)
    edges = np.linspace(-8, 3, 67)
    gradient = np.log10(size) + draw.normal(-0.8, 0.7, 500 * 28 * 28)
    labels = np.arange(len(images))
    predictions = np.where(draw.random(len(images)) < 0.25, (labels + 3) % CLASSES, labels)
    return storage.Samples(
        images=images.astype(np.float32),
        labels=labels,
        predictions=predictions,
        saliency=(size * maps).astype(np.float32),
        gradient_edges=edges,
        gradient_counts=np.histogram(np.clip(gradient, -8, 3), edges)[0],
    )


def step_costs() -> pd.DataFrame:
    """Costs as the benchmark writes them."""
    relative = {"plain": 1.0, "random_mask": 1.9, "sgt": 2.5, "sgt_improved": 2.3, "smoot": 2.2}
    limits = {"plain": 1.0, "random_mask": 2.0, "sgt": 8 / 3, "sgt_improved": 2.0, "smoot": 1.68}
    rows = [
        ("resnet10_narrow", method, float(method != "plain"), 20 * cost, cost, limits[method], "1 core", 64)
        for method, cost in relative.items()
    ]
    return pd.DataFrame(rows, columns=tabulation.COSTS)


def write_manifests(grid: Grid) -> None:
    """What each data set consists of."""
    for dataset in grid.datasets:
        manifest = {"sha256": f"sha-of-{dataset}", "train_images": 60000, "test_images": 10000}
        storage.write_json(manifest, paths.ProfilePaths(grid.profile).manifest / f"{dataset}.json")


def write_results(grid: Grid, images: np.ndarray | None = None, *, pictures: bool = True) -> None:
    """Everything that tables and (with ``pictures``) figures read, for every cell and seed of the grid."""
    write_manifests(grid)
    storage.write_csv(step_costs(), paths.BENCHMARKS / "step_cost.csv")
    for cell in grid_cells(grid):
        if pictures:
            storage.write_samples(samples(cell, images), cell.samples_path)
        for seed in grid.seeds:
            results.write_record(run_record(cell, seed))
            storage.write_history(history(cell, seed), cell.history_path(seed))
