"""A checkout in a temporary folder with made-up results of every kind, for tests of tables and figures."""

import atexit
import hashlib
import math
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from workbench.config import files, paths
from workbench.config.paths import SettingPaths
from workbench.config.profile import Grid, load_grid, load_judge, load_retraining, load_run
from workbench.config.run import AttributionsConfig, EvaluationConfig, RobustnessConfig, RunConfig
from workbench.reporting.captions import Setting
from workbench.results import records as results
from workbench.results import tables
from workbench.results.costs import COSTS, GROWTH
from workbench.results.samples import Samples, write_samples

REPOSITORY = Path(__file__).parents[2]
PARAMETERS, METHODS = (Path(__file__).with_name(name) for name in ("synthetic.yaml", "synthetic_methods.yaml"))
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
# how faithful an attribution is beside the others, how much of it survives randomised weights
ATTRIBUTIONS = {
    "gradient": (0.7, 0.05),
    "input_x_gradient": (0.8, 0.45),
    "smooth_gradient": (1.0, 0.15),
    "integrated_gradients": (0.9, 0.6),
    "random": (0.0, 1.0),
    "edges": (0.3, 1.0),
}
LAYERS = ("fc", "layer4.0.conv2", "layer4.0.conv1", "layer3.0.conv2", "layer2.0.conv1", "conv1.0")
AREAS = ("deletion_auc", "insertion_auc", "gap", "judge_gap_right", "second_judge_gap_right")
FILLS = {"mean": 1.0, "black": 0.6}  # how strongly a gap shows with each

TITLES = {
    "plain": "Plain",
    "random_mask": "Random mask",
    "sgt": "SGT",
    "sgt_improved": "SGT improved",
    "smoot": "SMOOT",
}
SETTING = Setting(
    dataset="fashion_mnist",
    backbone="resnet10_narrow",
    region="foreground",
    train_images=2000,
    train_total=60000,
    validation_images=1000,
    test_images=10000,
    epochs=10,
    seeds=5,
    source="results/laptop/fashion_mnist-resnet10_narrow",
    evaluation=EvaluationConfig(
        batch_size=250,
        curve_images=500,
        curve_steps=10,
        fills=("mean", "black"),
        stability_std=0.05,
        pointing_tolerance=1,
        mosaics=100,
        robustness=RobustnessConfig(
            images=1000, noise_std=0.3, blur_sigma=1.0, pgd_images=400, pgd_epsilon=0.03, pgd_steps=5
        ),
        attributions=AttributionsConfig(names=("gradient",), images=100, networks=()),
    ),
)


@dataclass(frozen=True)
class Network:
    """What is trained, whatever the seed."""

    profile: str
    dataset: str
    backbone: str
    method: str


@dataclass(frozen=True)
class Axes:
    """The axes of a grid that `lay_out` writes down."""

    profile: str = "laptop"
    datasets: tuple[str, ...] = ("fashion_mnist",)
    backbones: tuple[str, ...] = ("resnet10_narrow",)
    methods: tuple[str, ...] = ("plain", "sgt", "smoot")
    seeds: tuple[int, ...] = (0, 1, 2)

    @property
    def settings(self) -> tuple[tuple[str, str], ...]:
        return tuple(product(self.datasets, self.backbones))


def lay_out(root: Path, patch: pytest.MonkeyPatch, axes: Axes) -> Grid:
    """Point every path at ``root`` and put `PARAMETERS` there as those of the laptop, with other axes.

    The first setting is retrained, and its last method gets all attributions; claims of absent methods go.
    """
    patch.setattr(paths, "ROOT", root)
    patch.setattr(paths, "BENCHMARKS", root / "results" / "benchmarks")
    params = yaml.safe_load(PARAMETERS.read_text())
    settings = {f"{dataset}-{backbone}": (dataset, backbone) for dataset, backbone in axes.settings}
    named = {name: {"dataset": pair[0], "backbone": pair[1]} for name, pair in settings.items()}
    params["grid"] = {"datasets": list(axes.datasets), "settings": named, "methods": list(axes.methods)}
    params["seeds"] = list(axes.seeds)
    first = next(iter(settings))
    params["retraining"]["settings"] = [first]
    params["evaluation"]["attributions"] |= {"networks": [f"{first}/{axes.methods[-1]}"], "seeds": [axes.seeds[0]]}
    params["claims"] = [claim for claim in params["claims"] if claimed(claim, axes, settings)]
    write_parameters(root, params)
    return load_grid("laptop")


