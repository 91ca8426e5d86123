import math

from workbench.reporting.words import class_name, display_name, fixed, in_order, interval, plus_minus, probability


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
    assert display_name("two_conv") == "Two-conv"
    assert display_name("vit_tiny") == "vit_tiny"
    assert [display_name(name) for name in ("block_mnist", "shortcut_mnist")] == ["BlockMNIST", "Shortcut-MNIST"]


def test_attributions_come_in_a_fixed_order_and_unknown_ones_last() -> None:
    assert in_order({"new", "edges", "gradient", "about", "random"}) == ["gradient", "random", "edges", "about", "new"]


def test_classes_have_the_names_that_readers_know() -> None:
    assert [class_name("fashion_mnist", label) for label in (0, 9)] == ["T-shirt", "ankle boot"]
    assert (class_name("block_mnist", 3), class_name("my_birds", 3)) == ("digit 3", "class 3")
