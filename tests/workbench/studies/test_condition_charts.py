import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from test_charts import unlabelled

from workbench.reporting.metrics import Metric
from workbench.reporting.style import RC, colours, panels
from workbench.studies.conditions import broad_legend, gains_figure, legend_height, level_number

MEASURES = {"accuracy": Metric("Accuracy", digits=2), "nll": Metric("NLL", "nats", 3, "lower")}
METHODS = ["smoot", "sgt"]


def gains_of(axis: str, levels: tuple[str, ...]) -> pd.DataFrame:
    """Gains that tell level, method and measure apart."""
    rows = []
    for place, level in enumerate(levels):
        for number, method in enumerate(METHODS):
            for metric in MEASURES:
                gain = 0.01 * (1 + place) * (-1) ** number + (metric == "nll")
                row = {"axis": axis, "level": level, "method": method, "metric": metric, "difference": gain}
                rows.append(row | {"low": gain - 0.005, "high": gain + 0.002})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("level", "number"), [("500", 500), ("2,000", 2000), ("20 %", 20), ("0.4", 0.4), ("clean", np.nan), ("", np.nan)]
)
def test_levels_that_are_numbers(level: str, number: float) -> None:
    assert level_number(level) == pytest.approx(number, nan_ok=True)


def test_numbers_make_a_line_in_their_order_with_its_band() -> None:
    figure = gains_figure(gains_of("Training images", ("2,000", "500", "8,000")), "plain", MEASURES)
    left, right = figure.axes
    assert left.get_xscale() == "log" and left.get_xlabel() == "Training images"
    assert left.get_ylabel() == "Gain over Plain" and not list(unlabelled(figure))
    (line,) = (one for one in left.lines if to_hex(one.get_color()) == to_hex(colours(METHODS)["smoot"]))
    assert np.asarray(line.get_xdata()).tolist() == [500, 2000, 8000]
    assert np.asarray(line.get_ydata()) == pytest.approx([2, 1, 3])
    ends = left.collections[0].get_paths()[0].vertices
    assert (ends[:, 1].min(), ends[:, 1].max()) == pytest.approx((0.5, 3.2))
    assert [text.get_text() for text in left.get_xticklabels()] == ["500", "2,000", "8,000"]
    assert right.get_title(loc="left") == "NLL (nats) ↓"
    assert np.asarray(right.lines[0].get_ydata()) == pytest.approx([1.02, 1.01, 1.03])


def test_zero_has_no_logarithm() -> None:
    figure = gains_figure(gains_of("Wrong labels", ("0 %", "20 %", "40 %")), "plain", MEASURES)
    assert figure.axes[0].get_xscale() == "linear"
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["0 %", "20 %", "40 %"]


def test_other_levels_make_a_forest_below_the_lines() -> None:
    both = pd.concat([gains_of("Training images", ("500", "2,000")), gains_of("Test images", ("clean", "blurred"))])
    figure = gains_figure(both, "plain", MEASURES)
    assert len(figure.axes) == 4
    left, right = figure.axes[2:]
    assert [text.get_text() for text in left.get_yticklabels()] == ["clean", "blurred"]
    assert (left.get_ylabel(), left.get_xlabel()) == ("Test images", "Gain over Plain")
    middles = [bar.lines[0].get_xdata()[0] for bar in left.containers]
    assert middles == pytest.approx([1, -1, 2, -2])
    heights = [bar.lines[0].get_ydata()[0] for bar in left.containers]
    assert heights == sorted(heights) and heights[1] < 0.5 < heights[2]
    segment = left.containers[0].lines[2][0].get_segments()[0]
    assert segment[:, 0] == pytest.approx([0.5, 1.2])
    assert not right.yaxis.get_tick_params()["labelleft"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["SMOOT", "SGT"]


def test_long_names_stand_in_more_rows() -> None:
    short, long = [f"m{number}" for number in range(7)], [f"a_method_with_a_long_name_{number}" for number in range(7)]
    assert legend_height([]) == 0
    assert legend_height(short) == pytest.approx(0.4) and legend_height(long) == pytest.approx(0.6)
    with matplotlib.rc_context(RC):
        figure, _ = panels(1, 1, 3)
        broad_legend(figure, long)
        figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width
