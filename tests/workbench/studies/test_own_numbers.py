"""What the documents say of numbers per image and of the ramp: every difference is that of the committed runs."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from workbench.config import paths

TEXT = " ".join((paths.ROOT / "docs" / "replication.md").read_text().split())
GAP, MASS = "judge_gap_right_mean", "relevance_mass"
REGIMES = ("number", "number_few", "number_noise", "number_many")


def difference(profile: str, method: str, other: str, measure: str) -> tuple[float, float, float]:
    """Method minus other, paired by seed, in points: mean, and the t-interval of 95 %."""
    (file,) = (paths.ROOT / "results" / profile).glob("*/runs.csv")
    runs = pd.read_csv(file).pivot(index="seed", columns="method", values=measure)
    values = 100 * (runs[method] - runs[other])
    assert len(values) == 10
    low, high = stats.t.interval(0.95, 9, values.mean(), stats.sem(values))
    return float(values.mean()), float(low), float(high)


def shown(numbers: tuple[float, float, float]) -> str:
    mean, low, high = (f"{number:.1f}".replace("-", "−") for number in numbers)
    return f"{mean} [{low}, {high}]"


@pytest.mark.parametrize(
    ("profile", "method", "other", "measure"),
    [
        ("number_resnet", "per_image_loss", "per_image_shuffled", MASS),
        *(
            ("number_noise", "per_image_held", other, m)
            for other in ("per_image_held_shuffled", "plain")
            for m in (GAP, MASS)
        ),
        *(("number_noise", "per_image_loss", "per_image_shuffled", measure) for measure in (GAP, MASS)),
        *(
            ("number_noise", name, "plain", measure)
            for name in ("share_25", "per_image_loss")
            for measure in (GAP, MASS)
        ),
    ],
)
def test_the_differences_in_the_text_are_those_of_the_runs(profile: str, method: str, other: str, measure: str) -> None:
    assert shown(difference(profile, method, other, measure)) in TEXT


def masked_pixels(profile: str) -> pd.Series:
    """Share of all pixels that each method masks, in per cent: the mean over epochs and seeds."""
    (file,) = (paths.ROOT / "results" / profile).glob("*/epochs.csv")
    epochs = pd.read_csv(file)
    return 100 * (epochs["masked_share"] * epochs["masked_pixels"]).fillna(0).groupby(epochs["method"]).mean()


def test_how_much_own_and_shuffled_numbers_mask() -> None:
    masked = {profile: masked_pixels(profile) for profile in (*REGIMES, "number_resnet")}
    parts = [round(100 * own["per_image_shuffled"] / own["per_image_loss"]) for own in masked.values()]
    assert f"shuffled numbers mask on average {min(parts)} to {max(parts)} % as many" in TEXT
    assert parts[1] == min(parts)  # "fewest with 500 images"
    noise = masked["number_noise"]
    held, shuffled = noise["per_image_held"], noise["per_image_held_shuffled"]
    assert f"shuffled, they mask {shuffled:.1f} % of all pixels instead of {held:.1f} %." in TEXT
    assert round(noise["per_image_loss"]) == round(noise["per_image_shuffled"]) == 24
    accuracy = difference("number_noise", "per_image_loss", "plain", "accuracy")[0]
    assert f"at {-accuracy:.1f} points less accuracy" in TEXT


def test_own_numbers_put_more_saliency_on_the_object_than_shuffled_ones() -> None:
    found = [difference(profile, "per_image_loss", "per_image_shuffled", MASS) for profile in REGIMES]
    assert all(low > 0 for _, low, _ in found)
    least, most = np.min(found, 0)[0], np.max(found, 0)[0]
    assert f"put {least:.1f} to {most:.1f} points less saliency on the object" in TEXT


def test_held_out_beats_its_shuffled_control_by_every_judge_and_fill() -> None:
    for judge in ("judge", "second_judge"):
        for fill in ("mean", "black"):
            measure = f"{judge}_gap_right_{fill}"
            assert difference("number_noise", "per_image_held", "per_image_held_shuffled", measure)[1] > 0
    _, low, high = difference("number_noise", "per_image_held", "per_image_held_shuffled", "accuracy")
    assert low < 0 < high  # "at the same accuracy"


def test_the_ramp_is_more_accurate_than_the_gap_with_2000_images_and_its_maps_do_not_differ_clearly() -> None:
    text = " ".join((paths.ROOT / "docs" / "method.md").read_text().split())
    assert (
        f"the ramp is {shown(difference('number', 'ramp', 'gap', 'accuracy')).replace(' [', ' points more accurate [')}"
        in text
    )
    for measure in (GAP, "judge_gap_right_black", "second_judge_gap_right_mean", "second_judge_gap_right_black", MASS):
        _, low, high = difference("number", "gap", "ramp", measure)
        assert low < 0 < high
