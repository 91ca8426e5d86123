from dataclasses import replace

import numpy as np
import pytest
from drawing import LOOKS, legend_texts
from synthetic import Network, samples

from workbench.reporting import saliency_maps
from workbench.results.samples import Samples, relative_saliency

NETWORK = Network("laptop", "fashion_mnist", "resnet10_narrow", "plain")


@pytest.fixture
def of_methods() -> dict[str, Samples]:
    return {m: samples(replace(NETWORK, method=m)) for m in LOOKS}


def test_relative_saliency_has_mean_one_and_keeps_empty_maps(of_methods: dict[str, Samples]) -> None:
    made = of_methods["sgt"]
    empty = replace(made, saliency=np.concatenate([made.saliency[:1], 0 * made.saliency[1:]]))
    relative = relative_saliency(empty.saliency)
    assert relative[0].mean() == pytest.approx(1)
    assert relative[0] / relative[0].max() == pytest.approx(made.saliency[0] / made.saliency[0].max(), rel=1e-5)
    assert not relative[1:].any()


def test_all_maps_share_one_scale_and_one_colour_bar(of_methods: dict[str, Samples]) -> None:
    figure = saliency_maps.saliency_maps(of_methods, LOOKS)
    maps = [axes.images[0] for axes in figure.axes if axes.images and axes.images[0].cmap.name == "magma"]
    inputs = [axes.images[0] for axes in figure.axes if axes.images and axes.images[0].cmap.name == "gray"]
    bars = [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]

    assert (len(inputs), len(maps), len(bars)) == (6, 6 * 3, 1)
    limits = {picture.get_clim() for picture in maps}
    assert len(limits) == 1
    everything = np.concatenate([np.asarray(picture.get_array()).ravel() for picture in maps])
    assert limits.pop() == pytest.approx((0, np.percentile(everything, 99)))
    assert bars[0].get_ylim() == maps[0].get_clim()
    assert bars[0].get_ylabel() == "Saliency in multiples of the map's mean"
    assert [axes.get_title() for axes in figure.axes[:4]] == ["Input", "Plain", "SGT", "SMOOT"]


def test_rows_are_the_same_images_and_wrong_answers_are_marked(of_methods: dict[str, Samples]) -> None:
    figure = saliency_maps.saliency_maps(of_methods, LOOKS)
    rows = [figure.axes[start : start + 4] for start in range(0, 24, 4)]
    shown = [0, 2, 4, 5, 7, 9]  # evenly spaced among ten
    for index, (given, *maps) in zip(shown, rows, strict=True):
        assert np.array_equal(given.images[0].get_array(), of_methods["plain"].images[index, 0])
        assert given.get_xlabel() == f"class {index}"
        for method, axes in zip(LOOKS, maps, strict=True):
            expected = relative_saliency(of_methods[method].saliency)[index]
            assert np.asarray(axes.images[0].get_array()) == pytest.approx(expected)
            answer = of_methods[method].predictions[index]
            assert axes.get_xlabel() == ("✓" if answer == index else f"✗ {answer}")
    marks = {axes.get_xlabel()[0] for row in rows for axes in row[1:]}
    assert marks == {"✓", "✗"}  # both occur, or this test would prove little


def test_colour_images_and_few_samples(of_methods: dict[str, Samples]) -> None:
    two = np.repeat(of_methods["plain"].images[:2], 3, axis=1)
    figure = saliency_maps.saliency_maps({m: samples(replace(NETWORK, method=m), two) for m in LOOKS}, LOOKS)
    assert len(figure.axes) == 2 * 4 + 1
    assert figure.axes[0].images[0].get_array().shape == (28, 28, 3)


def test_tall_images_get_fewer_rows(of_methods: dict[str, Samples]) -> None:
    images = np.random.default_rng(0).random((10, 1, 56, 28))
    tall = {m: samples(replace(NETWORK, method=m), images) for m in LOOKS}
    figure = saliency_maps.saliency_maps(tall, LOOKS)
    assert [axes.get_xlabel() for axes in figure.axes[:12:4]] == ["class 0", "class 4", "class 9"]
    assert len(figure.axes) == 3 * 4 + 1
    square = saliency_maps.saliency_maps(of_methods, LOOKS)
    assert figure.get_figheight() < 1.1 * square.get_figheight()


