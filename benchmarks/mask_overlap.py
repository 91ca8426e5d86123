"""Whether cheaper gradients give the same masks: overlap (intersection over union) of bottom-50 % masks.

``make bench`` writes results/benchmarks/mask_overlap.csv and prints it. On the trained networks of the laptop
profile (``make repro`` trains them), on training images in training mode, batches of 64, seed 0:

- ``loss_float32``: the cross-entropy's own backward in float32 (saliency pass ``loss``) against the log-odds'
  gradient in float64 (``reuse``). Exact without batch statistics; with them it is another map.
- ``autograd_float32``: the same through automatic differentiation of the cross-entropy, whose gradient is exactly
  zero for images that are answered with certainty.
- ``reuse_bfloat16``: the log-odds' gradient under bfloat16 autocast against the same in float64.

Chance is 0.33. ``certain`` is the share of images whose probability float32 rounds to 1.
"""

import copy
import time
from contextlib import nullcontext

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoot.masking import lowest_saliency_mask
from smoot.objective import loss_gradient
from smoot.saliency import saliency_map, target_score
from smoot.step import shares_batch_statistics
from smoot.workbench import data, paths, storage
from smoot.workbench.cells import Cell
from smoot.workbench.config import load_grid, load_run
from smoot.workbench.models import create_backbone, load_weights
from smoot.workbench.provenance import facts

BATCH, BATCHES, METHOD, SEED = 64, 8, "smoot", 0


def gradient(network: nn.Module, images: Tensor, labels: Tensor, way: str) -> Tensor:
    """The input gradient of one batch in one of the ways."""
    variable = images.clone().requires_grad_()
    casting = torch.autocast("cpu", torch.bfloat16) if way == "reuse_bfloat16" else nullcontext()
    with casting:
        logits = network(variable)
    if way == "loss_float32":
        return torch.autograd.grad(logits, variable, loss_gradient(logits, labels))[0]
    if way == "autograd_float32":
        return torch.autograd.grad(F.cross_entropy(logits, labels), variable)[0]
    return torch.autograd.grad(target_score(logits, labels).sum(), variable)[0]


def mask(network: nn.Module, images: Tensor, labels: Tensor, way: str) -> Tensor:
    """Bottom-50 % masks, with the same dropout in every way."""
    torch.manual_seed(0)
    return lowest_saliency_mask(saliency_map(gradient(network, images, labels, way)), 0.5).flatten(1)


def overlap(first: Tensor, second: Tensor) -> Tensor:
    return (first & second).sum(1) / (first | second).sum(1)


def measure(dataset: str, backbone: str) -> list[dict[str, object]]:
    """The lines of one data set and backbone."""
    config = load_run(dataset, backbone, METHOD, SEED, "laptop")
    images = data.load(dataset)
    part = data.split(
        images,
        train_images=config.dataset.train_images,
        validation_images=config.dataset.validation_images,
        seed=config.stream("subset"),
    )
    shape = images.test_images.shape[1:]
    network = create_backbone(
        config.backbone, config.dataset, image_shape=(shape[0], shape[1], shape[2]), num_classes=images.num_classes
    )
    load_weights(network, Cell("laptop", dataset, backbone, METHOD).weights_path(SEED))
    network.train()
    exact = copy.deepcopy(network).double()
    found: dict[str, list[Tensor]] = {"loss_float32": [], "autograd_float32": [], "reuse_bfloat16": []}
    certain = []
    for rows in torch.arange(BATCH * BATCHES).split(BATCH):
        pixels, labels = part.train_images[rows], part.train_labels[rows]
        truth = mask(exact, pixels.double(), labels, "reuse")
        with torch.no_grad():
            certain.append(network(pixels).log_softmax(1).gather(1, labels.unsqueeze(1)) == 0)
        for way, overlaps in found.items():
            overlaps.append(overlap(mask(network, pixels, labels, way), truth))
    return [
        {
            "dataset": dataset,
            "backbone": backbone,
            "batch_statistics": shares_batch_statistics(network),
            "gradient": way,
            "overlap": float(torch.cat(overlaps).mean()),
            "smallest": float(torch.cat(overlaps).min()),
            "certain": float(torch.cat(certain).double().mean()),
        }
        for way, overlaps in found.items()
    ]


def main() -> None:
    """Measures, prints and writes."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    lines = [line for setting in load_grid("laptop").settings for line in measure(*setting)]
    frame = pd.DataFrame(lines).round(4)
    target = paths.BENCHMARKS / "mask_overlap.csv"
    storage.write_csv(frame, target)
    made = facts("mask_overlap", seconds=time.perf_counter() - start)
    storage.write_json(made, paths.BENCHMARKS / "mask_overlap.provenance.json")
    print(frame.to_string(index=False))
    print(f"written to {target.relative_to(paths.ROOT)}")


if __name__ == "__main__":
    main()
