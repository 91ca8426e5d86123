"""The jobs of a profile: done once, found again, put in their places; what decides a result and what does not."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny_runs import EXPLAINED, ROBUST, digits, fitted, fresh, in_this_process, own_checkout, plain, run, silent

from workbench.config import files
from workbench.config.paths import ProfilePaths, SettingPaths
from workbench.config.profile import load_backbone, load_run
from workbench.measuring import evaluation, judge, retraining
from workbench.results import records, samples, tables
from workbench.runner import pool
from workbench.runner.fingerprints import fingerprint
from workbench.runner.requests import Superseded
from workbench.stages import runs
from workbench.stages.runs import Evaluate, Train, WeightsUnusable, complete, evaluate, retrain, train, train_judges
from workbench.training import guided
from workbench.training.inference import accuracy
from workbench.training.networks import load_weights, save_weights

SETTING = ("digits", "two_conv_small")
PLACES = SettingPaths("smoke", *SETTING)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(pool, "run_tasks", in_this_process)
    return own_checkout(tmp_path / "checkout", monkeypatch)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with two runs of one method and the judges trained, for copies."""
    folder = tmp_path_factory.mktemp("template") / "checkout"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "run_tasks", in_this_process)
        own_checkout(folder, patch)
        train(*SETTING, "sgt", "smoke")
        train_judges("smoke", ["digits"])
    return folder


@pytest.fixture
def trained(root: Path, template: Path) -> Path:
    shutil.copytree(template, root, dirs_exist_ok=True)
    return root


def once_more(*_: Any, **__: Any) -> None:
    raise AssertionError("done once more")


def contents(root: Path) -> dict[str, bytes]:
    """All results and weights."""
    return {str(file): file.read_bytes() for file in sorted((root / "runs").rglob("*")) if file.is_file()}


def change(root: Path, block: str, **values: Any) -> None:
    """Set parameters of the smoke profile."""
    file = root / "tests" / "smoke.yaml"
    params = yaml.safe_load(file.read_text())
    params[block] |= values
    file.write_text(yaml.safe_dump(params))


# -- train


def test_training_leaves_the_best_weights_the_history_and_the_provenance(root: Path, tmp_path: Path) -> None:
    epochs = train(*SETTING, "sgt", "smoke")
    assert epochs[["seed", "epoch"]].to_numpy().tolist() == [[seed, epoch] for seed in (0, 1) for epoch in (1, 2, 3)]
    direct = fitted(load_run(*SETTING, "sgt", 0, "smoke"), tmp_path / "checkpoint")
    found = load_file(PLACES.weights("sgt", 0))
    torch.testing.assert_close(found, direct.best, rtol=0, atol=0)
    initial = fresh(load_run(*SETTING, "sgt", 0, "smoke")).network.state_dict()
    assert not any(torch.equal(found[name], initial[name]) for name in initial)
    history = tables.EPOCH_TABLE.read(PLACES.folder)
    pd.testing.assert_frame_equal(history, epochs, check_like=True)
    for name in ("total", "consistency", "validation_accuracy", "information_loss", "masked_share"):
        expected = [row[name] for row in direct.history]
        assert history[history["seed"] == 0][name].tolist() == pytest.approx(expected, abs=1e-6)
    (folder,) = (root / "scratch" / "ledger" / "train" / "smoke" / "digits-two_conv_small" / "sgt").glob("0-*")
    assert {file.name for file in folder.iterdir()} == {"done", "epochs.csv", "provenance.json", "weights.safetensors"}
    facts = tables.PROVENANCE_TABLE.read(PLACES.folder)
    assert facts[["seed", "stage"]].to_numpy().tolist() == [[0, "train"], [1, "train"]]
    assert facts["key"][0] == folder.name.removeprefix("0-") and (facts["seconds"] > 0).all()
    assert sorted(path.name for path in root.iterdir()) == ["data", "methods.yaml", "runs", "scratch", "tests"]


def test_a_finished_training_is_found_and_not_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = complete(Train(run("smoot")), silent)
    monkeypatch.setattr(guided, "fit", once_more)
    assert complete(Train(run("smoot")), silent) == folder
    assert complete(Train(run("smoot", evaluation={"stability_std": 0.1})), silent) == folder
    for other in (run("sgt"), run("smoot", seed=1), run("smoot", training={"epochs": 2})):
        with pytest.raises(AssertionError, match="once more"):
            complete(Train(other), silent)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(AssertionError, match="once more"):
        patch.setattr(runs, "fingerprint", lambda *rooms: "of other code")
        complete(Train(run("smoot")), silent)
    monkeypatch.setenv("SMOOT_LEDGER", "off")
    with pytest.raises(AssertionError, match="once more"):
        complete(Train(run("smoot")), silent)


