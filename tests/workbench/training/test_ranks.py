"""One run in several processes on the CPU: the history of one process, one writer, and an end for all together."""

import os
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from processes import running, start, until
from tiny_runs import digits, run, silent, split

from workbench.config.run import ModelConfig, RunConfig
from workbench.training import checkpoints, guided, parallel, ranks
from workbench.training.ranks import RankFailed, fit

# Without dropout and batch statistics, so that a batch in shares is the batch as a whole.
STILL = ModelConfig(
    "vit_still", "vit_tiny_patch16_224", options={"patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2}
)
EXACT = ("total", "classification", "consistency", "accuracy", "masked_share", "masked_pixels", "information_loss")
EXACT += ("number_mean", "number_largest", "validation_loss", "trained_loss")


def still(method: str = "plain", **training: Any) -> RunConfig:
    """A run whose steps draw nothing: every image is masked, with its mean."""
    config = replace(
        run(method, training={"epochs": 2, "batch_size": 24, "learning_rate": 0.003} | training), backbone=STILL
    )
    if method == "plain":
        return config
    fraction = {} if config.method.per_image else {"mask_fraction": 0.25}
    plan = replace(config.method.plan, image_fraction=1.0, **fraction)
    guidance = replace(config.method.guidance, fill="mean", saliency_pass="reuse", detach_target=True)
    return replace(config, method=replace(config.method, plan=plan, guidance=guidance))


def on(devices: int, config: RunConfig) -> RunConfig:
    return replace(config, training=replace(config.training, devices=devices))


def trained(config: RunConfig, checkpoint: Path, report: Any = silent) -> guided.TrainState:
    return fit(config, split(config), digits().num_classes, checkpoint, report)


def same(one: Mapping[str, float], other: Mapping[str, float]) -> None:
    for name in EXACT:
        assert other[name] == pytest.approx(one[name], rel=1e-3, abs=1e-5, nan_ok=True), name


@pytest.mark.parametrize(("method", "devices"), [("plain", 4), ("per_image_loss", 2)])
def test_the_history_is_that_of_one_process_which_can_go_on(method: str, devices: int, tmp_path: Path) -> None:
    config = still(method, epochs=1)
    alone = trained(config, tmp_path / "alone")
    steps: list[int] = []
    together = trained(on(devices, config), tmp_path / "together", lambda step, **_: steps.append(step))
    (one,), (other,) = alone.history, together.history
    assert one.keys() == other.keys() and steps == [1]
    same(one, other)
    for name, weight in alone.best.items():
        torch.testing.assert_close(together.best[name], weight, rtol=1e-3, atol=1e-4)
    further = trained(still(method, epochs=2), tmp_path / "together").history
    assert [row["epoch"] for row in further] == [1, 2] and repr(further[0]) == repr(other)  # NaN included


def test_several_processes_go_on_where_one_was_stopped(tmp_path: Path) -> None:
    def stop(epoch: int, **_: float) -> None:
        raise KeyboardInterrupt

    config, steps = still(), []
    with pytest.raises(KeyboardInterrupt):
        trained(config, tmp_path / "checkpoint", stop)
    content = checkpoints.load(tmp_path / "checkpoint", torch.device("cpu"))
    assert content is not None and len(content["history"]) == 1
    together = trained(on(2, config), tmp_path / "checkpoint", lambda step, **_: steps.append(step))
    alone = trained(config, tmp_path / "alone")
    assert steps == [2] and repr(together.history[0]) == repr(alone.history[0])
    same(alone.history[1], together.history[1])


def test_the_first_rank_alone_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "rank", lambda: 1)
    trained(still(epochs=1), tmp_path / "checkpoint")
    assert not list(tmp_path.iterdir())


def test_one_process_goes_the_way_of_one_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "_run", lambda *_: pytest.fail("processes were started"))
    config = run("sgt_improved", training={"epochs": 1})
    other = guided.fit(config, split(config), digits().num_classes, tmp_path / "b", silent)
    assert repr(trained(config, tmp_path / "a").history) == repr(other.history)  # NaN included
    assert "devices" not in config.as_dict()["training"]
    assert on(2, config).as_dict()["training"]["devices"] == 2


def ranks_of(parent: int) -> list[psutil.Process]:
    """The ranks that a process has started, the first one first."""
    children = psutil.Process(parent).children(recursive=True)
    found = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    return sorted(found, key=lambda child: child.pid)


def test_a_killed_rank_ends_the_others_in_one_sentence(tmp_path: Path) -> None:
    started: list[psutil.Process] = []

    def kill() -> None:
        assert until((tmp_path / "checkpoint").exists)
        started.extend(ranks_of(os.getpid()))
        started[1].kill()

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(RankFailed, match="rank 1 of 2 ended by signal SIGKILL, so all are ended: the same command"):
        trained(on(2, still(epochs=500)), tmp_path / "checkpoint")
    thread.join()
    assert len(started) == 2 and not any(running(rank.pid) for rank in started)


def test_the_ranks_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    code = "import test_ranks as t, sys; t.trained(t.on(2, t.still(epochs=500)), t.Path(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(tmp_path / "checkpoint")]
    parent = start(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    try:
        assert until(lambda: (tmp_path / "checkpoint").exists() or parent.poll() is not None)
        started = ranks_of(parent.pid)
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    assert len(started) == 2 and until(lambda: not any(running(rank.pid) for rank in started))


def test_an_error_of_a_rank_is_passed_on(tmp_path: Path) -> None:
    words = r"^rank \d of 2: TrainingDiverged: digits-.*; there is no checkpoint yet; all 2 ranks are ended$"
    with pytest.raises(RankFailed, match=words):
        trained(on(2, still(learning_rate=1e30)), tmp_path / "checkpoint")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (lambda: on(2, run("smoot", training={"batch_size": 80})), "batch_size is 80: expected at most the 72"),
        (lambda: still(devices=2, sync_batch_norm=True), "training.sync_batch_norm is true on cpu"),
        (lambda: still(sync_batch_norm=True), "sync_batch_norm is true with devices 1: expected false"),
        (lambda: on(2, still("per_image_public")), "'per_image_public' has the number of images in a batch"),
        (lambda: on(5, still()), "batch_size is 24: expected a multiple of devices, which is 5"),
    ],
)
def test_what_several_processes_cannot_share_is_refused(config: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        trained(config(), tmp_path / "checkpoint")
    assert not (tmp_path / "checkpoint").exists()


def test_a_process_that_is_alone_changes_nothing() -> None:
    rows, numbers = torch.arange(5), torch.tensor(2.0)
    assert parallel.rank() == 0 and parallel.wrapped(torch.nn.Identity()) is None
    assert parallel.of_the_first(0.5, 2.0) == (0.5, 2.0)
    assert parallel.own_share(rows) is rows and parallel.of_all_ranks(numbers) is numbers
