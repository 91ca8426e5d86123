import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from synthetic import SETTING

from workbench.reporting.captions import all_facts
from workbench.reporting.table import Table
from workbench.reporting.words import cost_name, display_name, fixed, in_order, interval, plus_minus, probability


def test_numbers_as_text() -> None:
    assert fixed(1234.5) == "1,234.50"
    assert fixed(-0.004) == "0.00"
    assert fixed(-0.5, 1) == "−0.5"
    assert fixed(0.86, sign=True) == "+0.86"
    assert fixed(math.nan) == "–"
    assert plus_minus(81.967, 0.6249) == "81.97 ± 0.62"
    assert plus_minus(81.967, math.nan, 1) == "82.0"
    assert interval(0.86, -0.351, 1.37) == "+0.86 [−0.35, +1.37]"
    assert interval(-0.86, math.nan, math.nan) == "−0.86"
    assert (probability(0.0084), probability(0.0004), probability(math.nan)) == ("p = 0.008", "p < 0.001", "p –")


def test_names() -> None:
    assert display_name("sgt_improved") == "SGT improved"
    assert display_name("vit_tiny") == "vit_tiny"
    assert [display_name(name) for name in ("block_mnist", "shortcut_mnist")] == ["BlockMNIST", "Shortcut-MNIST"]


def test_names_of_the_cost_benchmark() -> None:
    assert [cost_name(key) for key in ("sgt_reference", "smoot", "something")] == [
        "SGT as published",
        "SMOOT",
        "something",
    ]


def test_attributions_come_in_a_fixed_order_and_unknown_ones_last() -> None:
    assert in_order({"new", "edges", "gradient", "about", "random"}) == ["gradient", "random", "edges", "about", "new"]


def test_facts_of_a_setting() -> None:
    assert (SETTING.key, SETTING.place) == ("fashion_mnist-resnet10_narrow", "fashion_mnist_resnet10_narrow")
    assert SETTING.name == "Fashion-MNIST, ResNet-10 (narrow)"
    assert SETTING.facts == "2,000 of 60,000 training images, 10 epochs, n = 5 seeds, 10,000 test images"
    one = replace(SETTING, train_images=60000, epochs=1, seeds=1)
    assert one.facts == "all 60,000 training images, 1 epoch, n = 1 seed, 10,000 test images"
    own = replace(SETTING, deviations=True, measured_on="development", test_images=5000)
    assert own.facts == (
        "2,000 of 60,000 training images, 10 epochs where a method does not say otherwise, n = 5 seeds, "
        "5,000 development images"
    )
    assert SETTING.origin == "Source: run records in `results/laptop/records/fashion_mnist/resnet10_narrow`."
    assert "they come from 2 versions of the code" in replace(SETTING, code_versions=2).origin


def test_shared_facts_are_said_once() -> None:
    other = replace(SETTING, dataset="mnist", train_images=1000)
    both = replace(SETTING, backbone="two_conv_small")
    assert all_facts([SETTING, both, other]) == (
        f"Fashion-MNIST with ResNet-10 (narrow) and Two-conv (small): {SETTING.facts}. "
        f"MNIST with ResNet-10 (narrow): {other.facts}."
    )


@pytest.fixture
def table() -> Table:
    data = pd.DataFrame({"method": ["plain"], "accuracy_mean": [81.96666666]})
    display = pd.DataFrame({"Method": ["Plain"], "p < 1": ["81.97"]})
    return Table("accuracy", "Accuracy", "Some `facts`.", data, display)


def test_a_table_in_markdown_html_and_csv(table: Table, tmp_path: Path) -> None:
    table.write(tmp_path)
    markdown = (tmp_path / "accuracy.md").read_bytes()
    assert markdown == b"**Accuracy.** Some `facts`.\n\n| Method | p < 1 |\n| --- | --: |\n| Plain | 81.97 |\n"
    assert (tmp_path / "accuracy.csv").read_bytes() == b"method,accuracy_mean\nplain,81.966667\n"
    assert table.html == (
        '<table>\n<thead>\n<tr><th class="text">Method</th><th>p &lt; 1</th></tr>\n</thead>\n'
        '<tbody>\n<tr><td class="text">Plain</td><td>81.97</td></tr>\n</tbody>\n</table>'
    )
