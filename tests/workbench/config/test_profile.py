"""Parameters: every committed file loads, frozen, and random streams that know nothing of the method."""

import hashlib
import itertools
import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_runs import METHODS

from smoot.guidance import Guidance
from smoot.scheduler import MaskPlan
from workbench.config import paths
from workbench.config.profile import (
    Grid,
    load_grid,
    load_judge,
    load_method,
    load_retraining,
    load_run,
    load_runs,
    method_entries,
    read_profile,
    resolved_methods,
)
from workbench.config.schedules import AdaptiveConfig, GapConfig
from workbench.reporting.questions import load_claims

STUDIES = tuple(sorted(folder.parent.name for folder in (paths.ROOT / "studies").glob("*/params.yaml")))
RECIPE = "signed_k20"  # not in the smoke profile, which is for tests
PROFILES = ("laptop", "smoke", "paper", *STUDIES)


def stored(profile: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(paths.params_file(profile).read_text())
    return content


@pytest.mark.parametrize("profile", PROFILES)
def test_every_committed_entry_loads_and_the_files_are_all_it_says(profile: str) -> None:
    content, grid = read_profile(profile), load_grid(profile)
    for (dataset, backbone), method in itertools.product(grid.settings, grid.methods):
        run = load_run(dataset, backbone, method, 3, profile)
        assert (run.profile, run.seed, run.network) == (profile, 3, f"{dataset}-{backbone}/{method}")
        plain = json.loads(json.dumps(run.as_dict()))
        own = plain["method"]
        assert says(plain["dataset"], {"name": dataset} | content["datasets"][dataset] | own["dataset"])
        assert says(plain["backbone"], {"name": backbone} | content["backbones"][backbone])
        assert says(plain["training"], content["training"] | content["regime"] | own["training"])
        assert says(plain["evaluation"], content["evaluation"])
    assert says(asdict(load_judge(profile)), content["judge"])
    assert says(json.loads(json.dumps(asdict(load_retraining(profile)))), content["retraining"])


def says(built: Any, asked: Any) -> bool:
    """Whether a built configuration holds everything that was asked for."""
    if isinstance(asked, dict):
        return all(says(built[key], value) for key, value in asked.items())
    return bool(built == asked)


@pytest.mark.parametrize("profile", PROFILES)
def test_nothing_in_a_profiles_own_file_is_unused(profile: str) -> None:
    grid, content = load_grid(profile), stored(profile)
    assert (list(grid.datasets), list(grid.methods)) == (content["grid"]["datasets"], content["grid"]["methods"])
    assert list(content["grid"]["settings"]) == ["-".join(setting) for setting in grid.settings]
    assert set(content["datasets"]) == set(grid.datasets)
    assert set(content["methods"]) <= set(grid.methods)
    if "backbones" in content:
        measuring = {*load_judge(profile).backbones, content["retraining"]["backbone"]}
        assert set(content["backbones"]) == {*grid.backbones} | measuring


def test_a_grid_names_each_backbone_once_and_each_setting_in_its_order() -> None:
    grid = Grid("laptop", ("a", "b"), (("a", "x"), ("a", "y"), ("b", "x")), ("m", "n"), (0,), 1)
    assert grid.backbones == ("x", "y")
    assert [setting.name for setting in grid.setting_paths] == ["a-x", "a-y", "b-x"]
    assert {setting.profile for setting in grid.setting_paths} == {"laptop"}


def test_runs_of_a_setting_come_method_by_method() -> None:
    runs = load_runs("digits", "two_conv_small", None, "smoke")
    assert [(run.method.name, run.seed) for run in runs] == list(itertools.product(METHODS, (0, 1)))
    assert load_runs("digits", "two_conv_small", "sgt", "smoke", [5]) == [
        load_run("digits", "two_conv_small", "sgt", 5, "smoke")
    ]


# -- methods


def test_the_methods_are_what_they_are_called() -> None:
    half = MaskPlan(image_fraction=1.0, mask_fraction=0.5, ranking="saliency")
    ours = Guidance("log_odds", "mean_abs", saliency_pass="reuse", fill="uniform", masked_statistics="keep")
    ours = replace(ours, consistency="kl", kl_weight=1.0, detach_target=True, label_smoothing=0.0)
    published = replace(ours, score="log_prob", reduction="signed_mean", saliency_pass="eval", detach_target=False)
    published = replace(published, masked_statistics="update")
    recipe = replace(half, mask_fraction=0.2), replace(ours, reduction="signed_mean", fill="mean")
    intended: dict[str, tuple[str, MaskPlan, Guidance]] = {
        "plain": ("constant", replace(half, image_fraction=0.0), ours),
        "random_mask": ("constant", replace(half, ranking="random"), ours),
        "sgt": ("constant", half, published),
        "sgt_improved": ("constant", half, ours),
        RECIPE: ("constant", *recipe),
        "smoot": ("gap", *recipe),
    }
    assert tuple(intended) == load_grid("laptop").methods == load_grid("paper").methods
    assert tuple(name for name in intended if name != RECIPE) == METHODS == load_grid("smoke").methods
    for name, (schedule, plan, guidance) in intended.items():
        method = load_method(name, "laptop")
        assert (method.schedule, method.plan, method.guidance) == (schedule, plan, guidance), name
        assert method.gap == (GapConfig("steering") if name == "smoot" else None)
        assert not method.training and not method.dataset
    competence = load_method("competence_k50", "laptop")
    assert (competence.plan, competence.guidance, competence.adaptive) == (half, ours, AdaptiveConfig(decay=0.95))


def test_no_method_is_judged_by_its_own_answers_to_images_filled_as_in_its_training() -> None:
    runs = [load_run("fashion_mnist", "two_conv_small", name, 0, "laptop") for name in load_grid("laptop").methods]
    assert {run.evaluation.fills for run in runs} == {("mean", "black")}
    trained = {run.method.name: run.method.guidance.fill for run in runs}
    assert trained == dict.fromkeys(METHODS, "uniform") | {RECIPE: "mean", "smoot": "mean"}
    for profile in ("laptop", "paper"):
        claimed = {claim.metric for claim in load_claims(profile)}
        assert claimed and not claimed & {"gap_mean", "deletion_auc_mean", "insertion_auc_mean"}


def test_a_variant_takes_over_what_it_does_not_say(root: Path) -> None:
    own = {
        "few": {"like": "smoot", "title": "Few", "plan": {"ranking": "random"}, "training": {"epochs": 7}},
        "fewer": {"like": "few", "title": "Fewer", "training": {"epochs": 5}, "dataset": {"train_images": 50}},
    }
    with_methods(root, own)
    base, few, fewer = (load_method(name, "smoke") for name in ("smoot", "few", "fewer"))
    assert few == replace(base, name="few", plan=replace(base.plan, ranking="random"), training={"epochs": 7})
    assert fewer == replace(few, name="fewer", training={"epochs": 5}, dataset={"train_images": 50})
    ordinary, run = (load_run("digits", "two_conv_small", name, 0, "smoke") for name in ("smoot", "fewer"))
    assert run.training == replace(ordinary.training, epochs=5)
    assert run.split_arguments() == ordinary.split_arguments() | {"train_images": 50}


def test_looks_are_not_taken_over_and_change_no_parameter(root: Path) -> None:
    before = resolved_methods("smoke")
    registry = root / "methods.yaml"
    text = registry.read_text().replace("title: SMOOT\n", "title: Ours\n").replace("marker: o", "marker: x")
    registry.write_text(text)
    os.utime(registry, ns=(0, registry.stat().st_mtime_ns + 1))
    assert (method_entries("smoke")["smoot"].title, method_entries("smoke")["smoot"].marker) == ("Ours", "x")
    assert resolved_methods("smoke") == before
    with_methods(root, {"mine": {"like": "smoot", "title": "Mine"}})
    shown = method_entries("smoke")["mine"]
    assert (shown.title, shown.colour, shown.marker) == ("Mine", None, None)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_method_is_told_from_the_others(profile: str) -> None:
    entries = {name: method_entries(profile)[name] for name in load_grid(profile).methods}
    for look in ("title", "colour", "marker"):
        given = [getattr(entry, look) for entry in entries.values() if getattr(entry, look) is not None]
        assert len(set(given)) == len(given), look


def test_resolved_methods_hold_every_parameter() -> None:
    found = resolved_methods("number")
    assert tuple(found) == load_grid("number").methods
    assert found["gap_turns"] == asdict(load_method("gap_turns", "number"))
    assert found["gap_turns"]["plan"]["ranking"] == "saliency"
    assert not {"title", "colour", "marker", "like"} & set(found["gap_turns"])
    assert json.loads(json.dumps(found["ramp"]))["sequence"]["image_fractions"][:2] == [0.0, 0.02]


# -- files


def test_an_edited_file_is_read_again_with_numbers_as_floats_and_lists_as_tuples(root: Path) -> None:
    params = stored("smoke")
    assert load_run("digits", "two_conv_small", "plain", 0, "smoke").training.epochs == 3
    params["training"]["epochs"] = 7
    params["evaluation"]["stability_std"] = 1
    params["datasets"]["digits"]["mean"] = [0]
    run = changed(root, params)
    assert run.training.epochs == 7
    assert type(run.evaluation.stability_std) is float and run.evaluation.stability_std == 1.0
    assert run.dataset.mean == (0.0,) and type(run.dataset.mean[0]) is float
    assert run.evaluation.fills == ("mean", "black")


def changed(root: Path, params: dict[str, Any]) -> Any:
    """A run of the smoke profile with other parameters, which are read again even in the same tick of the clock."""
    file = root / "tests" / "smoke.yaml"
    modified = file.stat().st_mtime_ns
    file.write_text(yaml.safe_dump(params))
    os.utime(file, ns=(0, modified + 1))
    return load_run("digits", "two_conv_small", "plain", 0, "smoke")


def with_methods(root: Path, own: dict[str, Any]) -> None:
    """A smoke profile with methods of its own."""
    changed(root, stored("smoke") | {"methods": own})


# -- random streams


def test_a_streams_seed_is_63_bits_of_a_hash_of_seed_epoch_and_purpose_and_of_nothing_else() -> None:
    settings = (("smoke", "digits", "resnet10_narrow"), ("laptop", "fashion_mnist", "two_conv_small"))
    for seed in (0, 1, 11):
        runs = [load_run(*place, method, seed, profile) for profile, *place in settings for method in METHODS]
        for epoch, purpose in itertools.product((0, 1, 11), ("order", "masks", "subset")):
            digest = hashlib.sha256(f"{seed}/{epoch}/{purpose}".encode()).hexdigest()
            bits = f"{int(digest, 16):0256b}"
            assert {run.seed_for(purpose, epoch) for run in runs} == {int(bits[:63], 2)}
        assert runs[0].seed_for("masks") == runs[0].seed_for("masks", 0)
