"""Runs of a second on the bundled digits, with every number that a test relies on set here."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from workbench.config import paths
from workbench.config.profile import load_run
from workbench.config.run import AttributionsConfig, RobustnessConfig, RunConfig
from workbench.data import sets as data
from workbench.training import guided as training
from workbench.training.guided import TrainState

torch.set_num_threads(1)  # on networks as small as these, several threads only wait for each other

REPOSITORY = Path(__file__).parents[2]
METHODS = ("plain", "random_mask", "sgt", "sgt_improved", "smoot")
SMALL = {"train_images": 72, "validation_images": 40, "steering_images": 40}
QUICK: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 16,
    "learning_rate": 0.01,
    "weight_decay": 0.01,
    "warmup_epochs": 0,
    "device": "cpu",
    "precision": "fp32",
    "channels_last": False,
    "compile": False,
    "clip_norm": None,
}
ROBUST = {"images": 80, "noise_std": 0.3, "blur_sigma": 1.0, "pgd_images": 20, "pgd_epsilon": 0.03, "pgd_steps": 2}
EXPLAINED: dict[str, Any] = {"names": ("gradient", "random"), "images": 10, "networks": (), "seeds": (0,)}
MEASURED: dict[str, Any] = {
    "batch_size": 64,
    "curve_images": 40,
    "curve_steps": 4,
    "fills": ("mean", "black"),
    "stability_std": 0.05,
    "pointing_tolerance": 1,
    "mosaics": 4,
    "robustness": RobustnessConfig(**ROBUST),
    "attributions": AttributionsConfig(**EXPLAINED),
    "ece_bins": 15,
}


def run(
    method: str = "plain",
    backbone: str = "two_conv_small",
    seed: int = 0,
    *,
    training: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Any] | None = None,
    dataset: Mapping[str, Any] | None = None,
) -> RunConfig:
    """A run of the smoke profile, with `QUICK`, `MEASURED` and the given numbers in place of its own."""
    config = load_run("digits", backbone, method, seed, "smoke")
    return replace(
        config,
        dataset=replace(config.dataset, **SMALL | dict(dataset or {})),
        training=replace(config.training, **QUICK | dict(training or {})),
        evaluation=replace(config.evaluation, **MEASURED | dict(evaluation or {})),
    )


@cache
def digits() -> data.ImageData:
    """The data set that comes with scikit-learn: 1,437 and 360 images of 8 x 8 pixels."""
    return data.load("digits")


def split(config: RunConfig) -> data.Split:
    """What a run trains and validates on."""
    return data.split(digits(), **config.split_arguments())


def silent(step: int, **numbers: float) -> None:
    """A report that nobody reads."""


def fitted(config: RunConfig, checkpoint: Path, report: Any = silent) -> TrainState:
    """A run trained to its end, or from its checkpoint on."""
    return training.fit(config, split(config), 10, checkpoint, report)


def fresh(config: RunConfig) -> TrainState:
    """A run before its first step."""
    return training.create_state(config, (1, 8, 8), 10, config.dataset.train_images or 0)


def trained_network(config: RunConfig) -> nn.Module:
    """A network after three epochs: right about most digits, not always confident."""
    state, part = fresh(config), split(config)
    for epoch in (1, 2, 3):
        training.train_epoch(state, part.train_images, part.train_labels, config, epoch=epoch)
    return state.network


def draws(seed: int = 0) -> torch.Generator:
    """A generator that starts from a seed."""
    return torch.Generator().manual_seed(seed)


def weights(network: nn.Module) -> dict[str, Tensor]:
    """A copy of all parameters and buffers."""
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Equal to the last bit, name by name; NaN, which stands for a number that is not known yet, equals itself."""
    return list(first) == list(second) and all(
        first[name].shape == second[name].shape
        and torch.allclose(first[name], second[name], rtol=0, atol=0, equal_nan=True)
        for name in first
    )


class Spy:
    """Stands for `guided_backward` and writes down what it was asked and what it answered."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.plans: list[Any] = []
        self.images: list[Tensor] = []
        self.seeds: list[int] = []
        self.losses: list[Any] = []
        self.real = training.guided_backward
        patch.setattr(training, "guided_backward", self)

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor, plan: Any, *rest: Any, **named: Any) -> Any:
        self.plans.append(plan)
        self.images.append(images.clone())
        self.seeds.append(named["generator"].initial_seed())
        self.losses.append(self.real(network, images, labels, plan, *rest, **named))
        return self.losses[-1]


def plain(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """With lists for tuples, as YAML has them."""
    content: dict[str, Any] = json.loads(json.dumps(numbers))
    return content


@cache
def checkout_files() -> dict[str, str]:
    """The files of a checkout; its smoke profile has the numbers of `run`."""
    params = yaml.load((REPOSITORY / "tests" / "smoke.yaml").read_text(), yaml.CSafeLoader)
    params["datasets"]["digits"] |= SMALL
    params |= {"training": QUICK, "evaluation": plain(MEASURED | {"robustness": ROBUST, "attributions": EXPLAINED})}
    params["judge"] |= {"train_images": 100, "validation_images": 40, "epochs": 2}
    others = {name: (REPOSITORY / name).read_text() for name in ("data/datasets.yaml", "methods.yaml")}
    return others | {"tests/smoke.yaml": yaml.safe_dump(params)}


def own_checkout(root: Path, patch: pytest.MonkeyPatch) -> Path:
    """Everything is written below ``root``."""
    for name, text in checkout_files().items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    patch.setattr(paths, "ROOT", root)
    patch.setattr(paths, "RAW", root / "data" / "raw")
    patch.setattr(paths, "DATASETS_FILE", root / "data" / "datasets.yaml")
    patch.setattr(paths, "LEDGER", root / "scratch" / "ledger")
    patch.setattr(paths, "BENCHMARKS", root / "results" / "benchmarks")
    patch.delenv("SMOOT_LEDGER", raising=False)
    return root


def in_this_process(
    function: Callable[[Any, Any], Any], tasks: Sequence[Any], *, workers: int, describe: str, steps: int
) -> list[Any]:
    """Stands for `run_tasks` where nothing depends on the worker processes."""
    return [function(task, silent) for task in tasks]
