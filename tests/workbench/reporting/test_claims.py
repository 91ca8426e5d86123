import math
from dataclasses import replace

import pandas as pd
import pytest
from synthetic import SETTING, TITLES

from workbench.reporting.claims import claim_verdicts, claims_overview, claims_table
from workbench.reporting.questions import Claim
from workbench.results.statistics import holm, shifted

PLAIN = [0.80, 0.81, 0.82]
SHORTCUT = replace(SETTING, dataset="shortcut_mnist", region="shortcut")
TWO_CONV = replace(SETTING, backbone="two_conv_small")
CLAIM = Claim("not worse than plain", "accuracy", "higher", "smoot", "plain", "primary", margin=0.003)


def frame(smoot: list[float], plain: list[float] = PLAIN, metric: str = "accuracy") -> pd.DataFrame:
    """The runs of two methods, the seeds of one in another order."""
    rows = [("plain", seed, value) for seed, value in enumerate(plain)]
    rows += [("smoot", seed, value) for seed, value in reversed(list(enumerate(smoot)))]
    return pd.DataFrame(rows, columns=["method", "seed", metric])


def gained(*differences: float) -> list[float]:
    return [plain + difference for plain, difference in zip(PLAIN, differences, strict=True)]


def decided(smoot: list[float], claim: Claim = CLAIM) -> pd.Series:
    return claim_verdicts([claim], [(SETTING, frame(smoot))]).iloc[0]


def by_hand(differences: list[float], margin: float) -> tuple[float, float, float]:
    """Interval of three differences, and t of their distance from the margin."""
    mean = sum(differences) / 3
    sd = math.sqrt(sum((d - mean) ** 2 for d in differences) / 2)
    half = 4.302652729911275 * sd / math.sqrt(3)
    return mean - half, mean + half, (mean + margin) / sd * math.sqrt(3)


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ((0.010, 0.011, 0.012), "supported"),  # clearly better
        ((-0.001, -0.0011, -0.0009), "supported"),  # a little worse, and surely by less than the margin
        ((-0.010, -0.011, -0.012), "contradicted"),  # all of the interval below -0.003; p is small here too
        ((-0.002, 0.004, 0.001), "inconclusive"),  # above the margin, but not surely
        ((-0.002, -0.008, -0.005), "inconclusive"),  # worse on average; the interval reaches above -0.003
        ((-0.0035, -0.0045, -0.004), "inconclusive"),  # surely worse, but not surely by more than the margin
    ],
)
def test_each_verdict(differences: tuple[float, ...], expected: str) -> None:
    found = decided(gained(*differences))
    low, high, t = by_hand(list(differences), 0.003)
    assert (found["low"], found["high"]) == pytest.approx((low, high))
    assert found["effect"] == pytest.approx(sum(differences) / 3)
    # two degrees of freedom: p = 1 - |t| / sqrt(t^2 + 2)
    assert found["p_value"] == pytest.approx(1 - abs(t) / math.sqrt(t**2 + 2))
    assert found["p_holm"] == found["p_value"]  # alone in its family
    assert found["verdict"] == expected
    assert (found["n"], found["margin"], found["p_required"]) == (3, 0.003, 0.05)


def test_the_required_p_decides() -> None:
    smoot = gained(0.010, 0.011, 0.012)
    p = decided(smoot)["p_holm"]
    assert decided(smoot, replace(CLAIM, p=1.01 * p))["verdict"] == "supported"
    assert decided(smoot, replace(CLAIM, p=p))["verdict"] == "inconclusive"  # not below


def test_where_lower_is_better_an_improvement_is_a_fall() -> None:
    lower, fallen = replace(CLAIM, better="lower", margin=0.0), gained(-0.010, -0.011, -0.012)
    assert decided(fallen, lower)["effect"] == pytest.approx(0.011)
    assert decided(fallen, lower)["verdict"] == "supported"
    assert decided(fallen, replace(lower, better="higher"))["verdict"] == "contradicted"


def test_one_seed_is_inconclusive_without_a_spread_the_difference_decides() -> None:
    one = claim_verdicts([CLAIM], [(SETTING, frame([0.9], [0.8]))]).iloc[0]
    assert (one["verdict"], one["n"]) == ("inconclusive", 1) and math.isnan(one["p_holm"])
    assert decided(gained(0.01, 0.01, 0.01))["verdict"] == "supported"
    assert decided(gained(-0.01, -0.01, -0.01))["verdict"] == "contradicted"
    assert decided(PLAIN, replace(CLAIM, margin=0.0))["verdict"] == "inconclusive"


def test_what_is_undefined_or_absent_is_not_measured() -> None:
    undefined = frame([0.8, math.nan, 0.9])
    absent = replace(CLAIM, name="r", reference="sgt")
    found = claim_verdicts([CLAIM, absent], [(SETTING, undefined)])
    assert found["verdict"].tolist() == ["not measured"] * 2
    assert found["n"].tolist() == [0] * 2 and found["p_holm"].isna().all() and found["effect"].isna().all()
    other = pd.DataFrame([("sgt", 0, math.nan)], columns=["method", "seed", "accuracy"])
    found = claim_verdicts([CLAIM], [(SETTING, pd.concat([frame(gained(0.010, 0.011, 0.012)), other]))])
    assert found["verdict"].tolist() == ["supported"]  # undefined runs of another method do not matter


