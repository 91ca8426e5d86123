"""The loop with a number per image, compared with one written from the core's functions."""

import pytest
import torch
from reference_loop import GUIDANCE, assert_same_state, few_digits, fitted_network
from torch.utils.data import DataLoader

from examples import per_image_loop
from smoot import PerImageSchedule, SaliencyGuidedLoss, guided_loss


@pytest.mark.parametrize("rule", per_image_loop.RULES)
def test_it_trains_as_the_reference_does(rule: str) -> None:
    images = few_digits(96)
    schedules = [PerImageSchedule(per_image_loop.RULES[rule], len(images)) for _ in range(2)]
    models = [fitted_network() for _ in range(2)]
    optimizers = [torch.optim.Adam(model.parameters(), lr=1e-3) for model in models]
    order = torch.randperm(96, generator=torch.Generator().manual_seed(3))
    criterion = SaliencyGuidedLoss(schedules[0], generator=torch.Generator().manual_seed(1))
    loader = DataLoader(per_image_loop.Numbered(images), batch_size=16, sampler=order.tolist())
    draws = torch.Generator().manual_seed(1)
    for _ in range(2):
        per_image_loop.train(loader, models[0], criterion, optimizers[0])
        for index in order.split(16):
            optimizers[1].zero_grad()
            plan = schedules[1].plan_for(index, index.device)
            batch = images.tensors[0][index], images.tensors[1][index]
            loss = guided_loss(models[1], *batch, plan, GUIDANCE, generator=draws)
            loss.total.backward()
            optimizers[1].step()
            schedules[1].step(loss.feedback)
            schedules[1].learn(schedules[1].changes(index, loss.answers, loss.feedback))
    assert_same_state(models[0].state_dict(), models[1].state_dict())
    assert torch.allclose(schedules[0].numbers, schedules[1].numbers)
    assert rule == "public_code" or len(set(schedules[0].numbers.tolist())) > 1


def test_it_runs(capsys: pytest.CaptureFixture[str]) -> None:
    per_image_loop.main(["--epochs", "1", "--rule", "staircase"])
    assert "of an image's pixels are masked" in capsys.readouterr().out
