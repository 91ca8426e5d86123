"""Bad parameters, one row each: one clear error that names file, key and value, and what is allowed."""

import math
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from clear_errors import Row, assert_clear
from tiny_runs import checkout_files, own_checkout

from workbench.config.profile import load_grid, load_judge, load_retraining, load_run, load_runs, method_entries
from workbench.reporting.questions import load_claims

INF = math.inf
MISSING = object()


@dataclass(frozen=True)
class Wrong:
    """A key of the smoke profile, the value it gets (or `MISSING`), and words that the error must hold."""

    key: str
    value: Any
    words: tuple[str, ...]


def outside(key: str, value: Any, low: float, high: float) -> Wrong:
    name = key.rpartition(".")[2]
    return Wrong(key, value, (f"{name} is {value!r}", f"expected a number in [{low:g}, {high:g}]"))


def mistyped(key: str, value: Any, expected: str) -> Wrong:
    return Wrong(key, value, (f"{key} is {value!r}", f"expected {expected}"))


def among(key: str, value: Any, *allowed: str) -> Wrong:
    return mistyped(key, value, " or ".join(map(repr, allowed)))


def least(block: str, low: float, *names: str) -> list[Wrong]:
    """Whole numbers below the least one, numbers below 0."""
    return [outside(f"{block}.{name}", low - 1 if low else -0.1, low, INF) for name in names]


