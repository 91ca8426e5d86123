"""Made-up studies: whole ones in a temporary folder, one of masks, one of plans; and runs of any methods."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from synthetic import METHODS, PARAMETERS, SETTING, Axes, Network, history, lay_out, run_record, write_results

from workbench.config.profile import Grid, load_grid
from workbench.reporting.questions import Study
from workbench.studies.runs import StudyRuns


def masks(images: float, pixels: float, **guidance: Any) -> dict[str, Any]:
    """A constant plan."""
    plan = {"image_fraction": images, "mask_fraction": pixels}
    return {"schedule": "constant", "plan": plan, "guidance": guidance}


MASKS: dict[str, Any] = {
    "profile": "masks",
    "datasets": ("mnist", "fashion_mnist"),
    "backbone": "two_conv_small",
    "development_images": 0,
    "methods": {"plain": {}, "uniform_fill": masks(1.0, 0.5), "mean_fill": masks(1.0, 0.5, fill="mean")},
    "study": {"title": "What makes a mask", "exhibits": ["comparison"], "reference": "plain", "note": "Seeds are few."},
}
PLANS: dict[str, Any] = {
    "profile": "plans",
    "datasets": ("fashion_mnist",),
    "backbone": "resnet10_narrow",
    "development_images": 5000,
    "methods": {
        "plain": {},
        **{f"i{i}_k{k}": masks(i / 100, k / 100) for i in (50, 100) for k in (30, 70)},
        "smoot": {},
        "smoot_long": {"like": "smoot", "training": {"epochs": 25}},
    },
    "study": {
        "title": "Which plan",
        "exhibits": ["comparison", "oracle"],
        "reference": "plain",
        "compared": ["plain", "smoot", "smoot_long"],
    },
}


def write_study(root: Path, patch: pytest.MonkeyPatch, asked: dict[str, Any], seeds: tuple[int, ...] = (3, 5)) -> Grid:
    """A checkout that holds the made-up parameters and one study with the results of all its runs."""
    lay_out(root, patch, Axes())
    params = yaml.safe_load(PARAMETERS.read_text())
    registered = yaml.safe_load(METHODS.read_text())
    variants = {name: {"title": name} | keys for name, keys in asked["methods"].items() if name not in registered}
    pairs = [(dataset, asked["backbone"]) for dataset in asked["datasets"]]
    settings = {"-".join(pair): dict(zip(("dataset", "backbone"), pair, strict=True)) for pair in pairs}
    params |= {"profile": asked["profile"], "repository": "../..", "claims": []}
    folder = f"studies/{asked['profile']}/"
    params |= {"folder": folder, "shared": f"{folder}params.yaml"}
    params |= {"seeds": list(seeds), "methods": variants, "study": asked["study"]}
    params["grid"] = {"datasets": list(asked["datasets"]), "settings": settings, "methods": list(asked["methods"])}
    for dataset in asked["datasets"]:
        params["datasets"][dataset]["development_images"] = asked["development_images"]
    params["evaluation"]["attributions"] |= {"networks": [], "seeds": [seeds[0]]}
    params["retraining"]["settings"] = []
    file = root / "studies" / asked["profile"] / "params.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(yaml.safe_dump(params, sort_keys=False))
    grid = load_grid(asked["profile"])
    write_results(grid, pictures=False)
    return grid


def config_of(method: str, **values: Any) -> dict[str, Any]:
    """A method of the laptop profile as records have it, with other values: ``block`` or ``block__key``."""
    network = Network("laptop", "fashion_mnist", "resnet10_narrow", method)
    found = dict(run_record(network, 0).config["method"])
    for name, value in values.items():
        block, _, key = name.partition("__")
        found[block] = found[block] | {key: value} if key else value
    return found


def plan_of(images: float, pixels: float, method: str = "sgt_improved", **values: Any) -> dict[str, Any]:
    """The configuration of a constant plan."""
    return config_of(method, plan__image_fraction=images, plan__mask_fraction=pixels, **values)


def runs_of(study: Study, configs: Mapping[str, Any], accuracies: Mapping[str, Iterable[float]]) -> StudyRuns:
    """Runs with these configurations and, seed by seed, accuracies; the judge's gap on right answers is 1 minus them.

    SMOOT alone masks more and more images; constant plans mask theirs.
    """
    records, histories = [], []
    for method, config in configs.items():
        network = Network("laptop", "fashion_mnist", "resnet10_narrow", "smoot" if method == "smoot" else "plain")
        for seed, accuracy in enumerate(accuracies[method]):
            record = run_record(network, seed, accuracy=accuracy, judge_gap_right_mean=1 - accuracy)
            named = {**record.config, "method": config | {"name": method}}
            records.append(replace(record, method=method, config=named))
            trained = history(network, seed).assign(method=method, seed=seed)
            if config["schedule"] == "constant":
                trained["image_fraction"] = config["plan"]["image_fraction"]
            histories.append(trained)
    return StudyRuns(study, records, pd.concat(histories, ignore_index=True), SETTING)
