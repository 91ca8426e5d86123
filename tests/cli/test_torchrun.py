"""``smoot train`` in several processes: the history of one, one writer, one voice, and an end for all together."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import write_folder
from processes import PATIENCE, crew
from torch import nn

from smoot.cli import main, networks, ranks, weights
from smoot.cli.folders import split_folder

HERE = Path(__file__).parent
SCRIPT = str(HERE / "still_ranks.py")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run")
# Without BatchNorm and dropout, so that a batch in shares is the batch as a whole.
STILL = ("-b", "test_vit", "--epochs", "3", "--batch-size", "8", "--image-size", "32", "--workers", "0", "--seed", "1")
Done = list["subprocess.CompletedProcess[str]"]


def command(folder: Path, target: Path, *more: str) -> list[str]:
    return [SCRIPT, "train", str(folder), *STILL, "--learning-rate", "0.002", "-o", str(target), "--json", *more]


def together(commands: Sequence[Sequence[str]], *environments: dict[str, str], **variables: str) -> Done:
    """What processes that run at the same time came to; each may have an environment of its own."""
    path = os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    shared = os.environ | {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"} | variables
    own = environments or [{}] * len(commands)
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = [subprocess.Popen(one, env=shared | more, **options) for one, more in zip(commands, own, strict=True)]
    try:
        ends = [process.communicate(timeout=PATIENCE) for process in started]
    finally:
        for process in started:
            for pid in crew(process) if process.poll() is None else ():  # of a test that is interrupted
                os.kill(pid, signal.SIGKILL)
            process.wait()
    return [
        subprocess.CompletedProcess(process.args, process.returncode, *end)
        for process, end in zip(started, ends, strict=True)
    ]


def alone(given: list[str]) -> Any:
    (done,) = together([[sys.executable, *given]])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def launched(count: int, given: list[str], **variables: str) -> "subprocess.CompletedProcess[str]":
    """The command in processes that torchrun starts on one node."""
    return together([[*TORCHRUN, "--standalone", "--nproc-per-node", str(count), *given]], **variables)[0]


def on_nodes(count: int, given: list[str]) -> Done:
    """The command on as many nodes as there are torchruns, with a process each."""
    options = ["--nnodes", str(count), "--nproc-per-node", "1", "--local-addr", "127.0.0.1", "--rdzv-backend", "c10d"]
    return together([[*TORCHRUN, *options, "--rdzv-endpoint", f"127.0.0.1:{free_port()}", *given]] * count)


def unwatched(count: int, given: list[str], **variables: str) -> Done:
    """The command in processes that nobody ends when another one fails, as on another node."""
    group = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    own = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    return together([[sys.executable, *given]] * count, *own, RANKS_PATIENCE="0", **group, **variables)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def same(found: Any, expected: Any) -> None:
    """The numbers of every epoch and of the test are equal up to rounding, and what is counted is equal."""
    for one, other in zip(found["epochs"], expected["epochs"], strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-4)
    for name in ("accuracy", "cross_entropy", "calibration_error"):
        assert found["test"][name] == pytest.approx(expected["test"][name], rel=1e-3, abs=1e-4)
    for name in ("images", "skipped", "best_epoch"):
        assert found[name] == expected[name]


def complaints(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("error: ")]


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """A folder with two images that cannot be read, so that shares are not all equal, and their names."""
    root = write_folder(tmp_path_factory.mktemp("spoilt"), 20)
    files = [split_folder(root, 1).parts[part].path(0) for part in ("training", "validation")]
    for file in files:
        file.write_bytes(b"no image")
    return root, set(map(str, files))


@pytest.fixture(scope="module")
def expected(spoilt: tuple[Path, set[str]], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """What one process reports, and its weights."""
    target = tmp_path_factory.mktemp("alone") / "n.safetensors"
    return alone(command(spoilt[0], target, "--skip-broken")), target


def same_weights(one: Path, other: Path) -> None:
    (card, found), (_, expected) = weights.read(one), weights.read(other)
    assert card.epoch and found.keys() == expected.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-2, atol=1e-3, msg=name)


@pytest.mark.parametrize("start", [lambda given: [launched(2, given)], lambda given: on_nodes(2, given)])
def test_processes_of_one_or_two_nodes_train_as_one_process_does(
    start: Callable[[list[str]], Done], spoilt: tuple[Path, set[str]], expected: tuple[Any, Path], tmp_path: Path
) -> None:
    target = tmp_path / "n.safetensors"
    done = start(command(spoilt[0], target, "--skip-broken"))
    assert [one.returncode for one in done] == [0] * len(done), [one.stderr for one in done]
    found = json.loads("".join(one.stdout for one in done))  # one rank alone prints
    told = "".join(one.stderr for one in done)
    assert len(re.findall(r"^epoch \d/3: ", told, re.MULTILINE)) == 3
    same(found, expected[0])
    assert found["epochs"][-1]["gap"] > 0  # so that the schedule had something to follow
    assert {message.partition(": ")[0] for message in found["skipped"]} == spoilt[1]
    assert 0 < found["waiting_share"] < 1
    same_weights(target, expected[1])
    assert [file.name for file in tmp_path.iterdir()] == [target.name]


def test_a_killed_rank_ends_the_others_and_four_go_on_where_two_were(
    spoilt: tuple[Path, set[str]], expected: tuple[Any, Path], tmp_path: Path
) -> None:
    target = tmp_path / "n.safetensors"
    given = command(spoilt[0], target, "--skip-broken")
    done = launched(2, given, FAULT="1:5:kill")
    assert done.returncode == 1 and not done.stdout
    assert re.search(r"Root Cause.*\n.*\n.*\n.*\n  rank +: 1 .*\n  exitcode  : -9 .*SIGKILL", done.stderr)
    told = complaints(done.stderr)  # unless torchrun ended the other rank before it said so
    assert told in ([], [f"error: rank 0 of 2: {ranks.GONE}"])
    assert {file.name for file in tmp_path.iterdir()} == {target.name, f"{target.name}.checkpoint"}
    assert weights.read(target)[0].epoch == 1
    more = launched(4, [*given, "--resume"])
    assert more.returncode == 0, more.stderr
    same(json.loads(more.stdout), expected[0])
    same_weights(target, expected[1])


def test_an_error_of_one_rank_ends_all_in_one_sentence(spoilt: tuple[Path, set[str]], tmp_path: Path) -> None:
    target = tmp_path / "n.safetensors"
    done = launched(2, command(spoilt[0], target, "--skip-broken"), FAULT="1:2:error")
    assert done.returncode == 1 and not done.stdout
    assert complaints(done.stderr) == ["error: rank 1 of 2: a rank fails: expected so"]
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_all_ranks_is_told_once(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    root = make_folder(20)
    for number in range(2):
        split_folder(root, 1).parts["steering"].path(number).write_bytes(b"no image")
    done = unwatched(2, command(root, tmp_path / "n.safetensors"))
    assert [one.returncode for one in done] == [1, 1]
    (told,) = complaints("".join(one.stderr for one in done))
    assert re.fullmatch(
        r"error: rank \d of 2: .*: cannot be decoded .* \(2 such files in this batch\); .* --skip-broken", told
    )


def test_a_rank_that_nobody_ends_says_that_the_others_are_gone(spoilt: tuple[Path, set[str]], tmp_path: Path) -> None:
    first, second = unwatched(2, command(spoilt[0], tmp_path / "n.safetensors", "--skip-broken"), FAULT="1:5:kill")
    assert (first.returncode, second.returncode) == (1, -9)
    assert complaints(first.stderr) == [f"error: rank 0 of 2: {ranks.GONE}"]


def rank_of(monkeypatch: pytest.MonkeyPatch, count: int, rank: int = 0) -> None:
    for name, value in {"WORLD_SIZE": count, "RANK": rank, "LOCAL_RANK": rank}.items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            "train {folder} --batch-size 14",
            "Invalid value for --batch-size: 14 images in a batch of all ranks together: expected a multiple of 4",
        ),
        ("train {folder} --batch-size 4", "the number of ranks, and at least 8"),
        ("train {folder} --sync-batch-norm --device cpu", "torch has it on cuda only, and the device is cpu"),
        ("explain {image} {image}", "WORLD_SIZE is 4, as torchrun sets it: smoot explain is expected to be"),
        ("evaluate {image} {folder}", "WORLD_SIZE is 4, as torchrun sets it: smoot evaluate is expected to be"),
    ],
)
def test_what_processes_cannot_share_is_wrong_usage_which_one_of_them_tells(
    arguments: str, words: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [one.format(folder=folder, image=folder / "red" / "001.png") for one in arguments.split()]
    rank_of(monkeypatch, 4)
    assert main(given) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    rank_of(monkeypatch, 4, rank=1)
    assert main(given) == 2
    assert capsys.readouterr() == ("", "")


def test_a_process_needs_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    rank_of(monkeypatch, 2, rank=1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for device, words in {"cuda": "LOCAL_RANK is 1, and this node shows 1 GPUs", "mps": "the device is mps"}.items():
        with pytest.raises(ValueError, match=words):
            ranks.own_device(torch.device(device))


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_the_shares_of_all_ranks_are_the_batches(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [[5, 2, 0, 7], [1, 3, 4], [6]]
    monkeypatch.setattr(ranks, "num_ranks", lambda: count)
    shares, seeds = [], []
    for number in range(count):
        monkeypatch.setattr(ranks, "rank", lambda number=number: number)
        shares.append(list(ranks.Shares(batches)))
        assert len(ranks.Shares(batches)) == len(shares[-1]) == len(batches)
        seeds += [ranks.own_seed(1_000_003 + epoch) for epoch in range(500)]
    for batch, *parts in zip(batches, *shares, strict=True):
        assert sorted(chain(*parts)) == sorted(batch)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert len(set(seeds)) == len(seeds)


def test_synchronised_batch_statistics_keep_the_networks_layers_and_names(monkeypatch: pytest.MonkeyPatch) -> None:
    card = weights.Card("test_efficientnet", ("blue", "red"), 32, (0.5,) * 3, (0.2,) * 3, "smoot", 0)
    network, images = networks.build(card).eval(), torch.rand(2, 3, 32, 32)
    answers, names, count = network(images), list(network.state_dict()), sum(map(is_batch_norm, network.modules()))
    assert ranks.wrapped(network, sync_batch_norm=True) is network  # of a process that is alone
    monkeypatch.setattr(ranks, "num_ranks", lambda: 2)
    monkeypatch.setattr(ranks, "DistributedDataParallel", lambda inner: inner)
    shared = ranks.wrapped(network, sync_batch_norm=True)
    assert count == sum(isinstance(module, nn.SyncBatchNorm) for module in shared.modules()) > 0
    assert torch.equal(shared(images), answers) and list(shared.state_dict()) == names


def is_batch_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d)
