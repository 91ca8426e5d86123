"""The ledger: keys, locks, crashes, and starting afresh."""

import fcntl
import hashlib
import json
import random
import re
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import working
from processes import FOREVER, PATIENCE

from workbench.config import paths
from workbench.runner import ledger


@pytest.fixture(autouse=True)
def own_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger in the test's folder, for this process and (through SMOOT_ROOT) for others."""
    monkeypatch.delenv("SMOOT_LEDGER", raising=False)
    monkeypatch.setenv("SMOOT_ROOT", str(tmp_path))
    monkeypatch.setattr(paths, "LEDGER", tmp_path / "scratch" / "ledger")
    return paths.LEDGER


def test_an_entry_is_unfinished_until_finish_and_off_starts_afresh(
    own_ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ledger.claim("train", "mnist/net/sgt", 3, "abc") as entry:
        assert entry.folder == own_ledger / "train/mnist/net/sgt/3-abc"
        assert not entry.finished
        (entry.folder / "weights").write_text("w")
    with ledger.claim("train", "mnist/net/sgt", 3, "abc") as again:
        assert not again.finished
        assert (again.folder / "weights").read_text() == "w"
        again.finish()
    with ledger.claim("train", "mnist/net/sgt", 3, "abc") as third:
        assert third.finished
    with ledger.claim("train", "mnist/net/sgt", 3, "other") as other:
        assert not other.finished
    monkeypatch.setenv("SMOOT_LEDGER", "off")
    with ledger.claim("train", "mnist/net/sgt", 3, "abc") as afresh:
        assert not afresh.finished
        assert list(afresh.folder.iterdir()) == []
    monkeypatch.setenv("SMOOT_LEDGER", "of")
    with pytest.raises(ValueError, match="SMOOT_LEDGER is 'of': expected on"), ledger.claim("t", "c", 0, "k"):
        pass


@pytest.mark.parametrize("place", ["../elsewhere", "/elsewhere", "a/../../b"])
def test_a_place_stays_in_the_ledger(place: str) -> None:
    with pytest.raises(ValueError, match="lead out of the ledger"), ledger.claim("train", place, 0, "k"):
        pass


def test_of_two_claimants_the_second_waits_and_finds_it_finished(tmp_path: Path) -> None:
    with ExitStack() as stack:
        with ledger.claim("train", "a/b", 0, "k") as entry:
            second = stack.enter_context(working.process("claim", tmp_path / "sign", 0, ""))
            assert second.stderr is not None
            assert second.stderr.readline() == "another process works on b/0-k: waiting\n"
            entry.finish()
        assert second.communicate(timeout=PATIENCE) == ("True\n", "")
    assert not (tmp_path / "sign").exists()


def test_a_killed_claimant_leaves_its_work_and_no_lock(tmp_path: Path, own_ledger: Path) -> None:
    part = own_ledger / "train/a/b/0-k/.weights.1.tmp"
    with working.process("claim", tmp_path / "sign", FOREVER, "") as process:
        working.await_file(tmp_path / "sign")
        part.write_text("half")
        process.kill()
    with ledger.claim("train", "a/b", 0, "k") as entry:
        assert not entry.finished
        assert (entry.folder / "work").read_text() == "x"
        assert not part.exists()


def test_who_waited_for_a_lock_file_that_was_removed_locks_the_new_one(tmp_path: Path, own_ledger: Path) -> None:
    lock = own_ledger / "train/a/b/.0-k.lock"
    with ExitStack() as stack:
        with ledger.claim("train", "a/b", 0, "k"):
            process = stack.enter_context(working.process("claim", tmp_path / "sign", FOREVER, ""))
            assert process.stderr is not None
            assert "waiting" in process.stderr.readline()
            lock.unlink()
        working.await_file(tmp_path / "sign")
        with lock.open() as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_work_killed_at_several_moments_ends_the_same_and_repeats_one_step_a_kill(tmp_path: Path) -> None:
    counter, kills = tmp_path / "counter", (1, 3, 5)
    for steps in kills:
        with working.process("resumable", counter) as process:
            working.await_file(counter, length=steps)
            process.kill()
    counts = []
    for _ in range(2):
        with working.process("resumable", counter) as process:
            out, _ = process.communicate(timeout=PATIENCE)
        assert out.splitlines()[-1] == "['abcdef']"
        counts.append(len(counter.read_text()))
    assert working.STEPS <= counts[0] <= working.STEPS + len(kills)
    assert counts[1] == counts[0]


def test_finish_survives_a_crash_right_after_it(tmp_path: Path, own_ledger: Path) -> None:
    with working.process("claim", tmp_path / "sign", 0, "killed") as process:
        process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGKILL
    assert sorted(file.name for file in (own_ledger / "train/a/b/0-k").iterdir()) == ["done", "work"]


BASE: dict[str, Any] = {"stage": "train", "config": {"lr": 0.1, "layers": [1, 2], "name": None}, "code": "c0de"}
BASE |= {"device": "cpu", "threads": 1, "data": "data"}


def test_a_key_does_not_depend_on_the_order_of_the_configuration() -> None:
    turned = BASE | {"config": dict(reversed(BASE["config"].items()))}
    assert json.dumps(turned) != json.dumps(BASE)
    assert ledger.entry_key(**turned) == ledger.entry_key(**BASE)
    assert len(ledger.entry_key(**BASE)) == 16


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "evaluate"},
        {"config": BASE["config"] | {"lr": 0.2}},
        {"config": BASE["config"] | {"new": 0}},
        {"code": "c1de"},
        {"device": "cuda"},
        {"threads": 2},
        {"data": "other"},
    ],
)
def test_a_key_depends_on_everything(change: dict[str, Any]) -> None:
    assert ledger.entry_key(**(BASE | change)) != ledger.entry_key(**BASE)