def write_parameters(root: Path, params: dict[str, Any]) -> None:
    """The files that a checkout takes its parameters from."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "methods.yaml").write_text(METHODS.read_text())
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def run_of(network: Network, seed: int) -> RunConfig:
    """A run's parameters: those of the checkout that is laid out, else `PARAMETERS`."""
    if paths.ROOT.samefile(REPOSITORY):
        return _made_up_run(network, seed)
    return load_run(network.dataset, network.backbone, network.method, seed, network.profile)


@cache
def _made_up_run(network: Network, seed: int) -> RunConfig:
    with TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "ROOT", Path(root))
        write_parameters(Path(root), yaml.safe_load(PARAMETERS.read_text()))
        return load_run(network.dataset, network.backbone, network.method, seed, network.profile)


def claimed(claim: dict[str, Any], axes: Axes, settings: Iterable[str]) -> bool:
    """Whether a claim can be made on these axes; its settings are cut to theirs."""
    listed = claim.get("settings", [])
    claim["settings"] = [name for name in listed if name in settings]
    return {claim["method"], claim["reference"]} <= {*axes.methods} and bool(listed) == bool(claim["settings"])


def run_record(network: Network, seed: int, **metrics: float) -> results.RunRecord:
    """A record with numbers near `LEVELS`; the same network and seed give the same record."""
    draw = np.random.default_rng(
        [*network.method.encode(), *network.dataset.encode(), *network.backbone.encode(), seed]
    )
    shared = np.random.default_rng(seed).normal(0, 0.005)  # what a seed does to every method
    accuracy, nll, ece, noise, gap, mass = LEVELS.get(network.method, LEVELS["plain"])
    accuracy += shared + draw.normal(0, 0.003)
    values = {
        "accuracy": accuracy,
        "nll": nll + draw.normal(0, 0.01),
        "ece": ece + draw.normal(0, 0.003),
        "accuracy_noise": noise + draw.normal(0, 0.02),
        "accuracy_blur": accuracy - 0.08 + draw.normal(0, 0.01),
        "accuracy_pgd": noise / 2 + draw.normal(0, 0.02),
        **places(mass, draw),
        "grid_pointing": 0.25 + mass / 2 + draw.normal(0, 0.01) if "conv" not in network.backbone else math.nan,
    }
    curves, areas = perturbations(accuracy, gap, draw)
    config = run_of(network, seed).as_dict()
    asked = config["evaluation"]["attributions"]
    full = f"{network.dataset}-{network.backbone}/{network.method}" in asked["networks"] and seed in asked["seeds"]
    return results.RunRecord(
        **asdict(network),
        seed=seed,
        config=config,
        metrics=values | areas | metrics,
        curves=curves,
        summary={
            "epochs": config["training"]["epochs"],
            "best_epoch": 9,
            "validation_accuracy": accuracy + 0.02 * draw.random(),
            "train_accuracy": accuracy + 0.1,
            "masked_share": {"plain": 0.0, "smoot": 0.6}.get(network.method, 1.0),
            "final_masked_share": {"plain": 0.0, "smoot": 0.8}.get(network.method, 1.0),
            "information_loss": math.nan if network.method == "plain" else 0.2,
        },
        code={"smoot": "c" * 64},
        packages={"torch": "2.11.0"},
        data=f"sha-of-{network.dataset}",
        attributions={name: attribution(name, gap, mass, draw) for name in asked["names"]} if full else {},
        sanity={"layers": list(LAYERS)} | {name: cascade(name, draw) for name in asked["names"]} if full else {},
    )


def places(mass: float, draw: np.random.Generator) -> dict[str, float]:
    """Where the saliency is, how sparse and stable it is, and the same of the controls."""
    near = {"relevance_mass": mass, "relevance_rank": mass + 0.08, "pointing_game": mass + 0.3, "gini": 0.55}
    chance = {"relevance_mass": 0.3, "relevance_rank": 0.31, "pointing_game": 0.35, "gini": 0.33}
    found = {name: level + draw.normal(0, 0.01) for name, level in (near | {"stability": 0.6}).items()}
    controls = {"random": chance, "edges": {name: level + 0.2 for name, level in chance.items()}}
    return found | {
        f"{control}_{name}": level + draw.normal(0, 0.002)
        for control, levels in controls.items()
        for name, level in levels.items()
    }


