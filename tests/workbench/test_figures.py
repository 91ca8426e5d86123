from pathlib import Path

import pytest
from synthetic import Axes, lay_out, write_results

from smoot.workbench import figures, paths, report
from smoot.workbench.cells import Cell

PLACE = "fashion_mnist_resnet10_narrow"
NAMES = [
    f"saliency_maps_{PLACE}",
    f"gradient_magnitudes_{PLACE}",
    f"curves_{PLACE}",
    f"schedule_{PLACE}",
    f"accuracy_faithfulness_{PLACE}",
    "accuracy_differences",
]


@pytest.fixture
def plots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_results(lay_out(tmp_path, monkeypatch, Axes(methods=("plain", "smoot"), seeds=(4, 7))))
    return paths.ROOT / "figures" / "laptop" / "plots"


def test_all_figures_are_written_with_the_same_bytes_each_time(plots: Path) -> None:
    written = figures.write_all("laptop")
    assert list(written) == NAMES
    assert written[NAMES[0]] == plots / f"{NAMES[0]}.png"
    first = {file.name: file.read_bytes() for file in plots.iterdir()}
    vector = {f"{name}.svg" for name in NAMES[1:]}
    assert set(first) == {f"{name}.png" for name in NAMES} | vector | {"captions.json"}

    figures.write_all("laptop")
    assert {file.name: file.read_bytes() for file in plots.iterdir()} == first

    one = report.write("laptop").read_bytes()
    assert report.write("laptop").read_bytes() == one


def test_captions_say_what_was_run(plots: Path) -> None:
    drawn = {one.name: one.caption for one in figures.draw_all("laptop")}
    assert list(drawn) == NAMES
    for name, caption in drawn.items():
        assert "2,000 of 60,000 training images, 10 epochs, n = 2 seeds, 10,000 test images" in caption, name
        assert "Fashion-MNIST" in caption, name
        assert "ResNet-10 (narrow)" in caption, name
    assert "(seed 4)" in drawn[NAMES[0]]
    assert "500 test images" in drawn[NAMES[2]]


def test_missing_samples_are_named(plots: Path) -> None:
    path = Cell("laptop", "fashion_mnist", "resnet10_narrow", "smoot").samples_path
    path.unlink()
    with pytest.raises(FileNotFoundError, match="dvc repro evaluate@fashion_mnist-resnet10_narrow-smoot"):
        list(figures.draw_all("laptop"))


def test_a_grid_of_one_method_has_no_differences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_results(lay_out(tmp_path, monkeypatch, Axes(methods=("plain",), seeds=(0,))))
    assert [drawn.name for drawn in figures.draw_all("laptop")] == NAMES[:-1]