def test_a_training_that_was_stopped_goes_on_where_it_was_with_its_own_labels(tmp_path: Path) -> None:
    def stop(step: int, **numbers: float) -> None:
        if step == 2:
            raise KeyboardInterrupt

    config = run("random_mask", dataset={"label_noise": 0.2})
    with pytest.raises(KeyboardInterrupt):
        complete(Train(config), stop)
    steps: list[int] = []
    folder = Path(complete(Train(config), lambda step, **_: steps.append(step)))
    assert steps == [3]
    assert not (folder / "checkpoint.pt").exists()
    best = fitted(config, tmp_path / "checkpoint").best
    torch.testing.assert_close(load_file(folder / "weights.safetensors"), best, rtol=0, atol=0)


def test_portions_give_the_same_bytes_and_are_not_made_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(root, "grid", methods=["plain", "sgt", "smoot"])
    for method, seed in (("sgt", 1), ("plain", 0), ("sgt", 0)):
        train(*SETTING, method, "smoke", [seed])
        evaluate(*SETTING, method, "smoke", [seed])
    assert records.records_in(PLACES.folder)[0].keys["method"] == "plain"  # the grid's order
    portions = contents(root)
    for name in portions:
        Path(root / name).unlink()
    trained, fit = [], guided.fit
    monkeypatch.setattr(guided, "fit", lambda *given: (trained.append(given[0].method.name), fit(*given))[1])
    together = train(*SETTING, None, "smoke", [0, 1])
    assert list(dict.fromkeys(together["method"])) == ["plain", "sgt", "smoot"]
    assert trained == ["plain", "smoot", "smoot"]
    monkeypatch.setattr(evaluation, "evaluate_network", once_more)
    evaluate(*SETTING, "plain", "smoke", [0])
    evaluate(*SETTING, "sgt", "smoke", [0, 1])
    after = contents(root)
    measured = [name for name in portions if Path(name).suffix != ".csv" or Path(name).stem in ("runs", "curves")]
    assert len(measured) >= 7 and str(PLACES.folder / "samples.npz") in measured
    assert [name for name in measured if after[name] != portions[name]] == []
    kept = set(portions[str(PLACES.epochs)].splitlines())
    assert kept <= set(after[str(PLACES.epochs)].splitlines())  # beside the new rows, the old ones as they were


# -- evaluate


JUDGES = ("two_conv_small", "resnet10_narrow")


def judge_file(backbone: str = JUDGES[0]) -> Path:
    return ProfilePaths("smoke").judge_weights("digits", backbone)


def network_of(weights: Path, backbone: str = JUDGES[0]) -> torch.nn.Module:
    """A network from a file."""
    network = fresh(run(backbone=backbone, seed=5)).network
    load_weights(network, weights)
    return network


def test_every_run_is_measured_with_its_own_weights_and_the_judge(trained: Path) -> None:
    first, second = (network_of(judge_file(name), name) for name in JUDGES)
    judges = {"judge": first, "second_judge": second}
    frame = evaluate(*SETTING, "sgt", "smoke")
    assert frame[["method", "seed"]].to_numpy().tolist() == [["sgt", 0], ["sgt", 1]]
    measured = []
    for record in records.records_in(PLACES.folder):
        config = load_run(*SETTING, "sgt", record.seed, "smoke")
        network = network_of(PLACES.weights("sgt", record.seed))
        direct = evaluation.evaluate_network(network, digits(), config, judges)
        assert record.metrics == pytest.approx(dict(direct.metrics), abs=1e-6, nan_ok=True)
        for fill in ("mean", "black"):
            for kind, scores in direct.curves[fill].items():
                assert record.curves[fill][kind] == pytest.approx(scores, abs=1e-6)
        measured.append(direct.samples)
    shown, mean = samples.samples_in(PLACES.folder)["sgt"], samples.averaged(measured)
    for part in samples.PARTS:  # the first seed's answers, the mean of both seeds' maps
        assert np.array_equal(getattr(shown, part), getattr(mean, part)), part
    assert not np.array_equal(mean.saliency, samples.averaged(measured[:1]).saliency)


def test_a_record_says_what_it_depends_on(trained: Path) -> None:
    evaluate(*SETTING, "sgt", "smoke", [1])
    (record,) = records.records_in(PLACES.folder)
    config = load_run(*SETTING, "sgt", 1, "smoke").as_dict()
    assert record.config == files.simplified(config, "config", digits=None)
    assert record.data == digits().sha256
    assert record.packages["torch"] == version("torch") and record.packages["timm"] == version("timm")
    assert record.code == {room: fingerprint(room) for room in ("smoot", "config", "data", "training", "measuring")}
    history = tables.EPOCH_TABLE.read(PLACES.folder).query("seed == 1").reset_index(drop=True)
    accuracies = history["validation_accuracy"].tolist()
    assert record.summary == pytest.approx(
        {
            "epochs": 3,
            "best_epoch": accuracies.index(max(accuracies)) + 1,
            "validation_accuracy": max(accuracies),
            "train_accuracy": history["accuracy"].iloc[-1],
            "masked_share": 1.0,
            "final_masked_share": 1.0,
            "information_loss": history["information_loss"].iloc[-1],
        }
    )


