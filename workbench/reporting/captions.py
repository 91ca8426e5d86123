"""What every caption has to say of the runs behind it, read from their records and the data's manifest."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from workbench.config import files, paths
from workbench.config.profile import load_dataset, read_profile
from workbench.config.run import EvaluationConfig
from workbench.config.schema import build
from workbench.reporting.metrics import Metrics, quality
from workbench.reporting.questions import Study
from workbench.reporting.words import display_name
from workbench.results.records import RunRecord

JUDGED = "Judge's gap, right answers: on each method's own right answers, so a more accurate method adds harder images."
DEVELOPMENT = "Measured on development images, drawn from the rest of the training split, never on test images."
PARTS = {2: "half", 3: "a third", 4: "a quarter", 5: "a fifth", 6: "a sixth"}


@dataclass(frozen=True)
class Setting:
    """The runs of one data set and backbone, as captions describe them.

    Attributes:
        dataset, backbone: their names.
        region: where the saliency should be: ``foreground`` (the object), ``block`` (the half of the image with the
            digit) or ``shortcut`` (the patch, on which it should not be).
        train_images, epochs: of all methods, or of those that set none of it otherwise.
        deviations: whether methods differ in these or in the share of wrong labels.
        train_total: images of the training split.
        validation_images: drawn from it.
        test_images: that were measured on, of ``measured_on``: ``test`` split or ``development`` images.
        seeds: their number.
        source: the folder of the results.
        evaluation: how networks were measured.
        num_classes: of the data set, where its manifest says so: chance answers one in so many images.
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
    evaluation: EvaluationConfig
    measured_on: str = "test"
    deviations: bool = False
    num_classes: int | None = None

    @property
    def key(self) -> str:
        """``DATASET-BACKBONE``, as in parameters and stages."""
        return f"{self.dataset}-{self.backbone}"

    @property
    def place(self) -> str:
        """The end of a file's name."""
        return f"{self.dataset}_{self.backbone}"

    @property
    def name(self) -> str:
        """``Fashion-MNIST, ResNet-18``."""
        return f"{display_name(self.dataset)}, {display_name(self.backbone)}"

    @property
    def metrics(self) -> Metrics:
        """How every metric of its networks is shown, in reading order."""
        return quality(self.evaluation.fills, [self.region])

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
        return f"Source: `{self.source}`."


def all_facts(settings: Sequence[Setting]) -> str:
    """The facts of several settings in a sentence, or said once for each data set where its backbones share them."""
    shared = {(one.epochs, one.seeds, one.test_images, one.measured_on, one.deviations) for one in settings}
    numbers = {display_name(one.dataset): one.train_images for one in settings}
    alike = len(numbers) == len({(one.dataset, one.train_images) for one in settings})
    if len(shared) == 1 and alike and len(set(numbers.values())) > 1:
        images = " or ".join(f"{count:,} ({name})" for name, count in numbers.items())
        return f"{images} training images, {settings[0].facts.partition(' training images, ')[2]}."
    names: dict[tuple[str, str], list[str]] = {}
    for setting in settings:
        names.setdefault((setting.dataset, setting.facts), []).append(display_name(setting.backbone))
    return " ".join(
        f"{display_name(dataset)} with {' and '.join(backbones)}: {facts}."
        for (dataset, facts), backbones in names.items()
    )


def setting(records: Sequence[RunRecord]) -> Setting:
    """What the records of one data set and backbone have in common.

    Raises:
        FileNotFoundError: if the data set has no manifest.
        ValueError: if the records were made with other data than the manifest's.
    """
    first = records[0]
    named = paths.SettingPaths(first.profile, first.dataset, first.backbone)
    alike = len({_regime(record.config) for record in records}) == 1
    usual = [record.config for record in records if alike or not _sets_otherwise(record)]
    train_images, _, epochs = _regime(usual[0] if usual else _of_profile(first))
    dataset, manifest = first.config["dataset"], _manifest(first)
    development = dataset["development_images"]
    evaluation = build(EvaluationConfig, first.config["evaluation"], f"{named.config}: evaluation")
    evaluation.check_images(development or manifest["test_images"], f"{named.config}: evaluation")
    return Setting(
        dataset=first.dataset,
        backbone=first.backbone,
        region=manifest["region"],
        train_images=manifest["train_images"] if train_images is None else train_images,
        train_total=manifest["train_images"],
        validation_images=dataset["validation_images"],
        test_images=development or manifest["test_images"],
        epochs=epochs,
        seeds=len({record.seed for record in records}),
        source=named.folder.relative_to(paths.ROOT).as_posix(),
        evaluation=evaluation,
        measured_on="development" if development else "test",
        deviations=not alike,
        num_classes=manifest.get("num_classes"),
    )


