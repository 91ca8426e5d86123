"""Training on a folder of images, as a loop of one's own would do it with :class:`smoot.SaliencyGuidedLoss`."""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW

import smoot
from smoot.cli import checkpoints, networks, ranks, weights
from smoot.cli.answers import Answers, answers_of
from smoot.cli.files import shown
from smoot.cli.folders import Split
from smoot.cli.loading import Loader, Reading, measure_sample
from smoot.cli.progress import Progress
from smoot.cli.recipe import Method, Recipe
from smoot.parallel import summed

MEASURED = 1000  # images of each kind on which the generalisation gap is measured
WARM_UP = 0.05  # of all steps


@dataclass(frozen=True)
class Surroundings:
    """What does not: where and how the work is done.

    Attributes:
        target: of the weights.
        device: of this rank.
        sync_batch_norm: whether BatchNorm takes its statistics over all ranks.
        resume: whether a checkpoint beside the target is continued.
    """

    target: Path
    device: torch.device
    workers: int
    skip_broken: bool
    sync_batch_norm: bool
    resume: bool
    progress: Progress


def criterion_of(method: Method, device: torch.device, seed: int) -> smoot.SaliencyGuidedLoss:
    """The loss of a method; its masks are drawn from a generator of its own."""
    draws = torch.Generator(device).manual_seed(seed)
    if method == Method.SMOOT:
        return smoot.SaliencyGuidedLoss(generator=draws)
    if method == Method.PLAIN:
        plan, guidance = smoot.MaskPlan(image_fraction=0.0), smoot.Guidance()
    elif method == Method.RANDOM_MASK:
        plan, guidance = smoot.MaskPlan(mask_fraction=0.5, ranking="random"), smoot.Guidance()
    else:
        plan = smoot.MaskPlan(mask_fraction=0.5)
        guidance = smoot.Guidance(
            score="log_prob",
            reduction="signed_mean",
            saliency_pass="eval",
            masked_statistics="update",
            detach_target=False,
        )
    return smoot.SaliencyGuidedLoss(smoot.ConstantSchedule(plan), guidance, generator=draws)


def train(split: Split, recipe: Recipe, surroundings: Surroundings) -> dict[str, Any]:
    """Train a network, and write the weights of the epoch that is best on the validation images.

    Returns:
        What is reported: numbers of every epoch, of the test, and of the reading.

    Raises:
        ValueError: for images that cannot be read, or a checkpoint of another training.
        FloatingPointError: if the training diverges.
    """
    started = time.perf_counter()
    torch.manual_seed(recipe.seed)
    job = _Job(split, recipe, surroundings)
    job.run()
    card, best = ranks.of_the_first(lambda: weights.read(surroundings.target))
    weights.load(job.network, best, surroundings.target)
    tested = job.answers("test") if len(split.parts["test"]) else None
    if ranks.rank() == 0:
        checkpoints.path_of(surroundings.target).unlink(missing_ok=True)
    return {
        "weights": shown(surroundings.target),
        "card": asdict(card),
        "images": {name: len(part) for name, part in split.parts.items()},
        "left_out": split.left_out,
        "skipped": sorted(set().union(*ranks.gathered(job.broken()))),
        "epochs": job.history,
        "best_epoch": job.best["epoch"],
        "test": None if tested is None else tested.summary(),
        "waiting_share": round(max(ranks.gathered(job.training.waited)) / max(job.seconds, 1e-9), 4),
        "seconds": round(time.perf_counter() - started, 1),
    }


