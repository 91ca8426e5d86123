"""A process that DVC started ends when DVC does, however that ends; any other one may go on."""

import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import working
from processes import FOREVER

CHILD = f"""
import sys, time
from pathlib import Path
from workbench.runner import parents
parents.PAUSE = 0.05
watched = parents.end_with_dvc()
Path(sys.argv[1]).write_text(str(watched))
time.sleep({FOREVER})
"""
PARENT = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]])
open(sys.argv[3], "w").write(str(child.pid))
time.sleep({FOREVER})
"""


def start(tmp_path: Path, name: str) -> "AbstractContextManager[subprocess.Popen[str]]":
    """A parent, in a script of that name, whose child watches where it comes from."""
    script = tmp_path / name
    script.write_text(PARENT)
    command = [sys.executable, script, CHILD, tmp_path / "watched", tmp_path / "child"]
    return working.started(command, env=working.with_tests())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_dvc_started_ends_with_it(tmp_path: Path, number: signal.Signals) -> None:
    with start(tmp_path, "dvc") as parent:
        assert working.await_file(tmp_path / "watched") == str(parent.pid)
        child = int(working.await_file(tmp_path / "child"))
        assert working.running(child)
        parent.send_signal(number)
        assert working.ends(child)


def test_what_another_program_started_is_not_watched(tmp_path: Path) -> None:
    with start(tmp_path, "make"):
        assert working.await_file(tmp_path / "watched") == "None"
