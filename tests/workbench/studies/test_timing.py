"""What the documents say of SMOOT beside its own shares, replayed, shuffled and averaged: recomputed."""

import pandas as pd
import pytest
import yaml
from scipy import stats

from workbench.config import paths

TEXT = " ".join((paths.ROOT / "docs" / "replication.md").read_text().split())
GAP, SECOND, MASS = "judge_gap_right_mean", "second_judge_gap_right_mean", "relevance_mass"
STUDIES = {"timing": "number", "timing_resnet": "number_resnet"}
TWINS = ("smoot_replayed", "smoot_shuffled", "smoot_mean")
DIGITS = {"accuracy": 2, GAP: 1, MASS: 1}


def table(profile: str, name: str) -> pd.DataFrame:
    (file,) = (paths.ROOT / "results" / profile).glob(f"*/{name}.csv")
    return pd.read_csv(file)


def difference(profile: str, other: str, measure: str) -> tuple[float, float, float]:
    """SMOOT minus another method, paired by seed, in points: mean, and the t-interval of 95 %."""
    runs = table(profile, "runs").pivot(index="seed", columns="method", values=measure)
    values = 100 * (runs["smoot"] - runs[other])
    assert len(values) == 20
    low, high = stats.t.interval(0.95, 19, values.mean(), stats.sem(values))
    return float(values.mean()), float(low), float(high)


def over_chance(method: str, measure: str) -> tuple[float, float, float]:
    """A method's maps minus a random map on the same ResNets, in points: mean, and the t-interval of 95 %."""
    own = table("timing_resnet", "runs").query("method == @method")
    values = 100 * (own[measure] - own[f"random_{measure}"])
    low, high = stats.t.interval(0.95, 19, values.mean(), stats.sem(values))
    return float(values.mean()), float(low), float(high)


def shown(numbers: tuple[float, float, float], digits: int, sign: str = "+") -> str:
    mean, low, high = (f"{number:{sign}.{digits}f}".replace("-", "−") for number in numbers)
    return f"{mean} [{low}, {high}]"


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
        cells = [shown(difference(profile, other, measure), digits) for measure, digits in DIGITS.items()]
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
    (mean, low, high), (dark, *ends) = (
        difference("timing_resnet", "smoot_shuffled", f"second_judge_gap_right_{fill}") for fill in ("mean", "black")
    )
    black = shown((-dark, -ends[1], -ends[0]), 1, "")
    assert f"({shown((-mean, -high, -low), 1, '')}; with black fill {black})" in TEXT
    assert f"({shown(difference('timing', 'smoot_mean', 'judge_gap_right_black'), 1, '')})" in TEXT
    masked = [table(profile, "epochs").query("method == 'smoot'")["masked_share"].mean() for profile in STUDIES]
    assert f"The total was {100 * masked[0]:.0f} and {100 * masked[1]:.0f} % of the images" in TEXT
    for measure, words in ((GAP, "judge's gap"), (MASS, "relevance mass"), ("accuracy", "accuracy")):
        pairs = [difference(profile, "plain", measure) for profile in STUDIES]
        texts = ["+" * (found[0] > 0) + shown(found, DIGITS[measure], "") for found in pairs]
        assert f"{words} {texts[0]} and {texts[1]}" in TEXT


def test_what_the_readings_say() -> None:
    readme = " ".join((paths.ROOT / "README.md").read_text().split())
    mean, *ends = difference("timing", "plain", GAP)
    assert f"and +{mean:.1f} points [{ends[0]:.1f}, {ends[1]:.1f}] on three lots of twenty fresh seeds" in readme
    mean, *ends = difference("timing_resnet", "plain", GAP)
    assert f"On a narrow ResNet they gain {mean:.1f} [{ends[0]:.1f}, {ends[1]:.1f}]" in readme
    mean, *ends = difference("timing_resnet", "plain", "accuracy")
    assert f"at {mean:.1f} points [{ends[0]:.1f}, {ends[1]:.1f}] more" in readme
    mean, low, high = difference("timing", "plain", "accuracy")
    assert f"{-mean:.2f} [{-high:.2f}, {-low:.2f}] on those of `timing`" in TEXT
    assert f"0.16 to {-mean:.2f} points less" in readme
    assert f"the strided ResNet gains {shown(difference('timing_resnet', 'plain', 'accuracy'), 2, '')}" in TEXT
    assert f"for the second judge {shown(difference('timing_resnet', 'plain', SECOND), 1, '')}" in TEXT
    plain, smoot = ([over_chance(method, measure) for measure in (GAP, MASS)] for method in ("plain", "smoot"))
    mean, *ends = plain[0]
    assert f"({mean:.1f} points above it on twenty seeds [{ends[0]:.1f}, {ends[1]:.1f}])" in TEXT
    assert f"below it on the object, {shown(plain[1], 1, '')}" in TEXT
    assert "SMOOT's are above, " + " and ".join("+" + shown(found, 1, "") for found in smoot) in TEXT
