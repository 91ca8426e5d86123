import numpy as np
import pandas as pd
import pytest
from synthetic import growth
from test_charts import METHODS, solid, unlabelled

from workbench.reporting import cost_charts

EPOCHS = [1, 2, 3]


def costs(factor: float = 1.0) -> pd.DataFrame:
    """Two seeds of two methods; ``sgt`` has no rows."""
    rows = [
        {"method": method, "seed": seed, "epoch": epoch, "relative": factor * cost * epoch + seed, "limit": cost}
        for method, cost in {"plain": 1.0, "smoot": 2.0}.items()
        for seed in (0, 1)
        for epoch in EPOCHS
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("count", [1, 3])
def test_a_run_has_a_line_per_method_and_its_limit_dotted(count: int) -> None:
    figure = cost_charts.run_cost({f"setting {number}": costs(number + 1) for number in range(count)}, METHODS)

    assert [axes.get_title(loc="left") for axes in figure.axes] == [f"setting {number}" for number in range(count)]
    last = figure.axes[-1]
    assert solid(last, "smoot") == pytest.approx([2 * count + 0.5, 4 * count + 0.5, 6 * count + 0.5])
    dotted = [np.asarray(line.get_ydata()).tolist() for line in last.lines if line.get_linestyle() == ":"]
    assert dotted == [[1, 1, 1], [2, 2, 2]]
    assert last.get_ylim()[0] == 0
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["Plain", "SMOOT", "arithmetic limit"]
    assert not list(unlabelled(figure))


def test_growth_is_logarithmic_beside_a_line_of_slope_one() -> None:
    frame = growth()
    figure = cost_charts.growth(frame)
    assert len(figure.axes) == 8
    time, memory = figure.axes[0], figure.axes[4]
    assert (time.get_xscale(), time.get_yscale()) == ("log", "log")
    assert (time.get_title(loc="left"), memory.get_xlabel()) == ("Batch size", "Images of a batch")
    assert (time.get_ylabel(), memory.get_ylabel()) == ("Time (s)", "Peak memory (MiB)")
    assert solid(time, "plain") == pytest.approx([0.0066, 0.0114, 0.0306])  # seconds
    assert solid(memory, "smoot") == pytest.approx([20.32, 21.28, 25.12])
    (reference,) = (line for line in time.lines if line.get_linestyle() == ":")
    x, y = np.asarray(reference.get_xdata()), np.asarray(reference.get_ydata())
    assert y[-1] == pytest.approx(0.0612)
    assert np.diff(np.log(y)) == pytest.approx(np.diff(np.log(x)))
    assert [text.get_text() for text in figure.axes[2].get_xticklabels()] == ["2", "1,000"]
    assert not list(unlabelled(figure))


def test_growth_shows_the_axes_that_were_measured() -> None:
    frame = growth()
    figure = cost_charts.growth(frame[frame["axis"] == "num_images"])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Training images", ""]
