"""What captions say of runs: the common setting of their records, and what a method may have of its own."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from synthetic import SETTING, Axes, lay_out, run_record, write_manifests
from test_charts import NETWORK

from workbench.reporting import captions
from workbench.reporting.questions import Study
from workbench.results.records import RunRecord

Blocks = dict[str, dict[str, Any]]
USUAL = "2,000 of 60,000 training images, 10 epochs, n = 2 seeds, 10,000 test images"


@pytest.fixture(autouse=True)
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_manifests(lay_out(tmp_path, monkeypatch, Axes(datasets=("fashion_mnist", "mnist"))))


def runs(method: str = "plain", seeds: Sequence[int] = (0, 1)) -> list[RunRecord]:
    return [run_record(replace(NETWORK, method=method), seed) for seed in seeds]


def changed(record: RunRecord, **blocks: dict[str, Any]) -> RunRecord:
    """The same record with other numbers in blocks of its configuration."""
    others = {name: record.config[name] | block for name, block in blocks.items()}
    return replace(record, config=record.config | others)


def own(record: RunRecord, **blocks: dict[str, Any]) -> RunRecord:
    """A run whose method sets these blocks otherwise than its profile."""
    return changed(record, method=blocks, **blocks)


@pytest.mark.parametrize(
    ("dataset", "measured_on", "facts"),
    [
        ({}, "test", USUAL),
        ({"train_images": None}, "test", USUAL.replace("2,000 of", "all")),
        ({"development_images": 5000}, "development", USUAL.replace("10,000 test", "5,000 development")),
    ],
)
def test_runs_of_one_setting(dataset: dict[str, Any], measured_on: str, facts: str) -> None:
    setting = captions.setting([changed(record, dataset=dataset) for record in [*runs(), *runs("smoot")]])
    assert (setting.facts, setting.measured_on) == (facts, measured_on)
    assert (setting.deviations, setting.seeds, setting.region) == (False, 2, "foreground")
    assert setting.source == "results/laptop/fashion_mnist-resnet10_narrow"


@pytest.mark.parametrize(
    "blocks", [{"training": {"epochs": 25}}, {"dataset": {"train_images": 500}}, {"dataset": {"label_noise": 0.2}}]
)
@pytest.mark.parametrize("beside", [{}, {"dataset": {"train_images": 200}}], ids=["usual", "other"])
@pytest.mark.parametrize("first", [True, False])
def test_methods_of_their_own_are_told_wherever_they_come(blocks: Blocks, beside: Blocks, first: bool) -> None:
    odd, others = [own(record, **blocks) for record in runs("smoot")], [own(record, **beside) for record in runs()]
    setting = captions.setting([*odd, *others] if first else [*others, *odd])
    assert setting.facts == USUAL.replace("10 epochs", "10 epochs where a method does not say otherwise")


def test_where_every_method_is_of_its_own_the_profiles_regime_is_told(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"regime": {"epochs": 30}}, sort_keys=False))
    few = [own(record, dataset={"train_images": 500}) for record in runs()]
    fewer = [own(record, dataset={"train_images": 200}) for record in runs("smoot")]
    told = captions.setting([*few, *fewer]).facts
    assert told == USUAL.replace("10 epochs", "30 epochs where a method does not say otherwise")
    assert captions.setting(few).facts == USUAL.replace("2,000", "500").replace("10 epochs", "30 epochs")


def test_groups_come_in_the_records_order() -> None:
    other = [run_record(replace(NETWORK, dataset="mnist"), seed) for seed in (0, 1, 2)]
    groups = captions.by_setting([other[0], *runs(), *other[1:]])
    told = [(setting.dataset, setting.seeds, len(group)) for setting, group in groups]
    assert told == [("mnist", 3, 3), ("fashion_mnist", 2, 2)]


def test_rows_of_a_setting() -> None:
    setting = captions.setting(runs())
    rows = [("fashion_mnist", "resnet10_narrow", 1), ("mnist", "resnet10_narrow", 2), ("fashion_mnist", "two_conv", 3)]
    frame = pd.DataFrame(rows, columns=["dataset", "backbone", "value"])
    assert captions.of_setting(frame, setting)["value"].tolist() == [1]


STUDY = Study("t", ("comparison",), "plain", note="Ten seeds. ")


def test_a_studys_captions_say_what_was_measured_on_how_many_images() -> None:
    robustness = replace(SETTING.evaluation.robustness, pgd_images=250)
    setting = replace(SETTING, evaluation=replace(SETTING.evaluation, curve_images=1500, robustness=robustness))
    facts = f"{SETTING.facts}; maps on the first 1,500 of them, PGD on the first 250."
    assert captions.ending(STUDY, "laptop", setting, ["accuracy", "gap_mean"]) == f"Ten seeds. {facts}"
    said = captions.ending(STUDY, "laptop", setting, ["accuracy", "judge_gap_right_black"])
    assert said == f"Ten seeds. {captions.JUDGED} {facts}"


@pytest.mark.parametrize(
    ("judged", "part"), [(10_000, "a sixth"), (9_600, "a sixth"), (30_000, "half"), (8_000, "13 %"), (45_000, "75 %")]
)
def test_remarks_say_how_many_development_images_the_judge_knows(tmp_path: Path, judged: int, part: str) -> None:
    assert captions.remarks(STUDY, "laptop", SETTING) == "Ten seeds."
    file = tmp_path / "params.yaml"
    params = yaml.safe_load(file.read_text())
    params["judge"]["train_images"] = judged
    file.write_text(yaml.safe_dump(params, sort_keys=False))
    said = captions.remarks(STUDY, "laptop", replace(SETTING, measured_on="development"))
    assert said == f"Ten seeds. {captions.DEVELOPMENT} About {part} of them were among the judge's training images."


def test_facts_of_a_setting() -> None:
    assert (SETTING.key, SETTING.place) == ("fashion_mnist-resnet10_narrow", "fashion_mnist_resnet10_narrow")
    assert SETTING.name == "Fashion-MNIST, ResNet-10 (narrow)"
    one = replace(SETTING, train_images=60000, epochs=1, seeds=1)
    assert one.facts == "all 60,000 training images, 1 epoch, n = 1 seed, 10,000 test images"
    assert SETTING.origin == "Source: `results/laptop/fashion_mnist-resnet10_narrow`."


def test_shared_facts_are_said_once() -> None:
    other = replace(SETTING, dataset="mnist", train_images=1000)
    both = replace(SETTING, backbone="two_conv_small")
    assert captions.all_facts([SETTING, both, other]) == (
        "2,000 (Fashion-MNIST) or 1,000 (MNIST) training images, 10 epochs, n = 5 seeds, 10,000 test images."
    )
    longer = replace(other, epochs=20)
    assert captions.all_facts([SETTING, both, longer]) == (
        f"Fashion-MNIST with ResNet-10 (narrow) and Two-conv (small): {SETTING.facts}. "
        f"MNIST with ResNet-10 (narrow): {longer.facts}."
    )
