"""What the documents say of numbers per image and of the ramp: every difference is that of the committed runs."""

import numpy as np
import pandas as pd
import pytest
from paired import difference, interval, prose, shown, table

TEXT = prose("docs/replication.md")
GAP, MASS = "judge_gap_right_mean", "relevance_mass"
REGIMES = ("number", "number_few", "number_noise", "number_many")


def ten(profile: str, method: str, other: str, measure: str) -> "pd.Series[float]":
    """Method minus other over the ten seeds of a profile, in points."""
    values = difference(table(profile), method, other, measure)
    assert len(values) == 10
    return values


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
    assert shown(ten(profile, method, other, measure), 1) in TEXT


def masked_pixels(profile: str) -> pd.Series:
    """Share of all pixels that each method masks, in per cent: the mean over epochs and seeds."""
    epochs = table(profile, "epochs")
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
    accuracy = ten("number_noise", "per_image_loss", "plain", "accuracy").mean()
    assert f"at {-accuracy:.1f} points less accuracy" in TEXT


def test_own_numbers_put_more_saliency_on_the_object_than_shuffled_ones() -> None:
    found = [interval(ten(profile, "per_image_loss", "per_image_shuffled", MASS)) for profile in REGIMES]
    assert all(low > 0 for _, low, _ in found)
    least, most = np.min(found, 0)[0], np.max(found, 0)[0]
    assert f"put {least:.1f} to {most:.1f} points less saliency on the object" in TEXT


def test_held_out_beats_its_shuffled_control_by_every_judge_and_fill() -> None:
    for judge in ("judge", "second_judge"):
        for fill in ("mean", "black"):
            measure = f"{judge}_gap_right_{fill}"
            assert interval(ten("number_noise", "per_image_held", "per_image_held_shuffled", measure))[1] > 0
    _, low, high = interval(ten("number_noise", "per_image_held", "per_image_held_shuffled", "accuracy"))
    assert low < 0 < high  # "at the same accuracy"


def test_the_ramp_is_more_accurate_than_the_gap_with_2000_images_and_its_maps_do_not_differ_clearly() -> None:
    ahead = shown(ten("number", "ramp", "gap", "accuracy"), 1).replace(" [", " points more accurate [")
    assert f"the ramp is {ahead}" in prose("docs/method.md")
    for measure in (GAP, "judge_gap_right_black", "second_judge_gap_right_mean", "second_judge_gap_right_black", MASS):
        _, low, high = interval(ten("number", "gap", "ramp", measure))
        assert low < 0 < high
