import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic import Axes, lay_out, rewrite, step_costs, write_results

from workbench.config import files, paths
from workbench.config.profile import load_grid
from workbench.reporting import style
from workbench.stages import figures, report

PLACE = "fashion_mnist_resnet10_narrow"
NAMES = f"saliency_maps_{PLACE} overlays_{PLACE} gradient_magnitudes_{PLACE} attribution_maps_{PLACE}_smoot".split()
NAMES += f"curves_{PLACE} judge_curves_{PLACE} schedule_{PLACE} accuracy_faithfulness_{PLACE}".split()
NAMES += ["sanity", "accuracy_differences", "robustness_differences", "run_cost", "growth"]
AXES = Axes(methods=("plain", "sgt", "smoot"), seeds=(4, 7))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with made-up results and their figures, for copies."""
    root = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patch:
        write_results(lay_out(root, patch, AXES))
        written = figures.write_all("laptop")
        assert list(written) == NAMES
        assert written == files.read_json(paths.ProfilePaths("laptop").plots / "captions.json")
    return root


@pytest.fixture
def plots(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    lay_out(tmp_path, monkeypatch, AXES)
    return paths.ProfilePaths("laptop").plots


def test_all_figures_are_written_and_those_of_draws_with_the_same_bytes_each_time(plots: Path, tmp_path: Path) -> None:
    """The others draw nothing at random, and that saving twice gives the same bytes is tested in test_style.py."""
    assert {file.name for file in plots.iterdir()} == {f"{name}.png" for name in NAMES} | {"captions.json"}
    for chart in figures.draw_all("laptop"):
        if chart.name.startswith(("overlays", "gradient_magnitudes", "accuracy_differences")):
            again = style.save(chart.figure, tmp_path / "again.png")
            assert again.read_bytes() == (plots / f"{chart.name}.png").read_bytes(), chart.name
    page = (plots.parent / "report.html").read_bytes()
    assert report.write_report("laptop").read_bytes() == page


def test_captions_say_what_was_run(plots: Path) -> None:
    drawn = files.read_json(plots / "captions.json")
    grown = drawn.pop("growth")
    assert "ResNet-10 (narrow) on one CPU core" in grown and "batch size 0.90 and 0.80; image size 0.90" in grown
    for name, caption in drawn.items():
        assert len(caption.split()) < 60, name
        seeds = "n = 1 seed" if name == "sanity" else "n = 2 seeds"
        assert f"2,000 of 60,000 training images, 10 epochs, {seeds}, 10,000 test images" in caption, name
        assert "Fashion-MNIST" in caption, name
        assert "ResNet-10 (narrow)" in caption, name
    assert "the network of seed 4" in drawn[NAMES[0]]
    assert "(seed 4)" in drawn["sanity"] and "on 100 test images" in drawn["sanity"]
    assert "500 test images" in drawn[f"curves_{PLACE}"] and "the judge, " in drawn[f"judge_curves_{PLACE}"]
    assert "Accuracy under PGD" in drawn["robustness_differences"]
    assert re.search(r"A whole run of SMOOT costs 1\.\d\d × \(limit 1\.\d\d ×\)\. ", drawn["run_cost"])


def test_a_grid_of_one_method_has_no_differences_and_what_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_results(lay_out(tmp_path, monkeypatch, Axes(methods=("plain",), seeds=(0,))))
    names = [drawn.name for drawn in figures.draw_all("laptop")]
    absent = ("overlays", "attribution_maps", "accuracy_differences", "robustness_differences")
    assert names == [name for name in NAMES if not name.startswith(absent)]
    for name in ("growth.csv", "step_cost.csv"):
        (paths.BENCHMARKS / name).unlink()
        with pytest.raises(FileNotFoundError, match=rf"benchmarks/{name} is missing: `make bench` makes it"):
            list(figures.draw_all("laptop"))


def test_what_was_not_measured_is_not_drawn(plots: Path) -> None:
    costs = step_costs()
    files.write_csv(costs[costs["network"] == "two_conv_small"], paths.BENCHMARKS / "step_cost.csv")
    without = {"sanity": {}, "attributions": {}}
    unknown = {"accuracy_pgd": math.nan}
    rewrite(load_grid("laptop"), lambda record: replace(record, metrics=record.metrics | unknown, **without))
    names = [drawn.name for drawn in figures.draw_all("laptop")]
    assert "accuracy_differences" in names and not {"sanity", "robustness_differences", "run_cost"} & {*names}