def test_made_again_nothing_changes_but_the_ledger(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate(*SETTING, "sgt", "smoke")
    before = contents(trained)
    monkeypatch.setenv("SMOOT_LEDGER", "off")
    torch.manual_seed(31)  # whatever was drawn before
    train_judges("smoke", ["digits"])
    train(*SETTING, "sgt", "smoke")
    evaluate(*SETTING, "sgt", "smoke")
    assert contents(trained) == before  # provenance too: the key is the same
    keys = tables.PROVENANCE_TABLE.read(PLACES.folder)["key"]
    assert len(keys) == len(set(keys)) == 4
    monkeypatch.setenv("SMOOT_LEDGER", "on")
    change(trained, "evaluation", stability_std=0.1)
    evaluate(*SETTING, "sgt", "smoke")
    other = tables.PROVENANCE_TABLE.read(PLACES.folder)
    assert len(other) == 4
    assert (other["key"] != keys).tolist() == (other["stage"] == "evaluate").tolist()


def test_what_was_measured_is_found_until_its_inputs_change(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history, config = tables.EPOCH_TABLE.read(PLACES.folder).query("seed == 0"), load_run(*SETTING, "sgt", 0, "smoke")
    first, second = ((load_backbone(name, "smoke"), judge_file(name)) for name in JUDGES)
    job = Evaluate(config, PLACES.weights("sgt", 0), history, (first, second))
    folder = complete(job, silent)
    monkeypatch.setattr(evaluation, "evaluate_network", once_more)
    assert complete(job, silent) == folder
    others = {name: trained / f"{name}.safetensors" for name in JUDGES}
    for name, file in others.items():
        save_weights(fresh(run("plain", name, 4)).network.state_dict(), file)
    changes: list[dict[str, Any]] = [
        {"judges": ((first[0], others[JUDGES[0]]), second)},
        {"judges": (first, (second[0], others[JUDGES[1]]))},
        {"weights": others[JUDGES[0]]},
        {"config": replace(config, evaluation=replace(config.evaluation, stability_std=0.1))},
    ]
    for other in changes:
        with pytest.raises(AssertionError, match="once more"):
            complete(replace(job, **other), silent)


def test_a_run_that_was_not_trained_names_file_and_command(trained: Path) -> None:
    made_by = "the train notebook with profile=smoke, dataset=digits, backbone=two_conv_small makes it"
    lost: list[tuple[Path, Callable[[], Any]]] = [
        (PLACES.weights("plain", 0), lambda: evaluate(*SETTING, None, "smoke")),
        (PLACES.weights("plain", 0), lambda: retrain(*SETTING, "smoke")),
        (PLACES.epochs, lambda: evaluate(*SETTING, "sgt", "smoke")),
    ]
    histories = tables.EPOCH_TABLE.read(PLACES.folder)
    tables.EPOCH_TABLE.update(histories[:0], PLACES.folder, replaced=histories.query("seed == 1"))
    with pytest.raises(FileNotFoundError, match=r"epochs\.csv lacks sgt, seed 1: the train notebook"):
        evaluate(*SETTING, "sgt", "smoke")
    PLACES.epochs.unlink()
    for file, call in lost:
        with pytest.raises(FileNotFoundError) as caught:
            call()
        assert str(caught.value) == f"{file} is missing: {made_by}"
    assert not PLACES.runs.exists() and not PLACES.retraining.exists()


def test_a_judge_that_is_missing_is_trained_first(trained: Path) -> None:
    for name in JUDGES:
        content = judge_file(name).read_bytes()
        judge_file(name).unlink()
        assert len(evaluate(*SETTING, "sgt", "smoke", [0])) == 1
        assert judge_file(name).read_bytes() == content


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-1], lambda content: content.replace(b"weight", b"weighu")]
)
def test_damaged_weights_are_named(trained: Path, damage: Callable[[bytes], bytes]) -> None:
    file = PLACES.weights("sgt", 0)
    content = file.read_bytes()
    file.write_bytes(damage(content))
    with pytest.raises(WeightsUnusable, match=r"sgt/0\.safetensors or .* holds no weights \(.*\): delete it and make"):
        evaluate(*SETTING, "sgt", "smoke", [0])
    train(*SETTING, "sgt", "smoke", [0])
    assert file.read_bytes() == content


# -- judge