def perturbations(accuracy: float, gap: float, draw: np.random.Generator) -> tuple[dict[str, Any], dict[str, float]]:
    """Curves of the network and of the judge for each fill, and the areas of network, judges and controls."""
    curves: dict[str, Any] = {"fraction": FRACTIONS}
    areas: dict[str, float] = {}
    x = np.array(FRACTIONS)
    for fill, strength in FILLS.items():
        curves[fill] = {}
        for prefix, top, felt in (("", accuracy, gap * strength), ("judge_", 0.9, gap * strength / 2)):
            shapes = {
                "deletion": np.exp(-(3.5 + 6 * felt + draw.normal(0, 0.2)) * x**1.5),
                "insertion": (1 - np.exp(-(1.5 + 9 * felt) * x)) * (1 + draw.normal(0, 0.01)),
                "random": np.exp(-(2.5 + draw.normal(0, 0.2)) * x**1.5),
            }
            own = {prefix + name: (top - 0.1) * shape + 0.1 for name, shape in shapes.items()}
            curves[fill] |= {name: curve.tolist() for name, curve in own.items()}
            found = {name: float(np.trapezoid(curve, x)) for name, curve in own.items()}
            difference = found[f"{prefix}insertion"] - found[f"{prefix}deletion"]
            if prefix:
                areas |= {f"{judge}_gap_right_{fill}": difference for judge in ("judge", "second_judge")}
            else:
                areas |= {f"{name}_auc_{fill}": found[name] for name in ("deletion", "insertion")}
                areas[f"gap_{fill}"] = difference
        for control, factor in {"random": 0.1, "edges": 0.5}.items():
            names = [f"{name}_{fill}" for name in AREAS]
            areas |= {f"{control}_{name}": factor * areas[name] for name in names}
    return curves, areas


def attribution(name: str, gap: float, mass: float, draw: np.random.Generator) -> dict[str, float]:
    """The metrics of one attribution of one network."""
    strength, kept = ATTRIBUTIONS[name]
    measured = places(mass * strength, draw)
    found = {key: value for key, value in measured.items() if not key.startswith(("random_", "edges_"))}
    for fill, shown in FILLS.items():
        faithful = gap * strength * shown + draw.normal(0, 0.01)
        found |= {f"insertion_auc_{fill}": 0.4 + faithful / 2, f"deletion_auc_{fill}": 0.4 - faithful / 2}
        found |= {f"gap_{fill}": faithful, f"judge_gap_right_{fill}": faithful / 2}
        found[f"second_judge_gap_right_{fill}"] = 0.6 * faithful
    return found | {"sanity_spearman": kept, "sanity_ssim": kept}


def cascade(name: str, draw: np.random.Generator) -> dict[str, list[float]]:
    """Similarities that fall, layer by layer, to what survives of the attribution."""
    kept = ATTRIBUTIONS[name][1]
    noise = draw.normal(0, 0.02, len(LAYERS)) * (kept < 1)
    fallen = kept + (1 - kept) * np.exp(-np.arange(1, len(LAYERS) + 1) / 1.5) + noise
    return {"spearman": fallen.tolist(), "ssim": (0.9 * fallen + 0.1 * kept).tolist()}


def history(network: Network | results.RunRecord, seed: int, epochs: int = 10) -> pd.DataFrame:
    """A training that learns; plain masks nothing, smoot masks more with competence, the others all."""
    draw = np.random.default_rng([*network.method.encode(), seed])
    epoch = np.arange(1, epochs + 1)
    learned = 1 - np.exp(-epoch / 2.5)
    accuracy = 0.35 + 0.58 * learned + draw.normal(0, 0.006, epochs)
    loss = 1.6 - 1.4 * learned + draw.normal(0, 0.02, epochs)
    competence = np.clip(accuracy * (1 - loss / np.log(10)), 0, 1)
    share = {"plain": 0 * epoch, "smoot": competence}.get(network.method, 1.0 + 0 * epoch)
    where = np.where(share > 0, 1.0, np.nan)
    pixels = {"smoot": 0.72 - 0.1 * learned + draw.normal(0, 0.01, epochs)}.get(network.method, 0.5)
    lost = where * (0.15 + 0.5 * np.exp(-epoch / 2)) * {"sgt": 2.2, "random_mask": 1.5}.get(network.method, 1.0)
    return pd.DataFrame(
        {
            "epoch": epoch,
            "total": loss + np.nan_to_num(lost),
            "classification": loss,
            "consistency": np.nan_to_num(lost * share),
            "accuracy": accuracy,
            "validation_accuracy": 0.3 + 0.52 * learned + draw.normal(0, 0.01, epochs),
            "validation_loss": 1.7 - 1.15 * learned + draw.normal(0, 0.03, epochs),
            "trained_accuracy": accuracy + 0.02,
            "trained_loss": loss - 0.05,
            "competence": competence if network.method == "smoot" else np.nan,
            "image_fraction": share,
            "masked_share": share,
            "masked_pixels": where * pixels,
            "information_loss": lost,
            "flip_share": lost / 3,
            "cross_entropy_rise": lost / 2,
            "first_order_change": -lost / 4,
            "number_mean": np.nan,
            "number_largest": np.nan,
        }
    )


