"""Parameters: every committed file loads, frozen, and random streams that know nothing of the method."""

import hashlib
import itertools
import json
import os
import pickle
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_runs import METHODS

from smoot.objective import Guidance
from smoot.scheduler import MaskPlan
from workbench.config import paths
from workbench.config.profile import Grid, load_grid, load_run, load_runs
from workbench.config.run import AdaptiveConfig
from workbench.reporting.questions import load_claims

STUDIES = tuple(sorted(folder.parent.name for folder in (paths.ROOT / "studies").glob("*/params.yaml")))
RECIPE = "sgt_mean_fill"  # not in the smoke profile, which is for tests
PROFILES = ("laptop", "smoke", "paper", *STUDIES)


def stored(profile: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(paths.params_file(profile).read_text())
    return content


def test_the_profiles_are_the_committed_ones() -> None:
    assert set(paths.profiles()) == set(PROFILES)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_committed_entry_loads_and_its_file_is_all_it_says(profile: str) -> None:
    content = stored(profile)
    for dataset, backbone, method in itertools.product(*(content[k] for k in ("datasets", "backbones", "methods"))):
        run = load_run(dataset, backbone, method, 3, profile)
        assert (run.profile, run.seed, run.cell) == (profile, 3, f"{dataset}/{backbone}/{method}")
        plain = json.loads(json.dumps(run.as_dict()))
        own = {kind: content["methods"][method].get(kind, {}) for kind in ("dataset", "training")}
        for kind, part in {"dataset": dataset, "backbone": backbone, "method": method}.items():
            assert says(plain[kind], {"name": part} | content[f"{kind}s"][part] | own.get(kind, {}))
        assert says(plain["training"], content["training"] | own["training"])
        assert says(plain["evaluation"], content["evaluation"])


def says(built: Any, asked: Any) -> bool:
    """Whether a built configuration holds everything that was asked for."""
    if isinstance(asked, dict):
        return all(says(built[key], value) for key, value in asked.items())
    return bool(built == asked)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_cell_of_a_grid_loads_and_nothing_in_the_file_is_unused(profile: str) -> None:
    grid, content = load_grid(profile), stored(profile)
    assert (grid.datasets, grid.methods) == tuple(tuple(content["grid"][axis]) for axis in ("datasets", "methods"))
    measuring = {content[block]["backbone"] for block in ("judge", "retraining")}
    used = {"datasets": {*grid.datasets}, "backbones": {*grid.backbones} | measuring, "methods": {*grid.methods}}
    assert used == {axis: set(content[axis]) for axis in used}
    assert list(content["grid"]["settings"]) == ["-".join(setting) for setting in grid.settings]
    cells = list(grid.cells())
    assert len(cells) == len(set(cells)) == len(grid.settings) * len(grid.methods)
    for cell, seed in itertools.product(cells, grid.seeds):
        assert load_run(*cell, seed, profile).cell == "/".join(cell)


def test_cells_come_setting_by_setting() -> None:
    grid = Grid("laptop", ("a", "b"), (("a", "x"), ("a", "y"), ("b", "x")), ("m", "n"), (0,), 1)
    assert ["".join(cell) for cell in grid.cells()] == ["axm", "axn", "aym", "ayn", "bxm", "bxn"]
    assert grid.backbones == ("x", "y")


def test_runs_of_a_setting_come_method_by_method() -> None:
    runs = load_runs("digits", "two_conv_small", None, "smoke")
    assert [(run.method.name, run.seed) for run in runs] == list(itertools.product(METHODS, (0, 1)))
    assert load_runs("digits", "two_conv_small", "sgt", "smoke", [5]) == [
        load_run("digits", "two_conv_small", "sgt", 5, "smoke")
    ]


def test_the_methods_are_what_they_are_called() -> None:
    half = MaskPlan(image_fraction=1.0, order="random", pixels="fraction", mask_fraction=0.5, ranking="saliency")
    ours = Guidance(
        score="log_odds",
        reduction="mean_abs",
        saliency_pass="reuse",
        fill="uniform",
        masked_statistics="keep",
        kl_weight=1.0,
        detach_target=True,
        label_smoothing=0.0,
    )
    published = replace(ours, score="log_prob", reduction="signed_mean", saliency_pass="eval", detach_target=False)
    published = replace(published, masked_statistics="update")
    intended: dict[str, tuple[str, MaskPlan, Guidance]] = {
        "plain": ("constant", replace(half, image_fraction=0.0), ours),
        "random_mask": ("constant", replace(half, ranking="random"), ours),
        "sgt": ("constant", half, published),
        "sgt_improved": ("constant", half, ours),
        RECIPE: ("constant", half, replace(ours, fill="mean")),
        "smoot": ("adaptive", half, ours),
    }
    assert tuple(intended) == load_grid("laptop").methods == load_grid("paper").methods
    assert tuple(name for name in intended if name != RECIPE) == METHODS == load_grid("smoke").methods
    for name, (schedule, plan, guidance) in intended.items():
        method = load_run("mnist", "two_conv_small", name, 0, "laptop").method
        assert (method.schedule, method.plan, method.guidance) == (schedule, plan, guidance), name
        adaptive = AdaptiveConfig("competence", scale_mass=False, decay=0.95) if name == "smoot" else None
        assert method.adaptive == adaptive


def test_a_method_is_the_same_in_every_profile() -> None:
    laptop = stored("laptop")["methods"]
    assert stored("paper")["methods"] == laptop
    assert stored("smoke")["methods"] == {name: laptop[name] for name in METHODS}


def test_no_fill_that_measures_is_used_in_training_but_by_the_recipe_that_is_not_judged_by_it() -> None:
    runs = [load_run("mnist", "two_conv_small", name, 0, "laptop") for name in load_grid("laptop").methods]
    assert {run.evaluation.fills for run in runs} == {("mean", "black")}
    trained = {run.method.name: run.method.guidance.fill for run in runs}
    assert trained == dict.fromkeys(METHODS, "uniform") | {RECIPE: "mean"}
    for profile in ("laptop", "paper"):
        claimed = [claim.metric for claim in load_claims(profile) if RECIPE in (claim.method, claim.reference)]
        assert claimed and not [metric for metric in claimed if metric.endswith("_mean")]


def dataclasses_in(value: Any) -> list[Any]:
    found = [value] if is_dataclass(value) else []
    return found + [inner for entry in found for f in fields(entry) for inner in dataclasses_in(getattr(entry, f.name))]


def test_everything_in_a_run_is_frozen() -> None:
    run = load_run("digits", "two_conv_small", "smoot", 0, "smoke")
    parts = dataclasses_in(run)
    assert len(parts) == 11  # the run, five blocks, two parts of the evaluation, the method's three
    for part in [*parts, load_grid("smoke")]:
        for entry in fields(part):
            with pytest.raises(FrozenInstanceError):
                setattr(part, entry.name, None)


def test_a_run_is_equal_to_its_pickle_and_to_itself_loaded_again() -> None:
    run = load_run("digits", "resnet10_narrow", "smoot", 1, "smoke")
    assert pickle.loads(pickle.dumps(run)) == run == load_run("digits", "resnet10_narrow", "smoot", 1, "smoke")
    assert run.as_dict()["backbone"]["options"] == {
        "layers": [1, 1, 1, 1],
        "channels": [16, 32, 64, 128],
        "stem_type": "deep",
        "stem_width": 8,
    }


def test_whole_numbers_become_floats_and_lists_tuples(params: Any) -> None:
    params["evaluation"]["stability_std"] = 1
    params["datasets"]["digits"]["mean"] = [0]
    run = params.load()
    assert type(run.evaluation.stability_std) is float and run.evaluation.stability_std == 1.0
    assert run.dataset.mean == (0.0,) and type(run.dataset.mean[0]) is float
    assert run.evaluation.fills == ("mean", "black")


def test_defaults_fill_in_for_keys_that_are_left_out(params: Any) -> None:
    for key in ("warmup_epochs", "device", "precision", "channels_last", "compile", "clip_norm"):
        del params["training"][key]
    training = params.load().training
    assert (training.warmup_epochs, training.device, training.precision) == (0, "auto", "fp32")
    assert (training.channels_last, training.compile, training.clip_norm) == (False, False, None)


class Params(dict[str, Any]):
    """The smoke profile's parameters in a checkout of their own, to be changed and loaded."""

    def load(self) -> Any:
        file = paths.params_file("smoke")
        file.write_text(yaml.safe_dump(dict(self)))
        return load_run("digits", "two_conv_small", "plain", 0, "smoke")


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    content = Params(stored("smoke"))
    (tmp_path / "tests").mkdir()
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    return content


def test_an_edited_file_is_read_again(params: Params) -> None:
    assert params.load().training.epochs == 4
    params["training"]["epochs"] = 7
    file = paths.params_file("smoke")
    file.write_text(yaml.safe_dump(dict(params)))
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    assert load_run("digits", "two_conv_small", "plain", 0, "smoke").training.epochs == 7


# -- random streams


def test_a_stream_depends_on_seed_epoch_and_purpose_and_on_nothing_else() -> None:
    seeds, epochs, purposes = (0, 1, 11), (0, 1, 11), ("order", "dropout", "masks", "initialisation", "subset")
    drawn: dict[int, tuple[int, int, str]] = {}
    for seed, epoch, purpose in itertools.product(seeds, epochs, purposes):
        runs = [
            load_run(dataset, backbone, method, seed, profile)
            for profile, dataset, backbone in (
                ("smoke", "digits", "resnet10_narrow"),
                ("laptop", "mnist", "two_conv_small"),
                ("paper", "fashion_mnist", "resnet18"),
            )
            for method in METHODS
        ]
        streams = {run.seed_for(purpose, epoch) for run in runs}
        assert len(streams) == 1
        drawn[streams.pop()] = (seed, epoch, purpose)
    assert len(drawn) == len(seeds) * len(epochs) * len(purposes)
    assert all(0 <= stream < 2**63 for stream in drawn)


def test_a_stream_is_63_bits_of_a_hash() -> None:
    run = load_run("digits", "two_conv_small", "sgt", 4, "smoke")
    bits = f"{int(hashlib.sha256(b'4/2/masks').hexdigest(), 16):0256b}"
    assert run.seed_for("masks", 2) == int(bits[:63], 2)
    assert run.seed_for("masks") == run.seed_for("masks", 0) != run.seed_for("masks", 2)


def own_method(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **blocks: Any) -> None:
    """A smoke profile whose method ``plain`` has these blocks too."""
    content = stored("smoke")
    content["methods"]["plain"] |= blocks
    file = tmp_path / "smoke.yaml"
    file.write_text(yaml.safe_dump(content))
    monkeypatch.setattr("workbench.config.profile.params_file", lambda profile: file)


def test_a_method_sets_training_and_data_otherwise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own_method(monkeypatch, tmp_path, training={"epochs": 7}, dataset={"train_images": 50, "label_noise": 0.2})
    changed, other = (load_run("digits", "two_conv_small", name, 0, "smoke") for name in ("plain", "smoot"))
    assert (changed.training.epochs, changed.dataset.train_images, changed.dataset.label_noise) == (7, 50, 0.2)
    assert changed.training == replace(other.training, epochs=7)
    assert changed.split_arguments() == other.split_arguments() | {"train_images": 50, "label_noise": 0.2}


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        ({"training": {"device": "cpu"}}, "methods.plain: training: unknown key 'device': a method may set epochs"),
        ({"training": {"epochs": 0}}, "methods.plain.training: epochs is 0"),
        ({"dataset": {"mean": [0.5]}}, "dataset: unknown key 'mean': a method may set train_images, label_noise"),
        ({"dataset": {"label_noise": 2.0}}, "methods.plain.dataset: label_noise is 2"),
    ],
)
def test_what_a_method_may_not_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, blocks: dict[str, Any], words: str
) -> None:
    own_method(monkeypatch, tmp_path, **blocks)
    with pytest.raises(ValueError, match=words):
        load_run("digits", "two_conv_small", "plain", 0, "smoke")
