"""What every caption has to say of the runs behind it, read from their records and the data's manifest."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from workbench.config import files, paths
from workbench.config.profile import load_dataset, read_profile
from workbench.reporting.questions import Study, remarks
from workbench.reporting.words import display_name
from workbench.results.records import RunRecord

OWN = ("train_images", "epochs")  # what a method may set otherwise than the rest
JUDGED = (
    "Judge's gap, right answers: on each method's own right answers, so a more accurate method adds harder images; the "
    "judge's gap on all images errs the other way, since maps of wrong answers count."
)


@dataclass(frozen=True)
class Measurement:
    """How runs were measured; images are the first of the test split, standard deviations in [0, 1] pixels."""

    curve_images: int
    stability_std: float
    pointing_tolerance: int
    mosaics: int
    robustness_images: int
    noise_std: float
    blur_sigma: float
    pgd_images: int
    pgd_epsilon: float
    pgd_steps: int
    attribution_images: int


@dataclass(frozen=True)
class Setting:
    """What every caption has to say of the runs behind it: those of one data set and backbone.

    ``region`` is what the saliency should be on: ``foreground`` (the object), ``block`` (the half of the image
    with the digit) or ``shortcut`` (the patch, on which it should not be). ``test_images`` are those that were
    measured on, of the ``test`` split or ``development`` images; ``deviations`` says that some methods set training
    images or epochs otherwise.
    """

    dataset: str
    backbone: str
    region: str
    train_images: int
    train_total: int
    validation_images: int
    test_images: int
    epochs: int
    seeds: int
    source: str
    measured: Measurement
    measured_on: str = "test"
    deviations: bool = False

    @property
    def key(self) -> str:
        """``DATASET-BACKBONE``, as in parameters and stages."""
        return f"{self.dataset}-{self.backbone}"

    @property
    def place(self) -> str:
        """What stands at the end of a file's name."""
        return f"{self.dataset}_{self.backbone}"

    @property
    def name(self) -> str:
        return f"{display_name(self.dataset)}, {display_name(self.backbone)}"

    @property
    def facts(self) -> str:
        """``2,000 of 60,000 training images, 10 epochs, n = 5 seeds, 10,000 test images``."""
        seeds = f"n = {self.seeds} seed{'s' if self.seeds != 1 else ''}"
        images = f"{self.train_images:,} of {self.train_total:,}"
        if self.train_images == self.train_total:
            images = f"all {self.train_total:,}"
        training = f"{images} training images, {self.epochs} epoch{'s' if self.epochs != 1 else ''}"
        training += " where a method does not say otherwise" if self.deviations else ""
        return f"{training}, {seeds}, {self.test_images:,} {self.measured_on} images"

    @property
    def origin(self) -> str:
        """Where the numbers come from."""
        return f"Source: run records in `{self.source}`."


def all_facts(settings: Sequence[Setting]) -> str:
    """The facts of several settings, said once for each data set where its backbones share them."""
    names: dict[tuple[str, str], list[str]] = {}
    for setting in settings:
        names.setdefault((setting.dataset, setting.facts), []).append(display_name(setting.backbone))
    return " ".join(
        f"{display_name(dataset)} with {' and '.join(backbones)}: {facts}."
        for (dataset, facts), backbones in names.items()
    )


def setting(records: Sequence[RunRecord]) -> Setting:
    """The common setting of the records of one data set and backbone.

    Training images and epochs are those of the methods that leave them as they are, or else the profile's own.

    Raises:
        FileNotFoundError: if the data set has no manifest.
        ValueError: if the records do not share their setting, lack a part of it, or were made with other data
            than the manifest's.
    """
    own = [record for record in records if not _deviates(record)]
    first = _facts(own[0]) if own else _facts(records[0]) | _of_profile(records[0])
    for record in records:
        found = _facts(record)
        found |= {key: first[key] for key in OWN if _deviates(record)}
        if found != first:
            raise ValueError(f"record {record.keys} was run with {found}: expected {first} as the others")
    named = paths.SettingPaths(records[0].profile, records[0].dataset, records[0].backbone)
    manifest = _manifest(records[0])
    shared = dict(first)
    train_images = shared.pop("train_images")
    del shared["data"]
    return Setting(
        dataset=named.dataset,
        backbone=named.backbone,
        region=manifest["region"],
        train_images=manifest["train_images"] if train_images is None else train_images,
        train_total=manifest["train_images"],
        test_images=shared.pop("development") or manifest["test_images"],
        measured_on="development" if first["development"] else "test",
        deviations=len(own) < len(records),
        seeds=len({record.seed for record in records}),
        source=named.folder.relative_to(paths.ROOT).as_posix(),
        **shared,
    )