def samples(network: Network, images: np.ndarray | None = None) -> Samples:
    """Ring-shaped "images" of every class (or those given) and blurred noise around them as saliency.

    Only the samples of smoot hold every attribution.
    """
    draw = np.random.default_rng([*network.method.encode()])
    if images is None:
        y, x = np.mgrid[-1:1:28j, -1:1:28j]
        rings = [np.exp(-(((np.hypot(x, y) - 0.2 - 0.07 * k) / 0.15) ** 2)) for k in range(CLASSES)]
        images = np.stack(rings)[:, None]
    maps = images[:, 0] * draw.gamma(0.6, 1.0, images[:, 0].shape) + 0.1 * draw.gamma(1, 1, images[:, 0].shape)
    size = {"plain": 1.0, "sgt": 0.1, "random_mask": 0.5}.get(network.method, 0.25)
    edges = np.linspace(-8, 3, 67)
    gradient = np.log10(size) + draw.normal(-0.8, 0.7, 500 * 28 * 28)
    labels = np.arange(len(images))
    predictions = np.where(draw.random(len(images)) < 0.25, (labels + 3) % CLASSES, labels)
    names = list(ATTRIBUTIONS) if network.method == "smoot" else []
    explained = [images[:, 0] * ATTRIBUTIONS[name][0] + draw.gamma(0.6, 0.3, images[:, 0].shape) for name in names]
    return Samples(
        images=images.astype(np.float32),
        labels=labels,
        predictions=predictions,
        saliency=(size * maps).astype(np.float32),
        gradient_edges=edges,
        gradient_counts=np.histogram(np.clip(gradient, -8, 3), edges)[0],
        attribution_names=np.array(names, dtype=str),
        attributions=np.array(explained, dtype=np.float32).reshape(len(names), *images[:, 0].shape),
    )


def step_costs() -> pd.DataFrame:
    """Costs as the benchmark writes them, on a CPU, and one line of a GPU."""
    relative = {"plain": 1.0, "random_mask": 2.1, "sgt": 2.8, "sgt_improved": 2.2, "smoot": 1.6}
    limits = {"plain": 1.0, "random_mask": 2.0, "sgt": 8 / 3, "sgt_improved": 2.0, "smoot": 1.5}
    shares = {"plain": 0.0, "smoot": 0.5}
    lines = [(method, shares.get(method, 1.0), cost, limits[method]) for method, cost in relative.items()]
    lines.append(("smoot", 1.0, 2.2, 2.0))
    rows = [
        {"network": network, "method": method, "image_fraction": share, "ms_per_step": 20 * cost}
        | {"relative_to_plain": cost, "limit": limit, "achieved": limit / cost, "device": device}
        | {"memory_mb": 30 * cost**0.2, "relative_memory": cost**0.2, "batch_size": 64, "rounds": 100}
        | {"precision": "bf16" if device == "cuda" else "fp32", "compiled": device == "cuda"}
        | {"mask_overlap": 0.97 if device == "cuda" and method == "smoot" else math.nan}
        for device in ("cpu", "cuda")
        for network in ("resnet10_narrow", "two_conv_small")
        for method, share, cost, limit in lines
    ]
    return pd.DataFrame(rows)[list(COSTS)]


def growth() -> pd.DataFrame:
    """Time and memory against size as the benchmark writes them: a constant and a linear part."""
    sizes = {
        "batch_size": (16, 64, 256),
        "pixels": (256, 1024, 4096),
        "num_classes": (2, 1000),
        "num_images": (1000, 8000),
    }
    rows = [
        {"axis": axis, "value": value, "method": method, "ms": factor * (5 + value / 10)}
        | {"memory_mb": 20 + value / 50, "exponent": 0.9 * factor / 2, "memory_exponent": 0.8, "rounds": 5}
        | {"network": "resnet10_narrow", "device": "cpu"}
        for axis, values in sizes.items()
        for value in values
        for method, factor in {"plain": 1.0, "smoot": 2.0}.items()
    ]
    return pd.DataFrame(rows)[list(GROWTH)]


