"""Samples: one file per setting, method by method."""

import gc
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic import Network, samples

from workbench.results.samples import Samples, averaged, samples_in, write_samples

NETWORK = Network("laptop", "fashion_mnist", "resnet10_narrow", "smoot")


def same(one: Samples, other: Samples) -> bool:
    pairs = zip(vars(one).values(), vars(other).values(), strict=True)
    return all(np.array_equal(first, second) and first.dtype == second.dtype for first, second in pairs)


def test_samples_come_back_and_have_the_same_bytes_later(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {method: samples(replace(NETWORK, method=method)) for method in ("sgt", "smoot", "other")}
    first = write_samples(made, root, ("smoot", "sgt")).read_bytes()
    later = time.time() + 3600
    monkeypatch.setattr(time, "time", lambda: later)
    assert write_samples({"sgt": made["sgt"]}, root, ("smoot", "sgt")).read_bytes() == first
    found = samples_in(root)
    assert list(found) == ["smoot", "sgt", "other"]
    assert all(same(found[method], made[method]) for method in made)
    changed = replace(made["sgt"], saliency=2 * made["sgt"].saliency)
    write_samples({"sgt": changed}, root, ("smoot", "sgt"))
    assert same(samples_in(root)["sgt"], changed) and same(samples_in(root)["smoot"], made["smoot"])


def test_samples_with_other_arrays_are_an_error(root: Path) -> None:
    np.savez(root / "samples.npz", **{"plain/images": np.zeros(3)})
    with pytest.raises(ValueError, match=r"samples\.npz: array 'plain/labels' is missing"):
        samples_in(root)


@pytest.mark.parametrize("end", [0, 3, 100, -30])
def test_a_file_that_was_cut_off_is_named_and_closed(root: Path, end: int) -> None:
    path = write_samples({"smoot": samples(NETWORK)}, root)
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(ValueError, match=r"samples\.npz holds no samples \(.*\): delete it and make it again"):
        samples_in(root)
    gc.collect()  # a file that is left open would warn, which is an error


def test_samples_must_fit_each_other_and_saliency_be_magnitudes() -> None:
    made = samples(NETWORK)
    for name in ("labels", "predictions", "saliency", "gradient_edges"):
        with pytest.raises(ValueError, match=f"{name} has shape"):
            replace(made, **{name: getattr(made, name)[:-1]})
    with pytest.raises(ValueError, match="saliency has negative or undefined values"):
        replace(made, saliency=-made.saliency)


def test_mean_maps_are_means_of_maps_that_each_have_mean_one() -> None:
    one = samples(NETWORK)
    flat = replace(one, saliency=np.full_like(one.saliency, 7.0), predictions=one.predictions + 1)
    mean = averaged([one, flat])
    expected = one.saliency / one.saliency.mean((1, 2), keepdims=True) / 2 + 0.5
    assert mean.saliency == pytest.approx(expected, rel=1e-5)
    assert mean.saliency.dtype == np.float32
    assert same(replace(mean, saliency=one.saliency), one)


def test_maps_of_other_images_are_not_averaged() -> None:
    one = samples(NETWORK)
    assert averaged([one, replace(one, images=1 - one.images)]) is one
