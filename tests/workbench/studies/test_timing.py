"""What the documents say of SMOOT beside its own shares, replayed, shuffled and averaged: recomputed."""

import pandas as pd
import pytest
import yaml
from paired import difference, interval, prose, shown, table

from workbench.config import paths

TEXT = prose("docs/replication.md")
GAP, SECOND, MASS = "judge_gap_right_mean", "second_judge_gap_right_mean", "relevance_mass"
STUDIES = {"timing": "number", "timing_resnet": "number_resnet"}
TWINS = ("smoot_replayed", "smoot_shuffled", "smoot_mean")
DIGITS = {"accuracy": 2, GAP: 1, MASS: 1}


def twenty(profile: str, method: str, other: str, measure: str) -> "pd.Series[float]":
    """Method minus other over the twenty seeds of a profile, in points."""
    values = difference(table(profile), method, other, measure)
    assert len(values) == 20
    return values


@pytest.mark.parametrize(("profile", "source"), STUDIES.items())
def test_the_twins_have_the_shares_that_smoot_had_in_the_earlier_study(profile: str, source: str) -> None:
    methods = yaml.safe_load(paths.params_file(profile).read_text())["methods"]
    epochs = table(source, "epochs")
    shares = epochs[epochs["method"] == "gap"].groupby("epoch")["image_fraction"].mean().round(3).tolist()
    for name in ("smoot_replayed", "smoot_shuffled"):
        assert methods[name]["sequence"]["image_fractions"] == shares
    assert methods["smoot_mean"]["plan"]["image_fraction"] == round(sum(shares) / len(shares), 3)


@pytest.mark.parametrize("profile", STUDIES)
def test_the_table_in_the_text(profile: str) -> None:
    for other in TWINS:
        cells = [shown(twenty(profile, "smoot", other, measure), digits, "+") for measure, digits in DIGITS.items()]
        assert " | ".join([other.removeprefix("smoot_"), *cells]) in TEXT


def test_what_the_text_says_beside_the_table() -> None:
    verdicts = {
        profile: pd.read_csv(paths.ProfilePaths(profile).tables / "claims.csv").set_index("claim")["verdict"]
        for profile in STUDIES
    }
    supported = {profile: found[found == "supported"].index.tolist() for profile, found in verdicts.items()}
    assert supported == {"timing": ["accuracy not worse than their mean"], "timing_resnet": []}
    contradicted = {profile: found[found == "contradicted"].index.tolist() for profile, found in verdicts.items()}
    assert contradicted == {"timing": [], "timing_resnet": ["better on the object than their mean"]}
    light, dark = (
        shown(twenty("timing_resnet", "smoot_shuffled", "smoot", f"second_judge_gap_right_{fill}"), 1)
        for fill in ("mean", "black")
    )
    assert f"({light}; with black fill {dark})" in TEXT
    assert f"({shown(twenty('timing', 'smoot', 'smoot_mean', 'judge_gap_right_black'), 1)})" in TEXT
    masked = [table(profile, "epochs").query("method == 'smoot'")["masked_share"].mean() for profile in STUDIES]
    assert f"The total was {100 * masked[0]:.0f} and {100 * masked[1]:.0f} % of the images" in TEXT
    for measure, words in ((GAP, "judge's gap"), (MASS, "relevance mass"), ("accuracy", "accuracy")):
        pairs = [twenty(profile, "smoot", "plain", measure) for profile in STUDIES]
        texts = ["+" * bool(found.mean() > 0) + shown(found, DIGITS[measure]) for found in pairs]
        assert f"{words} {texts[0]} and {texts[1]}" in TEXT


def test_what_the_readings_say() -> None:
    readme = prose("README.md")
    first, resnet = (twenty(profile, "smoot", "plain", GAP) for profile in STUDIES)
    gain, loss = twenty("timing_resnet", "smoot", "plain", "accuracy"), twenty("timing", "plain", "smoot", "accuracy")
    assert f"and +{shown(first, 1).replace(' [', ' points [')} on three lots of twenty fresh seeds" in readme
    assert f"On a narrow ResNet they gain {shown(resnet, 1)}" in readme
    assert f"at {shown(gain, 1).replace(' [', ' points [')} more" in readme
    assert f"0.16 to {loss.mean():.2f} points less" in readme
    assert f"{shown(loss, 2)} on those of `timing`" in TEXT
    assert f"the strided ResNet gains {shown(gain, 2)}" in TEXT
    assert f"for the second judge {shown(twenty('timing_resnet', 'smoot', 'plain', SECOND), 1)}" in TEXT
    plain, smoot = (
        [twenty("timing_resnet", method, "random", measure) for measure in (GAP, MASS)] for method in ("plain", "smoot")
    )
    mean, *ends = interval(plain[0])
    assert f"({mean:.1f} points above it on twenty seeds [{ends[0]:.1f}, {ends[1]:.1f}])" in TEXT
    assert f"below it on the object, {shown(plain[1], 1)}" in TEXT
    assert "SMOOT's are above, " + " and ".join("+" + shown(found, 1) for found in smoot) in TEXT