def write_manifests(grid: Grid) -> None:
    """What each data set consists of."""
    for dataset in grid.datasets:
        kind = dataset.partition("_")[0]
        manifest = {"sha256": f"sha-of-{dataset}", "train_images": 60000, "test_images": 10000}
        manifest["region"] = kind if kind in ("block", "shortcut") else "foreground"
        files.write_json(manifest, paths.ProfilePaths(grid.profile).manifest / f"{dataset}.json")


def write_studies(grid: Grid) -> None:
    """The judges of each data set and what retraining gave."""
    judge = {"train_images": 10000, "epochs": 10, "seed": 1000, "validation_accuracy": 0.91}
    rows = [
        {"dataset": dataset, "backbone": backbone} | judge | {"accuracy": 0.9 - number / 100}
        for number, dataset in enumerate(grid.datasets)
        for backbone in load_judge(grid.profile).backbones
    ]
    tables.JUDGE_TABLE.update(pd.DataFrame(rows), paths.ProfilePaths(grid.profile).results, grid.datasets)
    asked = load_retraining(grid.profile)
    for setting in grid.setting_paths:
        if setting.name in asked.settings:
            parts = [retraining(method, seed, asked.levels) for method in grid.methods for seed in grid.seeds]
            tables.RETRAINING_TABLE.update(pd.concat(parts), setting.folder, grid.methods)


def retraining(method: str, seed: int, levels: tuple[float, ...]) -> pd.DataFrame:
    """What networks reach that are trained on the pixels that a map of this method keeps."""
    draw = np.random.default_rng([*method.encode(), seed])
    gap = LEVELS.get(method, LEVELS["plain"])[4]
    top = np.array([0.8 + gap / 10 + draw.normal(0, 0.01) for _ in levels])
    bottom = np.array([0.6 + draw.normal(0, 0.01) for _ in levels])
    found = {"level": levels, "top": top, "bottom": bottom, "diffroar": top - bottom}
    return pd.DataFrame({"method": method, "seed": seed} | found)


def networks(grid: Grid, setting: SettingPaths) -> list[Network]:
    """What is trained in one setting of a grid."""
    return [Network(grid.profile, setting.dataset, setting.backbone, method) for method in grid.methods]


def rewrite(grid: Grid, changed: Callable[[results.RunRecord], results.RunRecord]) -> None:
    """Write every record of a grid with a change."""
    for setting in grid.setting_paths:
        made = [run_record(network, seed) for network, seed in product(networks(grid, setting), grid.seeds)]
        results.write_records([changed(record) for record in made], setting.folder, grid.methods)


def write_results(grid: Grid, *, pictures: bool = True) -> None:
    """Everything that tables and (with ``pictures``) figures read, for every run of the grid.

    It is made once for the same parameters, and copied from then on.
    """
    asked = f"{grid}, {pictures}, {paths.params_file(grid.profile).read_text()}"
    kept = _made() / hashlib.sha256(asked.encode()).hexdigest()
    if not kept.exists():
        _write_results(grid, pictures)
        for name in (f"results/{grid.profile}", "results/benchmarks", f"data/manifest/{grid.profile}"):
            shutil.copytree(paths.ROOT / name, kept / name)
    else:
        shutil.copytree(kept, paths.ROOT, dirs_exist_ok=True)


@cache
def _made() -> Path:
    """A folder for what is made once; gone when the tests end."""
    folder = Path(mkdtemp())
    atexit.register(shutil.rmtree, folder)
    return folder


def _write_results(grid: Grid, pictures: bool) -> None:
    write_manifests(grid)
    write_studies(grid)
    files.write_csv(step_costs(), paths.BENCHMARKS / "step_cost.csv")
    files.write_csv(growth(), paths.BENCHMARKS / "growth.csv")
    rewrite(grid, lambda record: record)
    for setting in grid.setting_paths:
        if pictures:
            shown = {network.method: samples(network) for network in networks(grid, setting)}
            write_samples(shown, setting.folder, grid.methods)
        histories = [
            history(record, record.seed, record.config["training"]["epochs"]).assign(**record.keys)
            for record in results.records_in(setting.folder)
        ]
        epochs = pd.concat(histories).drop(columns=["dataset", "backbone"])
        tables.EPOCH_TABLE.update(epochs, setting.folder, grid.methods)
