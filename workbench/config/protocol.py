"""What is measured beside the runs themselves, and what is claimed of them: judge, retraining, claims.

The blocks ``judge``, ``retraining`` and ``claims`` of a profile's parameters, as frozen dataclasses.
"""

from dataclasses import dataclass
from typing import Any, Literal

from smoot.checks import check_between
from workbench.config.paths import params_file
from workbench.config.profile import load_grid, read_profile
from workbench.config.schema import build


@dataclass(frozen=True)
class JudgeConfig:
    """The judge of a data set: one network, trained on erased images, that no compared method has touched.

    Attributes:
        backbone: a name of the block ``backbones``.
        train_images, validation_images: drawn from the training part, with the judge's own seed.
        epochs, batch_size, learning_rate, weight_decay: of its training.
        seed: its own, none of the runs'.
        erase_probability: share of the training images of which something is erased.
    """

    backbone: str
    train_images: int
    validation_images: int
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    seed: int
    erase_probability: float

    def __post_init__(self) -> None:
        for name in ("train_images", "validation_images", "epochs", "batch_size"):
            check_between(name, getattr(self, name), 1, float("inf"))
        check_between("learning_rate", self.learning_rate, 0.0, float("inf"))
        check_between("weight_decay", self.weight_decay, 0.0, float("inf"))
        check_between("seed", self.seed, 0, 2**31 - 1)
        check_between("erase_probability", self.erase_probability)


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
        for name in ("train_images", "test_images", "epochs", "batch_size"):
            check_between(name, getattr(self, name), 1, float("inf"))
        check_between("learning_rate", self.learning_rate, 0.0, float("inf"))
        check_between("weight_decay", self.weight_decay, 0.0, float("inf"))
        if not self.levels or not all(0 < level < 1 for level in self.levels):
            raise ValueError(f"levels is {list(self.levels)}: expected at least one share between 0 and 1")


@dataclass(frozen=True)
class Claim:
    """A sentence about the results, written before they are looked at.

    Attributes:
        name: as the table shows it.
        metric: of a run record.
        better: whether higher or lower values are better.
        method, reference: who is said to be better than whom, paired by seed.
        family: claims that share it, and the setting, share Holm's adjustment.
        margin: how much worse than the reference is still not worse, in the metric's unit; 0 claims better.
        p: the adjusted p-value that is required.
        settings: names ``DATASET-BACKBONE``; empty for all.
    """

    name: str
    metric: str
    better: Literal["higher", "lower"]
    method: str
    reference: str
    family: str
    margin: float = 0.0
    p: float = 0.05
    settings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_between("margin", self.margin, 0.0, float("inf"))
        check_between("p", self.p)


@dataclass(frozen=True)
class _Claims:
    """The block ``claims``."""

    claims: tuple[Claim, ...]


def load_judge(profile: str) -> JudgeConfig:
    """The block ``judge`` of a profile.

    Raises:
        ValueError: for an unknown or missing key, a wrong type, a value out of range, or an unknown backbone.
    """
    judge: JudgeConfig = build(JudgeConfig, read_profile(profile)["judge"], _where(profile, "judge"))
    _check_backbone(profile, "judge", judge.backbone)
    return judge


def load_retraining(profile: str) -> RetrainingConfig:
    """The block ``retraining`` of a profile.

    Raises:
        ValueError: as :func:`load_judge`; also for a setting that the grid does not have.
    """
    retraining: RetrainingConfig = build(
        RetrainingConfig, read_profile(profile)["retraining"], _where(profile, "retraining")
    )
    _check_backbone(profile, "retraining", retraining.backbone)
    _check_settings(profile, "retraining", retraining.settings)
    return retraining


def load_claims(profile: str) -> tuple[Claim, ...]:
    """The claims of a profile, in the order of its file.

    Raises:
        ValueError: as :func:`load_judge`; also for a method or setting that the grid does not have, or a name twice.
    """
    values = {"claims": read_profile(profile)["claims"]}
    claims: tuple[Claim, ...] = build(_Claims, values, params_file(profile).name).claims
    methods = load_grid(profile).methods
    names = [claim.name for claim in claims]
    for claim in claims:
        where = f"claims, {claim.name!r}"
        for method in (claim.method, claim.reference):
            if method not in methods:
                raise ValueError(f"{_where(profile, where)}: unknown method {method!r}: expected {', '.join(methods)}")
        if names.count(claim.name) > 1:
            raise ValueError(f"{_where(profile, where)} stands there twice: expected a name of its own for each claim")
        _check_settings(profile, where, claim.settings)
    return claims


def _where(profile: str, block: str) -> str:
    return f"{params_file(profile).name}: {block}"


def _check_backbone(profile: str, block: str, backbone: str) -> None:
    known: dict[str, Any] = read_profile(profile)["backbones"]
    if backbone not in known:
        raise ValueError(f"{_where(profile, block)}: unknown backbone {backbone!r}: expected {', '.join(known)}")


def _check_settings(profile: str, block: str, settings: tuple[str, ...]) -> None:
    known = ["-".join(setting) for setting in load_grid(profile).settings]
    for name in settings:
        if name not in known:
            raise ValueError(f"{_where(profile, block)}: unknown setting {name!r}: expected {', '.join(known)}")
