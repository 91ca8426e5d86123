"""Temporary folders: gone after the block, after an error, and after a killed process at the latest with the next."""

import signal
import sys
from pathlib import Path

import pytest
import working
from processes import FOREVER, PATIENCE

from workbench.config import paths
from workbench.config.temporary import temporary_folder

HOLD = f"""
import sys, time
from workbench.config.temporary import temporary_folder
with temporary_folder() as folder:
    (folder / "file").touch()
    print(folder, flush=True)
    time.sleep({FOREVER})
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setenv("SMOOT_ROOT", str(tmp_path))
    return tmp_path / "scratch" / "temporary"


def test_it_is_gone_after_the_block_and_after_an_error(place: Path) -> None:
    with temporary_folder() as folder:
        (folder / "file").touch()
        assert folder.parent == place
    with pytest.raises(KeyError), temporary_folder() as folder:
        raise KeyError
    assert list(place.iterdir()) == []


def test_what_a_killed_process_left_goes_with_the_next_one_and_a_living_one_keeps_its_own(place: Path) -> None:
    with working.started([sys.executable, "-c", HOLD], env=working.with_tests()) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        with temporary_folder() as folder:
            assert left.is_dir() and folder != left
        assert left.is_dir()
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)
    assert left.is_dir()
    with temporary_folder():
        assert not left.exists()
    assert list(place.iterdir()) == []


def test_a_command_that_is_asked_to_end_leaves_nothing(place: Path, tmp_path: Path) -> None:
    from nbformat import write
    from nbformat.v4 import new_code_cell, new_notebook

    source = f"open('sign', 'w').write('x')\nimport time\ntime.sleep({FOREVER})"
    write(new_notebook(cells=[new_code_cell(source)]), tmp_path / "n.ipynb")
    command = [sys.executable, "-m", "workbench", "notebook", "run", tmp_path / "n.ipynb", tmp_path / "t.ipynb"]
    with working.started(command, env=working.with_tests()) as process:
        working.await_file(tmp_path / "sign")
        assert len(list(place.iterdir())) == 2  # the folder and its lock
        process.terminate()
        assert process.wait(PATIENCE) == 128 + signal.SIGTERM
    assert list(place.iterdir()) == []