def by_setting(records: Sequence[RunRecord]) -> list[tuple[Setting, list[RunRecord]]]:
    """The records of each data set and backbone with their setting, in the records' order."""
    groups: dict[tuple[str, str], list[RunRecord]] = {}
    for record in records:
        groups.setdefault((record.dataset, record.backbone), []).append(record)
    return [(setting(group), group) for group in groups.values()]


def _regime(config: Mapping[str, Any]) -> tuple[int | None, float, int]:
    """Training images (None: all), their share of wrong labels, and epochs of a run."""
    return config["dataset"]["train_images"], config["dataset"]["label_noise"], config["training"]["epochs"]


def _sets_otherwise(record: RunRecord) -> bool:
    """Whether the record's method sets keys of the blocks ``training`` or ``dataset``."""
    method = record.config["method"]
    return bool(method["training"] or method["dataset"])


def _of_profile(record: RunRecord) -> dict[str, Any]:
    """The same keys as a record's configuration, as the profile has them."""
    profile = read_profile(record.profile)
    return {
        "training": profile["training"] | profile["regime"],
        "dataset": asdict(load_dataset(record.dataset, record.profile)),
    }


def of_setting(frame: pd.DataFrame, setting: Setting) -> pd.DataFrame:
    """The rows of one data set and backbone."""
    return frame[(frame["dataset"] == setting.dataset) & (frame["backbone"] == setting.backbone)]


def ending(study: Study, profile: str, setting: Setting, shown: Iterable[str]) -> str:
    """How the caption of an exhibit of these metrics ends: remarks, what the judge's gap counts, what was measured."""
    judged = JUDGED if any(metric.startswith("judge_gap_right") for metric in shown) else ""
    maps, attacked = setting.evaluation.curve_images, setting.evaluation.robustness.pgd_images
    facts = f"{setting.facts}; maps on the first {maps:,} of them, PGD on the first {attacked:,}."
    return " ".join(part for part in (remarks(study, profile, setting), judged, facts) if part)


def remarks(study: Study, profile: str, setting: Setting) -> str:
    """What every caption of a study says: its note, and on which images was measured if not on the test split."""
    said = [study.note.strip()]
    if setting.measured_on == "development":
        share = read_profile(profile)["judge"]["train_images"] / setting.train_total
        whole = round(1 / share)
        near = whole in PARTS and abs(whole * share - 1) < 0.1
        part = PARTS[whole] if near else f"{100 * share:.0f} %"
        said += [DEVELOPMENT, f"About {part} of them were among the judge's training images."]
    return " ".join(part for part in said if part)


def _manifest(record: RunRecord) -> dict[str, Any]:
    """The data set's manifest, if it is of the data that the record was made with."""
    path = paths.ProfilePaths(record.profile).manifest / f"{record.dataset}.json"
    command = f"`python -m workbench data manifest {record.dataset} --profile {record.profile}`"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: {command} makes it")
    manifest = files.read_json(path)
    for key in ("region", "sha256", "train_images", "test_images"):
        if key not in manifest:
            raise ValueError(f"{path}: key {key} is missing: {command} writes it again")
    if manifest["sha256"] != record.data:
        raise ValueError(
            f"record {record.keys} was made with data {record.data}, "
            f"but {path} describes {manifest['sha256']}: make all runs of the setting again"
        )
    return manifest