@pytest.mark.parametrize("fact", ["workbench.runner.ledger.version", "torch.backends.cpu.get_cpu_capability"])
def test_a_key_depends_on_torch_and_on_vector_instructions(fact: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = ledger.entry_key(**BASE)
    monkeypatch.setattr(fact, lambda *name: "0.0")
    assert ledger.entry_key(**BASE) != before


def test_a_configuration_with_nan_has_no_key() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        ledger.entry_key(**(BASE | {"config": {"lr": float("nan")}}))


# -- damage


@pytest.fixture
def finished(own_ledger: Path) -> Path:
    """The folder of a finished entry with two files."""
    with ledger.claim("train", "a/b", 0, "k") as entry:
        (entry.folder / "weights").write_bytes(bytes(range(256)) * 8)
        (entry.folder / "epochs.csv").write_text("epoch,loss\n1,0.5\n")
        entry.checkpoint.write_text("to go on from")
        entry.finish()
    return entry.folder


def test_a_finished_entry_has_the_digest_of_each_file_and_no_checkpoint(finished: Path) -> None:
    assert sorted(file.name for file in finished.iterdir()) == ["done", "epochs.csv", "weights"]
    digests = {name: hashlib.sha256((finished / name).read_bytes()).hexdigest() for name in ("epochs.csv", "weights")}
    assert json.loads((finished / "done").read_text()) == digests


@pytest.mark.parametrize("name", ["weights", "epochs.csv", "done"])
def test_of_sixty_flipped_bits_sixty_are_seen(finished: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    kept, draws = {file.name: file.read_bytes() for file in finished.iterdir()}, random.Random(0)
    for _ in range(60):
        damaged = bytearray(kept[name])
        damaged[draws.randrange(len(damaged))] ^= 1 << draws.randrange(8)
        for file, content in (kept | {name: bytes(damaged)}).items():
            (finished / file).write_bytes(content)
        with ledger.claim("train", "a/b", 0, "k") as entry:
            assert not entry.finished
            assert list(entry.folder.iterdir()) == []
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 60
    assert all(re.fullmatch(rf"{finished} is damaged: .*: the work starts afresh", line) for line in told)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("weights", None, "weights is missing"),
        ("epochs.csv", "epoch,loss\n", "epochs.csv does not have the SHA-256"),
        ("more", "", "more does not have the SHA-256"),
        ("done", "", "done cannot be read"),
        ("done", "[]", "done cannot be read"),
        ("done", "{}", "epochs.csv does not have the SHA-256"),
    ],
)
def test_a_damaged_entry_is_named_and_starts_afresh(
    finished: Path, name: str, content: str | None, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is None:
        (finished / name).unlink()
    else:
        (finished / name).write_text(content)
    with ledger.claim("train", "a/b", 0, "k") as entry:
        assert list(entry.folder.iterdir()) == []
    assert f"{finished} is damaged: {told}" in capsys.readouterr().err


def test_a_checkpoint_that_outlived_its_entry_is_no_damage(finished: Path) -> None:
    (finished / ledger.CHECKPOINT).write_text("killed before it was removed")
    with ledger.claim("train", "a/b", 0, "k") as entry:
        assert entry.finished
