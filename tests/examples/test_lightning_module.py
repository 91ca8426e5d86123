"""Lightning: automatic and manual optimisation, accumulated gradients, validation, and a continued run."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from reference_loop import assert_same_state, batches, few_digits, few_others, fitted_network, measure, train
from torch.utils.data import DataLoader

from examples import lightning_module
from examples.lightning_module import GuidedModule
from smoot import GapSchedule

pytestmark = [
    pytest.mark.filterwarnings(
        r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning:lightning.pytorch.utilities._pytree"
    ),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
]


def made(manual: bool) -> GuidedModule:
    return GuidedModule(fitted_network(), DataLoader(few_others(), batch_size=16), manual)


def fit(module: GuidedModule, epochs: int, checkpoint: Path | None = None, **settings: Any) -> Trainer:
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(accelerator="cpu", max_epochs=epochs, **quiet, **settings)
    loaders = (DataLoader(few_digits(size), batch_size=16) for size in (96, 32))
    trainer.fit(module, *loaders, ckpt_path=checkpoint)
    return trainer


@pytest.mark.parametrize(("manual", "accumulate"), [(False, 1), (False, 3), (True, 1)])
def test_it_trains_as_the_reference_does(manual: bool, accumulate: int) -> None:
    module, reference, schedule = made(manual), fitted_network(), GapSchedule()
    trainer = fit(module, 2, accumulate_grad_batches=accumulate)
    optimizer, draws = torch.optim.Adam(reference.parameters(), lr=3e-3), torch.Generator().manual_seed(0)
    for _ in range(2):
        train(reference, optimizer, batches(6), schedule, generator=draws, accumulate=accumulate)
        measure(schedule, reference, few_digits(32).tensors, few_others().tensors)
    assert_same_state(module.criterion.schedule.state_dict(), schedule.state_dict())  # validation teaches it nothing
    assert_same_state(module.net.state_dict(), reference.state_dict())
    images, labels = few_digits(32).tensors
    right = (reference(images).argmax(1) == labels).double().mean()
    assert trainer.callback_metrics["accuracy"] == pytest.approx(float(right))


@pytest.mark.parametrize("manual", [False, True])
def test_a_continued_run_equals_an_uninterrupted_one(manual: bool, tmp_path: Path) -> None:
    once, twice = (made(manual) for _ in range(2))
    fit(once, 2)
    fit(made(manual), 1).save_checkpoint(tmp_path / "run.ckpt")
    fit(twice, 2, tmp_path / "run.ckpt")
    assert once.state_dict()["criterion.schedule_gap"] > 0
    assert_same_state(twice.state_dict(), once.state_dict())


def test_it_runs_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    lightning_module.main(["--manual"])
    assert "MaskPlan(image_fraction=0." in capsys.readouterr().out
