"""Controls: maps that do not look at the network, measured beside every run, and the rows that tables show of them."""

from collections.abc import Sequence

import pandas as pd

from workbench.reporting.words import Titles

CONTROLS = {"random": "Random map", "edges": "Edge filter"}  # prefix of a control's columns, and its title
SOURCE = "plain"  # the method whose runs tables take the controls from, if there is one
LARGEST_REGION = 0.75  # of the image; a threshold of brightness calls nine tenths of a photograph the object
LOCATED = ("relevance_mass", "relevance_rank", "pointing_game")  # measures of where the saliency lies
TILE = 0.25  # grid pointing of a map that is the same for every class: each of the four tiles is the asked one once
CONTROLLED = (
    *("relevance_mass", "relevance_rank", "pointing_game", "gini", "gap_{fill}", "deletion_auc_{fill}"),
    *("insertion_auc_{fill}", "judge_gap_right_{fill}", "second_judge_gap_right_{fill}"),
)


def controlled(fills: Sequence[str]) -> list[str]:
    """The metrics X that are measured of the controls too, as ``random_X`` and ``edges_X``."""
    names = [name.format(fill=fill) for name in CONTROLLED for fill in fills]
    return list(dict.fromkeys(names))


def located(frame: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """A frame with NaN for where the saliency lies in data sets whose region is most of the image.

    There a map that knows nothing is right nearly as often as the best one.

    Args:
        frame: rows with a ``dataset``.
        runs: the metrics of each run. A random map's relevance mass is the region's share of the image; a data set
            whose mean is above `LARGEST_REGION` has nothing to locate.
    """
    if frame.empty or "random_relevance_mass" not in runs:
        return frame
    shares = frame["dataset"].map(runs.groupby("dataset")["random_relevance_mass"].mean())
    columns = [name for name in frame if str(name).endswith(LOCATED)]
    return frame.assign(**{str(name): frame[name].where(~(shares > LARGEST_REGION)) for name in columns})


def with_controls(frame: pd.DataFrame, methods: Titles) -> tuple[pd.DataFrame, Titles]:
    """Runs and titles of methods, and below them those of the controls, as if these were methods.

    Args:
        frame: one row of metrics per method and seed, of one or more data sets and backbones.
        methods: titles by name.

    Returns:
        The frame with a row per control for each run of `SOURCE`, or of the first method: its metrics are those of
        the control, and what is not measured of it is NaN. And the titles.
    """
    source = SOURCE if SOURCE in methods else next(iter(methods))
    own = frame[frame["method"] == source]
    keys = [name for name in ("dataset", "backbone", "seed") if name in own]
    parts = [frame]
    for control in CONTROLS:
        measured = [str(name) for name in own if str(name).startswith(f"{control}_")]
        names = {name: name.removeprefix(f"{control}_") for name in measured}
        rows = own[[*keys, *names]].rename(columns=names).assign(method=control)
        if "grid_pointing" in own:
            rows["grid_pointing"] = own["grid_pointing"].where(own["grid_pointing"].isna(), TILE)
        parts.append(rows)
    return pd.concat(parts, ignore_index=True), {**methods, **CONTROLS}


def source_of(methods: Titles) -> str:
    """A sentence for captions: what the controls are and whose runs they are measured on."""
    title = methods[SOURCE] if SOURCE in methods else next(iter(methods.values()))
    return (
        "Random map (uniform noise) and Edge filter (Sobel) do not look at the network: what chance and the image "
        f"alone reach, on the runs of {title}"
    )
