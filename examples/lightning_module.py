"""A LightningModule, with automatic or with manual optimisation.

    python -m examples.lightning_module --manual

The criterion is a part of the module, so Lightning's checkpoints hold the schedule, and ``trainer.fit(ckpt_path=...)``
continues it. In validation, where Lightning calls ``eval()``, it is plain cross-entropy. Validation may choose the best
epoch, so the gap is measured on other images; at the end of the epoch, before Lightning saves its checkpoint.
"""

import argparse
from itertools import islice

import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, random_split

from examples.digits import digits, held_out, network, on_device
from smoot import SaliencyGuidedLoss


class GuidedModule(LightningModule):
    """Any classifier, trained with SMOOT; ``manual`` takes fewer passes and less memory."""

    def __init__(self, net: nn.Module, others: DataLoader, manual: bool = False) -> None:
        super().__init__()
        self.net, self.others, self.criterion = net, others, SaliencyGuidedLoss()
        self.automatic_optimization = not manual

    def setup(self, stage: str) -> None:
        """Gives the criterion random numbers on the device; checkpoints hold their state, but not torch's own."""
        self.criterion.generator = torch.Generator(self.trainer.strategy.root_device).manual_seed(self.global_rank)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        if self.automatic_optimization:
            return self.criterion(self.net, *batch).total
        self.optimizers().zero_grad()
        loss = self.criterion.backward(self.net, *batch, backward=self.manual_backward)
        self.optimizers().step()
        return loss.total

    def on_train_epoch_end(self) -> None:
        trained = islice(self.trainer.train_dataloader, len(self.others))
        self.criterion.measure(self.net, on_device(trained, self.device), on_device(self.others, self.device))

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        loss = self.criterion(self.net, *batch)
        self.log_dict({"loss": loss.total, "accuracy": loss.feedback.accuracy}, prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.net.parameters(), lr=3e-3)


def main(arguments: list[str] | None = None) -> None:
    """Trains for two epochs on four fifths of the images and validates on the rest."""
    parser = argparse.ArgumentParser(description="Train on the digits with SMOOT and Lightning.")
    parser.add_argument("--manual", action="store_true", help="manual optimisation")
    others = DataLoader(held_out(), batch_size=64)
    module = GuidedModule(network(), others, **vars(parser.parse_args(arguments)))
    train, validation = (DataLoader(part, batch_size=64) for part in random_split(digits(), [0.8, 0.2]))
    Trainer(max_epochs=2, logger=False, enable_checkpointing=False).fit(module, train, validation)
    print(module.criterion.schedule.plan)


if __name__ == "__main__":
    main()
