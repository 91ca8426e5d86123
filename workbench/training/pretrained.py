"""Weights of other people that a network may start from, known by their digest: results are keyed to this file."""

import hashlib
import logging
from typing import Any

from torch import nn

from workbench.config import paths

# By timm's name: SHA-256 of all weights but the last layer's, as `digest` takes it. `data/README.md` says where the
# weights are from.
KNOWN = {"tf_efficientnet_lite0": "de2231f704d744e3d2b0c00ef6b03fe92fad1d1f74df9109e60fb32cd8c5ef09"}


def create(architecture: str, *, num_classes: int, **options: Any) -> nn.Module:
    """A timm network with pretrained weights: from ``data/raw/weights`` if they are there, else timm downloads them.

    The last layer, which belongs to the classes, is drawn from torch's global generator as any linear layer of torch:
    timm's own draw for a new EfficientNet is so wide with few classes that its first gradients spoil the other weights.

    Args:
        architecture: timm's name.
        num_classes: number of logits.
        options: others of ``timm.create_model``.

    Raises:
        ValueError: for an architecture of which no weights are known, weights that cannot be had, or other ones.
    """
    import timm

    if architecture not in KNOWN:
        raise ValueError(
            f"no pretrained weights of {architecture} are known: expected {', '.join(KNOWN)}, or pretrained: false "
            "(others are added in workbench/training/pretrained.py)"
        )
    file = paths.RAW / "weights" / f"{architecture}.safetensors"
    own: dict[str, Any] = {"pretrained_cfg_overlay": {"file": str(file)}} if file.is_file() else {}
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it warns of each try: the error below says it once
    try:
        network = timm.create_model(architecture, pretrained=True, num_classes=num_classes, **own, **options)
    except Exception as error:  # of whichever library downloads or reads them
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"the pretrained weights of {architecture} cannot be had ({reason}): connect to the internet, or make "
            f"{file} as data/README.md says"
        ) from None
    if (found := digest(network)) != KNOWN[architecture]:
        raise ValueError(
            f"the pretrained weights of {architecture} have SHA-256 {found}: expected {KNOWN[architecture]}; make "
            f"{file} as data/README.md says"
        )
    network.reset_classifier(num_classes)  # type: ignore[operator]
    return network


def digest(network: nn.Module) -> str:
    """SHA-256 of the names, shapes and values of all weights of a timm network but the last layer's."""
    last = network.pretrained_cfg["classifier"]  # type: ignore[index]
    content = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        if not name.startswith(f"{last}."):
            content.update(f"{name} {list(tensor.shape)}\n".encode())
            content.update(tensor.float().contiguous().numpy().tobytes())
    return content.hexdigest()