CLAIM = {"name": "a claim", "metric": "accuracy", "better": "higher"}
CLAIM |= {"method": "smoot", "reference": "plain", "family": "primary"}
TRAINING = [
    *least("training", 0, "learning_rate", "weight_decay", "clip_norm"),
    *least("training", 1, "epochs"),
    *least("training", 2, "batch_size"),
    *(outside("training.warmup_epochs", value, 0, 2) for value in (-1, 3)),  # of 3 epochs
    *(mistyped("training.epochs", value, "a whole number") for value in (2.5, 2.0, True, "10")),
    # YAML 1.1 reads 1e-3 as a text: write 0.001 or 1.0e-3
    *(mistyped("training.learning_rate", value, "a number") for value in ("1e-3", [0.1], True)),
    *(mistyped("training.learning_rate", value, "a finite number") for value in (math.nan, INF)),
    mistyped("training.clip_norm", "none", "a number"),
    *(among("training.device", value, "auto", "cpu", "cuda", "mps") for value in ("tpu", None)),
    among("training.precision", "fp16", "fp32", "bf16"),
    mistyped("training.channels_last", 1, "true or false"),
    Wrong("training.epoch", 3, ("smoke.yaml: training: unknown key 'epoch'", "expected epochs, batch_size")),
    Wrong("training.batch_size", MISSING, ("smoke.yaml: training: key 'batch_size' is missing",)),
    Wrong("training", None, ("training is None", "expected a mapping with epochs, batch_size")),
]
EVALUATION = [
    *(outside("evaluation.stability_std", value, 0, 1) for value in (-0.1, 1.5)),
    *(outside("evaluation.robustness.noise_std", value, 0, 1) for value in (-0.1, 1.5)),
    *(outside("evaluation.robustness.blur_sigma", value, 0, 100) for value in (-0.1, 1e6)),
    Wrong("evaluation.attributions.seeds", [-1], ("attributions: seeds is -1", "expected a number in [0, ")),
    *least("evaluation", 1, "batch_size", "curve_images", "mosaics", "ece_bins", "attributions.images"),
    *least("evaluation", 3, "curve_steps"),
    *least("evaluation.robustness", 1, "images", "pgd_images", "pgd_steps"),
    outside("evaluation.pointing_tolerance", -1, 0, INF),
    outside("evaluation.robustness.pgd_epsilon", 1.5, 0, 1),
    Wrong("evaluation.fills", [], ("fills is empty", "mean, black, noise")),
    among("evaluation.fills[0]", "white", "mean", "black", "noise"),
    Wrong("evaluation.attributions.networks", ["digits"], ("networks holds 'digits'", "DATASET-BACKBONE/METHOD")),
    Wrong("evaluation.attributions.networks", ["a-b/sgt"], ("networks holds 'a-b/sgt'", "a setting and a method")),
    Wrong("evaluation.robustness.noise_std", MISSING, ("evaluation.robustness: key 'noise_std' is missing",)),
]
PROTOCOL = [
    *least("judge", 0, "learning_rate", "weight_decay"),
    *least("judge", 1, "train_images", "validation_images", "epochs", "batch_size"),
    outside("judge.erase_probability", 1.5, 0, 1),
    outside("judge.seed", -1, 0, 2**31 - 1),
    Wrong("judge.backbone", "resnet", ("judge: unknown backbone 'resnet'", "two_conv_small")),
    Wrong("judge.second", "resnet", ("judge: unknown backbone 'resnet'", "two_conv_small")),
    Wrong("judge.second", "two_conv_small", ("judge: second is 'two_conv_small'", "another network")),
    Wrong("judge.second", MISSING, ("judge: key 'second' is missing",)),
    Wrong("judge.method", "plain", ("judge: unknown key 'method'", "expected backbone, second")),
    Wrong("judge.seed", MISSING, ("judge: key 'seed' is missing",)),
    *least("retraining", 0, "learning_rate", "weight_decay"),
    *least("retraining", 1, "train_images", "test_images", "epochs", "batch_size"),
    *(Wrong("retraining.levels", levels, (f"levels is {levels}", "between 0 and 1")) for levels in ([], [0.5, 1.0])),
    Wrong("retraining.settings", ["digits-resnet"], ("unknown setting 'digits-resnet'", "digits-two_conv_small")),
    Wrong("retraining.backbone", "resnet", ("retraining: unknown backbone 'resnet'", "two_conv_small")),
    Wrong("claims[0]", dict(CLAIM, better="more"), ("claims[0].better is 'more'", "'higher' or 'lower'")),
    Wrong("claims[0]", dict(CLAIM, reference="sgd"), ("claims, 'a claim': unknown method 'sgd'", "plain, random_mask")),
    Wrong("claims[0]", dict(CLAIM, reference="chance"), ("claims, 'a claim': 'accuracy' has no", "relevance_mass")),
    Wrong("claims[0]", dict(CLAIM, method="chance"), ("claims, 'a claim': unknown method 'chance'", "plain")),
    Wrong("claims[0]", dict(CLAIM, settings=["a-b"]), ("claims, 'a claim': unknown setting 'a-b'", "digits-two_conv")),
    Wrong("claims[0]", dict(CLAIM, margin=-0.1), ("claims[0]: margin is -0.1", "from 0 to below 1")),
    Wrong("claims[0]", dict(CLAIM, effect=1), ("claims[0]: unknown key 'effect'", "name, metric, better")),
    Wrong("claims", [CLAIM, CLAIM], ("claims, 'a claim' stands there twice", "a name of its own")),
    Wrong("claims", None, ("claims is None", "expected a list")),
]
LARGE, OUT = 10**400, ("a whole number of 1329 bits", "at most 2147483647")
NUMBERS = [  # no value that no computation can use
    *(mistyped("datasets.digits.mean[0]", value, "a finite number") for value in (INF, math.nan)),
    *(mistyped("datasets.digits.std[0]", value, "a finite number") for value in (INF, math.nan)),
    *(Wrong("claims[0]", dict(CLAIM, margin=x), ("claims[0].margin is", "a finite number")) for x in (INF, math.nan)),
    Wrong("claims[0]", dict(CLAIM, margin=1.0), ("claims[0]: margin is 1.0", "from 0 to below 1")),
    *(Wrong(f"training.{name}", LARGE, (f"training.{name} is", *OUT)) for name in ("epochs", "learning_rate")),
    Wrong("evaluation.curve_images", 2**31, ("curve_images is 2147483648", "at most 2147483647")),
    Wrong("datasets.digits.mean", [1.5], ("mean is 1.5", "expected a number in [0, 1]")),
    Wrong("datasets.digits.std", [1.5], ("std is [1.5]", "above 0 and at most 1")),
    Wrong("backbones.two_conv_small.options", {"a": [{"b": INF}]}, ("options.a[0].b is inf", "a finite number")),
    Wrong("backbones.two_conv_small.options", {"a": LARGE}, ("options.a is", *OUT)),
]
HOSTILE = ("; touch X", "../../../evil", "$(id)", "a b", "é", "", 3, "a\nb", "a'")
NAMING = [
    *(
        Wrong(block, {name: {}}, (f"{block}: {what} has the name {name!r}", "letters, digits and"))
        for block, what in (("datasets", "an entry"), ("methods", "a method"))
        for name in HOSTILE
    ),
    Wrong("grid.datasets", ["; touch X"], ("a part of the grid has the name '; touch X'", "letters, digits and")),
    Wrong("grid.methods", ["$(id)"], ("a part of the grid has the name '$(id)'", "letters, digits and")),
    Wrong("grid.settings", {"a/b-c": {"dataset": "a/b", "backbone": "c"}}, ("the name 'a/b'", "letters, digits and")),
    Wrong("shared", "../../elsewhere.yaml", ("shared is '../../elsewhere.yaml'", "a file in the repository")),
]
FEW = {"validation_images": 100, "mean": [0.3], "std": [0.4], "development_images": 9}
DATASETS = [
    *least("datasets.digits", 1, "validation_images"),
    *least("datasets.digits", 2, "train_images"),
    outside("datasets.digits.development_images", -1, 0, INF),
    *(outside(f"datasets.digits.{name}", 1.5, 0, 1) for name in ("foreground_threshold", "label_noise")),
    Wrong("datasets.digits", FEW, ("development_images is 9", "say how many train_images are used")),
    mistyped("datasets.digits.mean", 0.3, "a list"),
    mistyped("datasets.digits.mean[0]", "grey", "a number"),
    Wrong("datasets.digits.std", [0.0], ("std is [0.0]", "expected numbers above 0")),
    Wrong("datasets.digits.name", "mnist", ("datasets.digits: unknown key 'name'", "its name is 'digits'")),
    Wrong("datasets.digits.mean", MISSING, ("datasets.digits: key 'mean' is missing",)),
    Wrong("datasets.digits", None, ("datasets.digits is None", "expected a mapping")),
    Wrong("datasets", ["digits"], ("datasets is ['digits']", "expected a mapping")),
]
BACKBONES = [
    among("backbones.two_conv_small.stem", "tiny", "small", "original"),
    mistyped("backbones.two_conv_small.architecture", 18, "a text"),
    mistyped("backbones.two_conv_small.options", ["depth"], "a mapping"),
    Wrong("backbones.two_conv_small.depth", 2, ("unknown key 'depth'", "architecture, stem, pretrained")),
    Wrong("backbones.two_conv_small.architecture", MISSING, ("two_conv_small: key 'architecture' is missing",)),
]
PLAN, GUIDANCE, ADAPTIVE = "smoot.plan", "smoot.guidance", "competence_k50.adaptive"
STAIRS = {"rule": "staircase"}
OVERFULL = {"ranking": "protected", "mask_fraction": 0.7, "protected": 0.4}
REGIME = [  # of a profile
    Wrong("regime", None, ("smoke.yaml: regime is None", "a mapping of keys of training")),
    Wrong("regime", {"epoch": 4}, ("smoke.yaml: regime: unknown key 'epoch'", "epochs")),
    Wrong("regime", {"epochs": 0}, ("smoke.yaml: regime: epochs is 0",)),
]
METHOD = [  # of methods.yaml
    among("plain.schedule", "linear", "constant", "adaptive", "sequence", "gap", "per_image"),
    Wrong("plain.plan", MISSING, ("methods.yaml: plain: key 'plan' is missing",)),
    Wrong("plain.guidance", None, ("methods.yaml: plain.guidance is None", "expected a mapping with score, reduction")),
    Wrong("plain.kl", 1.0, ("methods.yaml: plain: unknown key 'kl'", "schedule, plan, guidance, adaptive")),
    Wrong("plain.name", "ours", ("methods.yaml: plain: unknown key 'name'", "its name is 'plain'")),
    Wrong("sgt.adaptive", {"decay": 0.9}, ("methods.yaml: sgt:", "schedule is 'constant'", "the block 'adaptive'")),
    Wrong("smoot.gap", MISSING, ("methods.yaml: smoot: schedule is 'gap'", "the block 'gap' belongs to")),
    Wrong(ADAPTIVE, MISSING, ("yaml: competence_k50: schedule is 'adaptive'", "the block 'adaptive' belongs to")),
    Wrong(f"{GUIDANCE}.of", "logit", ("smoot.guidance: unknown key 'of'", "score, reduction, saliency_pass")),
    *(outside(f"{PLAN}.{name}", 1.5, 0, 1) for name in ("image_fraction", "mask_fraction")),
    *(outside(f"{PLAN}.{name}", -0.1, 0, 1) for name in ("image_fraction", "mask_fraction", "protected")),
    among(f"{PLAN}.ranking", "signed", "saliency", "random", "protected", "highest"),
    Wrong("sgt.plan", OVERFULL, ("methods.yaml: sgt.plan: mask_fraction 0.7 and protected 0.4", "more than 1")),
    among(f"{GUIDANCE}.score", "odds", "logit", "log_prob", "log_odds"),
    among(f"{GUIDANCE}.reduction", "sum", "signed_mean", "mean_abs", "max_abs", "l2"),
    among(f"{GUIDANCE}.saliency_pass", "train", "reuse", "eval"),
    among(f"{GUIDANCE}.fill", "noise", "uniform", "mean", "feature_mean", "constant"),
    outside(f"{GUIDANCE}.kl_weight", -1.0, 0, INF),
    outside(f"{GUIDANCE}.label_smoothing", 2.0, 0, 1),
    among(f"{GUIDANCE}.consistency", "mse", "kl", "cross_entropy"),
    among(f"{ADAPTIVE}.feedback", "test", "training", "validation"),
    outside(f"{ADAPTIVE}.decay", 1.5, 0, 1),
    Wrong(f"{ADAPTIVE}.decay", 1.0, ("yaml: competence_k50.adaptive: decay is 1.0", "expected a number below 1")),
    Wrong("plain.sequence", {"image_fractions": [0.5]}, ("schedule is 'constant'", "the block 'sequence'")),
    Wrong("plain.sequence", {"image_fractions": []}, ("image_fractions is empty", "at least one share")),
    Wrong("plain.sequence", {"image_fractions": [0.5, 1.5]}, ("image_fractions is 1.5", "[0, 1]")),
    Wrong("plain.schedule", "gap", ("schedule is 'gap'", "the block 'gap' belongs to 'gap'")),
    Wrong("plain.gap", {"held_out": "test"}, ("gap.held_out is 'test'", "'steering' or 'turns'")),
    Wrong("plain.per_image", STAIRS, ("schedule is 'constant'", "the block 'per_image'")),
    Wrong("plain.per_image", {"rule": "best"}, ("per_image.rule is 'best'", "'information_loss' or 'staircase'")),
    Wrong("plain.per_image", dict(STAIRS, bounds=[[0.1]]), ("bounds is [[0.1]]", "pairs")),
    Wrong("plain.per_image", dict(STAIRS, start=2.0), ("start is 2.0", "[0, 1]")),
    Wrong("plain.per_image", dict(STAIRS, settings={"tau": 1.0}), ("unknown key 'tau' of rule", "up, down")),
    Wrong("plain.per_image", dict(STAIRS, settings={"up": -1.0}), ("up is -1.0", "[0, 1]")),
    Wrong(f"{PLAN}.image_fraction", 0.5, ("smoot: plan sets image_fraction", "the schedule 'gap' sets it")),
    Wrong("plain.title", MISSING, ("methods.yaml: plain: key 'title' is missing",)),
    *(mistyped(f"smoot.{look}", 3, "a text") for look in ("title", "colour")),
    Wrong("sgt.like", "sgd", ("methods.yaml: sgt.like is 'sgd'", "expected one of plain, random_mask, sgt")),
    Wrong("sgt_improved.like", "sgt", ("methods.yaml: sgt_improved: like leads", "sgt_improved → sgt → sgt_improved")),
    Wrong("sgt", None, ("methods.yaml: sgt is None", "expected a mapping")),
    Wrong("plain.training", {"device": "cpu"}, ("plain: training: unknown key 'device'", "a method may set epochs")),
    Wrong("plain.training", {"epochs": 0}, ("methods.yaml: plain.training: epochs is 0",)),
    Wrong("plain.dataset", {"mean": [0.5]}, ("dataset: unknown key 'mean'", "may set train_images, label_noise")),
    Wrong("plain.dataset", {"label_noise": 2.0}, ("methods.yaml: plain.dataset: label_noise is 2",)),
]
OWN_METHOD = [
    Wrong("methods", None, ("methods is None", "expected a mapping from names to their keys")),
    Wrong("methods", {"sgt": {}}, ("methods.sgt: methods.yaml has a method of this name", "expected another name")),
]
PAIR = {"dataset": "digits", "backbone": "resnet18"}
GRID = [
    Wrong("grid.datasets", ["mnist"], ("datasets is ['mnist']", "those of the settings")),
    Wrong("grid.settings", {"digits-resnet18": PAIR}, ("datasets is ['digits', 'block_", "those of the settings")),
    Wrong("grid.settings.digits-two_conv_small", PAIR, ("name 'digits-two_conv_small'", "expected digits-resnet18")),
    Wrong("grid.settings.digits-two_conv_small.backbone", MISSING, ("digits-two_conv_small: key 'backbone'",)),
    Wrong("grid.settings", ["digits"], ("grid.settings is ['digits']", "a mapping")),
    Wrong("grid.methods", ["plain", "sgd"], ("unknown method 'sgd'", "methods.yaml define plain, random_mask, sgt")),
    Wrong("grid.methods", ["plain", "sgt", "plain"], ("methods is ['plain', 'sgt', 'plain']", "none of them twice")),
    mistyped("grid.methods", "plain", "a list"),
    Wrong("grid.seeds", [0], ("grid: unknown key 'seeds'", "expected datasets, settings, methods")),
    Wrong("grid.methods", MISSING, ("grid: key 'methods' is missing",)),
    Wrong("grid", None, ("grid is None", "expected a mapping with datasets, settings, methods")),
    Wrong("seeds", [], ("seeds is []", "expected at least one")),
    Wrong("seeds", [0, 1, 0], ("seeds is [0, 1, 0]", "none of them twice")),
    Wrong("seeds", [-1], ("seed is -1", "a whole number from 0 to 2147483647")),
    Wrong("seeds", [2**31], ("seeds[0] is 2147483648", "a number of at most 2147483647")),
    Wrong("workers", 0, ("workers is 0", "[1, 1024]")),
    Wrong("epochs", 3, ("smoke.yaml: unknown key 'epochs'", "expected profile, repository, folder, shared, grid")),
    Wrong("shared", MISSING, ("smoke.yaml: key 'shared' is missing",)),
    Wrong("shared", "nowhere.yaml", ("smoke.yaml: shared is 'nowhere.yaml'", "the path of a file")),
    Wrong("evaluation", MISSING, ("smoke.yaml: key 'evaluation' is missing",)),
    Wrong("profile", "laptop", ("smoke.yaml says profile 'laptop'", "expected 'smoke'")),
]
PROFILE = NUMBERS + NAMING + TRAINING + EVALUATION + PROTOCOL + DATASETS + BACKBONES + OWN_METHOD + GRID
FILES = [("tests/smoke.yaml", row) for row in PROFILE + REGIME] + [("methods.yaml", row) for row in METHOD]