def test_a_metric_that_nobody_measures_and_seeds_that_are_not_shared_are_mistakes() -> None:
    wrong = replace(CLAIM, metric="acuracy")
    with pytest.raises(ValueError, match="no record has the metric 'acuracy': correct its name"):
        claim_verdicts([wrong], [(SETTING, frame([0.8, 0.9, 0.9]))])
    with pytest.raises(ValueError, match=r"cannot decide 'not worse than plain': .* do not share the seeds \[2\]"):
        claim_verdicts([CLAIM], [(SETTING, frame([0.8, 0.9]))])


BY_CHANCE = Claim("better than chance", "gini", "higher", "smoot", "chance", "primary")


@pytest.mark.parametrize(
    ("gains", "expected"),
    [((0.1, 0.11, 0.12), "supported"), ((-0.1, -0.11, -0.12), "contradicted"), ((0.1, -0.1, 0.05), "inconclusive")],
)
def test_chance_is_a_random_map_on_the_same_network(gains: tuple[float, ...], expected: str) -> None:
    own = pd.DataFrame({"method": "smoot", "seed": [2, 0, 1], "random_gini": [0.30, 0.35, 0.33]})
    own["gini"] = own["random_gini"] + list(gains)
    other = pd.DataFrame({"method": "plain", "seed": [0, 1, 2], "gini": 0.9, "random_gini": 0.1})
    found = claim_verdicts([BY_CHANCE], [(SETTING, pd.concat([other, own]))]).iloc[0]
    assert (found["verdict"], found["reference"], found["n"]) == (expected, "chance", 3)
    low, high, _ = by_hand(list(gains), 0.0)
    assert (found["effect"], found["low"], found["high"]) == pytest.approx((sum(gains) / 3, low, high))


def test_against_chance_what_has_no_random_map_is_not_measured() -> None:
    own = pd.DataFrame({"method": "smoot", "seed": [0, 1], "gini": [0.5, 0.6]})
    for runs in (own, own.assign(random_gini=[0.3, math.nan]), own.assign(method="sgt", random_gini=0.3)):
        assert claim_verdicts([BY_CHANCE], [(SETTING, runs)])["verdict"].tolist() == ["not measured"]


def test_holm_runs_within_a_family_on_a_setting_and_nowhere_else() -> None:
    """Three claims of one family and one of another, on two settings."""
    smoot = {SETTING: gained(0.003, 0.004, 0.006), TWO_CONV: gained(0.001, 0.009, 0.004)}
    margins = (0.0, 0.01, 0.004)
    claims = [replace(CLAIM, name=str(margin), margin=margin) for margin in margins]
    claims.append(replace(CLAIM, name="alone", family="secondary"))
    found = claim_verdicts(claims, [(setting, frame(own)) for setting, own in smoot.items()])

    assert found["claim"].tolist() == [name for name in ("0.0", "0.01", "0.004", "alone") for _ in range(2)]
    for setting, own in smoot.items():
        *family, alone = found[found["backbone"] == setting.backbone].to_dict("records")
        raw = [shifted(own, PLAIN, margin=margin).p_value for margin in margins]
        assert [row["p_value"] for row in family] == pytest.approx(raw)
        assert [row["p_holm"] for row in family] == pytest.approx(holm(raw))
        assert alone["p_holm"] == alone["p_value"]


def test_a_claim_is_decided_in_its_own_settings() -> None:
    groups = [(SETTING, frame(PLAIN)), (TWO_CONV, frame(PLAIN))]
    claims = [replace(CLAIM, name="one", settings=("fashion_mnist-two_conv_small",)), replace(CLAIM, name="all")]
    found = claim_verdicts(claims, groups)
    where = (found["claim"] + " in " + found["backbone"]).tolist()
    assert where == ["one in two_conv_small", "all in resnet10_narrow", "all in two_conv_small"]
    assert claim_verdicts([], groups).empty


def test_claims_as_shown() -> None:
    runs = frame(gained(0.010, 0.011, 0.012)).assign(grid_pointing=math.nan)
    in_grid = Claim("better in the grid", "grid_pointing", "higher", "smoot", "plain", "other", p=0.01)
    verdicts = claim_verdicts([CLAIM, in_grid], [(SETTING, runs), (SHORTCUT, runs)])
    glance = claims_overview(verdicts, TITLES, [SETTING, SHORTCUT]).display
    assert glance["Claim"].tolist() == ["SMOOT: not worse than plain", "SMOOT: better in the grid"]
    assert glance[SETTING.name].tolist()[0] == "✓ +1.10" and glance[SHORTCUT.name].tolist()[1] == "–"
    table = claims_table(verdicts, TITLES, [SETTING, SHORTCUT])
    half = 100 * 4.302652729911275 * 0.001 / math.sqrt(3)
    assert table.display.iloc[0].to_dict() == {
        "Claim": "SMOOT: not worse than plain",
        "Setting": "Fashion-MNIST, ResNet-10 (narrow)",
        "Measure": "Accuracy (points) ↑",
        "Improvement ↑": f"+1.10 [+{1.1 - half:.2f}, +{1.1 + half:.2f}]",
        "Margin": "0.30",
        "p ↓": "0.002",
        "Verdict": "supported",
    }
    assert table.display["Claim"].tolist() == ["SMOOT: not worse than plain", "", "SMOOT: better in the grid", ""]
    undefined = table.display.iloc[3]
    assert (undefined["Improvement ↑"], undefined["p ↓"], undefined["Verdict"]) == ("–", "–", "not measured")
    assert undefined["Setting"].startswith("Shortcut-MNIST, ") and table.data["p_required"].tolist()[3] == 0.01
    assert table.data["effect"].tolist()[:2] == pytest.approx([0.011, 0.011])  # in the metric's own unit
