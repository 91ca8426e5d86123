"""A training task of timm, with timm's model, optimiser, learning-rate schedule and average of the weights.

    python -m examples.timm_task

timm's loop calls ``task(images, labels)`` and uses ``loss`` and ``output``; the gap is measured after its epochs. Its
checkpoints, ``get_checkpoint_state`` and ``load_checkpoint_state``, hold the task's state, and with it the schedule.
"""

from itertools import islice
from typing import Any

import timm
import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.task import ClassificationTask
from torch import Tensor, nn
from torch.utils.data import DataLoader

from examples.digits import digits, held_out, on_device
from smoot import SaliencyGuidedLoss

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class GuidedTask(ClassificationTask):
    """timm's classification task with SMOOT's loss; masks are drawn from a generator of its own."""

    def __init__(self, model: nn.Module, device: torch.device = DEVICE) -> None:
        super().__init__(model, SaliencyGuidedLoss(generator=torch.Generator(device).manual_seed(0)), device=device)

    def forward(self, input: Tensor, target: Tensor) -> dict[str, Tensor]:
        loss = self.criterion(self.trainable_module, input, target)
        return {"loss": loss.total, "output": loss.logits}

    def get_task_state(self, module: nn.Module | None = None, ema: bool = False) -> dict[str, Any]:
        return {} if ema else dict(self.criterion.state_dict())

    def load_task_state(self, state: Any, strict: bool = True, module: Any = None, ema: bool = False) -> None:
        if not ema:
            self.criterion.load_state_dict(state or {})


def main(epochs: int = 2) -> None:
    """Trains a small ResNet; the average of its weights is in ``task.get_eval_model(ema=True)``."""
    model = timm.create_model("test_resnet", in_chans=1, num_classes=10).to(DEVICE)
    task, optimizer = GuidedTask(model), create_optimizer_v2(model, opt="adamw", lr=3e-3)
    task.setup_ema(decay=0.99)
    schedule, _ = create_scheduler_v2(optimizer, sched="cosine", num_epochs=epochs)
    loader, others = DataLoader(digits(), batch_size=64, shuffle=True), DataLoader(held_out(), batch_size=64)
    for epoch in range(epochs):
        for images, labels in on_device(loader, DEVICE):
            optimizer.zero_grad()
            task(images, labels)["loss"].backward()
            optimizer.step()
            task.update_ema()
        schedule.step(epoch + 1)
        measured = on_device(islice(loader, len(others)), DEVICE), on_device(others, DEVICE)
        task.criterion.measure(task.trainable_module, *measured)
        print(task.criterion.schedule.plan)


if __name__ == "__main__":
    main()