def of_setting(frame: pd.DataFrame, setting: Setting) -> pd.DataFrame:
    """The rows of one data set and backbone."""
    return frame[(frame["dataset"] == setting.dataset) & (frame["backbone"] == setting.backbone)]


def ending(study: Study, records: Sequence[RunRecord], setting: Setting, shown: Iterable[str]) -> str:
    """How the caption of a study's exhibit ends: its remarks, what the judge's gap counts, how much was measured.

    Args:
        study, records, setting: of the exhibit.
        shown: the metrics that it shows.
    """
    judged = JUDGED if any(metric.startswith("judge_gap_right") for metric in shown) else ""
    maps, attacked = setting.measured.curve_images, setting.measured.pgd_images
    facts = f"{setting.facts}; maps on the first {maps:,} of them, PGD on the first {attacked:,}."
    return " ".join(part for part in (remarks(study, records, setting.train_total), judged, facts) if part)


def by_setting(records: Sequence[RunRecord]) -> list[tuple[Setting, list[RunRecord]]]:
    """The records of each data set and backbone with their setting, in the records' order."""
    groups: dict[tuple[str, str], list[RunRecord]] = {}
    for record in records:
        groups.setdefault((record.dataset, record.backbone), []).append(record)
    return [(setting(group), group) for group in groups.values()]


def _deviates(record: RunRecord) -> bool:
    """Whether the record's method sets the training or the data otherwise than its profile."""
    method = record.config.get("method", {})
    return bool(method.get("training") or method.get("dataset"))


def _of_profile(record: RunRecord) -> dict[str, Any]:
    """What the profile says of `OWN`."""
    epochs = read_profile(record.profile)["training"]["epochs"]
    return dict(zip(OWN, (load_dataset(record.dataset, record.profile).train_images, epochs), strict=True))


def _facts(record: RunRecord) -> dict[str, Any]:
    """What the record's configuration says, by name."""
    config = record.config
    try:
        return {
            "data": record.data,
            "train_images": config["dataset"]["train_images"],
            "validation_images": config["dataset"]["validation_images"],
            "development": config["dataset"].get("development_images", 0),
            "epochs": config["training"]["epochs"],
            "measured": _measurement(config["evaluation"]),
        }
    except KeyError as error:
        raise ValueError(f"record {record.keys}: its configuration has no {error}; captions need it") from None


def _measurement(evaluation: Mapping[str, Any]) -> Measurement:
    """The part of the evaluation's configuration that captions tell."""
    robustness = evaluation["robustness"]
    whole = {name: evaluation[name] for name in ("curve_images", "stability_std", "pointing_tolerance", "mosaics")}
    names = ("noise_std", "blur_sigma", "pgd_images", "pgd_epsilon", "pgd_steps")
    return Measurement(
        **whole,
        **{name: robustness[name] for name in names},
        robustness_images=robustness["images"],
        attribution_images=evaluation["attributions"]["images"],
    )


def _manifest(record: RunRecord) -> dict[str, Any]:
    """The data set's manifest, if it is of the data that the record was made with."""
    path = paths.ProfilePaths(record.profile).manifest / f"{record.dataset}.json"
    command = f"`python -m workbench data manifest {record.dataset} --profile {record.profile}`"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: {command} makes it")
    manifest = files.read_json(path)
    if "region" not in manifest:
        raise ValueError(f"{path}: key region is missing: {command} writes it again")
    if manifest["sha256"] != record.data:
        raise ValueError(
            f"record {record.keys} was made with data {record.data}, "
            f"but {path} describes {manifest['sha256']}: make all runs of the setting again"
        )
    return manifest