def test_the_facts_of_a_judge_are_those_of_the_weights_beside_them(root: Path) -> None:
    trained, images, results = train_judges("smoke", ["digits"]), digits(), PLACES.folder.parent
    for found, backbone in zip(trained.itertuples(), JUDGES, strict=True):
        assert (found.dataset, found.backbone, found.epochs) == ("digits", backbone, 2)
        network = network_of(judge_file(backbone), backbone)
        measured = accuracy(network, images.test_images, images.test_labels, batch_size=64)
        assert found.accuracy == pytest.approx(measured, abs=1e-6)
    written = tables.JUDGE_TABLE.read(results).set_index("backbone")["accuracy"]
    assert written[list(JUDGES)].tolist() == trained["accuracy"].tolist()
    assert sorted(tables.JUDGE_PROVENANCE_TABLE.read(results)["backbone"]) == sorted(JUDGES)
    assert (tables.JUDGE_PROVENANCE_TABLE.read(results)["seconds"] > 0).all()


def test_a_judge_of_each_data_set_is_trained_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["digits", "block_digits", "shortcut_digits"]
    train_judges("smoke", ["digits"])
    twice = [name for name in names for _ in JUDGES]
    assert train_judges("smoke")["dataset"].tolist() == twice
    assert tables.JUDGE_TABLE.read(PLACES.folder.parent)["dataset"].tolist() == twice
    monkeypatch.setattr(judge, "train_judge", once_more)
    train_judges("smoke")
    change(root, "judge", seed=1001)
    with pytest.raises(AssertionError, match="once more"):
        train_judges("smoke", ["digits"])


# -- retrain


def test_every_run_of_a_listed_setting_is_retrained_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(root, "retraining", train_images=80, test_images=361, epochs=1, levels=[0.5])
    change(root, "grid", methods=["plain", "sgt"])
    train(*SETTING, None, "smoke")
    with pytest.raises(ValueError, match=r"retraining\.test_images is 361: expected at most 360, the test images of"):
        retrain(*SETTING, "smoke")
    change(root, "retraining", test_images=40)
    levels = retrain(*SETTING, "smoke")
    assert levels["method"].tolist() == ["plain", "plain", "sgt", "sgt"]
    assert levels["diffroar"].tolist() == pytest.approx((levels["top"] - levels["bottom"]).tolist(), abs=2e-6)
    pd.testing.assert_frame_equal(tables.RETRAINING_TABLE.read(PLACES.folder), levels, check_like=True)
    assert set(tables.PROVENANCE_TABLE.read(PLACES.folder)["stage"]) == {"train", "retrain"}
    monkeypatch.setattr(retraining, "diffroar", once_more)
    pd.testing.assert_frame_equal(retrain(*SETTING, "smoke"), levels)
    change(root, "retraining", settings=["digits-resnet10_narrow", "digits-two_conv_small"])
    pd.testing.assert_frame_equal(retrain(*SETTING, "smoke"), levels)  # which settings are listed decides nothing


def test_a_setting_that_is_not_listed_has_an_empty_table(root: Path) -> None:
    change(root, "retraining", settings=[])
    assert len(retrain(*SETTING, "smoke")) == 0
    assert PLACES.retraining.read_text() == "method,seed,level,top,bottom,diffroar\n"


@pytest.mark.parametrize(
    ("key", "asked"),
    [
        ("curve_images", 361),
        ("robustness", ROBUST | {"pgd_images": 361}),
        ("attributions", EXPLAINED | {"images": 361}),
    ],
)
def test_more_images_than_there_are_are_refused_before_anything_is_trained(
    root: Path, key: str, asked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(root, "evaluation", **plain({key: asked}))
    monkeypatch.setattr(guided, "fit", once_more)
    told = rf"^profile smoke, digits: evaluation\.{key}.* is 361: expected at most 360, the images to measure on$"
    with pytest.raises(ValueError, match=told):
        train(*SETTING, "sgt", "smoke", [0])


def test_a_stage_that_was_left_behind_writes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(function: Any, tasks: Any, **options: Any) -> Any:
        """While the runs of the first request are trained, another one with fewer epochs comes and ends."""
        found = in_this_process(function, tasks, **options)
        monkeypatch.setattr(pool, "run_tasks", in_this_process)
        change(root, "training", epochs=2)
        train(*SETTING, "sgt", "smoke", [0])
        return found

    monkeypatch.setattr(pool, "run_tasks", slow)
    with pytest.raises(Superseded, match=r"^train/smoke/digits-two_conv_small/sgt/0 was asked for again"):
        train(*SETTING, "sgt", "smoke")
    history = tables.EPOCH_TABLE.read(PLACES.folder)
    assert history[["seed", "epoch"]].to_numpy().tolist() == [[0, 1], [0, 2]]
    assert not PLACES.weights("sgt", 1).exists()
