"""What the exhibits of a study are made from: its runs in one data set and backbone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from workbench.config.profile import load_grid
from workbench.reporting import captions
from workbench.reporting.captions import Setting
from workbench.reporting.chance import located
from workbench.reporting.cost import Config
from workbench.reporting.metrics import Metrics, judged_fill
from workbench.reporting.questions import Study
from workbench.results import records as results
from workbench.results.records import RunRecord


@dataclass(frozen=True)
class StudyRuns:
    """The runs of a study in one data set and backbone.

    Attributes:
        study: what is asked of them.
        records: one per method and seed.
        histories: one row per epoch of each run.
        setting: what captions say of them.
    """

    study: Study
    records: Sequence[RunRecord]
    histories: pd.DataFrame
    setting: Setting

    @property
    def frame(self) -> pd.DataFrame:
        """The metrics of each method and seed."""
        frame = results.metrics_frame(self.records)
        return located(frame, frame)

    @property
    def methods(self) -> dict[str, Config]:
        """The configuration of each method, in the records' order."""
        return {record.method: record.config["method"] for record in self.records}

    @property
    def shown(self) -> tuple[str, ...]:
        """The methods that the study shows, in order."""
        return self.study.compared or tuple(self.methods)

    def metrics(self, *names: str) -> Metrics:
        """How these metrics are shown, in this order.

        Raises:
            ValueError: if a run lacks one, which an exhibit must not hide; names metric, method and seed.
        """
        frame = self.frame
        for name in names:
            lacking = frame[frame[name].isna()] if name in frame else frame
            for row in lacking[:1].to_dict("records"):
                run = f"method {row['method']!r}, seed {row['seed']}"
                raise ValueError(f"{name!r} of {run}, is missing or undefined: expected a number for every run")
        return {name: self.setting.metrics[name] for name in names}

    def headline(self) -> Metrics:
        """Accuracy and the judge's gap on rightly answered images.

        Raises:
            ValueError: if a run lacks one of them.
        """
        return self.metrics("accuracy", f"judge_gap_right_{judged_fill(self.setting.evaluation.fills)}")

    @property
    def remarks(self) -> str:
        """What every caption says; may be empty."""
        return captions.remarks(self.study, self.records[0].profile, self.setting)

    def ending(self, metrics: Metrics) -> str:
        """How the caption of an exhibit of these metrics ends."""
        return captions.ending(self.study, self.records[0].profile, self.setting, metrics)


def load_runs(study: Study, profile: str) -> Iterator[StudyRuns]:
    """The runs of a study's profile, one data set and backbone after the other."""
    grid = load_grid(profile)
    histories = results.read_histories(grid)
    for setting, records in captions.by_setting(results.load_records(grid)):
        yield StudyRuns(study, records, captions.of_setting(histories, setting), setting)
