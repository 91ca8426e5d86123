"""Samples: the images and maps behind the saliency figures, one file per setting."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from workbench.config.files import replacing
from workbench.config.schema import check_keys
from workbench.results.tables import locked

NAME = "samples.npz"


@dataclass(frozen=True)
class Samples:
    """Some images with one network's answers and maps.

    Attributes:
        images: (K, C, H, W) float32 in [0, 1].
        labels: (K,) true classes.
        predictions: (K,) predicted classes.
        saliency: (K, H, W) float32, not negative.
        gradient_edges: (E + 1,) bin edges of log10 |input gradient|.
        gradient_counts: (E,) numbers of pixels.
        attribution_names: (A,) text, the attribution methods that are shown beside the saliency; none by default.
        attributions: (A, K, H, W) float32, not negative, their maps.
    """

    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    predictions: npt.NDArray[np.int64]
    saliency: npt.NDArray[np.float32]
    gradient_edges: npt.NDArray[np.float64]
    gradient_counts: npt.NDArray[np.int64]
    attribution_names: npt.NDArray[np.str_] = field(default_factory=lambda: np.zeros(0, np.str_))
    attributions: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0, 0, 0), np.float32))

    def __post_init__(self) -> None:
        count, height, width = self.images.shape[0], *self.images.shape[2:]
        bins, methods = self.gradient_counts.shape[0], self.attribution_names.size
        expected = {
            "labels": (count,),
            "predictions": (count,),
            "saliency": (count, height, width),
            "gradient_edges": (bins + 1,),
            "attribution_names": (methods,),
            "attributions": (methods, count, height, width) if methods else (0, *self.attributions.shape[1:]),
        }
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} has shape {getattr(self, name).shape}: expected {shape}")
        for name in ("saliency", "attributions"):
            if not (getattr(self, name) >= 0).all():
                raise ValueError(f"{name} has negative or undefined values: expected magnitudes")


PARTS = tuple(part.name for part in fields(Samples))


def relative_saliency(saliency: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Maps (K, H, W) in multiples of each map's own mean; a map without any saliency stays 0.

    Methods differ in the size of their gradients by orders of magnitude; this is what one scale can show.
    """
    maps = saliency.astype(np.float64)
    mean = maps.mean(axis=(1, 2), keepdims=True)
    return maps / np.where(mean > 0, mean, 1.0)


def averaged(samples: Sequence[Samples]) -> Samples:
    """The first network's samples with the mean of all networks' maps, each in multiples of its own mean.

    If they do not all show the same images, the first ones are returned as they are.
    """
    first = samples[0]
    if not all(np.array_equal(first.images, other.images) for other in samples[1:]):
        return first
    maps = np.mean([relative_saliency(sample.saliency) for sample in samples], axis=0)
    return replace(first, saliency=maps.astype(np.float32))


def write_samples(samples: Mapping[str, Samples], folder: Path, order: Sequence[str] = ()) -> Path:
    """Write the samples of some methods into a setting's file; those of other methods stay.

    Args:
        samples: by method.
        folder: of the setting.
        order: of the methods; those that are not listed come last, in alphabetical order.
    """
    path = folder / NAME
    with locked(folder):
        known = (samples_in(folder) if path.exists() else {}) | dict(samples)
        methods = [*(name for name in order if name in known), *sorted(set(known) - set(order))]
        content = {f"{method}/{part}": getattr(known[method], part) for method in methods for part in PARTS}
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **content)
    return path


def samples_in(folder: Path) -> dict[str, Samples]:
    """The samples of a setting by method.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: for unknown or missing arrays.
    """
    path = folder / NAME
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:  # it leaves a path of its own open
            arrays = dict(content)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, EOFError, KeyError, NotImplementedError, BadZipFile, zlib.error) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{path} holds no samples ({reason}): delete it and make it again") from None
    methods = dict.fromkeys(name.partition("/")[0] for name in arrays)
    check_keys(arrays, [f"{method}/{part}" for method in methods for part in PARTS], str(path), kind="array")
    try:
        return {method: Samples(**{part: arrays[f"{method}/{part}"] for part in PARTS}) for method in methods}
    except (ValueError, TypeError, IndexError) as error:
        raise ValueError(f"{path}: {error}: delete it and make it again") from None