class _Job:
    """One training: its network, loaders and history."""

    def __init__(self, split: Split, recipe: Recipe, surroundings: Surroundings) -> None:
        self.split, self.recipe, self.surroundings = split, recipe, surroundings
        self.card = ranks.of_the_first(lambda: _card(split, recipe, surroundings))
        self.network = networks.build(self.card, pretrained=recipe.pretrained).to(surroundings.device)
        self.shared = ranks.wrapped(self.network, sync_batch_norm=surroundings.sync_batch_norm)
        self.criterion = criterion_of(recipe.method, surroundings.device, recipe.seed)
        self.optimizer = AdamW(self.network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        self.loaders = self._loaders()
        self.history: list[dict[str, Any]] = []
        self.seconds = 0.0

    @property
    def training(self) -> Loader:
        return self.loaders["training"]

    @property
    def best(self) -> dict[str, Any]:
        """The first epoch with the highest validation accuracy; of equal ones that with the lower cross-entropy."""
        return min(self.history, key=lambda row: (-row["validation_accuracy"], row["validation_cross_entropy"]))

    def broken(self) -> set[str]:
        return {message for loader in self.loaders.values() for message in loader.broken}

    def run(self) -> None:
        """Train the epochs that are left, with a checkpoint after each."""
        settings = checkpoints.plain(asdict(self.recipe) | {"digest": self.split.digest})
        file = checkpoints.path_of(self.surroundings.target)
        parts: dict[str, checkpoints.Stateful] = {
            "network": self.network,
            "optimizer": self.optimizer,
            "criterion": self.criterion,
        }
        if self.surroundings.resume:
            saved = ranks.of_the_first(lambda: checkpoints.read(file, settings))
            self.history = checkpoints.restore(saved, parts)
        for epoch in range(len(self.history), self.recipe.epochs):
            self.history.append(self._epoch(epoch))
            if ranks.rank() == 0:
                self._keep_best()
                checkpoints.save(file, settings, parts, self.history)

    def _keep_best(self) -> None:
        """Write the weights if the last epoch is the best one."""
        if (epoch := len(self.history)) == self.best["epoch"]:
            masked = tuple(float(row["masked_share"]) for row in self.history)
            weights.save(self.network, replace(self.card, epoch=epoch, schedule=masked), self.surroundings.target)

    def answers(self, part: str) -> Answers:
        """The network's answers to the images of a part, in eval mode."""
        loader = self.loaders[part]
        return answers_of(self.network, self._bar(loader, part), self.surroundings.device)

    def _epoch(self, epoch: int) -> dict[str, Any]:
        started = time.perf_counter()
        self._seed(self.recipe.seed * 1_000_003 + epoch)
        self.network.train()
        total, masked, count = torch.zeros(3, dtype=torch.float64).unbind()
        for step, (images, labels) in enumerate(self._bar(self.training, f"epoch {epoch + 1}", epoch)):
            self._set_rate(epoch * len(self.training) + step)
            self.optimizer.zero_grad()
            weight = self.training.weight or 1.0  # an empty share has no gradient to be weighted
            loss = self.criterion.backward(self.shared, images, labels, scale=weight)
            self.optimizer.step()
            total += loss.classification.detach().double().cpu() * len(images)
            masked += torch.as_tensor(loss.masked_share).double().cpu() * len(images)
            count += len(images)
        total, masked, count = summed(torch.stack([total, masked, count]))
        ranks.share_buffers(self.network)
        self.seconds += time.perf_counter() - started
        row = {"epoch": epoch + 1, "cross_entropy": float(total / count), "masked_share": float(masked / count)}
        if not math.isfinite(row["cross_entropy"]):
            raise FloatingPointError(f"the loss is {row['cross_entropy']} in epoch {epoch + 1}: lower --learning-rate")
        if isinstance(self.criterion.schedule, smoot.GapSchedule):
            losses = [self.answers(part).cross_entropy for part in ("measured", "steering")]
            row["gap"] = self.criterion.schedule.measure(*losses)
        validation = self.answers("validation")
        row |= {"validation_accuracy": validation.accuracy, "validation_cross_entropy": validation.cross_entropy}
        self.surroundings.progress.say(_line(row, self.recipe.epochs, time.perf_counter() - started))
        return {name: round(value, 6) for name, value in row.items()}

    def _seed(self, seed: int) -> None:
        """Seed dropout; and, but on the first rank, whose draws the checkpoint holds, the masks."""
        torch.manual_seed(ranks.own_seed(seed))
        if ranks.rank() and self.criterion.generator is not None:
            self.criterion.generator.manual_seed(ranks.own_seed(seed))

    def _set_rate(self, step: int) -> None:
        factor = rate_factor(step, self.recipe.epochs * len(self.training))
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * factor

    def _bar(self, loader: Loader, what: str, epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        return self.surroundings.progress.bar(loader.batches(epoch), what, len(loader))

    def _loaders(self) -> dict[str, Loader]:
        recipe, surroundings = self.recipe, self.surroundings
        reading = Reading(
            self.card.image_size,
            surroundings.device,
            recipe.batch_size,
            surroundings.workers,
            recipe.flip,
            surroundings.skip_broken,
        )
        parts = self.split.parts
        measured = {
            "measured": parts["training"].some(MEASURED, recipe.seed),
            "steering": parts["steering"].some(MEASURED, recipe.seed),
        }
        held_out = {name: parts[name] for name in ("validation", "test")}
        loaders = {name: Loader(images, reading) for name, images in (measured | held_out).items()}
        return loaders | {"training": Loader(parts["training"], reading, recipe.seed)}


def rate_factor(step: int, steps: int) -> float:
    """Factor on the learning rate: a linear warm-up over the first 5 % of the steps, then half a cosine to 0."""
    warm_up = max(1, round(WARM_UP * steps))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def _card(split: Split, recipe: Recipe, surroundings: Surroundings) -> weights.Card:
    sample = measure_sample(split.parts["training"], recipe.seed, skip_broken=surroundings.skip_broken)
    mean, std, size = sample.mean, sample.std, sample.size
    if recipe.pretrained:
        mean, std, size = networks.own_statistics(recipe.backbone)
    return weights.Card(
        backbone=recipe.backbone,
        classes=split.classes,
        image_size=recipe.image_size or size,
        mean=mean,
        std=std,
        method=str(recipe.method),
        seed=recipe.seed,
        digest=split.digest,
        version=smoot.__version__,
    )


def _line(row: dict[str, Any], epochs: int, seconds: float) -> str:
    gap = f", gap {row['gap']:.2f}" if "gap" in row else ""
    return (
        f"epoch {row['epoch']}/{epochs}: cross-entropy {row['cross_entropy']:.3f}, "
        f"{100 * row['masked_share']:.0f} % of the images masked{gap}, "
        f"validation accuracy {100 * row['validation_accuracy']:.1f} %, {seconds:.1f} s"
    )
