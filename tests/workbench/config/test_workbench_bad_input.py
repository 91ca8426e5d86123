"""Bad input to the workbench, one row each: one clear error that names the value and what is allowed."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import synthetic
import torch
import torch._dynamo  # an optimiser imports it, and it must find the functions of torch that are replaced here
import yaml
from tiny_runs import METHODS, fresh, own_checkout, run, silent, split

from workbench.config.cells import Cell
from workbench.config.profile import load_grid, load_judge, load_retraining, load_run
from workbench.config.run import DatasetConfig, ModelConfig
from workbench.data import sets as data
from workbench.data.composites import block_images, mosaics, shortcut_images
from workbench.reporting.questions import load_claims
from workbench.results import records as results
from workbench.stages.evaluation_cells import evaluate_cell
from workbench.stages.training_cells import train_cell
from workbench.training.guided import fit
from workbench.training.networks import create_backbone, load_weights, pick_device

INF = math.inf


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return own_checkout(tmp_path / "checkout", monkeypatch)


def assert_clear(error: BaseException, kind: type[Exception], words: tuple[str, ...]) -> None:
    """One line of exactly this type, with every word, and no other error above it in the traceback."""
    message = str(error)
    assert type(error) is kind, message
    assert [word for word in words if word not in message] == [], message
    assert len(message.splitlines()) == 1
    assert error.__context__ is None or error.__suppress_context__


# -- a profile's file

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


CLAIM = {"name": "a claim", "metric": "accuracy", "better": "higher"}
CLAIM |= {"method": "smoot", "reference": "plain", "family": "primary"}
TRAINING = [
    outside("training.epochs", 0, 1, INF),
    mistyped("training.epochs", 2.5, "a whole number"),
    mistyped("training.epochs", True, "a whole number"),
    mistyped("training.epochs", "10", "a whole number"),
    outside("training.batch_size", 1, 2, INF),
    mistyped("training.learning_rate", "1e-3", "a number"),  # YAML 1.1 reads it as a text: write 0.001 or 1.0e-3
    mistyped("training.learning_rate", [0.1], "a number"),
    mistyped("training.learning_rate", True, "a number"),
    outside("training.learning_rate", -0.1, 0, INF),
    outside("training.learning_rate", math.nan, 0, INF),
    outside("training.weight_decay", -1.0, 0, INF),
    outside("training.clip_norm", -1.0, 0, INF),
    mistyped("training.clip_norm", "none", "a number"),
    outside("training.warmup_epochs", 3, 0, 2),  # of 3 epochs
    outside("training.warmup_epochs", -1, 0, 2),
    among("training.device", "tpu", "auto", "cpu", "cuda", "mps"),
    among("training.device", None, "auto", "cpu", "cuda", "mps"),
    among("training.precision", "fp16", "fp32", "bf16"),
    mistyped("training.channels_last", 1, "true or false"),
    mistyped("training.compile", "yes", "true or false"),
    Wrong("training.epoch", 3, ("smoke.yaml: training: unknown key 'epoch'", "expected epochs, batch_size")),
    Wrong("training.batch_size", MISSING, ("smoke.yaml: training: key 'batch_size' is missing",)),
    Wrong("training", None, ("training is None", "expected a mapping with epochs, batch_size")),
    Wrong("training", [3], ("training is [3]", "expected a mapping with epochs, batch_size")),
]
EVALUATION = [
    Wrong("evaluation.fills", [], ("fills is empty", "mean, black, noise")),
    among("evaluation.fills[0]", "white", "mean", "black", "noise"),
    mistyped("evaluation.fills", "mean", "a list"),
    outside("evaluation.robustness.noise_std", -0.1, 0, INF),
    outside("evaluation.robustness.blur_sigma", -0.1, 0, INF),
    outside("evaluation.robustness.pgd_epsilon", 1.5, 0, 1),
    *(outside(f"evaluation.robustness.{name}", 0, 1, INF) for name in ("images", "pgd_images", "pgd_steps")),
    outside("evaluation.stability_std", -0.1, 0, INF),
    outside("evaluation.pointing_tolerance", -1, 0, INF),
    outside("evaluation.attributions.images", 0, 1, INF),
    Wrong("evaluation.attributions.cells", ["digits"], ("cells holds 'digits'", "DATASET/BACKBONE/METHOD")),
    *(
        outside(f"evaluation.{name}", 0, 1, INF)
        for name in ("batch_size", "curve_images", "curve_steps", "mosaics", "ece_bins")
    ),
    mistyped("evaluation.curve_steps", 2.5, "a whole number"),
    Wrong("evaluation.bins", 15, ("evaluation: unknown key 'bins'", "ece_bins")),
    Wrong("evaluation.robustness.noise_std", MISSING, ("evaluation.robustness: key 'noise_std' is missing",)),
]
PROTOCOL = [
    outside("judge.epochs", 0, 1, INF),
    outside("judge.erase_probability", 1.5, 0, 1),
    outside("judge.learning_rate", -1.0, 0, INF),
    Wrong("judge.backbone", "resnet", ("judge: unknown backbone 'resnet'", "two_conv_small")),
    Wrong("judge.method", "plain", ("judge: unknown key 'method'", "expected backbone, train_images")),
    Wrong("judge.seed", MISSING, ("judge: key 'seed' is missing",)),
    Wrong("retraining.levels", [], ("levels is []", "between 0 and 1")),
    Wrong("retraining.levels", [0.5, 1.0], ("levels is [0.5, 1.0]", "between 0 and 1")),
    Wrong("retraining.settings", ["digits-resnet"], ("unknown setting 'digits-resnet'", "digits-two_conv_small")),
    Wrong("retraining.backbone", "resnet", ("retraining: unknown backbone 'resnet'", "two_conv_small")),
    outside("retraining.test_images", 0, 1, INF),
    Wrong("claims[0]", dict(CLAIM, better="more"), ("claims[0].better is 'more'", "'higher' or 'lower'")),
    Wrong("claims[0]", dict(CLAIM, reference="sgd"), ("claims, 'a claim': unknown method 'sgd'", "plain, random_mask")),
    Wrong("claims[0]", dict(CLAIM, settings=["a-b"]), ("claims, 'a claim': unknown setting 'a-b'", "digits-two_conv")),
    Wrong("claims[0]", dict(CLAIM, margin=-0.1), ("claims[0]: margin is -0.1", "[0, inf]")),
    Wrong("claims[0]", dict(CLAIM, effect=1), ("claims[0]: unknown key 'effect'", "name, metric, better")),
    Wrong("claims", [CLAIM, CLAIM], ("claims, 'a claim' stands there twice", "a name of its own")),
    Wrong("claims", None, ("claims is None", "expected a list")),
]
DATASETS = [
    outside("datasets.digits.validation_images", 0, 1, INF),
    outside("datasets.digits.train_images", 1, 2, INF),
    outside("datasets.digits.foreground_threshold", 1.5, 0, 1),
    outside("datasets.digits.label_noise", 1.5, 0, 1),
    outside("datasets.digits.development_images", -1, 0, INF),
    Wrong(
        "datasets.digits",
        {"validation_images": 100, "mean": [0.3], "std": [0.4], "development_images": 9},
        ("development_images is 9", "say how many train_images are used"),
    ),
    mistyped("datasets.digits.train_images", 1e3, "a whole number"),
    mistyped("datasets.digits.mean", 0.3, "a list"),
    mistyped("datasets.digits.mean[0]", "grey", "a number"),
    Wrong("datasets.digits.std", [0.0], ("std is [0.0]", "expected numbers above 0")),
    Wrong("datasets.digits.std", [math.nan], ("std is [nan]", "expected numbers above 0")),
    Wrong("datasets.digits.classes", 10, ("digits: unknown key 'classes'", "expected name, validation_images")),
    Wrong("datasets.digits.name", "mnist", ("datasets.digits: unknown key 'name'", "its name is 'digits'")),
    Wrong("datasets.digits.mean", MISSING, ("datasets.digits: key 'mean' is missing",)),
    Wrong("datasets.digits", None, ("datasets.digits is None", "expected a mapping")),
    Wrong("datasets.digits", "digits", ("datasets.digits is 'digits'", "expected a mapping")),
    Wrong("datasets", ["digits"], ("datasets is ['digits']", "expected a mapping")),
    Wrong("datasets", None, ("datasets is None", "expected a mapping")),
]
BACKBONES = [
    among("backbones.two_conv_small.stem", "tiny", "small", "original"),
    mistyped("backbones.two_conv_small.architecture", 18, "a text"),
    mistyped("backbones.two_conv_small.pretrained", "no", "true or false"),
    mistyped("backbones.two_conv_small.options", ["depth"], "a mapping"),
    Wrong("backbones.two_conv_small.depth", 2, ("unknown key 'depth'", "architecture, stem, pretrained")),
    Wrong("backbones.two_conv_small.architecture", MISSING, ("two_conv_small: key 'architecture' is missing",)),
]
PLAN, GUIDANCE, ADAPTIVE = (f"methods.smoot.{part}" for part in ("plan", "guidance", "adaptive"))
METHOD = [
    among("methods.plain.schedule", "linear", "constant", "adaptive", "sequence"),
    Wrong("methods.plain.plan", MISSING, ("methods.plain: key 'plan' is missing",)),
    Wrong("methods.plain.guidance", None, ("methods.plain.guidance is None", "expected a mapping with score, reduction")),
    Wrong("methods.plain.kl", 1.0, ("methods.plain: unknown key 'kl'", "schedule, plan, guidance, adaptive")),
    Wrong("methods.plain.adaptive", {}, ("schedule is 'constant'", "the block 'adaptive' belongs to 'adaptive'")),
    Wrong("methods.sgt.adaptive", {"decay": 0.9}, ("methods.sgt", "schedule is 'constant'", "the block 'adaptive'")),
    Wrong(ADAPTIVE, MISSING, ("methods.smoot: schedule is 'adaptive'", "the block 'adaptive' belongs to 'adaptive'")),
    Wrong(f"{PLAN}.decay", 0.9, ("methods.smoot.plan: unknown key 'decay'", "image_fraction, mask_fraction, ranking")),
    Wrong(f"{PLAN}.adaptive", {}, ("methods.smoot.plan: unknown key 'adaptive'", "image_fraction, mask_fraction, ranking")),
    Wrong(f"{GUIDANCE}.decay", 0.9, ("methods.smoot.guidance: unknown key 'decay'", "score, reduction, saliency_pass")),
    Wrong(f"{ADAPTIVE}.mass", 0.9, ("methods.smoot.adaptive: unknown key 'mass'", "decay, feedback")),
    *(outside(f"{PLAN}.{name}", 1.5, 0, 1) for name in ("image_fraction", "mask_fraction")),
    *(outside(f"{PLAN}.{name}", -0.1, 0, 1) for name in ("image_fraction", "mask_fraction", "protected")),
    among(f"{PLAN}.ranking", "signed", "saliency", "random", "protected", "highest"),
    Wrong(
        "methods.sgt.plan",
        {"ranking": "protected", "mask_fraction": 0.7, "protected": 0.4},
        ("methods.sgt.plan: mask_fraction 0.7 and protected 0.4", "more than 1"),
    ),
    among(f"{GUIDANCE}.score", "odds", "logit", "log_prob", "log_odds"),
    among(f"{GUIDANCE}.reduction", "sum", "signed_mean", "mean_abs", "max_abs", "l2"),
    among(f"{GUIDANCE}.saliency_pass", "train", "reuse", "eval"),
    among(f"{GUIDANCE}.fill", "noise", "uniform", "mean", "constant"),
    outside(f"{GUIDANCE}.kl_weight", -1.0, 0, INF),
    outside(f"{GUIDANCE}.label_smoothing", 2.0, 0, 1),
    mistyped(f"{GUIDANCE}.detach_target", 1, "true or false"),
    among(f"{GUIDANCE}.consistency", "mse", "kl", "cross_entropy"),
    among(f"{ADAPTIVE}.feedback", "test", "training", "validation"),
    Wrong("methods.plain.sequence", {"image_fractions": [0.5]}, ("schedule is 'constant'", "the block 'sequence'")),
    Wrong("methods.plain.sequence", {"image_fractions": []}, ("image_fractions is empty", "at least one share")),
    Wrong("methods.plain.sequence", {"image_fractions": [0.5, 1.5]}, ("image_fractions is 1.5", "[0, 1]")),
    Wrong("methods.plain.sequence", {"shuffled": True}, ("plain.sequence: key 'image_fractions' is missing",)),
    outside(f"{ADAPTIVE}.decay", 1.5, 0, 1),
    Wrong(f"{PLAN}.image_fraction", 0.5, ("methods.smoot: plan sets image_fraction", "the schedule 'adaptive' sets it")),
    Wrong(f"{ADAPTIVE}.decay", 1.0, ("methods.smoot.adaptive: decay is 1.0", "expected a number below 1")),
]
GRID = [
    Wrong("grid.datasets", ["mnist"], ("datasets is ['mnist']", "those of the settings")),
    Wrong(
        "grid.settings",
        {"digits-resnet18": {"dataset": "digits", "backbone": "resnet18"}},
        ("datasets is ['digits', 'block_digits', 'shortcut_digits']", "those of the settings"),
    ),
    Wrong(
        "grid.settings.digits-resnet10_narrow",
        {"dataset": "digits", "backbone": "resnet18"},
        ("grid.settings has the name 'digits-resnet10_narrow'", "expected digits-resnet18"),
    ),
    Wrong("grid.settings.digits-two_conv_small.backbone", MISSING, ("digits-two_conv_small: key 'backbone'",)),
    Wrong("grid.settings", ["digits"], ("grid.settings is ['digits']", "a mapping")),
    Wrong("grid.methods", ["plain", "sgd"], ("unknown method 'sgd'", ", ".join(METHODS))),
    Wrong("grid.methods", ["plain", "sgt", "plain"], ("methods is ['plain', 'sgt', 'plain']", "none of them twice")),
    Wrong("grid.datasets", [], ("datasets is []", "expected at least one")),
    mistyped("grid.methods", "plain", "a list"),
    mistyped("grid.methods[0]", 3, "a text"),
    Wrong("grid.seeds", [0], ("grid: unknown key 'seeds'", "expected datasets, settings, methods")),
    Wrong("grid.methods", MISSING, ("grid: key 'methods' is missing",)),
    Wrong("grid", None, ("grid is None", "expected a mapping with datasets, settings, methods")),
    Wrong("seeds", [], ("seeds is []", "expected at least one")),
    Wrong("seeds", [0, 1, 0], ("seeds is [0, 1, 0]", "none of them twice")),
    Wrong("seeds", [0, -1], ("seed is -1", "a whole number from 0 to 2147483647")),
    Wrong("seeds", [2**31], ("seed is 2147483648", "a whole number from 0 to 2147483647")),
    Wrong("seeds", [0.5], ("seeds[0] is 0.5", "expected a whole number")),
    Wrong("seeds", 5, ("seeds is 5", "expected a list")),
    Wrong("workers", 0, ("workers is 0", "[1, 1024]")),
    Wrong("workers", 2.0, ("workers is 2.0", "expected a whole number")),
    Wrong("epochs", 3, ("smoke.yaml: unknown key 'epochs'", "expected profile, root, here, grid, seeds")),
    Wrong("evaluation", MISSING, ("smoke.yaml: key 'evaluation' is missing",)),
    Wrong("profile", "laptop", ("smoke.yaml says profile 'laptop'", "expected 'smoke'")),
]
FILE = TRAINING + EVALUATION + PROTOCOL + DATASETS + BACKBONES + METHOD + GRID


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


def load_everything() -> None:
    grid = load_grid("smoke")
    for cell in grid.cells():
        for seed in grid.seeds:
            load_run(*cell, seed, "smoke")
    for load in (load_judge, load_retraining, load_claims):
        load("smoke")


def test_without_a_mistake_everything_loads(root: Path) -> None:
    load_everything()


@pytest.mark.parametrize("row", FILE, ids=lambda row: f"{row.key}={'(none)' if row.value is MISSING else row.value}")
def test_a_mistake_in_a_profile_is_one_clear_error(row: Wrong, root: Path) -> None:
    params = yaml.safe_load((root / "tests/smoke.yaml").read_text())
    put(params, row.key, row.value)
    (root / "tests/smoke.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(ValueError) as caught:
        load_everything()
    assert_clear(caught.value, ValueError, ("smoke.yaml", *row.words) if row.key != "seeds" else row.words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ("holds NoneType", "expected a mapping of parameters")),
        ("- profile\n- smoke\n", ("holds list", "expected a mapping of parameters")),
        ("profile: [smoke\nseeds: 3\n", ("is not YAML", "line 2")),
        ("profile: smoke\n\tseeds: 3\n", ("is not YAML", "line 2")),
    ],
)
def test_a_file_that_holds_no_parameters_is_named(content: str, words: tuple[str, ...], root: Path) -> None:
    (root / "tests/smoke.yaml").write_text(content)
    for load in (load_grid, lambda profile: load_run("digits", "two_conv_small", "plain", 0, profile)):
        with pytest.raises(ValueError) as caught:
            load("smoke")
        assert_clear(caught.value, ValueError, (str(root / "tests/smoke.yaml"), *words))


# -- calls


@dataclass(frozen=True)
class Row:
    """A call that must fail, its exact error type, and words that the message must hold."""

    name: str
    call: Callable[[], Any]
    words: tuple[str, ...]
    error: type[Exception] = ValueError


def asked(dataset: Any = "digits", backbone: Any = "two_conv_small", method: Any = "sgt", seed: Any = 0) -> Any:
    return lambda: load_run(dataset, backbone, method, seed, "smoke")


def built(architecture: str, shape: tuple[int, int, int] = (3, 32, 32), **config: Any) -> Callable[[], Any]:
    """Builds a backbone for data of as many channels as the images have."""
    pixels = DatasetConfig("some", 1, (0.0,) * shape[0], (1.0,) * shape[0])
    return lambda: create_backbone(
        ModelConfig("net", architecture, **config), pixels, image_shape=shape, num_classes=10
    )


def shallow(**changes: Any) -> Callable[[], Any]:
    """Fits a run with another split, or another number of classes."""
    classes = changes.pop("num_classes", 10)
    return lambda: fit(run(), replace(split(run()), **changes), classes, Path("never written"), silent)


NAMES = [
    Row("dataset", asked(dataset="mnits"), ("unknown dataset 'mnits'", "smoke.yaml defines", "shortcut_digits")),
    Row("backbone", asked(backbone="resnet"), ("unknown backbone 'resnet'", "resnet10_narrow")),
    Row("method", asked(method="SGT"), ("unknown method 'SGT'", "plain, random_mask, sgt")),
    Row("method None", asked(method=None), ("unknown method None", "plain, random_mask, sgt")),
    Row("a list of methods", asked(method=["sgt"]), ("unknown method ['sgt']", "plain, random_mask, sgt")),
    Row("negative seed", asked(seed=-1), ("seed is -1", "from 0 to 2147483647")),
    Row("half a seed", asked(seed=0.5), ("seed is 0.5", "a whole number")),
    Row("a true seed", asked(seed=True), ("seed is True", "a whole number")),
    Row("a seed in words", asked(seed="0"), ("seed is '0'", "a whole number")),
    Row(
        "profile",
        lambda: load_run("digits", "two_conv_small", "sgt", 0, "desktop"),
        ("unknown profile 'desktop'", "laptop, smoke", "a folder with a params.yaml"),
    ),
    Row("profile of a grid", lambda: load_grid("Paper"), ("unknown profile 'Paper'", "laptop, smoke")),
    Row("data set to load", lambda: data.load("cifar1000"), ("'cifar1000'", "fashion_mnist", "digits")),
    Row(
        "no seeds", lambda: train_cell("digits", "two_conv_small", "sgt", "smoke", []), ("seeds is []", "at least one")
    ),
    Row("training a method", lambda: train_cell("digits", "two_conv_small", "sgd", "smoke"), ("'sgd'", "smoot")),
    Row("evaluating a method", lambda: evaluate_cell("digits", "two_conv_small", "x", "smoke"), ("'x'", "smoot")),
    Row("training a profile", lambda: train_cell("digits", "two_conv_small", "sgt", "big"), ("'big'", "laptop")),
]
MODELS = [
    Row("architecture", built("resnet999"), ("'resnet999'", "two_conv, two_conv_small or a timm model")),
    Row("misspelt", built("vit_tiny"), ("'vit_tiny'", "a timm model such as")),
    Row("an unknown option", built("resnet18", options={"widths": [8]}), ("{'widths': [8]}", "do not fit", "'widths'")),
    Row("an option's type", built("resnet18", options={"layers": "two"}), ("{'layers': 'two'}", "do not fit")),
    Row(
        "heads that do not divide",
        built("vit_tiny_patch16_224", options={"num_heads": 5}),
        ("'num_heads': 5", "do not fit", "divisible"),
    ),
    Row("options of two_conv", built("two_conv", options={"hidden": 3}), ("two_conv takes no options",)),
    Row("stem of two_conv", built("two_conv_small", stem="small"), ("two_conv_small takes no options, stem",)),
    Row("two_conv pretrained", built("two_conv", pretrained=True), ("two_conv takes no options, stem or weights",)),
    *(
        Row(f"small stem of {name}", built(name, stem="small"), ("stem 'small'", "ResNets only", name, "'original'"))
        for name in ("vit_tiny_patch16_224", "convnext_atto", "regnetx_002")
    ),
    Row(
        "small stem on large images",
        built("resnet18", (3, 32, 41), stem="small"),
        ("(32, 41)", "up to 40 pixels", "use 'original'"),
    ),
    Row("too small for two_conv", built("two_conv", (1, 28, 5)), ("28x5 pixels", "two 3x3 convolutions")),
    Row(
        "channels",
        lambda: create_backbone(ModelConfig("net", "two_conv"), run().dataset, image_shape=(3, 28, 28), num_classes=10),
        ("datasets.digits", "have 1 and 1 numbers", "expected 3, one a channel"),
    ),
    Row("device", lambda: pick_device("cuda"), ("'cuda' is not available", "this machine has cpu", "'auto'")),
    Row("another device", lambda: pick_device("mps"), ("'mps' is not available", "this machine has cpu", "'auto'")),
    Row("a device there is not", lambda: pick_device("tpu"), ("'tpu' is not available", "this machine has cpu")),
    Row("device of a run", lambda: fresh(run(training={"device": "cuda"})), ("'cuda' is not available", "'auto'")),
]
DATA = [
    Row(
        "more images than there are",
        lambda: split(run(dataset={"train_images": 1400})),
        ("1400 training, 40 validation and 0 development images", "no more than the 1437"),
    ),
    Row("labels", shallow(train_labels=torch.full((72,), 10)), ("labels go from 10 to 10", "expected 0 to 9")),
    Row("one class", shallow(num_classes=1), ("num_classes is 1", "expected at least 2")),
    Row("whole-number images", shallow(train_images=torch.ones(72, 1, 8, 8).int()), ("torch.int32", "floating point")),
    Row("images without channels", shallow(train_images=torch.ones(72, 8, 8)), ("(72, 8, 8)", "(N, C, H, W)")),
    Row(
        "NaN images",
        shallow(train_images=torch.full((72, 1, 8, 8), math.nan)),
        ("72 images hold NaN", "finite"),
    ),
    Row("no images", shallow(train_images=torch.ones(0, 1, 8, 8)), ("(0, 1, 8, 8)", "at least one pixel")),
]


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def patched(correlation: Any = 0.9, classes: int = 3, **changes: torch.Tensor) -> Callable[[], Any]:
    """Puts a shortcut on three images of three classes."""
    given = {"images": torch.zeros(3, 1, 4, 4), "labels": torch.arange(3)} | changes
    return lambda: shortcut_images(**given, num_classes=classes, correlation=correlation, generator=seeded())


def tiled(count: Any = 2, labels: Any = (0, 1, 2, 3)) -> Callable[[], Any]:
    """Makes mosaics of four images."""
    images = torch.zeros(4, 1, 4, 4)
    return lambda: mosaics(images, torch.tensor(labels), count=count, generator=seeded())


COMPOSED = [
    Row(
        "blocks of images without channels",
        lambda: block_images(torch.zeros(3, 4, 4), generator=seeded()),
        ("images have the shape (3, 4, 4)", "expected (N, C, H, W)"),
    ),
    Row(
        "blocks of bytes",
        lambda: block_images(torch.zeros(3, 1, 4, 4).byte(), generator=seeded()),
        ("images are torch.uint8", "expected floating point", "images.float() / 255"),
    ),
    Row("correlation above 1", patched(1.5), ("correlation is 1.5", "expected a number in [0, 1]")),
    Row("correlation below 0", patched(-0.1), ("correlation is -0.1", "expected a number in [0, 1]")),
    Row("correlation NaN", patched(math.nan), ("correlation is nan", "expected a number in [0, 1]")),
    Row("correlation in words", patched("0.9"), ("correlation is '0.9'", "expected a number in [0, 1]")),
    Row("more patches than fit", patched(classes=9), ("num_classes is 9", "expected 1 to 8", "1x1", "4x4 pixels")),
    Row("labels of too few patches", patched(classes=2), ("labels go from 0 to 2", "expected 0 to 1 for 2 classes")),
    Row("negative labels of patches", patched(labels=torch.tensor([0, -1, 2])), ("from -1 to 2", "expected 0 to 2")),
    Row("labels of other images", patched(labels=torch.arange(4)), ("torch.int64 (4,)", "expected torch.int64 (3,)")),
    Row("labels in halves", patched(labels=torch.ones(3)), ("torch.float32 (3,)", "expected torch.int64 (3,)")),
    Row("no mosaics", tiled(0), ("count is 0", "expected a whole number of at least 1")),
    Row("half a mosaic", tiled(0.5), ("count is 0.5", "expected a whole number of at least 1")),
    Row("mosaics of three classes", tiled(labels=(0, 1, 2, 2)), ("labels hold 3 different", "expected at least 4")),
    Row("mosaics of other labels", tiled(labels=(0, 1, 2)), ("torch.int64 (3,)", "expected torch.int64 (4,)")),
]


def lost(kind: str) -> Any:
    """The history or the record of a cell that nothing was made for."""
    read = {"records": results.load_records, "history": results.read_histories}[kind]
    return read(synthetic.Axes("smoke", ("digits",), ("two_conv_small",), ("sgt",), (3,)))


CELL = Cell("smoke", "digits", "two_conv_small", "sgt")
LOST = [
    Row(
        "weights",
        lambda: load_weights(fresh(run()).network, Path("nowhere/0.safetensors")),
        ("nowhere/0.safetensors is missing", "run the training of this cell first"),
        FileNotFoundError,
    ),
    Row(
        "weights of a cell",
        lambda: evaluate_cell("digits", "two_conv_small", "sgt", "smoke"),
        ("digits/two_conv_small/sgt/0.safetensors is missing", "the train notebook", "method=sgt makes it"),
        FileNotFoundError,
    ),
    Row(
        "records",
        lambda: lost("records"),
        ("records/digits/two_conv_small/sgt/3.json is missing", "the evaluate notebook"),
        FileNotFoundError,
    ),
    Row(
        "histories",
        lambda: lost("history"),
        ("history/digits/two_conv_small/sgt/3.csv is missing", "the train notebook"),
        FileNotFoundError,
    ),
    Row(
        "samples",
        lambda: results.read_samples(load_grid("smoke"), "digits", "two_conv_small"),
        ("digits/two_conv_small/plain/samples.npz is missing", "the evaluate notebook"),
        FileNotFoundError,
    ),
    Row(
        "a record in pieces",
        lambda: results.read_record(half_a_record()),
        ("3.json is not JSON", "delete it and make it again"),
    ),
]


def half_a_record() -> Path:
    path = CELL.record_path(3)
    path.parent.mkdir(parents=True)
    path.write_text('{"schema": 1, "cell"')
    return path


CALLS = NAMES + MODELS + DATA + COMPOSED + LOST


@pytest.mark.parametrize("row", CALLS, ids=lambda row: row.name)
def test_a_call_that_cannot_work_is_one_clear_error(row: Row, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(row.error) as caught:
        row.call()
    assert_clear(caught.value, row.error, row.words)


def test_every_row_has_a_name_of_its_own() -> None:
    names = [row.name for row in CALLS] + [f"{row.key}={row.value}" for row in FILE]
    assert sorted({name for name in names if names.count(name) > 1}) == []
