"""The small trained networks in ``notebooks/weights``, and images to show them."""

from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.transforms.v2.functional import center_crop, pil_to_tensor, resize

from workbench.config import paths
from workbench.config.profile import load_run, method_entries
from workbench.results.samples import samples_in
from workbench.training.networks import create_backbone

WEIGHTS = paths.ROOT / "notebooks" / "weights"
PROFILE, SEED = "laptop", 10
METHODS = ("plain", "sgt", "smoot")


def settings() -> list[str]:
    """The settings that have committed networks, ``DATASET-BACKBONE``."""
    return sorted(folder.name for folder in WEIGHTS.iterdir() if folder.is_dir())


def titles() -> dict[str, str]:
    """Methods by their titles."""
    entries = method_entries(PROFILE)
    return {entries[method].title: method for method in METHODS}


def sample_images(setting: str) -> tuple[Tensor, Tensor]:
    """Ten test images ``(10, C, H, W)`` in [0, 1] of a setting, those of its committed results, and their classes."""
    samples = samples_in(paths.ProfilePaths(PROFILE).results / setting)["plain"]
    return torch.from_numpy(samples.images), torch.from_numpy(samples.labels)


def load_committed(setting: str, method: str) -> nn.Module:
    """A committed network in eval mode; its weights are stored as float16.

    Raises:
        ValueError: if there is none.
    """
    source = WEIGHTS / setting / f"{method}.safetensors"
    if setting not in settings() or not source.is_file():
        raise ValueError(
            f"no committed network of {setting}, {method}: expected one of {', '.join(settings())} "
            f"and one of {', '.join(METHODS)}"
        )
    dataset, backbone = setting.split("-")
    config = load_run(dataset, backbone, method, SEED, PROFILE)
    shape = sample_images(setting)[0].shape[1:]
    network = create_backbone(config.backbone, config.dataset, image_shape=shape, num_classes=10)
    network.load_state_dict(load_file(source))
    return network.eval()


def own_image(file: Path | str, setting: str) -> Tensor:
    """An image file as the networks of a setting take it: grey, cropped to its middle; ``(1, C, H, W)`` in [0, 1].

    Raises:
        FileNotFoundError, ValueError: if it cannot be read.
    """
    channels, height, width = sample_images(setting)[0].shape[1:]
    try:
        with Image.open(file) as image:
            pixels = pil_to_tensor(image.convert("L" if channels == 1 else "RGB"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{file} is missing: expected an image file") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read ({error}): expected an image file") from None
    scale = max(height / pixels.shape[1], width / pixels.shape[2])
    size = [max(height, round(scale * pixels.shape[1])), max(width, round(scale * pixels.shape[2]))]
    fitted: Tensor = center_crop(resize(pixels, size, antialias=True), [height, width])
    return fitted.unsqueeze(0).float() / 255
