"""Paired differences of committed runs, and how the documents write them."""

import pandas as pd
from scipy import stats

from workbench.config import paths


def prose(document: str) -> str:
    """A document's text with single spaces in place of line breaks."""
    return " ".join((paths.ROOT / document).read_text(encoding="utf-8").split())


def table(profile: str, name: str = "runs") -> pd.DataFrame:
    """A committed table of a profile with one setting."""
    (file,) = (paths.ROOT / "results" / profile).glob(f"*/{name}.csv")
    return pd.read_csv(file)


def difference(runs: pd.DataFrame, method: str, other: str, measure: str) -> "pd.Series[float]":
    """Method minus other, paired by seed, in points; ``random`` is a random map of the method's own networks."""
    values = runs.set_index(["method", "seed"])
    own = values.loc[method]
    return 100 * (own[measure] - (own[f"random_{measure}"] if other == "random" else values.loc[other, measure]))


def interval(values: "pd.Series[float]") -> tuple[float, float, float]:
    """Mean, and the t-interval of 95 %; all 0 where nothing differs."""
    if not values.any():
        return 0.0, 0.0, 0.0
    low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    return float(values.mean()), float(low), float(high)


def shown(values: "pd.Series[float]", digits: int, sign: str = "") -> str:
    """As the documents write it: ``mean [low, high]``; with ``sign="+"`` every number has its sign."""
    mean, low, high = (f"{number:{sign}.{digits}f}".replace("-", "−") for number in interval(values))
    return f"{mean} [{low}, {high}]"
