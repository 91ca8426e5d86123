from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from drawing import legend_texts, unlabelled
from synthetic import REPOSITORY, SETTING
from synthetic_studies import config_of, runs_of

from workbench.config import paths
from workbench.reporting.questions import Study
from workbench.reporting.style import Look
from workbench.studies import public_log
from workbench.studies.runs import StudyRuns

PUBLIC = config_of("plain", schedule="per_image", per_image={"settings": {"num_pixels": 1024}})
CONFIGS = {"plain": config_of("plain"), "public_code": PUBLIC, "public_few": PUBLIC}
TITLES = {"plain": "Plain", "public_code": "Public code", "public_few": "Fewer images"}
LOOKS = {name: Look(title, "#0173b2", "o") for name, title in TITLES.items()}
STUDY = Study("A rule", ("log",), "plain", "A note.")
LOG = "# Source.\nepoch,number_mean,number_largest,accuracy,trained_accuracy\n0,,,30.0,40.0\n4,150.5,900,,\n"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyRuns:
    """Two seeds of ten epochs, counted from 1: after n of them 10 n pixels on average and 20 n at most, twice as many
    in the variant; half of the images right in training mode, n / 20 more in eval mode.
    """
    monkeypatch.setattr(paths, "params_file", lambda profile: tmp_path / "params.yaml")
    (tmp_path / "published.csv").write_text(LOG)
    found = runs_of(STUDY, CONFIGS, dict.fromkeys(CONFIGS, (0.5, 0.6)))
    epochs = found.histories["epoch"]
    often = np.where(found.histories["method"] == "public_few", 2, 1) / 1024
    numbers = {"number_mean": often * (10 * epochs + found.histories["seed"]), "number_largest": often * 20 * epochs}
    changed = found.histories.assign(**numbers, accuracy=0.5, trained_accuracy=0.5 + epochs / 20)
    return replace(found, histories=changed)


def test_each_epoch_of_the_log_stands_beside_ours(runs: StudyRuns) -> None:
    table = public_log.table(runs, TITLES)
    assert table.name == f"log_{SETTING.place}" and "nan" not in table.markdown
    shown = table.display.set_index("Epoch")
    assert shown.loc["0"].to_dict() == {
        "Mean number, published": "–",
        "Mean number, here": "10.5 ± 0.7",
        "Largest number, published": "–",
        "Largest number, here": "20 ± 0",
        "Accuracy in training mode (%), published": "30.0",
        "Accuracy in training mode (%), here": "50.0 ± 0.0",
        "Accuracy on training images (%), published": "40.0",
        "Accuracy on training images (%), here": "55.0 ± 0.0",
    }
    assert shown.loc["4"].tolist()[:4] == ["150.5", "50.5 ± 0.7", "900", "100 ± 0"]
    assert table.data.set_index("epoch").loc[4, ["number_mean_published", "number_mean_mean"]].tolist() == [150.5, 50.5]
    assert "of 1,024, after the epoch" in table.note and "here on 1,000 of them" in table.note
    assert table.note.endswith("A note.") and table.caption.endswith(f"{SETTING.facts}. {SETTING.origin}")


@pytest.mark.parametrize(
    ("kept", "shown"), [("epoch <= 4", ["150.5", "–", "900", "–"]), ("seed == 0", ["150.5", "50.0", "900", "100"])]
)
def test_an_untrained_epoch_is_a_dash_and_one_seed_bare(runs: StudyRuns, kept: str, shown: list[str]) -> None:
    fewer = replace(runs, histories=runs.histories.query(kept))
    assert public_log.table(fewer, TITLES).display.set_index("Epoch").loc["4"].tolist()[:4] == shown


def test_the_figure_has_our_curves_and_the_published_points(runs: StudyRuns) -> None:
    chart = public_log.chart(runs, LOOKS)
    assert chart.name == f"log_{SETTING.place}" and chart.caption.startswith("Public code, epoch by epoch, beside")
    mean, largest, accuracy = chart.figure.axes
    assert [axes.get_title(loc="left") for axes in (mean, largest)] == ["Mean number", "Largest number"]
    curve, points = mean.lines
    assert list(curve.get_xdata()) == [*range(10)] and curve.get_ydata()[4] == pytest.approx(50.5)
    assert list(points.get_xdata()) == [0, 4] and points.get_ydata()[1] == 150.5 and points.get_linestyle() == "None"
    assert largest.lines[0].get_ydata()[4] == pytest.approx(100)
    styles = [(line.get_linestyle(), float(line.get_ydata()[0])) for line in accuracy.lines]
    assert [style for style, _ in styles] == ["-", "None", ":", "None"]
    assert [first for _, first in styles] == pytest.approx([55, 40, 50, 30])
    assert legend_texts(chart.figure) == ["Published", "Public code", "In training mode"]
    assert not list(unlabelled(chart.figure))


def test_what_is_missing_is_named(runs: StudyRuns, tmp_path: Path) -> None:
    others = [record for record in runs.records if record.method != "public_code"]
    with pytest.raises(ValueError, match=r"no method of the study is 'public_code', .*: \['plain', 'public_few'\]"):
        public_log.table(replace(runs, records=others), TITLES)
    (tmp_path / "published.csv").write_text(LOG.replace("number_largest", "largest"))
    with pytest.raises(ValueError, match=r"published\.csv: unknown column 'largest'"):
        public_log.table(runs, TITLES)
    (tmp_path / "published.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"published\.csv is missing: exhibit 'log' compares with it"):
        public_log.table(runs, TITLES)


def test_the_committed_log_names_its_source_and_grows() -> None:
    file = REPOSITORY / "studies" / "public_code" / "published.csv"
    assert "Masking_Based_Grad, commit 694c3d3" in file.read_text(encoding="utf-8").partition("\n")[0]
    frame = pd.read_csv(file, comment="#").set_index("epoch")
    assert frame.index.is_monotonic_increasing and frame.index[-1] == 29
    for column in public_log.LOGGED:
        assert frame[column].dropna().is_monotonic_increasing, column
    assert frame.loc[29].tolist() == [400.9, 900, 84.6, 91.8]


def test_the_table_of_mended_quirks_is_that_of_the_committed_epochs() -> None:
    epochs = pd.read_csv(REPOSITORY / "results/public_quirks/cifar10_jpeg-two_conv/epochs.csv")
    last = epochs[epochs["epoch"] == epochs["epoch"].max()].set_index("method")
    methods = yaml.safe_load((REPOSITORY / "studies/public_quirks/params.yaml").read_text())["grid"]["methods"]
    document = (REPOSITORY / "docs" / "deviations.md").read_text("utf-8")
    written = document.split("| Mended |")[1].split("\n\n")[0].splitlines()[2:]
    expected = []
    for row in last.loc[methods].itertuples():
        plain = np.isnan(row.number_mean)
        numbers = ["–", "–"] if plain else [f"{1024 * row.number_mean:.1f}", f"{1024 * row.number_largest:.0f}"]
        expected.append([*numbers, f"{100 * row.accuracy:.1f}", f"{100 * row.trained_accuracy:.1f}"])
    assert [[cell.strip() for cell in line.strip("|").split("|")][1:] for line in written] == expected