def put(params: dict[str, Any], key: str, value: Any) -> None:
    """Sets or removes ``block.name.key`` or the first item of ``block.key[0]``."""
    *way, last = key.removesuffix("[0]").split(".")
    for step in way:
        params = params[step]
    if value is MISSING:
        del params[last]
    elif key.endswith("[0]"):
        params[last] = [value, *params[last][1:]]
    else:
        params[last] = value


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One for all rows, so that a file that a row leaves alone is parsed once."""
    with pytest.MonkeyPatch.context() as patch:
        yield own_checkout(tmp_path_factory.mktemp("parameters") / "checkout", patch)


@pytest.fixture
def root(checkout: Path) -> Iterator[Path]:
    """That checkout, whose files are as they were when a row is done."""
    yield checkout
    for name, text in checkout_files().items():
        if (checkout / name).read_bytes() != text.encode():
            (checkout / name).write_text(text)


@cache
def pickled(name: str) -> bytes:
    """The content of a file of the checkout: quickly copied."""
    return pickle.dumps(yaml.safe_load(checkout_files()[name]))


def load_everything() -> None:
    for dataset, backbone in load_grid("smoke").settings:
        load_runs(dataset, backbone, None, "smoke", [0])
    load_run("digits", "two_conv_small", "competence_k50", 0, "smoke")  # a schedule of no method of the grid
    for load in (method_entries, load_judge, load_retraining, load_claims):
        load("smoke")


def test_without_a_mistake_everything_loads(root: Path) -> None:
    load_everything()


@pytest.mark.parametrize(("file", "row"), FILES, ids=lambda part: getattr(part, "key", part))
def test_a_mistake_in_a_file_is_one_clear_error(file: str, row: Wrong, root: Path) -> None:
    content = pickle.loads(pickled(file))
    put(content, row.key, row.value)
    (root / file).write_text(yaml.dump(content, Dumper=yaml.CSafeDumper, sort_keys=False))
    with pytest.raises(ValueError) as caught:
        load_everything()
    assert_clear(caught.value, ValueError, (file, *row.words) if row.key != "seeds" else row.words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ("holds NoneType", "expected a mapping of parameters")),
        (b"- profile\n- smoke\n", ("holds list", "expected a mapping of parameters")),
        (b"profile: [smoke\nseeds: 3\n", ("is not YAML", "line 2")),
        (b"profile: smoke\n\tseeds: 3\n", ("is not YAML", "line 2")),
        (b"profile: \x00", ("is not YAML", "special characters")),
        (b"profile: \xff\n", ("is not YAML", "0xff")),
        (b"profile: 2024-13-45\n", ("is not YAML", "month")),
        (b"[" * 1000, ("is not YAML", "recursion")),
    ],
)
def test_a_file_that_holds_no_parameters_is_named(content: bytes, words: tuple[str, ...], root: Path) -> None:
    (root / "tests/smoke.yaml").write_bytes(content)
    with pytest.raises(ValueError) as caught:
        load_everything()
    assert_clear(caught.value, ValueError, (str(root / "tests/smoke.yaml"), *words))


# -- names


def asked(dataset: Any = "digits", backbone: Any = "two_conv_small", method: Any = "sgt", seed: Any = 0) -> Any:
    return lambda: load_run(dataset, backbone, method, seed, "smoke")


NAMES = [
    Row("dataset", asked(dataset="mnits"), ("smoke.yaml: datasets: unknown dataset 'mnits'", "block_digits, digits")),
    Row("backbone", asked(backbone="resnet"), ("unknown backbone 'resnet'", "resnet10_narrow")),
    Row("method", asked(method="SGT"), ("unknown method 'SGT'", "plain, random_mask, sgt")),
    Row("a list of methods", asked(method=["sgt"]), ("unknown method ['sgt']", "plain, random_mask, sgt")),
    *(Row(f"seed {seed!r}", asked(seed=seed), (f"seed is {seed!r}", "from 0 to")) for seed in (-1, 0.5, True, "0")),
    Row("profile", lambda: load_grid("Paper"), ("unknown profile 'Paper'", "laptop, smoke", "with a params.yaml")),
    Row("no seeds", lambda: load_runs("digits", "two_conv_small", "sgt", "smoke", []), ("seeds is []", "at least one")),
]


@pytest.mark.parametrize("row", NAMES, ids=lambda row: row.name)
def test_a_name_that_is_not_there_is_one_clear_error(row: Row, root: Path) -> None:
    with pytest.raises(row.error) as caught:
        row.call()
    assert_clear(caught.value, row.error, row.words)