def test_attributions_side_by_side_in_their_own_order_on_one_scale(of_methods: dict[str, Samples]) -> None:
    made = of_methods["smoot"]
    shuffled = replace(made, attribution_names=made.attribution_names[::-1], attributions=made.attributions[::-1])
    figure = saliency_maps.attribution_maps(shuffled)
    titles = [axes.get_title().replace("\n", " ") for axes in figure.axes[:7]]
    names = ["Gradient", "Input × gradient", "SmoothGrad", "Integrated gradients", "Random", "Edges"]
    assert titles == ["Input", *names]
    assert len(figure.axes) == 6 * 7 + 1
    second = figure.axes[7:14]  # the second row shows the third image
    assert np.array_equal(second[0].images[0].get_array(), made.images[2, 0])
    place = made.attribution_names.tolist().index("edges")
    expected = relative_saliency(made.attributions[place])[2]
    assert np.asarray(second[6].images[0].get_array()) == pytest.approx(expected)
    assert len({axes.images[0].get_clim() for axes in second[1:]}) == 1
    labels = [axes.get_xlabel() for axes in figure.axes[: 6 * 7 : 7]]
    answers = [(k, made.predictions[k]) for k in (0, 2, 4, 5, 7, 9)]
    assert labels == [f"class {k} ✓" if k == answer else f"class {k} ✗ {answer}" for k, answer in answers]
    assert {label.split()[2] for label in labels} == {"✓", "✗"}


def test_gradient_density_by_hand(of_methods: dict[str, Samples]) -> None:
    edges, counts = np.array([-3.0, -2.0, -1.5, 0.0]), np.array([2, 6, 2])
    made = replace(of_methods["plain"], gradient_edges=edges, gradient_counts=counts)
    middle, density, median = saliency_maps.gradient_density(made)
    assert middle == pytest.approx([-2.5, -1.75, -0.75])
    assert density == pytest.approx([0.2, 1.2, 0.2 / 1.5])  # times the widths, 1 in all
    assert median == pytest.approx(-1.75)


def test_zero_gradients_are_told_and_not_drawn(of_methods: dict[str, Samples]) -> None:
    """A pile in the lowest bin moves neither line nor median; the legend says how large it is."""
    made = of_methods["plain"]
    counts = made.gradient_counts.copy()
    counts[0] = counts[1:].sum() / 3
    both = (made, replace(made, gradient_counts=counts))
    before, after = (saliency_maps.gradient_magnitudes({"plain": sample}, LOOKS) for sample in both)
    for old, new in zip(before.axes[0].lines, after.axes[0].lines, strict=True):
        assert new.get_xydata() == pytest.approx(old.get_xydata())
    assert "zero" not in legend_texts(before)[0] and legend_texts(after)[0].endswith(", 25 % zero)")


def test_the_distribution_of_gradients_by_hand(of_methods: dict[str, Samples]) -> None:
    """Ten bins a decade wide; the lowest holds zeros, and the next are as good as empty."""
    counts = {"plain": [5, 0, 1, 0, 400, 500, 99, 0, 0, 0], "sgt": [0, 0, 0, 0, 0, 300, 600, 100, 0, 1]}
    made = {
        method: replace(of_methods[method], gradient_edges=np.arange(-8.0, 3.0), gradient_counts=np.array(own))
        for method, own in counts.items()
    }
    figure = saliency_maps.gradient_magnitudes(made, LOOKS)
    (axes,) = figure.axes
    for method, own in counts.items():
        line, median = (line for line in axes.lines if line.get_color() == LOOKS[method].colour)
        assert line.get_xdata() == pytest.approx(np.arange(-6.5, 2.5))
        assert line.get_ydata() == pytest.approx(np.array(own[1:]) / sum(own[1:]))
        assert (median.get_xdata()[0], median.get_ydata()[0]) == pytest.approx(
            {"plain": (-3 + 99 / 500, 0), "sgt": (-2 + 200.5 / 600, 0)}[method]
        )
    assert axes.get_xlim() == (-4, 0)  # 99.8 % of the pixels of either method
    assert axes.get_xlabel() and axes.get_ylabel() == "Density (1 / decade)"
    assert legend_texts(figure) == ["Plain (median $10^{-2.8}$)", "SGT (median $10^{-1.7}$)"]


def test_overlays_show_the_methods_and_a_random_map_over_the_images(of_methods: dict[str, Samples]) -> None:
    figure = saliency_maps.overlays(of_methods, LOOKS)
    titles = [axes.get_title() for axes in figure.axes[:5]]
    assert titles == ["Input", *(look.title for look in LOOKS.values()), "Random map"]
    assert len(figure.axes) == 3 * 5
    for method, axes in zip(LOOKS, figure.axes[1:4], strict=True):
        below, above = axes.images
        assert np.asarray(above.get_array()) == pytest.approx(relative_saliency(of_methods[method].saliency)[0])
        assert np.asarray(below.get_array()).max() <= 0.55
        assert np.asarray(above.get_alpha()).shape == (28, 28)
