"""The Trainer of Hugging Face transformers; its settings are the options, and the schedule survives a resume.

    python -m examples.hf_trainer --output_dir runs/examples --learning_rate 3e-3 --gradient_accumulation_steps 4
    python -m examples.hf_trainer --output_dir runs/examples --resume_from_checkpoint runs/examples/checkpoint-24

The criterion takes outputs with ``.logits`` as well as tensors. Each batch's loss is a mean, which the Trainer divides
by the number of accumulated batches only if the model is said to take no ``num_items_in_batch``. A callback measures
the generalisation gap at the end of an epoch, before the Trainer evaluates and saves.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset
from transformers import ConvNextConfig, HfArgumentParser, Trainer, TrainerCallback, TrainingArguments
from transformers.models.convnext import ConvNextForImageClassification

from examples.digits import digits, held_out
from smoot import SaliencyGuidedLoss


class MeasuredGap(TrainerCallback):
    """Measures the gap between as many of the training images as there are other ones, and those."""

    def __init__(self, trainer: Trainer, others: Dataset) -> None:
        self.trainer, self.parts = trainer, (Subset(trainer.train_dataset, range(len(others))), others)

    def on_epoch_end(self, *unused: Any, **named: Any) -> None:
        loaders = [self.trainer.get_test_dataloader(part) for part in self.parts]
        measured = [((batch["pixel_values"], batch["labels"]) for batch in loader) for loader in loaders]
        self.trainer.criterion.measure(self.trainer.model_wrapped, *measured)


class GuidedTrainer(Trainer):
    """A Trainer whose loss is SMOOT's; its checkpoints hold the schedule."""

    def __init__(
        self, *arguments: Any, others: Dataset, criterion: SaliencyGuidedLoss | None = None, **named: Any
    ) -> None:
        super().__init__(*arguments, **named)
        self.criterion = SaliencyGuidedLoss() if criterion is None else criterion
        self.model_accepts_loss_kwargs = False
        self.add_callback(MeasuredGap(self, others))

    def compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, **unused: Any) -> Any:
        loss = self.criterion(model, inputs["pixel_values"], inputs["labels"])
        return (loss.total, {"loss": loss.total, "logits": loss.logits}) if return_outputs else loss.total

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save:
            torch.save(self.criterion.state_dict(), Path(output_dir) / "criterion.pt")

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self.criterion.load_state_dict(torch.load(Path(checkpoint) / "criterion.pt"))


def main(arguments: list[str] | None = None) -> GuidedTrainer:
    """Trains a small ConvNeXt by the given settings."""
    (settings,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses(arguments)
    sizes = {"patch_size": 2, "num_stages": 2, "hidden_sizes": [16, 32], "depths": [1, 1]}
    model = ConvNextForImageClassification(ConvNextConfig(num_channels=1, num_labels=10, **sizes))
    images, others = (
        [{"pixel_values": image, "labels": label} for image, label in part] for part in (digits(), held_out())
    )
    trainer = GuidedTrainer(model, settings, train_dataset=images[:1152], eval_dataset=images[1152:], others=others)
    trainer.train(resume_from_checkpoint=settings.resume_from_checkpoint)
    print(trainer.criterion.schedule.plan)
    return trainer


if __name__ == "__main__":
    main()
