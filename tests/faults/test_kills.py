"""Runs that are killed at random moments, and started again: what comes out is the same to the last byte."""

import os
import random
import signal
import subprocess
from functools import partial

import psutil
import pytest
from processes import PATIENCE, crew, running, until
from stopping import Checkout

KILLS, ROUNDS = 27, 9
ENDINGS = ("kill all", "kill the parent", "kill a worker", "terminate", "Ctrl-C")


def end(process: "subprocess.Popen[bytes]", how: str) -> None:
    """End a run, or a part of it that the rest cannot do without."""
    workers = [child.pid for child in psutil.Process(process.pid).children() if "spawn_main" in str(child.cmdline())]
    if how == "kill the parent":
        process.kill()
    elif how == "kill a worker" and workers:
        os.kill(workers[-1], signal.SIGKILL)
    else:
        os.killpg(process.pid, {"terminate": signal.SIGTERM, "Ctrl-C": signal.SIGINT}.get(how, signal.SIGKILL))


def none_runs(members: list[int]) -> bool:
    return not any(map(running, members))


@pytest.mark.faults
@pytest.mark.parametrize("number", range(ROUNDS))
def test_killed_at_random_moments_a_run_gives_the_same(
    number: int, whole: tuple[Checkout, float], checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    draws, outputs, seconds = random.Random(number), whole[0].outputs, whole[1]
    told: list[str] = []
    last = "train" if number % 3 else "evaluate"
    if last == "train":
        outputs = {name: text for name, text in outputs.items() if name.endswith((".safetensors", "epochs.csv"))}
        seconds /= 2  # about
    while len(told) < KILLS // ROUNDS:
        process = checkout.start(0, last=last)
        try:
            assert process.wait(draws.uniform(0, seconds)) == 0, checkout.told.read_text()
        except subprocess.TimeoutExpired:
            members, how = crew(process), draws.choice(ENDINGS)
            end(process, how)
            if process.wait(PATIENCE) == 0:  # it was just ready
                continue
            assert until(partial(none_runs, members)), how
            told.append(f"{how} after {checkout.ran[-1] if checkout.ran else 'nothing'}")
    assert checkout.start(0, last=last).wait(PATIENCE) == 0, checkout.told.read_text()
    assert checkout.outputs == outputs, told
    assert not list(checkout.root.rglob("*.tmp"))
    assert checkout.epochs_kept == []
    with capsys.disabled():
        print(f"\nkills, round {number + 1} of {ROUNDS}: {'; '.join(told)}")
