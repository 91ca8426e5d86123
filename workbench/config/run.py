"""The parameters of a run, of the judge and of retraining: frozen dataclasses that refuse values out of range."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from smoot.checks import check_between
from smoot.guidance import Guidance
from smoot.scheduler import MaskPlan
from workbench.config.schedules import AdaptiveConfig, GapConfig, PerImageConfig, SequenceConfig

TRAINING = (
    "epochs",
    "batch_size",
    "learning_rate",
    "weight_decay",
    "warmup_epochs",
    "clip_norm",
    "erase_probability",
    "optimizer",
    "shuffled",
)
DATASET = ("train_images", "label_noise")  # a method may change these, never the images that it is measured on


def _check_least(config: Any, least: float, *names: str) -> None:
    """Refuse fields below ``least``; one that is None is not given."""
    for name in names:
        value = getattr(config, name)
        if value is not None:
            check_between(name, value, least, math.inf)
            if math.isinf(value):
                raise ValueError(f"{name} is {value!r}: expected a finite number")


@dataclass(frozen=True)
class DatasetConfig:
    """Which part of a data set is used, and how its pixels in [0, 1] are standardised.

    Attributes:
        name: a set of ``data/datasets.yaml``.
        validation_images, train_images: how many are drawn, by seed, from the training split; with None for
            ``train_images``, all that are left.
        mean, std: of the pixels, one number per channel.
        foreground_threshold: a pixel brighter than this belongs to the object.
        label_noise: share of the training images whose label is replaced by another one, in [0, 1).
        development_images: number of images, drawn from the rest of the training split, that stand in for the test
            split; 0 measures on the test split. Studies that choose something use them.
        steering_images: number of images, drawn from the rest of the training split, from which a schedule may
            learn; they are not those that choose the best epoch.
    """

    name: str
    validation_images: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train_images: int | None = None
    foreground_threshold: float = 0.1
    label_noise: float = 0.0
    development_images: int = 0
    steering_images: int = 0

    def __post_init__(self) -> None:
        _check_least(self, 0, "development_images", "steering_images")
        _check_least(self, 1, "validation_images")
        _check_least(self, 2, "train_images")
        check_between("label_noise", self.label_noise)
        check_between("foreground_threshold", self.foreground_threshold)
        for name in ("development_images", "steering_images"):
            if getattr(self, name) and self.train_images is None:
                raise ValueError(f"{name} is {getattr(self, name)}: say how many train_images are used")
        for value in self.mean:
            check_between("mean", value)
        if not all(0 < value <= 1 for value in self.std):
            raise ValueError(f"std is {list(self.std)}: expected numbers above 0 and at most 1, one per channel")


@dataclass(frozen=True)
class ModelConfig:
    """A backbone: ``two_conv``, ``two_conv_small`` or any timm name with its options."""

    name: str
    architecture: str
    stem: Literal["small", "original"] = "original"
    pretrained: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MethodConfig:
    """A training method: how much is masked, how, and what the method changes in the training or the data.

    Attributes:
        name: in ``methods.yaml`` or in the profile's block ``methods``.
        schedule: ``constant``, or the name of the block that has the schedule's constants.
        plan: what is masked; with a schedule, what of it stays constant.
        guidance: how masked images are made and compared.
        adaptive, sequence, gap, per_image: the schedule's constants.
        training: keys that replace those of the block ``training``.
        dataset: keys that replace those of the data set's entry.
    """

    name: str
    schedule: Literal["constant", "adaptive", "sequence", "gap", "per_image"]
    plan: MaskPlan
    guidance: Guidance
    adaptive: AdaptiveConfig | None = None
    sequence: SequenceConfig | None = None
    gap: GapConfig | None = None
    per_image: PerImageConfig | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    dataset: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for block in ("adaptive", "sequence", "gap", "per_image"):
            if (getattr(self, block) is not None) != (self.schedule == block):
                raise ValueError(
                    f"schedule is {self.schedule!r}: the block {block!r} belongs to {block!r}, and only to it"
                )
        for block, names in (("training", TRAINING), ("dataset", DATASET)):
            for key in getattr(self, block):
                if key not in names:
                    raise ValueError(f"{block}: unknown key {key!r}: a method may set {', '.join(names)}")
        if self.schedule not in ("constant", "per_image") and self.plan.image_fraction != MaskPlan().image_fraction:
            raise ValueError(
                f"plan sets image_fraction: leave it out, the schedule {self.schedule!r} sets it before every step"
            )

    @property
    def measured(self) -> bool:
        """Whether the schedule needs the losses on training and held-out images after each epoch."""
        return self.gap is not None or (self.per_image is not None and self.per_image.rule == "held_out")

    @property
    def steered(self) -> bool:
        """Whether the held-out images are those that the data set sets aside for it."""
        return self.measured and (self.gap is None or self.gap.held_out == "steering")


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained; the same for every method that does not change it.

    Attributes:
        epochs, batch_size, learning_rate, weight_decay, warmup_epochs, clip_norm: of AdamW with a cosine schedule.
        device, precision, channels_last, compile: where and how PyTorch computes it.
        erase_probability: share of the training images of which something is erased (Zhong et al. 2020), in [0, 1].
        optimizer: AdamW whose learning rate falls to zero along half a cosine, or Adadelta at a constant rate.
        shuffled: whether every epoch has an order of its own.
        devices: processes that train one network together, each on its share of every batch.
        sync_batch_norm: whether BatchNorm takes its statistics over the batches of all devices, not of each one.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    warmup_epochs: int = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    channels_last: bool = False
    compile: bool = False
    clip_norm: float | None = None
    erase_probability: float = 0.0
    optimizer: Literal["adamw", "adadelta"] = "adamw"
    shuffled: bool = True
    devices: int = 1
    sync_batch_norm: bool = False

    def __post_init__(self) -> None:
        _check_least(self, 0, "learning_rate", "weight_decay", "clip_norm")
        _check_least(self, 1, "epochs", "devices")
        if self.batch_size % self.devices:
            raise ValueError(
                f"batch_size is {self.batch_size}: expected a multiple of devices, which is {self.devices}, so that "
                "every one has as many images"
            )
        if self.sync_batch_norm and self.devices == 1:
            raise ValueError("sync_batch_norm is true with devices 1: expected false, for one device has every image")
        _check_least(self, 2, "batch_size")
        check_between("warmup_epochs", self.warmup_epochs, 0, self.epochs - 1)
        check_between("erase_probability", self.erase_probability)


@dataclass(frozen=True)
class RobustnessConfig:
    """Disturbances under which accuracy is measured again, on the first test images; pixels are in [0, 1]."""

    images: int
    noise_std: float
    blur_sigma: float
    pgd_images: int
    pgd_epsilon: float
    pgd_steps: int

    def __post_init__(self) -> None:
        _check_least(self, 1, "images", "pgd_images", "pgd_steps")
        check_between("noise_std", self.noise_std)
        check_between("blur_sigma", self.blur_sigma, 0, 100)
        check_between("pgd_epsilon", self.pgd_epsilon)


@dataclass(frozen=True)
class AttributionsConfig:
    """Which trained networks are explained by several attribution methods, and on how many images.

    Attributes:
        names: the attribution methods.
        images: number of images, the first of those that are measured on.
        networks: ``DATASET-BACKBONE/METHOD``.
        seeds: of these networks.
    """

    names: tuple[str, ...]
    images: int
    networks: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        _check_least(self, 1, "images")
        for seed in self.seeds:
            check_between("seeds", seed, 0, 2**31 - 1)
        for network in self.networks:
            if network.count("/") != 1:
                raise ValueError(f"networks holds {network!r}: expected DATASET-BACKBONE/METHOD")


@dataclass(frozen=True)
class EvaluationConfig:
    """How a trained network and its saliency are measured.

    Attributes:
        batch_size: images per forward pass.
        curve_images: first images of the test split, on which saliency is measured.
        curve_steps: steps of the deletion and insertion curves, at least 3.
        fills: what removed pixels become: the data's mean, black, or uniform noise.
        stability_std: of the small noise under which a map should stay, pixels in [0, 1].
        pointing_tolerance: of the pointing game, in pixels.
        mosaics: grids of four images of the grid pointing game.
        robustness, attributions: see there.
        ece_bins: bins of the expected calibration error.
    """

    batch_size: int
    curve_images: int
    curve_steps: int
    fills: tuple[Literal["mean", "black", "noise"], ...]
    stability_std: float
    pointing_tolerance: int
    mosaics: int
    robustness: RobustnessConfig
    attributions: AttributionsConfig
    ece_bins: int = 15

    def __post_init__(self) -> None:
        _check_least(self, 0, "pointing_tolerance")
        check_between("stability_std", self.stability_std)
        _check_least(self, 1, "batch_size", "curve_images", "mosaics", "ece_bins")
        _check_least(self, 3, "curve_steps")
        if not self.fills:
            raise ValueError("fills is empty: name at least one of mean, black, noise")

    def check_images(self, available: int, where: str) -> None:
        """Refuse to measure on more images than there are; ``where`` is the place of the block in errors."""
        asked = {
            "curve_images": self.curve_images,
            "robustness.images": self.robustness.images,
            "robustness.pgd_images": self.robustness.pgd_images,
            "attributions.images": self.attributions.images,
        }
        for name, number in asked.items():
            if number > available:
                raise ValueError(f"{where}.{name} is {number}: expected at most {available}, the images to measure on")


@dataclass(frozen=True)
class RunConfig:
    """One training run and its evaluation.

    Raises:
        ValueError: for a method that needs images which the data set does not set aside.
    """

    profile: str
    seed: int
    dataset: DatasetConfig
    backbone: ModelConfig
    method: MethodConfig
    training: TrainingConfig
    evaluation: EvaluationConfig

    def __post_init__(self) -> None:
        if self.method.steered and not self.dataset.steering_images:
            raise ValueError(
                f"method {self.method.name!r} follows the generalisation gap, and data set {self.dataset.name!r} has "
                "no steering_images to measure it on: set them, such as 1000"
            )

    def check_images(self, test_images: int) -> None:
        """Refuse an evaluation on more images than the test split, or the development images in its place, has."""
        where = f"profile {self.profile}, {self.dataset.name}: evaluation"
        self.evaluation.check_images(self.dataset.development_images or test_images, where)

    @property
    def setting(self) -> str:
        """``DATASET-BACKBONE``, the name of the setting in parameters, stages and folders."""
        return f"{self.dataset.name}-{self.backbone.name}"

    @property
    def network(self) -> str:
        """``DATASET-BACKBONE/METHOD``: what is trained, whatever the seed."""
        return f"{self.setting}/{self.method.name}"

    def seed_for(self, purpose: str, epoch: int = 0) -> int:
        """The seed of one random stream: a function of (seed, epoch, purpose) and of nothing else.

        So methods share the order of the data and the initialisation, and a resumed run needs no saved random state.
        """
        digest = hashlib.sha256(f"{self.seed}/{epoch}/{purpose}".encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1

    def split_arguments(self) -> dict[str, Any]:
        """The arguments of ``data.sets.split``: how many images are drawn for what, and the seed of the draw."""
        names = ("train_images", "validation_images", "development_images", "steering_images", "label_noise")
        return {name: getattr(self.dataset, name) for name in names} | {"seed": self.seed_for("subset")}

    def as_dict(self) -> dict[str, Any]:
        """Everything, as plain numbers, strings, lists and dicts; of the devices only if there are several."""
        everything = asdict(self)
        if self.training.devices == 1:
            del everything["training"]["devices"], everything["training"]["sync_batch_norm"]
        return everything


@dataclass(frozen=True)
class JudgeConfig:
    """The judges of a data set: two networks, trained on erased images, that no compared method has touched.

    Attributes:
        backbone: of the judge, a name of the block ``backbones``.
        second: of the second judge, whose architecture is another one; all else is the same.
        train_images, validation_images: drawn from the training part, with the judge's own seed.
        epochs, batch_size, learning_rate, weight_decay: of its training.
        seed: its own, none of the runs'.
        erase_probability: share of the training images of which something is erased.
    """

    backbone: str
    second: str
    train_images: int
    validation_images: int
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    seed: int
    erase_probability: float

    def __post_init__(self) -> None:
        _check_least(self, 0, "learning_rate", "weight_decay")
        _check_least(self, 1, "train_images", "validation_images", "epochs", "batch_size")
        check_between("seed", self.seed, 0, 2**31 - 1)
        if self.second == self.backbone:
            raise ValueError(f"second is {self.second!r}, as backbone is: expected another network")
        check_between("erase_probability", self.erase_probability)

    @property
    def backbones(self) -> tuple[str, str]:
        """Of the judge and of the second judge."""
        return self.backbone, self.second


@dataclass(frozen=True)
class RetrainingConfig:
    """DiffROAR: networks trained afresh on the pixels that a saliency map keeps.

    Attributes:
        settings: names ``DATASET-BACKBONE`` of the grid, each measured for every method and seed.
        levels: shares of pixels that are kept, in (0, 1).
        backbone: the network that is trained, a name of the block ``backbones``.
        train_images, test_images: of the training part and of the test split.
        epochs, batch_size, learning_rate, weight_decay: of the training.
    """

    settings: tuple[str, ...]
    levels: tuple[float, ...]
    backbone: str
    train_images: int
    test_images: int
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float

    def __post_init__(self) -> None:
        _check_least(self, 0, "learning_rate", "weight_decay")
        _check_least(self, 1, "train_images", "test_images", "epochs", "batch_size")
        if not self.levels or not all(0 < level < 1 for level in self.levels):
            raise ValueError(f"levels is {list(self.levels)}: expected at least one share between 0 and 1")
