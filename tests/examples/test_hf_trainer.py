"""The Hugging Face Trainer: accumulated gradients, evaluation, and a continued run."""

from pathlib import Path
from typing import Any

import pytest
import torch
from reference_loop import assert_same_state, batches, few_digits, few_others, fitted_network, measure, train
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from transformers import TrainingArguments
from transformers.modeling_outputs import ImageClassifierOutput

from examples import hf_trainer
from examples.hf_trainer import GuidedTrainer
from smoot import GapSchedule, SaliencyGuidedLoss


class Classifier(nn.Module):
    """The network with the arguments and the output that transformers gives its models."""

    def __init__(self) -> None:
        super().__init__()
        self.network = fitted_network()

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None, **unused: Any) -> ImageClassifierOutput:
        return ImageClassifierOutput(logits=self.network(pixel_values))


def settings(folder: Path, **named: Any) -> TrainingArguments:
    plain = {"optim": "sgd", "lr_scheduler_type": "constant", "max_grad_norm": 0.0, "learning_rate": 0.02}
    quiet = {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "save_strategy": "no"}
    sizes = {"per_device_train_batch_size": 16, "train_sampling_strategy": "sequential", "num_train_epochs": 2}
    return TrainingArguments(str(folder), **plain, **quiet, **sizes, **named)


def items(part: TensorDataset) -> list[dict[str, Tensor]]:
    return [{"pixel_values": image, "labels": label} for image, label in part]


@pytest.mark.parametrize("accumulate", [1, 3])
def test_it_trains_as_the_reference_does(accumulate: int, tmp_path: Path) -> None:
    model, reference, schedule = Classifier(), fitted_network(), GapSchedule()
    images = items(few_digits())
    trainer = GuidedTrainer(
        model,
        settings(tmp_path, gradient_accumulation_steps=accumulate),
        train_dataset=images,
        eval_dataset=images[:32],
        others=items(few_others()),
        criterion=SaliencyGuidedLoss(generator=torch.Generator().manual_seed(1)),
    )
    trainer.train()
    optimizer, draws = torch.optim.SGD(reference.parameters(), lr=0.02), torch.Generator().manual_seed(1)
    for _ in range(2):
        train(reference, optimizer, batches(6), schedule, generator=draws, accumulate=accumulate)
        measure(schedule, reference, few_digits(32).tensors, few_others().tensors)
    loss = trainer.evaluate()["eval_loss"]
    assert_same_state(trainer.criterion.schedule.state_dict(), schedule.state_dict())  # evaluation teaches it nothing
    assert_same_state(model.network.state_dict(), reference.state_dict())
    images, labels = few_digits(32).tensors
    assert loss == pytest.approx(nn.functional.cross_entropy(reference(images), labels).item())


def test_a_continued_run_equals_an_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf_trainer, "digits", lambda: [(image.float(), label) for image, label in few_digits(256)])
    monkeypatch.setattr(hf_trainer, "held_out", lambda: [(image.float(), label) for image, label in few_others()])
    asked = ["--output_dir", str(tmp_path), "--use_cpu", "true", "--disable_tqdm", "true", "--report_to", "none"]
    asked += ["--num_train_epochs", "12", "--learning_rate", "1e-2", "--save_strategy", "epoch"]
    torch.manual_seed(0)
    once = hf_trainer.main(asked)
    twice = hf_trainer.main([*asked, "--resume_from_checkpoint", str(tmp_path / "checkpoint-320")])
    assert once.criterion.schedule.gap > 0.1
    assert_same_state(twice.criterion.state_dict(), once.criterion.state_dict())
    assert_same_state(twice.model.state_dict(), once.model.state_dict())
